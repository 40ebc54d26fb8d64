"""Faults of a device in client memory without descriptor: its commands, and what it makes of the answers."""

import contextlib
import errno
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import unix, wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.device import Device
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.events import CommandReceived, Event, Outgoing, ReplyReceived
from vfio_user_proto.faults.device_dma import memory
from vfio_user_proto.faults.kit import Fault, Incoming, die, hang, header, payload
from vfio_user_proto.memory import DmaMap, Region
from vfio_user_proto.messages import Command, HeaderFlags, VersionRequest
from vfio_user_proto.model import Record
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.session import Filter, Session

READ, WRITE = Command.DMA_READ, Command.DMA_WRITE
PAGE = 4096


def session(name: str, mistake: str, **methods: Callable[..., Any]) -> Fault:
    """A server whose session has other methods; those of ``Responder`` are its responder's."""
    faulty = type("Faulty", (Session,), {key: each for key, each in methods.items() if hasattr(Session, key)})
    own = {key: each for key, each in methods.items() if not hasattr(Session, key)}

    def begin(self: Any, device: Device, dma: Any, *rest: Any) -> None:
        Responder.__init__(self, device, dma, *rest)
        dma._transfer.__class__ = faulty

    responder = type("Faulty", (Responder,), {"__init__": begin, "replaces": (faulty,), **own})
    return Fault(name, mistake, responder=responder)


def _table(name: str, mistake: str, **methods: Callable[..., Any]) -> Fault:
    return Fault(name, mistake, responder=memory(type("Faulty", (DmaMap,), methods)))


def _commands(name: str, mistake: str, change: Callable[[bytes], bytes]) -> Fault:
    """Changes the commands for client memory."""

    def outgoing(
        data: bytes, fds: tuple[int, ...], answers: CommandReceived | None
    ) -> tuple[bytes, tuple[int, ...]] | None:
        mine = answers is None and bool(data) and wire.decode_header(data).command in (READ, WRITE)
        return change(data) if mine else data, fds

    made: Filter = outgoing
    return Fault(name, mistake, outgoing=made)


# The commands.


def _at_page(self: Any, address: int, data: bytes) -> None:
    Session.dma_write(self, address & -PAGE, data)


def _behind(self: Any, address: int, data: bytes) -> None:
    Session.dma_write(self, address, data)
    with contextlib.suppress(OSError):
        Session.dma_write(self, address + 0x10000, bytes(8))


def _first_of_all(self: Any, region: Region, at: int, data: bytes) -> None:
    DmaMap._write(self, region if region.fd is not None else self._regions[0], at, data)


def _read_as_write(self: Any, address: int, count: int) -> bytes:
    Session.dma_write(self, address, bytes(count))
    return bytes(count)


def _unlimited_write(self: Any, region: Region, at: int, data: bytes) -> None:
    if region.fd is not None:
        return DmaMap._write(self, region, at, data)
    self._transfer.dma_write(region.address + at, data)
    return None


def _unlimited_read(self: Any, region: Region, at: int, count: int) -> bytes:
    if region.fd is not None:
        return DmaMap._read(self, region, at, count)
    data: bytes = self._transfer.dma_read(region.address + at, count)
    return data


def _padded(self: Any, region: Region, at: int, data: bytes) -> None:
    odd = region.fd is None and self._limit() % PAGE
    DmaMap._write(self, region, at, data + bytes(-len(data) % self._limit() if odd else 0))


def _no_single_byte(self: Any, region: Region, at: int, data: bytes) -> None:
    single = len(data) > 1 and len(data) % self._limit() == 1
    DmaMap._write(self, region, at, data[:-1] if single else data)


def _one_more(self: Any, region: Region, at: int, count: int) -> bytes:
    if region.fd is not None or count % PAGE:
        return DmaMap._read(self, region, at, count)
    more: bytes = self._transfer.dma_read(region.address + at, count + 1)
    return more[:count]


def _two_mib(self: Any, region: Region, at: int, count: int) -> bytes:
    return _unlimited_read(self, region, at, count) if count > 1 << 20 else DmaMap._read(self, region, at, count)


def _own_limit(self: Any, region: Region, at: int, count: int) -> bytes:
    if min(count, self._transfer._responder.peer.max_data_xfer_size) > 1 << 20:
        raise OSError(errno.EINVAL, "a reply that is too long")
    return DmaMap._read(self, region, at, count)


def _first_socket(self: Any, request: VersionRequest, fds: list[int]) -> Answer:
    """The second socket is made, and never used."""
    answer = Responder.version(self, request, fds)
    self.dma._transfer._twin = None
    return answer


def _both_sockets(self: Any, command: Command, request: Record) -> Record | None:
    """The second socket for writes, the first for reads."""
    twin = self._twin
    if command == READ:
        self._twin = None
    try:
        return Session._ask(self, command, request)
    finally:
        self._twin = twin


# What comes while an answer is due.


class _BetweenTaken(Incoming):
    """Takes the next message for the answer."""

    def header_came(self, data: bytes) -> bytes:
        if +self._awaited and not wire.decode_header(data).flags & HeaderFlags.TYPE:
            die()
        return data


def _dropping(self: Any, event: CommandReceived) -> None:
    if event.message.header.command == Command.REGION_READ:
        unix.close_all(event.fds)
    else:
        Session._postpone(self, event)


def _one_kept(self: Any, event: CommandReceived) -> None:
    if not self._waiting:
        Session._postpone(self, event)


def _stuck_at(*commands: Command) -> Callable[[Any, CommandReceived], None]:
    def postpone(self: Any, event: CommandReceived) -> None:
        if event.message.header.command in commands:
            hang()
        Session._postpone(self, event)

    return postpone


def _stalling(self: Any, event: CommandReceived) -> None:
    """With two sockets nothing can come between, so what comes all the same is forgotten."""
    if self._twin is None:
        Session._postpone(self, event)


def _dies_alone(self: Any, command: Command, request: Record) -> Record | None:
    try:
        return Session._ask(self, command, request)
    except OSError as error:
        if error.errno == errno.ECONNRESET:
            die()
        raise


def _busy_for_ever(self: Any, command: Command, request: Record) -> Record | None:
    """What an answer was not given to is waited for by the next client too."""
    if getattr(self.device, "waiting", False):
        raise OSError(errno.EBUSY, "a fault")
    self.device.waiting = True
    reply = Session._ask(self, command, request)
    self.device.waiting = False
    return reply


# The answers.


def _refused(name: str, mistake: str, when: Callable[[int], bool], then: Callable[[], Any] = die) -> Fault:
    """Comes to grief over a refusal with such an errno."""

    class Faulty(Connection):
        def next_event(self) -> Event | None:
            event = super().next_event()
            if isinstance(event, ReplyReceived) and event.message.is_error and when(event.message.header.error):
                then()
            return event

    return Fault(name, mistake, connection=Faulty)


def _answered(name: str, mistake: str, when: Callable[[ReplyReceived], Any], then: Callable[[], Any] = die) -> Fault:
    """Comes to grief over such an answer."""

    class Faulty(Connection):
        def next_event(self) -> Event | None:
            event = super().next_event()
            if isinstance(event, ReplyReceived) and when(event):
                then()
            return event

    return Fault(name, mistake, connection=Faulty)


class _Unasked(Connection):
    """Dies of an answer to nothing, once it has asked something."""

    asked = False

    def command(self, *what: Any, **more: Any) -> Outgoing:
        self.asked = True
        return super().command(*what, **more)

    def receive(self, data: bytes, fds: Any = ()) -> None:
        try:
            super().receive(data, fds)
        except RemoteProtocolError:
            if self.asked:
                die()
            raise


class _Twice(Connection):
    """Waits for ever after a second answer to the same command."""

    answered: int | None = None

    def next_event(self) -> Event | None:
        event = super().next_event()
        if isinstance(event, ReplyReceived):
            self.answered = event.message.header.message_id
        return event

    def receive(self, data: bytes, fds: Any = ()) -> None:
        try:
            super().receive(data, fds)
        except RemoteProtocolError:
            if self.answered == int.from_bytes(data[:2], sys.byteorder):
                hang()
            raise


def _count(event: ReplyReceived) -> int:
    """The count of an answer, whole or not."""
    message = event.message
    if message.payload is not None:
        return int(getattr(message.payload, "count", 0))
    return int.from_bytes(message.trailing[8:16], sys.byteorder)


def _twelve_refused(self: Any, command: Command, request: Record) -> Record | None:
    reply = Session._ask(self, command, request)
    if command == WRITE and reply is None:
        raise OSError(errno.EIO, "a fault")
    return reply


FAULTS: tuple[Fault, ...] = (
    session("message-write-lost", "What has no descriptor is not written.", dma_write=lambda self, address, data: None),
    session(
        "message-read-zeros", "What has no descriptor is zero.", dma_read=lambda self, address, count: bytes(count)
    ),
    session("message-address-of-page", "Messages move pages.", dma_write=_at_page),
    _table("message-into-first-mapping", "One mapping has no descriptor.", _write=_first_of_all),
    session("message-behind-the-place", "What lies behind is cleared too.", dma_write=_behind),
    session("message-read-as-write", "The commands are mixed up.", dma_read=_read_as_write),
    _commands("message-as-reply", "All messages of a server are replies.", lambda data: header(data, flags=1)),
    _commands("message-with-errno", "A command has an error.", lambda data: header(data, error=errno.EINVAL)),
    _commands("message-longer", "A command has room for its reply.", lambda data: payload(data, data[16:] + bytes(8))),
    _table("message-limit-ignored", "A client takes everything at once.", _write=_unlimited_write),
    _table("message-read-limit-ignored", "A client gives everything at once.", _read=_unlimited_read),
    _table("message-last-chunk-padded", "All chunks have one size.", _write=_padded),
    _table("message-last-byte-lost", "No chunk has one byte.", _write=_no_single_byte),
    _table("message-limit-one-more", "The limit is one byte too large.", _read=_one_more),
    _table("message-default-limit-unknown", "A client that states no limit has none.", _read=_two_mib),
    _table(
        "message-own-limit-for-replies",
        "No reply has more data than a command may have (libvfio-user efd091b).",
        _read=_own_limit,
    ),
    session("message-on-first-socket", "The second socket is not used.", version=_first_socket),
    session("message-on-both-sockets", "The second socket is for one direction.", _ask=_both_sockets),
    session("message-twin-stalls-main", "Nothing comes on the first socket meanwhile.", _postpone=_stalling),
    Fault(
        "message-between-taken-for-reply",
        "What comes next is the answer (libvfio-user efd091b, nutanix/libvfio-user#279).",
        connection=_BetweenTaken,
    ),
    session("message-between-region-dropped", "A busy device is not read.", _postpone=_dropping),
    session("message-between-one-kept", "One command may wait.", _postpone=_one_kept),
    session("message-between-map-hangs", "The table is locked.", _postpone=_stuck_at(Command.DMA_MAP)),
    session("message-between-unmap-hangs", "The mapping is locked.", _postpone=_stuck_at(Command.DMA_UNMAP)),
    session("message-client-leaves-crash", "An answer always comes.", _ask=_dies_alone),
    session("message-device-busy-for-ever", "An access without answer never ends.", _ask=_busy_for_ever),
    _refused(
        "message-refused-crash", "A client has the memory that it announced.", lambda number: number == errno.EFAULT
    ),
    _answered(
        "message-refused-read-awaits-data",
        "The data of a read always come.",
        lambda event: event.message.is_error and event.message.header.command == READ,
        hang,
    ),
    _refused("message-errno-zero-crash", "An error has a number.", lambda number: number == 0),
    _refused("message-errno-unknown-crash", "Errors are those of a table.", lambda number: number > 4096),
    _answered(
        "message-refused-later-crash",
        "What began well ends well.",
        lambda event: event.message.header.error == errno.ENOMEM and event.message.header.command == WRITE,
    ),
    _answered(
        "message-refused-read-later-hangs",
        "The rest of the data will come.",
        lambda event: event.message.header.error == errno.ENOMEM and event.message.header.command == READ,
        hang,
    ),
    session("message-narrow-reply-refused", "The count has 8 bytes (libvfio-user efd091b).", _ask=_twelve_refused),
    _answered("message-count-more-crash", "The count is that of the command.", lambda event: _count(event) > 0x140),
    _answered("message-count-less-hangs", "The rest is still to come.", lambda event: _count(event) == 0x130, hang),
    _answered("message-data-short-crash", "The data are there.", lambda event: event.problem is not None),
    _answered("message-data-long-crash", "The data fit the buffer.", lambda event: event.message.trailing),
    _answered(
        "message-reply-empty-crash",
        "An answer has a payload.",
        lambda event: event.message.header.message_size == wire.HEADER_SIZE and not event.message.is_error,
    ),
    _answered(
        "message-address-other-crash",
        "The address is that of the command.",
        lambda event: getattr(event.message.payload, "address", 0) & 0xF00000000,
    ),
    _answered(
        "message-refusal-with-data-crash",
        "A refusal is a header.",
        lambda event: event.message.is_error and event.message.header.message_size > wire.HEADER_SIZE,
    ),
    Fault("message-unasked-reply-crash", "Each answer belongs to a command.", connection=_Unasked),
    Fault("message-answered-twice-hangs", "Each answer comes once.", connection=_Twice),
)
