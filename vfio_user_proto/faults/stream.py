"""Faults of the stream under stress: cuts, ids, floods, clients that come and go."""

import errno
import fcntl
import sys
import termios
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    NO_REPLY,
    Fault,
    Mapped,
    Watched,
    die,
    hang,
    header,
    outgoing,
    respond,
    rewritten,
    size_of,
)
from vfio_user_proto.messages import Command
from vfio_user_proto.responder import NOTHING, Answer, Responder
from vfio_user_proto.session import Filter
from vfio_user_proto.states import State

_KNOWN = frozenset(int(each) for each in Command)
_INFO_SIZE = 32


# Cuts.


class _FirstWord(Watched):
    """Wants id and command of a header in one read."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if 0 < len(data) < 4 and not self.inside:
            self._fail("half a word")
        super().receive(data, fds)


class _Pieces(Watched):
    """Reads on a few times where a message is cut."""

    reads = 0

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self.reads = self.reads + 1 if self.inside else 0
        if self.reads > 8:
            self._fail("too many pieces")
        super().receive(data, fds)


class _WholeVersion(Watched):
    """Reads the first message at once."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if self.state is State.NEW and data and len(data) < self.wanted:
            self._fail("half a proposal")
        super().receive(data, fds)


class _Left(Watched):
    """Dies at the end of the stream in the first word of a message."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if not data and 0 < len(self._seen) < 8:
            die()
        super().receive(data, fds)


class _Waiting(Mapped):
    """Does not know the end of a stream of a client that has mapped memory."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if not data and self.mapped:
            hang()
        super().receive(data, fds)


class _Silent(Connection):
    """Dies of a client that says nothing."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if not data and self.state is State.NEW:
            die()
        super().receive(data, fds)


def _sixteen_bits(data: bytes) -> bytes:
    size = size_of(data)
    return header(data, message_size=1 << 16) if 1 << 16 < size < 1 << 26 else data


# Ids.


def _growing(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    last, now = self.__dict__.get("last", 0), event.message.header.message_id
    if now < last:
        raise OSError(errno.EINVAL, "an id that is lower than the last one")
    self.last = now
    return Responder.respond(self, event, fds)


def _one_command(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Takes a message for the one before it where the ids are alike, five times in a row at least."""
    last, times = self.__dict__.get("last", (None, 0))
    now = event.message.header.message_id
    self.last = (now, times + 1 if now == last else 1)
    if self.last[1] > 4:
        raise OSError(errno.EALREADY, "seen before")
    return Responder.respond(self, event, fds)


def _remembering(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    refused = self.__dict__.setdefault("refused", set())
    now = event.message.header.message_id
    if now in refused:
        raise OSError(errno.EINVAL, "refused before")
    try:
        return Responder.respond(self, event, fds)
    except OSError:
        refused.add(now)
        raise


def _without_id(data: bytes, fds: tuple[int, ...], to: CommandReceived | None) -> tuple[bytes, tuple[int, ...]] | None:
    return None if to is not None and not to.message.header.message_id else (data, fds)


def _unknown_as_zero(data: bytes, answers: CommandReceived) -> bytes:
    return data if answers.message.header.command in _KNOWN else header(data, command=0)


# Floods.


def _queueing(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Has room for 300 queries that nobody has looked at yet."""
    stream = self.dma._transfer._main._stream
    waiting = int.from_bytes(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)
    query = event.message.header.command == Command.DEVICE_GET_INFO
    return die() if query and waiting + len(stream.ahead) > 300 * _INFO_SIZE else Responder.respond(self, event, fds)


def _dropping(most: int) -> Filter:
    """Replies with much data are lost behind so many of them."""
    number = count(1)
    return lambda data, fds, answers: (data, fds) if len(data) < 1000 or next(number) <= most else None


def _refusing(most: int) -> Callable[[Any, CommandReceived, list[int]], Answer]:
    def responding(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
        try:
            return Responder.respond(self, event, fds)
        except OSError:
            self.refusals = self.__dict__.get("refusals", 0) + 1
            return die() if self.refusals > most else Responder.respond(self, event, fds)

    return responding


def _in_batches(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Does what nobody waits for when there are 64 of it."""
    late = self.__dict__.setdefault("late", [])
    if int(event.message.header.flags) & NO_REPLY:
        late.append(event)
        while len(late) == 64:
            for one in late:
                Responder.respond(self, one, [])
            late.clear()
        return NOTHING
    return Responder.respond(self, event, fds)


def _few_maps(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    if event.message.header.command == Command.DMA_MAP and len(self.dma) >= 256:
        raise OSError(errno.ENOSPC, "the table is full")
    return Responder.respond(self, event, fds)


_greetings = count(1)


def _few_clients(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    late = event.message.header.command == Command.VERSION and next(_greetings) > 64
    return hang() if late else Responder.respond(self, event, fds)


FAULTS: tuple[Fault, ...] = (
    Fault("cut-in-first-word-fails", "The first word of a header comes in one read.", connection=_FirstWord),
    Fault("cut-in-many-fails", "A message comes in a few reads.", connection=_Pieces),
    Fault("version-cut-fails", "The first message comes in one read (libvfio-user efd091b).", connection=_WholeVersion),
    Fault("large-payload-left", "Sizes have 16 bits.", connection=rewritten(_sixteen_bits)),
    Fault("client-lost-in-first-word-crash", "A client never leaves in the first word of a header.", connection=_Left),
    Fault(
        "end-of-stream-waited-out", "A read of nothing is tried again as long as memory is mapped.", connection=_Waiting
    ),
    Fault("silent-client-crash", "A client says something (libvfio-user's samples end, efd091b).", connection=_Silent),
    Fault("id-zero-ignored", "The id 0 wants no answer.", outgoing=_without_id),
    Fault("id-expected-to-grow", "Ids grow.", responder=respond(_growing)),
    Fault("id-names-one-command", "Commands with the same id are the same command.", responder=respond(_one_command)),
    Fault("id-of-a-refusal-remembered", "What was refused once is refused again.", responder=respond(_remembering)),
    Fault(
        "error-reply-id-zero",
        "Refusals carry no id.",
        outgoing=outgoing(lambda d, _: header(d, message_id=0), error=True),
    ),
    Fault(
        "unknown-command-not-echoed",
        "The reply to an unknown command names none.",
        outgoing=outgoing(_unknown_as_zero, error=True),
    ),
    Fault("pipelining-queue-overrun", "There is room for the commands that arrive.", responder=respond(_queueing)),
    Fault("replies-due-dropped", "Replies that nobody reads are dropped.", outgoing=_dropping(400)),
    Fault(
        "reply-written-once",
        "What a socket does not take at once is forgotten.",
        outgoing=outgoing(lambda data, _: data[:200000]),
    ),
    Fault("refusals-overrun", "Refusals are counted in a byte.", responder=respond(_refusing(255))),
    Fault(
        "no-reply-done-in-batches",
        "What nobody waits for is done when there is enough of it.",
        responder=respond(_in_batches),
    ),
    Fault("map-table-of-256", "There are 256 mappings at the most, whatever was agreed.", responder=respond(_few_maps)),
    Fault("clients-run-out", "There is room for 64 clients, who never leave.", responder=respond(_few_clients)),
)
