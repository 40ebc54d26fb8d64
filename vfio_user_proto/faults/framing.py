"""Faults of the header and the stream, of No_reply, and of what happens when a client leaves."""

import errno
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.device import Device
from vfio_user_proto.errors import DecodeError, RemoteProtocolError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    ERROR,
    Fault,
    Mapped,
    OneRead,
    Watched,
    die,
    hang,
    header,
    outgoing,
    payload,
    respond,
    rewritten,
    size_of,
)
from vfio_user_proto.memory import DmaMap, Region
from vfio_user_proto.messages import Command, HeaderFlags
from vfio_user_proto.responder import NOTHING, Answer, Responder
from vfio_user_proto.session import Filter
from vfio_user_proto.states import State
from vfio_user_proto.unix import last_begun

INFO, REGION_INFO = Command.DEVICE_GET_INFO, Command.DEVICE_GET_REGION_INFO
_KNOWN = frozenset(int(each) for each in Command)


def _type(data: bytes) -> int:
    return int(wire.decode_header(data).flags) & HeaderFlags.TYPE


def _flags(event: CommandReceived) -> int:
    return int(event.message.header.flags)


# Replies.


def _lost() -> Filter:
    """The ninth reply is lost."""
    number = count(1)
    return lambda data, fds, answers: None if next(number) == 9 else (data, fds)


def _as_command(data: bytes, answers: CommandReceived) -> bytes:
    return header(data, flags=HeaderFlags(int(wire.decode_header(data).flags) & ~int(HeaderFlags.TYPE)))


def _without_error_bit(data: bytes, answers: CommandReceived) -> bytes:
    return header(data, flags=HeaderFlags(int(wire.decode_header(data).flags) & ~ERROR))


# Commands.


def _id_reused(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    seen = self.__dict__.setdefault("seen_ids", set())
    message_id = event.message.header.message_id
    if message_id in seen:
        raise OSError(errno.EEXIST, "an id that was used before")
    seen.add(message_id)
    return Responder.respond(self, event, fds)


def _error_obeyed(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    if event.message.header.error:
        raise OSError(event.message.header.error, "the field of a command")
    return Responder.respond(self, event, fds)


def _undefined_flags(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return die() if _flags(event) >> 6 else Responder.respond(self, event, fds)


def _unknown_succeeds(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return NOTHING if event.message.header.command not in _KNOWN else Responder.respond(self, event, fds)


def _padded(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    if event.problem is not None:
        command = event.message.header.command
        whole = wire.build(command) + event.message.trailing + bytes(64)
        try:
            message = wire.decode(header(whole, message_size=len(whole)))._replace(trailing=b"")
        except DecodeError:
            return Responder.respond(self, event, fds)
        event = event._replace(message=message, problem=None)
    return Responder.respond(self, event, fds)


def _missing(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return die() if event.problem and not event.message.trailing else Responder.respond(self, event, fds)


# The stream.


def _unread(wrong: Any) -> type[Connection]:
    """Answers a wrong message when its header is there, and takes its payload for the next message."""

    def change(data: bytes) -> bytes:
        if not wrong(data) or size_of(data) < wire.HEADER_SIZE:
            return data
        return header(data, message_size=wire.HEADER_SIZE, flags=HeaderFlags(0))

    return rewritten(change)


def _unknown(data: bytes) -> bool:
    return wire.decode_header(data).command not in _KNOWN


def _trailing_left(data: bytes) -> bytes:
    info = wire.decode_header(data).command == INFO and size_of(data) > 32
    return header(data, message_size=32) if info else data


class _Awaiting(Connection):
    """Has no largest message."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self.limit = 1 << 40
        super().receive(data, fds)


class _WholeHeader(Watched):
    """Wants a header in one read, as libvfio-user does."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if data and not self.inside and len(data) < wire.HEADER_SIZE:
            self._fail("half a header")
        super().receive(data, fds)


class _WholePayload(Watched):
    """Wants a payload in one read, as libvfio-user does."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if data and self.inside == "payload" and len(data) < self.wanted:
            self._fail("half a payload")
        super().receive(data, fds)


class _WithHeader(OneRead):
    """Wants a payload in the same read as its header."""

    _bare = False  # the read ended behind the header of a message that has a payload

    def arrived(self, data: bytes) -> bytes:
        last = data[last_begun(data) :]
        self._bare = len(last) == wire.HEADER_SIZE < size_of(last)
        return data

    def read(self, wanted: int, *, wait: bool = True) -> tuple[bytes, list[int]] | None:
        if self._bare and not self.ahead:
            raise RemoteProtocolError("a header alone")
        return super().read(wanted, wait=wait)


class _FirstOnly(OneRead):
    """Takes a read for one message."""

    def arrived(self, data: bytes) -> bytes:
        return data[: max(wire.HEADER_SIZE, size_of(data))]


class _WholeOnly(OneRead):
    """Takes a read for whole messages, and drops what is left behind them."""

    def arrived(self, data: bytes) -> bytes:
        at = last_begun(data)
        return data if size_of(data[at:]) == len(data) - at else data[:at] or data


# The client leaves.


def _lost_inside(part: str) -> type[Connection]:
    """Dies where the stream ends inside this part of a message, and memory is mapped."""

    def receive(self: Any, data: bytes, fds: Sequence[int] = ()) -> None:
        if not data and self.mapped and self.inside == part:
            die()
        Mapped.receive(self, data, fds)

    return type("Faulty", (Mapped,), {"receive": receive})


class _LeftWithReplies(Connection):
    """Dies when a reply cannot be sent, as a program does that has not thought of SIGPIPE."""

    def close(self) -> tuple[int, ...]:
        return die() if self.state is State.READY else super().close()


_greetings = count(1)


def _second(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    second = event.message.header.command == Command.VERSION and next(_greetings) > 1
    return hang() if second else Responder.respond(self, event, fds)


class _LastingMap(DmaMap):
    """Remembers single pages without descriptor when its client has left."""

    left: Sequence[Region] = ()

    def clear(self) -> None:
        _LastingMap.left = [region for region in self._regions if region.fd is None and region.size == self.page_size]
        super().clear()


class _OneMap(Responder):
    """Begins with what the last client has left in the table."""

    def __init__(self, device: Device, dma: DmaMap, *rest: Any) -> None:
        super().__init__(device, dma, *rest)
        dma.__class__ = _LastingMap
        for region in _LastingMap.left:
            dma.map(region)


class _Reset(Responder):
    """Resets the device for each client."""

    def __init__(self, device: Device, *rest: Any) -> None:
        device.reset()
        super().__init__(device, *rest)


def _dying_if(wrong: Callable[[bytes], bool]) -> type[Connection]:
    return rewritten(lambda data: die() if wrong(data) else data)


def _hanging_if(wrong: Callable[[bytes], bool]) -> type[Connection]:
    return rewritten(lambda data: hang() if wrong(data) else data)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "id-15-bits",
        "The highest bit of the id is lost.",
        outgoing=outgoing(lambda data, _: header(data, message_id=wire.decode_header(data).message_id & 0x7FFF)),
    ),
    Fault(
        "reply-command-zero",
        "Replies name no command.",
        outgoing=outgoing(lambda data, _: header(data, command=0), INFO),
    ),
    Fault("id-reused-refused", "An id may be used once.", responder=respond(_id_reused)),
    Fault("reply-type-command", "Replies have the type of a command.", outgoing=outgoing(_as_command, INFO)),
    Fault(
        "error-reply-type-command",
        "Error replies have the type of a command (rust-vmm/vfio#143).",
        outgoing=outgoing(_as_command, error=True),
    ),
    Fault("error-bit-missing", "Refusals lack the Error bit.", outgoing=outgoing(_without_error_bit, error=True)),
    Fault(
        "error-reply-with-payload",
        "Refusals carry a payload.",
        outgoing=outgoing(lambda data, _: payload(data, bytes(8)), error=True),
    ),
    Fault(
        "reply-size-without-header",
        "The size of a reply does not count the header.",
        outgoing=outgoing(lambda data, _: header(data, message_size=len(data) - 16), REGION_INFO),
    ),
    Fault("reply-lost-under-load", "A reply is lost.", outgoing=_lost()),
    Fault("reply-sent-twice", "A reply is sent twice.", outgoing=outgoing(lambda data, _: data + data, REGION_INFO)),
    Fault("error-field-obeyed", "The Error field of a command counts.", responder=respond(_error_obeyed)),
    Fault("undefined-flags-crash", "Flags are an index into a table.", responder=respond(_undefined_flags)),
    Fault(
        "unasked-reply-out-of-step",
        "A reply where a command is due is refused before its payload is read (libvfio-user efd091b).",
        connection=_unread(lambda data: _type(data) == 1),
    ),
    Fault(
        "unknown-type-hangs",
        "A message of another type is waited out.",
        connection=_hanging_if(lambda data: _type(data) > 1),
    ),
    Fault(
        "size-below-header-crash",
        "The size of the payload is computed without a look at the size.",
        connection=_dying_if(lambda data: size_of(data) < wire.HEADER_SIZE),
    ),
    Fault("size-4-gib-awaited", "Any size is believed, and waited for.", connection=_Awaiting),
    Fault("unknown-command-succeeds", "Unknown commands succeed.", responder=respond(_unknown_succeeds)),
    Fault(
        "unknown-command-payload-unread",
        "An unknown command is refused before its payload is read.",
        connection=_unread(_unknown),
    ),
    Fault(
        "wrong-direction-ignored",
        "A command for the client gets no answer.",
        outgoing=lambda data, fds, to: None if to and to.message.header.command == Command.DMA_READ else (data, fds),
    ),
    Fault("cut-in-header-fails", "A header comes in one read (libvfio-user efd091b).", connection=_WholeHeader),
    Fault("cut-after-header-fails", "A payload comes in the same read as its header.", stream=_WithHeader),
    Fault("cut-in-payload-fails", "A payload comes in one read (libvfio-user efd091b).", connection=_WholePayload),
    Fault("coalesced-dropped", "One read is one message.", stream=_FirstOnly),
    Fault("coalesced-remainder-dropped", "One read is whole messages.", stream=_WholeOnly),
    Fault("payload-short-padded", "Missing bytes of a payload are zero.", responder=respond(_padded)),
    Fault("payload-missing-crash", "There is always a payload.", responder=respond(_missing)),
    Fault("payload-trailing-left", "What follows a payload is the next message.", connection=rewritten(_trailing_left)),
    Fault("second-client-hangs", "Only one client is ever served.", responder=respond(_second)),
    Fault(
        "client-lost-in-header-crash",
        "No client with memory leaves inside a header.",
        connection=_lost_inside("header"),
    ),
    Fault(
        "client-lost-in-payload-crash",
        "No client with memory leaves inside a payload.",
        connection=_lost_inside("payload"),
    ),
    Fault("client-lost-with-replies-due-crash", "A client reads every reply.", connection=_LeftWithReplies),
    Fault("mappings-outlive-client", "The next client finds the mappings of the last one.", responder=_OneMap),
    Fault("client-lost-resets-device", "Each client gets a device that was reset.", responder=_Reset),
)
