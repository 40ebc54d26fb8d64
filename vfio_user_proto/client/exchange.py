"""A client's end of a connection, but for the waiting: commands out, replies in, what the server asks answered."""

import errno
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.fd import Fd
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import DecodeError, ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived, Event, ReplyReceived
from vfio_user_proto.messages import Command
from vfio_user_proto.model import Record, name_of
from vfio_user_proto.states import Role
from vfio_user_proto.wire import Message

# So many bytes of answers may wait for a server that does not read; then we stop reading what it asks.
DUE_BOUND: Final = 1 << 22


class Reply(NamedTuple):
    """A reply with the descriptors that came along, now the caller's; ``problem`` where its payload does not decode."""

    message: Message
    fds: tuple[Fd, ...] = ()
    problem: DecodeError | None = None

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            fd.close()


class Pending:
    """A command that was sent, and its reply as soon as that is there. ``wake`` is called then, and when none will come."""

    __slots__ = ("abandoned", "command", "message_id", "reply", "wake")

    def __init__(self, command: int, message_id: int) -> None:
        self.command, self.message_id = command, message_id
        self.reply: Reply | None = None
        self.abandoned = False
        self.wake: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """The document's name of the command."""
        return name_of(Command, self.command)


class _Due(NamedTuple):
    """What waits to be sent of a message; ``fds`` are copies, ours."""

    data: bytes | memoryview
    fds: tuple[int, ...]
    answers: bool


class Line:
    """One socket with its engine, and what is still to be sent over it."""

    def __init__(self, stream: unix.Stream, engine: Connection) -> None:
        self.stream, self.engine = stream, engine
        self.queue: deque[_Due] = deque()
        self.due = 0  # bytes of answers

    @property
    def full(self) -> bool:
        """Whether so many answers are due that nothing more is to be read."""
        return self.due >= DUE_BOUND

    def put(self, data: bytes, fds: Sequence[int] = (), *, answers: bool = False) -> None:
        """Send a message, and keep what the socket does not take now. Raises TransportError."""
        sent = 0 if self.queue else self._write(data, fds)
        if sent < len(data):
            self.queue.append(_Due(memoryview(data)[sent:], () if sent else _copies(fds), answers))
            self.due += answers * (len(data) - sent)

    def push(self) -> None:
        """Send what is due, as far as the socket takes it. Raises TransportError."""
        while self.queue:
            first = self.queue[0]
            sent = self._write(first.data, first.fds)
            if not sent:
                return
            self.due -= first.answers * sent
            unix.close_all(first.fds)
            if sent < len(first.data):
                self.queue[0] = _Due(first.data[sent:], (), first.answers)
            else:
                self.queue.popleft()

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self._drop()
        self.stream.close()
        unix.close_all(self.engine.close())

    def _write(self, data: bytes | memoryview, fds: Sequence[int]) -> int:
        try:
            return self.stream.write(data, fds, wait=False)
        except TransportError:
            self._drop()
            raise

    def _drop(self) -> None:
        for each in self.queue:
            unix.close_all(each.fds)
        self.queue.clear()
        self.due = 0


class Exchange(ABC):
    """A connection to a server; how it waits is for a subclass to say.

    ``timeout`` is the deadline of every call, in seconds, None for none. ``memory`` answers the server's commands. What the
    server does wrong on the stream raises RemoteProtocolError and ends the connection; a deadline that passes raises
    TransportError and does not, a late reply is then dropped. ``version``, ``offer`` and ``peer`` are what was agreed on.
    """

    version: tuple[int, int]
    peer: Capabilities

    def __init__(
        self, target: unix.Stream, offer: Capabilities, timeout: float | None, memory: MemoryMap | None
    ) -> None:
        self.timeout = timeout
        self.offer: Final = offer
        self.memory: Final = MemoryMap() if memory is None else memory
        limit = max(wire.DEFAULT_LIMIT, offer.max_data_xfer_size + 4096)
        self._main = Line(target, Connection(Role.CLIENT, limit=limit, max_fds=offer.max_msg_fds))
        self._twin: Line | None = None
        self._awaited: dict[tuple[int, int], deque[Pending]] = {}
        self._arrived: set[Pending] = set()
        self._ended = ""

    @abstractmethod
    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply:
        """Send a command; the reply must not say error, and its descriptors are the caller's from here on.

        Descriptors that are sent stay the caller's. Raises EncodeError and LocalProtocolError with nothing sent, ErrorReply,
        TransportError past the deadline or when the server is gone, RemoteProtocolError.
        """

    @abstractmethod
    async def tell(self, command: int, payload: Record | None = None) -> None:
        """Send a command that wants no reply. Raises as ``call`` does."""

    @property
    def limit(self) -> int:
        """Bytes of the largest message that may come."""
        return self._main.engine.limit

    @property
    def largest_transfer(self) -> int:
        """Bytes that one command may carry: neither side's max_data_xfer_size is exceeded."""
        return min(self.offer.max_data_xfer_size, self.peer.max_data_xfer_size)

    def add_twin(self, stream: unix.Stream) -> None:
        """Serve the server's commands on a socket of their own, too."""
        self._twin = Line(stream, self._main.engine.twin())

    def close(self) -> None:
        """End the connection and close every descriptor that nobody took."""
        self._end("it was closed")
        for line in self._lines():
            self._drop(line)
        for pending in list(self._arrived):
            self._abandon(pending)

    def _lines(self) -> list[Line]:
        return [self._main] if self._twin is None else [self._main, self._twin]

    def _check_open(self, waiting_for: Pending | None = None) -> None:
        if self._ended:
            before = f" before it answered {waiting_for.name}" if waiting_for else ""
            raise TransportError(f"the connection has ended: {self._ended}{before}")

    def _start(self, command: int, payload: Record | None, fds: Sequence[int], no_reply: bool) -> Pending:
        """Send a command, or as much of it as the socket takes now."""
        self._check_open()
        outgoing = self._main.engine.command(command, payload, fds=fds, no_reply=no_reply)
        pending = Pending(command, outgoing.message_id)
        if not no_reply:
            self._awaited.setdefault((pending.message_id, command), deque()).append(pending)
        self._main.put(outgoing.data, outgoing.fds)
        return pending

    def _result(self, pending: Pending) -> Reply:
        """The reply that came."""
        reply = pending.reply
        assert reply is not None
        self._arrived.discard(pending)
        if reply.message.is_error:
            reply.close()
            raise ErrorReply(pending.name, reply.message.header.error)
        return reply

    def _abandon(self, pending: Pending) -> None:
        """Nobody takes the reply."""
        pending.abandoned = True
        self._arrived.discard(pending)
        if pending.reply is not None:
            pending.reply.close()

    def _push(self, line: Line) -> None:
        """Send what is due; raises TransportError where our commands cannot be sent."""
        with suppress(*[] if line is self._main else [TransportError]):
            line.push()

    def _late(self, pending: Pending, what: str) -> TransportError:
        return TransportError(f"{pending.name} {what} within {self.timeout:g} s")

    def _read(self, line: Line, *, wait: bool = False) -> bool:
        """Take a message, or what is there of it; says whether there was anything.

        Raises RemoteProtocolError and TransportError.
        """
        stream, engine = line.stream, line.engine
        try:
            got = stream.read(engine.wanted, wait=wait)
            if got is None:
                return False
            engine.receive(*got)
            event = engine.next_event()
            if event is None:  # what follows a header is there already, mostly
                rest = stream.read(engine.wanted, wait=False)
                if rest is not None:
                    engine.receive(*rest)
                    event = engine.next_event()
        except RemoteProtocolError as problem:
            self._end(str(problem))
            raise
        while event is not None:
            self._take(line, event)
            event = engine.next_event()
        return True

    def _take(self, line: Line, event: Event) -> None:
        if isinstance(event, ReplyReceived):
            key = (event.message.header.message_id, event.message.header.command)
            waiting = self._awaited[key]
            pending = waiting.popleft()
            if not waiting:
                del self._awaited[key]
            pending.reply = Reply(event.message, tuple(Fd(fd) for fd in event.fds), event.problem)
            if pending.abandoned:
                pending.reply.close()
            else:
                self._arrived.add(pending)
            if pending.wake is not None:
                pending.wake()
        elif isinstance(event, CommandReceived):
            unix.close_all(event.fds)
            try:
                answer = line.engine.reply(event, self.memory.answer(event, self.offer.max_data_xfer_size))
            except OSError as refusal:
                answer = line.engine.error(event, refusal.errno or errno.EIO)
            if answer is not None:
                with suppress(TransportError):  # whoever asked is gone, as the next read says
                    line.put(answer.data, answers=True)
        elif line is self._main:
            self._end("the server closed it")
        else:
            self._drop(line)
            self._twin = None

    def _end(self, why: str) -> None:
        """No more replies will come."""
        self._ended = self._ended or why
        for waiting in self._awaited.values():
            for pending in waiting:
                if pending.wake is not None:
                    pending.wake()

    def _drop(self, line: Line) -> None:
        """Give up a socket."""
        line.close()


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    """Descriptors of our own for the same files: whoever gave ``fds`` may close them while they wait to be sent."""
    copies: list[int] = []
    try:
        copies.extend(os.dup(fd) for fd in fds)
    except OSError as error:
        unix.close_all(copies)
        raise TransportError(f"a descriptor cannot be kept until it is sent: {error.strerror}") from None
    return tuple(copies)
