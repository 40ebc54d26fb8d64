"""A client's end of a connection, but for the waiting: commands out, replies in, what the server asks answered."""

import errno
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Final

from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.fd import Fd
from vfio_user_proto.client.line import Due, Line
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.client.replies import Pending, Reply
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import DescriptorError, ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived, Event, ReplyReceived
from vfio_user_proto.model import Record
from vfio_user_proto.states import Role, State

# So many reads empty a socket of what is left in it, be it headers alone.
_LEFT: Final = 1 << 16


class Exchange(ABC):
    """A connection to a server; how it waits is for a subclass to say.

    ``timeout`` is the deadline of every call, in seconds, None for none. ``memory`` answers the server's commands.
    ``version``, ``offer`` and ``peer`` are what was agreed on.

    What ends the connection, at once and for all commands that wait: the server closes it; it breaks a rule on the stream
    (RemoteProtocolError); a send fails, be it of an answer, after what the server had sent until then was taken. What does
    not: a deadline that passes (TransportError), whose late reply is dropped; a command of which the kernel did not take the
    first byte because of its descriptors (DescriptorError); the end of the twin socket.
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
        self._ended = ""  # why there are no more replies
        self._broken = False  # it is because the server broke a rule

    @abstractmethod
    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply:
        """Send a command; the reply must not say error, and its descriptors are the caller's from here on.

        Descriptors that are sent stay the caller's. Raises EncodeError, LocalProtocolError and DescriptorError with nothing
        sent, ErrorReply, TransportError past the deadline or when the connection has ended, RemoteProtocolError.
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

    def _start(self, command: int, payload: Record | None, fds: Sequence[int], no_reply: bool) -> Pending:
        """Send a command, or as much of it as the socket takes now."""
        if self._ended:
            raise TransportError(f"the connection has ended: {self._ended}")
        outgoing = self._main.engine.command(command, payload, fds=fds, no_reply=no_reply)
        pending = Pending(command, outgoing.message_id)
        if not no_reply:
            self._awaited.setdefault((pending.message_id, command), deque()).append(pending)
        try:
            self._main.put(outgoing.data, outgoing.fds, pending)
        except DescriptorError:
            self._withdraw(pending)
            raise
        except TransportError as problem:
            self._lose(self._main, problem)
            self._check(pending)
        return pending

    def _withdraw(self, pending: Pending) -> None:
        """Forget a command of which nothing was sent."""
        key = pending.message_id, pending.command
        waiting = self._awaited.get(key)
        if waiting is not None and pending in waiting:
            waiting.remove(pending)
            if not waiting:
                del self._awaited[key]
            self._main.engine.withdraw(pending.command, pending.message_id)

    def _check(self, pending: Pending) -> None:
        """Raise what keeps ``pending`` from being done, if anything does."""
        if pending.reply is not None:
            return
        if pending.refusal is not None:
            raise pending.refusal
        if self._broken:
            raise RemoteProtocolError(self._ended)
        if self._ended:
            raise TransportError(f"the connection has ended before {pending.name} was done: {self._ended}")

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
        """Send what is due, as far as the socket takes it."""
        while line.queue:
            try:
                line.push()
                return
            except DescriptorError as problem:
                self._refuse(line.queue.popleft(), problem)
            except TransportError as problem:
                self._lose(line, problem)

    def _refuse(self, due: Due, problem: DescriptorError) -> None:
        """A command that waited to be sent cannot be: only that one fails."""
        unix.close_all(due.fds)
        assert due.command is not None, "answers bring no descriptors"
        self._withdraw(due.command)
        due.command.refusal = problem
        if due.command.wake is not None:
            due.command.wake()

    def _late(self, pending: Pending, what: str) -> TransportError:
        return TransportError(f"{pending.name} {what} within {self.timeout:g} s")

    def _hears(self, line: Line) -> bool:
        """Whether more is to be read."""
        return not self._ended and not line.full and line.engine.state is not State.CLOSED

    def _read(self, line: Line, *, wait: bool = False) -> bool:
        """Take a message, or what is there of it; says whether there was anything."""
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
            self._end(str(problem), broken=True)
            return False
        except TransportError as problem:
            self._give_up(line, str(problem))
            return False
        while event is not None:
            self._take(line, event)
            event = engine.next_event()
        return True

    def _take(self, line: Line, event: Event) -> None:
        """A reply goes to its command, a command of the server's is answered from ``memory``."""
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
            if answer is not None and not line.deaf:
                try:
                    line.put(answer.data)
                except TransportError as problem:
                    self._lose(line, problem)
        else:
            self._give_up(line, "the server closed it")

    def _lose(self, line: Line, problem: TransportError) -> None:
        """A send failed: take what the server sent before, then give the socket up."""
        line.deaf = True
        line.drop()
        for _ in range(_LEFT):
            if not self._hears(line) or not self._read(line):
                break
        self._give_up(line, str(problem))

    def _give_up(self, line: Line, why: str) -> None:
        """Nothing more goes over a socket; without the twin the connection goes on."""
        if line is self._main:
            self._end(why)
        else:
            self._drop(line)
            self._twin = None

    def _end(self, why: str, *, broken: bool = False) -> None:
        """No more replies will come; the first reason is the one that counts."""
        if not self._ended:
            self._ended, self._broken = why, broken
        for line in self._lines():
            line.drop()
        for waiting in self._awaited.values():
            for pending in waiting:
                if pending.wake is not None:
                    pending.wake()

    def _drop(self, line: Line) -> None:
        """Give up a socket."""
        line.close()
