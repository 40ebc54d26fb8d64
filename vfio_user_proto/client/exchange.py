"""Commands out, replies in, in any order, with deadlines; what the server asks meanwhile is answered from our memory."""

import errno
import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from vfio_user_proto import unix
from vfio_user_proto.client.fd import Fd
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import DecodeError, ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived, Event, ReplyReceived
from vfio_user_proto.messages import Command
from vfio_user_proto.model import Record, name_of
from vfio_user_proto.states import State
from vfio_user_proto.wire import Message

# So many bytes of answers may wait for a server that does not read; then we stop reading what it asks.
_DUE_BOUND: Final = 1 << 22


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
    """A command that was sent; ``wait`` gives its reply."""

    __slots__ = ("abandoned", "command", "message_id", "reply")

    def __init__(self, command: int, message_id: int) -> None:
        self.command, self.message_id = command, message_id
        self.reply: Reply | None = None
        self.abandoned = False

    @property
    def name(self) -> str:
        """The document's name of the command."""
        return name_of(Command, self.command)


class Line:
    """One socket with its engine, and what is still to be sent over it."""

    def __init__(self, stream: unix.Stream, engine: Connection, timeout: float | None) -> None:
        self.stream, self.engine = stream, engine
        self.queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self.due = 0
        self._armed = timeout
        stream.set_timeout(timeout)

    def arm(self, remaining: float | None) -> None:
        """Let reads wait for ``remaining`` seconds; a system call only where that is far from what was set."""
        if remaining is None or self._armed is None:
            changed = remaining is not self._armed
        else:
            changed = not 0.9 * self._armed <= remaining <= self._armed
        if changed:
            self._armed = remaining
            self.stream.set_timeout(remaining)

    def put(self, data: bytes, fds: Sequence[int]) -> None:
        """Queue a message."""
        self.queue.append((data, fds))
        self.due += len(data)

    def push(self) -> bool:
        """Send what the socket takes without waiting; says whether nothing is left. Raises TransportError."""
        while self.queue:
            data, fds = self.queue[0]
            sent = self.stream.write(data, fds, wait=False)
            self.due -= sent
            if sent < len(data):
                if sent:
                    self.queue[0] = memoryview(data)[sent:], ()
                return False
            self.queue.popleft()
        return True

    def close(self) -> None:
        self.stream.close()
        unix.close_all(self.engine.close())


class Exchange:
    """A connection to a server, used by one thread.

    ``timeout`` is the deadline of every call, in seconds, None for none. ``memory`` answers the server's commands; they are
    served while a call waits. What the server does wrong on the stream raises RemoteProtocolError and ends the connection; a
    deadline that passes raises TransportError and does not, a late reply is then dropped.
    """

    def __init__(self, stream: unix.Stream, engine: Connection, timeout: float | None, memory: MemoryMap) -> None:
        self.timeout = timeout
        self.memory: Final = memory
        self.largest_dma = 0
        self._main = Line(stream, engine, timeout)
        self._twin: Line | None = None
        self._awaited: dict[tuple[int, int], deque[Pending]] = {}
        self._arrived: set[Pending] = set()
        self._ended = ""

    def send(
        self, command: int, payload: Record | None = None, *, fds: Sequence[int] = (), no_reply: bool = False
    ) -> Pending:
        """Send a command and do not wait; with ``no_reply`` there will be none to wait for.

        Descriptors stay the caller's. Raises EncodeError and LocalProtocolError, with nothing sent, and TransportError.
        """
        self._check_open()
        outgoing = self._main.engine.command(command, payload, fds=fds, no_reply=no_reply)
        pending = Pending(command, outgoing.message_id)
        if not no_reply:
            self._awaited.setdefault((pending.message_id, command), deque()).append(pending)
        self._main.put(outgoing.data, outgoing.fds)
        if not self._main.push():
            deadline = self._deadline()
            while not self._main.push():
                self._turn(pending.name, deadline, sending=True)
        return pending

    def wait(self, pending: Pending) -> Reply:
        """The reply to ``pending``, which must not say error; its descriptors are the caller's from here on.

        Raises ErrorReply, TransportError past the deadline or when the server is gone, RemoteProtocolError.
        """
        if pending.reply is None:
            deadline = self._deadline()
            try:
                while pending.reply is None:
                    self._turn(pending.name, deadline)
            finally:
                pending.abandoned = pending.reply is None
        reply = pending.reply
        self._arrived.discard(pending)
        if reply.message.is_error:
            reply.close()
            raise ErrorReply(pending.name, reply.message.header.error)
        return reply

    def close(self) -> None:
        """End the connection and close every descriptor that nobody took."""
        self._ended = self._ended or "it was closed"
        for line in self._lines():
            line.close()
        for pending in self._arrived:
            if pending.reply is not None:
                pending.reply.close()
        self._arrived.clear()

    def add_twin(self, stream: unix.Stream) -> None:
        """Serve the server's commands on a socket of their own, too."""
        self._twin = Line(stream, self._main.engine.twin(), self.timeout)

    def _lines(self) -> list[Line]:
        return [self._main] if self._twin is None else [self._main, self._twin]

    def _deadline(self) -> float | None:
        return None if self.timeout is None else time.monotonic() + self.timeout

    def _check_open(self, waiting_for: str = "") -> None:
        if self._ended:
            before = f" before it answered {waiting_for}" if waiting_for else ""
            raise TransportError(f"the connection has ended: {self._ended}{before}")

    def _turn(self, name: str, deadline: float | None, *, sending: bool = False) -> None:
        """Wait for something to arrive, or for room to send, and take it. Raises TransportError past the deadline."""
        self._check_open(name)
        remaining = None if deadline is None else deadline - time.monotonic()
        if remaining is not None and remaining <= 0:
            what = "cannot be sent" if sending else "has no reply"
            raise TransportError(f"{name} {what} within {self.timeout:g} s")
        if self._twin is None and not self._main.queue:
            self._main.arm(remaining)
            self._read(self._main)
            return
        poll = select.poll()
        lines = {line.stream.fileno(): line for line in self._lines()}
        for fd, line in lines.items():
            poll.register(fd, (select.POLLOUT if line.queue else 0) | (select.POLLIN if line.due < _DUE_BOUND else 0))
        for fd, events in poll.poll(None if remaining is None else remaining * 1000):
            line = lines[fd]
            if events & ~select.POLLOUT and line.due < _DUE_BOUND:
                self._read(line)
            if line.engine.state is not State.CLOSED:
                line.push()

    def _read(self, line: Line) -> None:
        """Take what one read gives."""
        got = line.stream.read(line.engine.wanted)
        if got is None:
            return
        try:
            line.engine.receive(*got)
        except RemoteProtocolError as problem:
            self._ended = str(problem)
            raise
        while (event := line.engine.next_event()) is not None:
            self._take(line, event)

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
        elif isinstance(event, CommandReceived):
            unix.close_all(event.fds)
            try:
                answer = line.engine.reply(event, self.memory.answer(event, self.largest_dma))
            except OSError as refusal:
                answer = line.engine.error(event, refusal.errno or errno.EIO)
            if answer is not None:
                line.put(answer.data, ())
        elif line is self._main:
            self._ended = "the server closed it"
        else:
            line.close()
            self._twin = None
