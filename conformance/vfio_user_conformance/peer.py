"""One connection to a target: sends anything, reads whatever comes, records both."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vfio_user_conformance.words import command_name, errno_name, plural, said
from vfio_user_proto import wire
from vfio_user_proto.errors import DecodeError, DescriptorError, ProtocolError, TransportError
from vfio_user_proto.messages import HeaderFlags, MessageType
from vfio_user_proto.unix import Stream, close_all, kind_of
from vfio_user_proto.wire import Message

_KINDS: Final[dict[int, str]] = {MessageType.COMMAND: "command", MessageType.REPLY: "reply"}
# No target can mean a message of more than this; what says so is no header.
LARGEST: Final = 1 << 26
# Bytes at a time of what nobody looks at.
_DROPPED: Final = 1 << 16


@dataclass(frozen=True)
class Timing:
    """Seconds: ``reply`` is how long a target may take, ``patience`` how long we wait before we ask what became of it.

    With ``hasty`` only a first look is waited for: who has waited in vain then comes back to it.
    """

    reply: float | None = 5.0
    patience: float = 0.25
    hasty: bool = False

    @property
    def answer(self) -> float | None:
        """How long an answer is waited for."""
        return 4 * self.patience if self.hasty else self.reply

    @property
    def release(self) -> float | None:
        """How long a target that has answered may take to let go of what it has no more use for."""
        if self.hasty:
            return self.patience
        return None if self.reply is None else 8 * self.patience

    @classmethod
    def scaled(cls, multiplier: float) -> "Timing":
        """The usual times, longer or shorter; with 0 nothing ever takes too long."""
        return cls(5.0 * multiplier or None, 0.25 * (multiplier or 1.0))


class OutOfStep(Exception):
    """The bytes that came cannot be the beginning of a message, or end inside one."""


@dataclass(frozen=True)
class Received:
    """One message that came; ``problem`` where its payload does not decode."""

    message: Message
    fds: tuple[int, ...] = ()
    problem: str = ""

    @property
    def is_command(self) -> bool:
        return type_of(self.message) == MessageType.COMMAND

    def __str__(self) -> str:
        """For people: what kind of message, and what is in it."""
        header = self.message.header
        kind = _KINDS.get(type_of(self.message), f"type {type_of(self.message)}")
        words = f"{command_name(header.command)} {'error ' if self.message.is_error else ''}{kind}, id {header.message_id:#06x}"
        if self.message.is_error:
            words += f", {errno_name(header.error)}"
        if self.message.payload is not None:
            words += f": {said(self.message.payload.as_dict())}"
        if self.problem:
            words += f" ({self.problem})"
        elif self.message.trailing:
            words += f", and {plural(len(self.message.trailing), 'byte')} that no table accounts for"
        if self.fds:
            words += f", with {plural(len(self.fds), 'descriptor')}"
        return words


@dataclass(frozen=True)
class Silence:
    """Nothing came, and a later command was answered."""

    def __str__(self) -> str:
        return "no reply; the query after it was answered"


class Asked(NamedTuple):
    """A command that was sent, and that a reply has to answer."""

    message_id: int
    command: int


@dataclass(frozen=True)
class HungUp:
    """The target closed the connection."""

    how: str = ""

    def __str__(self) -> str:
        return "the connection was closed" + (f" ({self.how})" if self.how else "")


Seen = Received | Silence | HungUp


class Peer:
    """The client's end of one connection. ``log`` takes every message in both directions, in the capture format.

    ``line`` is "twin" for the second socket of a connection; the log then says so.
    """

    def __init__(
        self, stream: Stream, log: list[dict[str, Any]], timing: Timing, started: float, *, line: str = ""
    ) -> None:
        self.stream, self.log, self.timing, self.started, self.line = stream, log, timing, started, line
        self.closed = False
        self.most = LARGEST  # bytes that are read at a time
        self._first = not line
        self._fds: list[int] = []

    def send(
        self, messages: Sequence[bytes], fds: Sequence[int] = (), about: Sequence[Any] = (), cuts: Sequence[int] = ()
    ) -> None:
        """Write ``messages`` in one piece, or cut at the bytes ``cuts``; a piece is sent when the one before was read.

        Descriptors go with the first byte. A target that closes meanwhile is no error: reading will tell. Raises
        DescriptorError where the kernel does not pass them: no target is to be judged by what it did not get.
        """
        for number, message in enumerate(messages):
            self._record("client", message, [] if number else about, () if number else cuts)
        data = b"".join(messages)
        try:
            for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                if not self._write(memoryview(data)[begin:end], fds):
                    return
                fds = ()
                if end != len(data):
                    self.await_reader()
        except DescriptorError:
            raise
        except TransportError:
            return

    def _write(self, rest: memoryview, fds: Sequence[int]) -> bool:
        """Whether all went out. A target that answers instead of reading on would keep both sides waiting for ever."""
        end = None if self.timing.reply is None else time.monotonic() + self.timing.reply
        waiting = select.poll()
        waiting.register(self.stream.fileno(), select.POLLIN)
        self.stream.set_timeout(self.timing.patience)
        while rest:
            sent = self.stream.write(rest, fds)
            if sent:
                rest, fds = rest[sent:], ()
            elif waiting.poll(0) or (end is not None and time.monotonic() >= end):
                return False
        return True

    def receive(self, seconds: float | None) -> Received | HungUp | None:
        """The next message; None where nothing came within ``seconds``. Raises OutOfStep."""
        head = self._read(wire.HEADER_SIZE, seconds)
        if head is None:
            return None
        if isinstance(head, HungUp):
            return head
        data, fds = head
        size = wire.decode_header(data).message_size
        kind = data[8] & HeaderFlags.TYPE
        if not wire.HEADER_SIZE <= size <= LARGEST or kind > MessageType.REPLY:
            self._record("server", data, _kinds(fds))
            raise OutOfStep(f"these bytes are no header: {data.hex(' ', 4)}")
        if size > wire.HEADER_SIZE:
            rest = self._read(size - wire.HEADER_SIZE, self.timing.reply)
            if not isinstance(rest, tuple):
                self._record("server", data, _kinds(fds))
                raise OutOfStep(f"the header says {size} bytes; the rest did not come")
            data, fds = data + rest[0], fds + rest[1]
        self._record("server", data, _kinds(fds))
        try:
            return Received(wire.decode(data), tuple(fds))
        except DecodeError as error:
            return Received(Message(wire.decode_header(data), None, data[wire.HEADER_SIZE :]), tuple(fds), str(error))

    def await_reader(self) -> None:
        """Wait until the target has read all that was sent, so that it sees a piece as a piece; not for ever."""
        end = time.monotonic() + (self.timing.reply or 60)
        idle = select.poll()
        while self.stream.unread() and time.monotonic() < end:
            idle.poll(1)

    def half_close(self) -> None:
        """Send no more."""
        with socket.socket(fileno=os.dup(self.stream.fileno())) as copy, contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_WR)

    def leave(self) -> bool:
        """Send no more, and drop what still comes; returns whether the target closes too, within our patience."""
        self.half_close()
        end = time.monotonic() + self.timing.patience
        while (left := end - time.monotonic()) > 0:
            self.stream.set_timeout(left)
            try:
                got = self.stream.read(_DROPPED)
            except (TransportError, ProtocolError):
                return True
            if got is None:
                break
            close_all(got[1])
            if not got[0]:
                return True
        return False

    def close(self) -> None:
        """Close the connection and every descriptor that came with it."""
        if not self.closed:
            self.closed = True
            self.stream.close()
            close_all(self._fds)
            self._fds.clear()

    def _read(self, wanted: int, seconds: float | None) -> tuple[bytes, list[int]] | HungUp | None:
        """All of ``wanted`` bytes. Raises OutOfStep where they stop in the middle."""
        end = None if seconds is None else time.monotonic() + seconds
        data, fds = b"", list[int]()
        while len(data) < wanted:
            if end is not None and time.monotonic() >= end:
                break
            self.stream.set_timeout(None if end is None else max(end - time.monotonic(), 0.0001))
            try:
                part = self.stream.read(min(wanted - len(data), self.most))
            except TransportError as error:
                part, how = (b"", []), str(error)
            except ProtocolError as error:
                raise OutOfStep(str(error)) from None
            else:
                how = ""
            if part is None:
                continue
            if not part[0]:
                if data:
                    self._record("server", data, [])
                    raise OutOfStep(f"the connection was closed {wanted - len(data)} bytes before the end of a message")
                return HungUp(how)
            data += part[0]
            fds += part[1]
            self._fds += part[1]
            end = None if self.timing.reply is None else time.monotonic() + self.timing.reply
        if len(data) == wanted:
            return data, fds
        if data:
            self._record("server", data, [])
            raise OutOfStep(f"only {len(data)} of {wanted} bytes came")
        return None

    def _record(self, sender: str, data: bytes, fds: Sequence[Any], cuts: Sequence[int] = ()) -> None:
        entry = {"from": sender, "fds": list(fds), "hex": data.hex(), "t": round(time.monotonic() - self.started, 6)}
        if cuts:
            entry["cuts"] = list(cuts)
        if self.line:
            entry["line"] = self.line
        if self._first:
            entry["connect"], self._first = True, False
        self.log.append(entry)


def type_of(message: Message) -> int:
    """The type in the header: 0 command, 1 reply."""
    return int(message.header.flags & HeaderFlags.TYPE)


def _kinds(fds: Iterable[int]) -> list[Any]:
    return [{"kind": kind_of(fd)} for fd in fds]
