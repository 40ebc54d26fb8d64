"""The bus of a guest: each access goes to the descriptor that the server gave for it, or as a message to the server."""

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from vfio_user_proto import unix
from vfio_user_proto.closing import Closing
from vfio_user_proto.device import IoFds, descriptors_of, match_of, shadow_of
from vfio_user_proto.errors import TransportError
from vfio_user_proto.kvm.ioregion import SIZES, IoregionSocket
from vfio_user_proto.kvm.kick import Kick, Shadow
from vfio_user_proto.kvm.records import check, why_unusable
from vfio_user_proto.messages import IoregionfdSubRegion, IoregionFlags, SubRegion

NO_IO_FDS: Final = IoFds((), ())


class Space(StrEnum):
    """Where an address counts."""

    MEMORY = "memory"
    PORTS = "ports"


class Via(StrEnum):
    """Who acts on an access to a sub-region."""

    KERNEL = "kernel"  # KVM, without leaving the guest's processor for longer than that takes
    BUS = "bus"  # the ``GuestBus``, on the sub-region's descriptor
    MESSAGE = "message"  # the server, asked by VFIO_USER_REGION_READ or _WRITE


@dataclass(frozen=True, slots=True)
class Wiring:
    """What became of one sub-region; ``reason`` says why the kernel, or even the bus, does not serve it."""

    region: int
    sub_region: SubRegion
    via: Via
    reason: str = ""


class RegionAccess(Protocol):
    """The server as a bus sees it: ``client.Client`` is one."""

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes of a region."""

    def region_write(self, index: int, offset: int, data: bytes, *, no_reply: bool = False) -> None:
        """Store ``data`` in a region; with ``no_reply`` without waiting for it."""


class Kernel(Protocol):
    """Whoever may serve a sub-region instead of the bus: ``InKernel`` for KVM."""

    def take(self, space: Space, address: int, sub_region: SubRegion, fd: int, shadow: int | None) -> str:
        """Serve the sub-region, which begins at ``address``: returns "", or why not.

        ``fd`` and ``shadow`` stay open until ``release``.
        """

    def release(self) -> None:
        """Serve none of them any more."""


@dataclass(slots=True)
class _Doorbell:
    """An ioeventfd, with shadow memory or without."""

    size: int
    match: int | None
    kick: Kick
    shadow: Shadow | None = None

    def counts(self, data: bytes) -> bool:
        """Whether a store rings it: as KVM decides it, by width and value."""
        if self.size and self.size != len(data):
            return False
        return self.match is None or int.from_bytes(data, sys.byteorder) == self.match

    def ring(self, data: bytes) -> None:
        if self.shadow is not None:
            self.shadow.store(data)
        self.kick.signal()


@dataclass(slots=True)
class _Registers:
    """An ioregionfd; ``size`` 0 takes stores of every width at ``start``, and no loads."""

    start: int
    size: int
    user_data: int
    posted: bool
    socket: IoregionSocket

    def takes(self, offset: int, size: int) -> bool:
        """Whether a store goes there."""
        return self.covers(offset, size) or (not self.size and offset == self.start and size in SIZES)

    def covers(self, offset: int, size: int) -> bool:
        """Whether an access lies inside."""
        return size in SIZES and self.start <= offset and offset + size <= self.start + self.size


@dataclass(slots=True)
class _Window:
    """A region in the guest's address space."""

    space: Space
    address: int
    size: int
    region: int
    posted: bool
    doorbells: dict[int, list[_Doorbell]] = field(default_factory=dict)
    registers: list[_Registers] = field(default_factory=list)


class GuestBus(Closing):
    """Carries the accesses of a guest to the device behind ``server``; ``kernel`` may take over what it can.

    ``load`` and ``store`` raise what the server's client raises, RemoteProtocolError where a descriptor does not do what its
    record promised, and TransportError where nothing comes within ``timeout`` seconds. May be used by several threads.
    """

    def __init__(self, server: RegionAccess, kernel: Kernel | None = None, *, timeout: float | None = 5.0) -> None:
        self.wirings: Final[list[Wiring]] = []
        self._server, self._kernel, self._timeout = server, kernel, timeout
        self._lock = threading.Lock()
        self._windows: list[_Window] = []
        self._fds: list[int] = []  # copies
        self._sockets: dict[int, IoregionSocket] = {}

    def place(
        self,
        region: int,
        size: int,
        address: int,
        *,
        space: Space = Space.MEMORY,
        io_fds: IoFds = NO_IO_FDS,
        posted: bool = False,
    ) -> None:
        """Put ``size`` bytes of a region at ``address``, and use the descriptors of its sub-regions.

        ``io_fds`` are checked records (``io_fds`` of what the client's ``region_io_fds`` gives); the descriptors stay the
        caller's, and may be closed afterwards. ``posted`` stores do not wait for a reply where they go as messages.

        Raises, with nothing placed, ValueError where something is at the address already, RemoteProtocolError for records that
        contradict each other or are not what their descriptors are, and TransportError where these cannot be copied.
        """
        if any(w.space == space and address < w.address + w.size and w.address < address + size for w in self._windows):
            raise ValueError(f"something is at {address:#x} already")
        check(io_fds, size, ports=space is Space.PORTS)
        window = _Window(space, address, size, region, posted)
        fds = self._copies(io_fds)
        self.wirings.extend(self._wire(window, entry, fds) for entry in io_fds.sub_regions)
        self._windows.append(window)

    def store(self, space: Space, address: int, data: bytes) -> None:
        """The guest writes ``data`` at ``address``; nothing happens where nothing is."""
        window = self._find(space, address, len(data))
        if window is None:
            return
        offset = address - window.address
        for doorbell in window.doorbells.get(offset, ()):
            if doorbell.counts(data):
                doorbell.ring(data)
                return
        for each in window.registers:
            if each.takes(offset, len(data)):
                each.socket.write(each.user_data, offset - each.start, data, posted=each.posted)
                return
        with self._lock:
            self._server.region_write(window.region, offset, data, no_reply=window.posted)

    def load(self, space: Space, address: int, size: int) -> bytes:
        """The guest reads ``size`` bytes at ``address``; all bits are set where nothing is."""
        window = self._find(space, address, size)
        if window is None:
            return b"\xff" * size
        offset = address - window.address
        for each in window.registers:
            if each.covers(offset, size):
                return each.socket.read(each.user_data, offset - each.start, size)
        with self._lock:
            return self._server.region_read(window.region, offset, size)

    def close(self) -> None:
        """Let the kernel serve nothing more, and close the bus's copies of the descriptors."""
        if self._kernel is not None:
            self._kernel.release()
        for socket in self._sockets.values():
            socket.close()
        unix.close_all(self._fds)
        self._windows.clear()
        self._fds.clear()
        self._sockets.clear()

    def _find(self, space: Space, address: int, size: int) -> _Window | None:
        for window in self._windows:
            if window.space is space and window.address <= address <= address + size <= window.address + window.size:
                return window
        return None

    def _copies(self, io_fds: IoFds) -> dict[int, int]:
        """Copies of the descriptors that are used, by their numbers in the records; they are closed with the bus."""
        usable = (entry for entry in io_fds.sub_regions if not why_unusable(entry))
        copies: dict[int, int] = {}
        try:
            for number in {number for entry in usable for number in descriptors_of(entry)}:
                copies[number] = os.dup(io_fds.fds[number])
        except OSError as problem:
            unix.close_all(copies.values())
            raise TransportError(f"no copy of a sub-region's descriptor can be made: {problem.strerror}") from None
        self._fds += copies.values()
        return copies

    def _wire(self, window: _Window, entry: SubRegion, fds: Mapping[int, int]) -> Wiring:
        """Use one sub-region's descriptor: in the kernel, else here, else not at all."""
        reason = why_unusable(entry)
        if reason:
            return Wiring(window.region, entry, Via.MESSAGE, reason)
        fd, shadow = fds[entry.fd_index], shadow_of(entry)
        memory = None if shadow is None else fds[shadow.shadow_mem_fd_index]
        if self._kernel is not None:
            reason = self._kernel.take(window.space, window.address + entry.offset, entry, fd, memory)
            if not reason:
                return Wiring(window.region, entry, Via.KERNEL)
        if isinstance(entry, IoregionfdSubRegion):
            posted = bool(entry.flags & IoregionFlags.POSTED_WRITES)
            registers = _Registers(entry.offset, entry.size, entry.user_data, posted, self._socket(fd))
            window.registers.append(registers)
        else:
            doorbell = _Doorbell(entry.size, match_of(entry), Kick(fd))
            if shadow is not None and memory is not None:
                doorbell.shadow = Shadow(memory, shadow.shadow_offset, entry.size or 8)
            window.doorbells.setdefault(entry.offset, []).append(doorbell)
        return Wiring(window.region, entry, Via.BUS, reason)

    def _socket(self, fd: int) -> IoregionSocket:
        """The socket behind ``fd``: one, however many descriptors of it there are."""
        ident = os.fstat(fd).st_ino
        if ident not in self._sockets:
            self._sockets[ident] = IoregionSocket(fd, self._timeout)
        return self._sockets[ident]
