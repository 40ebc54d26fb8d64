"""One session with a server: everything is sent, all that comes back is judged, and a last query must be answered."""

import contextlib
import select
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from random import Random
from typing import Final, NamedTuple

from vfio_user_fuzz.mutations import framed, mutate
from vfio_user_fuzz.packets import Packet, open_descriptor
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DecodeError, RemoteProtocolError, TransportError
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteReply,
    DmaWriteRequest,
    Header,
    HeaderFlags,
    MessageType,
)
from vfio_user_proto.model import Record
from vfio_user_proto.trace import Captured
from vfio_user_proto.unix import Stream, close_all

# No message of a server's is larger than this; a size beyond it is a stream out of step.
_LIMIT: Final = 1 << 24
# Seconds that a server may take to close after we have; it need not.
_FAREWELL: Final = 0.2
# Seconds between two looks at whether the first part of a message that is cut was read: there is no event for that.
_LOOK: Final = 0.001
# How often a server's command gets a wrong reply.
_WRONG_REPLIES: Final = 0.25

_TYPE, _NO_REPLY = int(HeaderFlags.TYPE), int(HeaderFlags.NO_REPLY)
_REPLY: Final = int(MessageType.REPLY)
_COMMANDS: Final = frozenset(Command)


class Ending(Enum):
    """How a session ended."""

    ANSWERED = "the last query was answered"
    CLOSED = "the server closed the connection"
    OUT_OF_STEP = "what the server sent does not follow"
    SILENT = "the server said nothing more"
    UNASKED = "nothing could be asked: what was sent lets the server wait for more"


class Conversation(NamedTuple):
    """What came of a session.

    ``problem`` says what is out of step; ``suspect`` is the message that first got no reply, in words that are the same for
    all of its kind; ``traffic`` is all that was sent and received, in that order.
    """

    ending: Ending
    problem: str
    suspect: str
    traffic: tuple[Captured, ...]


def in_frame(packets: Sequence[Packet]) -> bool:
    """Whether the bytes of all packets are whole messages, so that a server can be in step behind them."""
    try:
        _headers(packets)
    except DecodeError:
        return False
    return True


def _headers(packets: Sequence[Packet]) -> list[Header]:
    return [wire.decode_header(data) for data in wire.split(b"".join(packet.data for packet in packets))]


def converse(stream: Stream, packets: Sequence[Packet], rng: Random, *, patience: float) -> Conversation:
    """Send ``packets`` and a last query; ``rng`` makes the replies to what the server asks.

    ``patience`` is how many seconds the server may be silent. The stream stays open.
    """
    with ExitStack() as stack:
        return _Talk(stream, packets, rng, stack).run(patience)


class _Talk:
    def __init__(self, stream: Stream, packets: Sequence[Packet], rng: Random, stack: ExitStack) -> None:
        self.stream, self.rng, self.stack = stream, rng, stack
        self.judging = in_frame(packets)
        self.queue = list(_with_boundaries(packets)) if self.judging else [(packet, True) for packet in packets]
        self.cut = not all(begins for _, begins in self.queue)
        self.unsent: tuple[memoryview, list[int]] | None = None
        self.traffic: list[Captured] = []
        self.parts = b""
        self.fds, self.wanted = 0, wire.HEADER_SIZE
        self.ending: Ending | None = None
        self.problem = ""
        self.pausing = False  # a message is cut here: the server is to read the first part alone
        self.pause_ends = 0.0  # when that is given up
        self.excused = False  # the server may wait for something that it did not get
        self.sent = _headers(packets) if self.judging else [*_last_header(packets)]
        self.awaited = Counter((header.message_id, header.command) for header in self.sent)
        self.question = (-1, -1)
        if self.judging:
            taken = {header.message_id for header in self.sent}
            message_id = next(number for number in range(0xFFFF, -1, -1) if number not in taken)
            query = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=message_id)
            self.question = (message_id, int(Command.DEVICE_GET_INFO))
            self.queue.append((Packet(query), True))

    def run(self, patience: float) -> Conversation:
        self.stream.socket.setblocking(False)
        poll = select.poll()
        poll.register(self.stream.fileno())
        writing = True
        while self.ending is None:
            self.pausing &= time.monotonic() < self.pause_ends and self.stream.unread() > 0
            due = bool(self.queue or self.unsent)
            if writing and not due and not self.judging:
                self._shut_down()
            writing = due
            poll.modify(self.stream.fileno(), select.POLLIN | (select.POLLOUT if due and not self.pausing else 0))
            wait = _LOOK if self.pausing else patience if due or self.judging else min(patience, _FAREWELL)
            ready = poll.poll(wait * 1000)
            if not ready and not self.pausing:
                waits_for_us = self.excused or not (due or self.judging)
                self.ending = Ending.UNASKED if waits_for_us else Ending.SILENT
            for _, events in ready:
                if events & select.POLLOUT and due:
                    self._write(patience)
                if events & ~select.POLLOUT:
                    self._read()
        return Conversation(self.ending, self.problem, self._suspect(), tuple(self.traffic))

    def _shut_down(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(OSError):  # the server was faster
            self.stream.socket.shutdown(socket.SHUT_WR)

    def _write(self, patience: float) -> None:
        """Send what fits, one packet at most; where a message is cut behind it, pause until it was read."""
        if self.unsent is None:
            packet, _ = self.queue.pop(0)
            self.traffic.append(Captured("client", packet.data, tuple(each.about() for each in packet.fds)))
            made = {each: open_descriptor(each, self.stack) for each in set(packet.fds)}
            self.unsent = memoryview(packet.data), [made[each] for each in packet.fds]
        data, fds = self.unsent
        try:
            sent = self.stream.write(data, fds)
        except TransportError:
            # It reads nothing more; what it had said before is still to be read.
            self.queue.clear()
            self.excused = True
            sent = len(data)
        self.unsent = (data[sent:], [] if sent else fds) if sent < len(data) else None
        self.pausing = self.unsent is None and bool(self.queue) and not self.queue[0][1]
        self.pause_ends = time.monotonic() + patience

    def _read(self) -> None:
        """Take what arrived, up to the end of one message."""
        try:
            got = self.stream.read(self.wanted)
        except (RemoteProtocolError, TransportError) as problem:
            self._out_of_step(str(problem))
            return
        if got is None:
            return
        data, fds = got
        close_all(fds)
        self.fds += len(fds)
        if not data:
            self.ending = Ending.CLOSED if self.judging else Ending.UNASKED
            return
        self.parts += data
        self.wanted -= len(data)
        if self.wanted:
            return
        header = wire.decode_header(self.parts)
        if not wire.HEADER_SIZE <= header.message_size <= _LIMIT:
            self._out_of_step(f"it sent a header that says {header.message_size} bytes")
        elif len(self.parts) < header.message_size:
            self.wanted = header.message_size - len(self.parts)
        else:
            whole, count = self.parts, self.fds
            self.parts, self.fds, self.wanted = b"", 0, wire.HEADER_SIZE
            self.traffic.append(Captured("server", whole, count))
            self._judge(header, whole)

    def _judge(self, header: Header, data: bytes) -> None:
        """One whole message of the server's."""
        kind = int(header.flags) & _TYPE
        key = (header.message_id, header.command)
        if kind == MessageType.COMMAND:
            self._serve(header, data)
        elif not self.judging:
            return
        elif kind != _REPLY:
            self._out_of_step(f"it sent a message of type {kind}")
        elif key == self.question:
            self._answered(data)
        elif self.awaited[key]:
            self.awaited[key] -= 1
        else:
            self._out_of_step("it sent a reply that answers no command")

    def _answered(self, data: bytes) -> None:
        try:
            wire.decode(data)
        except DecodeError as problem:
            self._out_of_step(f"its answer to the last query is malformed: {problem}")
        else:
            self.ending = Ending.ANSWERED

    def _serve(self, header: Header, data: bytes) -> None:
        """Answer a command of the server's, now and then wrongly, as soon as the message that is being sent is whole."""
        try:
            request = wire.decode(data).payload
        except DecodeError as problem:
            self._out_of_step(f"its command is malformed: {problem}")
            return
        answer: Record | None = None
        if isinstance(request, DmaReadRequest) and request.count <= _LIMIT:
            answer = DmaReadReply(address=request.address, data=bytes(request.count))
        elif isinstance(request, DmaWriteRequest):
            answer = DmaWriteReply(address=request.address, count=request.count)
        flags = _REPLY if answer else _REPLY | HeaderFlags.ERROR
        reply = craft(header.command, answer, message_id=header.message_id, flags=flags, error=0 if answer else 22)
        if self.rng.random() < _WRONG_REPLIES and len(wrong := mutate(self.rng, reply)) >= wire.HEADER_SIZE:
            reply = framed(wrong)
            self.excused = True
            self.sent.append(wire.decode_header(reply))
            self.awaited[self.sent[-1].message_id, self.sent[-1].command] += 1
        if not int(header.flags) & _NO_REPLY:
            place = next((number for number, (_, begins) in enumerate(self.queue) if begins), len(self.queue))
            self.queue.insert(place, (Packet(reply), True))

    def _out_of_step(self, problem: str) -> None:
        self.ending, self.problem = Ending.OUT_OF_STEP, problem

    def _suspect(self) -> str:
        """The first message that still wants a reply; the last one where no reply tells.

        Where the server lost its place in the stream, the first odd message is more likely to blame.
        """
        if self.ending in (Ending.OUT_OF_STEP, Ending.SILENT):
            for header in self.sent:
                if int(header.flags) & _TYPE != MessageType.COMMAND:
                    return _words(header)
            if self.cut:
                return "a message in parts"
        for header in self.sent:
            wants = int(header.flags) & (_TYPE | _NO_REPLY) == MessageType.COMMAND
            if wants and self.awaited[header.message_id, header.command]:
                return _words(header)
        return _words(self.sent[-1]) if self.sent else "no message"


def _words(header: Header) -> str:
    kind = int(header.flags) & _TYPE
    if kind != MessageType.COMMAND:
        return "a reply" if kind == MessageType.REPLY else "a message of no known type"
    return Command(header.command).document_name if header.command in _COMMANDS else "an unknown command"


def _with_boundaries(packets: Sequence[Packet]) -> Iterator[tuple[Packet, bool]]:
    """Each packet, and whether a message begins with it."""
    data = b"".join(packet.data for packet in packets)
    starts, at = {0}, 0
    for message in wire.split(data):
        at += len(message)
        starts.add(at)
    at = 0
    for packet in packets:
        yield packet, at in starts
        at += len(packet.data)


def _last_header(packets: Sequence[Packet]) -> Iterator[Header]:
    """The header of the last packet that has one."""
    for packet in reversed(packets):
        if len(packet.data) >= wire.HEADER_SIZE:
            yield wire.decode_header(packet.data)
            return
