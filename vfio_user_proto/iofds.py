"""A device's end of descriptors for its registers: one call of the device's for an access, whichever way that came."""

import contextlib
import fcntl
import os
import select
import socket
import sys
import termios
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from vfio_user_proto import eventfds, wire
from vfio_user_proto.device import Host, IoFds
from vfio_user_proto.drafts.ioregionfd import AccessSize, IoregionfdCmd, IoregionfdCommand, IoregionfdResp, SizeResp
from vfio_user_proto.messages import (
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
    SubRegion,
)

# value, how often -> None. The value is None where nothing tells it: an eventfd only counts.
Rung = Callable[[int | None, int], None]

_RECORD: Final = IoregionfdCmd.fixed_size
# So many commands are done before the server looks at its other descriptors again.
_BATCH: Final = 64
_ALL_ONES: Final = (1 << 64) - 1
_WIDTHS: Final = tuple(1 << code for code in AccessSize)


class Registers(Protocol):
    """What answers accesses to a ``Window``; offsets count from the start of the region."""

    def read_register(self, offset: int, size: int) -> int:
        """The value of ``size`` bytes (1, 2, 4 or 8)."""

    def write_register(self, offset: int, size: int, value: int) -> None:
        """Take a value of ``size`` bytes."""


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A place whose stores of ``size`` bytes (0: of any width) are counted by an eventfd.

    With ``match`` only stores of that value ring it. With ``shadow`` the value of the last store is told as well; ``size``
    must then be 1, 2, 4 or 8. ``share`` is a name: doorbells with the same one have one eventfd, and are told of each
    other's kicks.
    """

    offset: int
    size: int
    rung: Rung
    match: int | None = None
    ports: bool = False
    shadow: bool = False
    share: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """``size`` bytes of registers that are accessed through an ioregionfd; all windows of a region share one.

    With ``posted`` writes are not answered. A size of 0 takes writes of any width at ``offset``, and must be ``posted``.
    """

    offset: int
    size: int
    registers: Registers
    posted: bool = False
    ports: bool = False


class IoFdRegion:
    """The descriptors of one region, and who is called for them.

    A device puts ``io_fds`` into its ``device.Region``, calls ``attach`` when it is attached, and lets ``write`` and ``read``
    look at the messages for that region first. Between two clients ``renew`` makes new descriptors, since the former
    client may still hold the old ones.
    """

    def __init__(self, size: int, entries: Sequence[Doorbell | Window]) -> None:
        """For a region of ``size`` bytes. Raises ValueError for entries that no reply can describe.

        All records of a reply have one size, and that of a shadow ioeventfd differs from that of an ioregionfd.
        """
        self._size, self._entries = size, tuple(entries)
        for entry in self._entries:
            _check(entry, size)
        self._has_shadow = any(isinstance(entry, Doorbell) and entry.shadow for entry in self._entries)
        self._has_window = any(isinstance(entry, Window) for entry in self._entries)
        if self._has_shadow and self._has_window:
            raise ValueError("a region has either shadow memory or an ioregionfd")
        self._open()

    @property
    def io_fds(self) -> IoFds:
        """The records, and what their numbers of descriptors count."""
        fds = [*self._eventfds.values()]
        if self._has_shadow:
            fds.append(self._memory)
        if self._has_window:
            fds.append(self._theirs.fileno())
        records = tuple(self._record(number, entry, fds) for number, entry in enumerate(self._entries))
        return IoFds(records, tuple(fds))

    def attach(self, host: Host) -> None:
        """Have the descriptors watched until the client leaves."""
        for key, eventfd in self._eventfds.items():
            host.watch(eventfd, self._kicked(key, eventfd))
        if self._has_window:
            host.watch(self._ours.fileno(), lambda: self._commanded(host))

    def write(self, offset: int, data: bytes) -> bool:
        """A message writes: tells the doorbell that counts it, or the window around it. False where there is neither."""
        value = int.from_bytes(data, sys.byteorder)
        for entry in self._entries:
            if isinstance(entry, Doorbell):
                if entry.offset == offset and entry.size in (0, len(data)) and entry.match in (None, value):
                    entry.rung(value, 1)
                    return True
            elif _covers(entry, offset, len(data)):
                entry.registers.write_register(offset, len(data), value)
                return True
        return False

    def read(self, offset: int, count: int) -> bytes | None:
        """A message reads: what a window has there; None outside of them."""
        for entry in self._entries:
            if isinstance(entry, Window) and entry.size and _covers(entry, offset, count):
                return entry.registers.read_register(offset, count).to_bytes(count, sys.byteorder)
        return None

    def renew(self) -> None:
        """Replace every descriptor; ``io_fds`` changes. Not while a client is attached.

        Where no more can be opened the former ones stay.
        """
        former = self._opened
        with contextlib.suppress(OSError):
            self._open()
            former.close()

    def close(self) -> None:
        """Close the descriptors."""
        self._opened.close()

    def _open(self) -> None:
        """Open every descriptor, or none: OSError."""
        keys = dict.fromkeys(_key(number, entry) for number, entry in self._doorbells())
        with contextlib.ExitStack() as opened:
            eventfds = dict[str, int]()
            for key in keys:
                eventfds[key] = _owned(opened, os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            memory = -1
            if self._has_shadow:
                memory = _owned(opened, os.memfd_create("shadow", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
                os.ftruncate(memory, self._size)
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            if self._has_window:
                ours, theirs = map(opened.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                ours.setblocking(False)
                self._ours, self._theirs = ours, theirs
            self._eventfds, self._memory, self._opened = eventfds, memory, opened.pop_all()

    def _doorbells(self) -> Iterator[tuple[int, Doorbell]]:
        for number, entry in enumerate(self._entries):
            if isinstance(entry, Doorbell):
                yield number, entry

    def _record(self, number: int, entry: Doorbell | Window, fds: Sequence[int]) -> SubRegion:
        if isinstance(entry, Window):
            kind = IoregionFlags.POSTED_WRITES if entry.posted else IoregionFlags(0)
            if entry.ports:
                kind |= IoregionFlags.PIO
            return IoregionfdSubRegion(
                offset=entry.offset,
                size=entry.size,
                fd_index=len(fds) - 1,
                type=IoFdType.IOREGIONFD,
                flags=kind,
                user_data=number,
            )
        flags = IoeventfdFlags(0) if entry.match is None else IoeventfdFlags.DATAMATCH
        if entry.ports:
            flags |= IoeventfdFlags.PIO
        kick, match = fds.index(self._eventfds[_key(number, entry)]), entry.match or 0
        if not self._has_shadow:
            return IoeventfdSubRegion(
                offset=entry.offset,
                size=entry.size,
                fd_index=kick,
                type=IoFdType.IOEVENTFD,
                flags=flags,
                datamatch=match,
            )
        return ShadowIoeventfdSubRegion(
            offset=entry.offset,
            size=entry.size,
            fd_index=kick,
            type=IoFdType.IOEVENTFD_SHADOW if entry.shadow else IoFdType.IOEVENTFD,
            flags=flags,
            shadow_mem_fd_index=len(fds) - 1 if entry.shadow else 0,
            shadow_offset=entry.offset if entry.shadow else 0,
            datamatch=match,
        )

    def _kicked(self, key: str, eventfd: int) -> Callable[[], None]:
        """What is called when an eventfd was signalled."""
        told = [entry for number, entry in self._doorbells() if _key(number, entry) == key]

        def ready() -> None:
            times = eventfds.take(eventfd)
            for entry in told if times else ():
                value = None if len(told) > 1 else entry.match
                if entry.shadow:
                    value = int.from_bytes(os.pread(self._memory, entry.size, entry.offset), sys.byteorder)
                entry.rung(value, times)

        return ready

    def _commanded(self, host: Host) -> None:
        """Do the commands that came on the ioregionfd, in their order; no more when the client has shut it down."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(_BATCH):
                packet = self._ours.recv(_RECORD + 1)
                if not packet and _shut_down(self._ours):
                    host.unwatch(self._ours.fileno())
                    return
                if len(packet) == _RECORD:
                    response = self._obey(wire.decode_record(IoregionfdCmd, packet)[0])
                    if response is not None:
                        self._answer(wire.encode_record(IoregionfdResp(data=response)))

    def _answer(self, response: bytes) -> None:
        """Where there is no room (BlockingIOError) the client has not read earlier responses, and waits for none."""
        self._ours.send(response, socket.MSG_NOSIGNAL)

    def _obey(self, command: IoregionfdCmd) -> int | None:
        """Carry out one command. Returns the data of the response, None where none is due.

        There is no response that says "failed": what cannot be read has all bits set, what cannot be written is dropped.
        """
        size = 1 << (command.size_resp & SizeResp.SIZE_EXPONENT)
        entry = self._entries[command.user_data] if command.user_data < len(self._entries) else None
        offset = command.offset + (entry.offset if entry is not None else 0)
        if not isinstance(entry, Window) or not _covers(entry, offset, size):
            entry = None
        ones = _ALL_ONES >> max(0, 64 - 8 * size)
        if command.cmd == IoregionfdCommand.READ:
            return ones if entry is None or not entry.size else entry.registers.read_register(offset, size)
        if command.cmd == IoregionfdCommand.WRITE and entry is not None:
            entry.registers.write_register(offset, size, command.data & ones)
        return 0 if command.size_resp & SizeResp.RESP else None


def _shut_down(sock: socket.socket) -> bool:
    """Whether the other end sends no more, and nothing is left of what it sent: then the socket can be read for ever."""
    left, poll = array("i", [0]), select.poll()
    poll.register(sock, select.POLLRDHUP)
    fcntl.ioctl(sock, termios.FIONREAD, left)
    return bool(poll.poll(0)) and not left[0]


def _owned(opened: contextlib.ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _key(number: int, entry: Doorbell) -> str:
    """What doorbells with one eventfd have in common."""
    return f"share {entry.share}" if entry.share else f"doorbell {number}"


def _covers(window: Window, offset: int, size: int) -> bool:
    if size not in _WIDTHS:
        return False
    if not window.size:
        return offset == window.offset
    return window.offset <= offset <= offset + size <= window.offset + window.size


def _check(entry: Doorbell | Window, size: int) -> None:
    if not 0 <= entry.offset < size or entry.size < 0 or entry.offset + entry.size > size:
        raise ValueError(f"{entry.size} bytes at {entry.offset:#x} are not inside {size} bytes")
    if isinstance(entry, Window):
        if not entry.size and not entry.posted:
            raise ValueError("a window of size 0 must be posted")
    elif entry.size not in (0, 1, 2, 4, 8) or (not entry.size and entry.shadow):
        raise ValueError(f"no eventfd counts stores of {entry.size} bytes")
