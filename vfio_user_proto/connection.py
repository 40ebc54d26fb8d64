"""One end of a connection without any I/O: bytes and descriptors in, events out; commands and replies in, bytes out."""

import struct
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, NoReturn

from vfio_user_proto import wire
from vfio_user_proto.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from vfio_user_proto.events import Closed, CommandReceived, Event, Outgoing, ReplyReceived
from vfio_user_proto.messages import Command, HeaderFlags, MessageType
from vfio_user_proto.model import Record, name_of
from vfio_user_proto.states import SENDERS, TRANSITIONS, Role, State
from vfio_user_proto.wire import Message

_NO_REPLY, _ERROR = int(HeaderFlags.NO_REPLY), int(HeaderFlags.ERROR)
_TYPE, _REPLY = int(HeaderFlags.TYPE), int(MessageType.REPLY)
_VERSION = int(Command.VERSION)
_HEADER_SIZE = wire.HEADER_SIZE
_CLOSED = State.CLOSED
_LARGE = 1 << 16  # bytes, from which on a copy costs more than sending in two pieces
# What ``TRANSITIONS`` says of each end: (state, is a reply, is VERSION) -> next state.
_AFTER = {
    role: {
        (state, *rest): after
        for state, sent in TRANSITIONS.items()
        for (sender, *rest), after in sent.items()
        if sender is role
    }
    for role in Role
}
_SENT_BY = {role: frozenset(int(command) for command, sender in SENDERS.items() if sender is role) for role in Role}
_size_at = struct.Struct("=I").unpack_from
_new = tuple.__new__  # what a NamedTuple's own constructor ends in, at half the cost


class Connection:
    """The engine of either role.

    Read at most ``wanted`` bytes from the socket and hand them to ``receive`` with the descriptors that came along; take
    events with ``next_event`` until it returns None. ``command``, ``reply`` and ``error`` return what to send. The engine
    has no clock and no socket, and neither opens nor closes a descriptor: those not yet handed over in an event are
    returned by ``close``. A mistake of ours raises LocalProtocolError and changes nothing, one of the peer's raises
    RemoteProtocolError and ends the connection; nothing else is raised.

    Each command is answered once. One that is unknown, or that only our side may send, is an event like any other, since the
    stream stays in step; the latter is answered by ``error`` alone (requirement commands.wrong-direction).

    ``limit`` is the largest message accepted, in bytes; ``max_fds`` the most descriptors accepted with one message.
    ``by_message`` says that it is enough to know with which message descriptors came, not with which of its bytes.
    """

    by_message = True

    def __init__(self, role: Role, *, limit: int = wire.DEFAULT_LIMIT, max_fds: int = 253) -> None:
        self.role: Final = role
        self.limit, self.max_fds = limit, max_fds
        self.state = State.NEW
        self.wanted = wire.HEADER_SIZE
        self._peer, self._ours = role.peer, _SENT_BY[role]
        self._when_heard, self._when_said = _AFTER[self._peer], _AFTER[role]
        self._header = b""  # that of the message whose payload is awaited
        self._pieces = bytearray()  # what came so far of a header that is cut, or of header and cut payload
        self._fds: list[int] = []
        self._events: deque[Event] = deque()
        self._next_id = 0
        # The commands that have no reply yet, by (message id, command): ours, and the peer's.
        self._awaited: Counter[tuple[int, int]] = Counter()
        self._due: dict[tuple[int, int], int] = {}  # a Counter takes longer to forget a key

    @property
    def unanswered(self) -> int:
        """How many of our commands still have no reply."""
        return self._awaited.total()

    def twin(self) -> "Connection":
        """The engine of the second socket of twin-socket mode, on which no version is agreed."""
        other = Connection(self.role, limit=self.limit, max_fds=self.max_fds)
        other.state = State.READY
        return other

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Take bytes that arrived, at most ``wanted`` of them, and the descriptors that came with them; b"" is the end.

        Between two messages it may also be a whole one, when no descriptors came with it.
        """
        missing = self.wanted - len(data)
        if self.state is _CLOSED:
            raise LocalProtocolError("the connection has ended, nothing more can be received")
        if missing < 0:
            if fds or self._header or self._pieces or (size := _size_at(data, 4)[0]) != len(data):
                raise LocalProtocolError(f"{len(data)} bytes were read where {self.wanted} were wanted")
            self._check(size)
            self._take(data, ())
            return
        if fds:
            self._fds += fds
            if len(self._fds) > self.max_fds:
                self._fail(f"{len(self._fds)} descriptors came with one message, {self.max_fds} are allowed")
        if missing or self._pieces:
            if not data:
                self._end()
                return
            self._pieces = self._pieces or bytearray(self._header)
            self._pieces += data
            self.wanted = missing
            if missing:
                return
            data, self._pieces = bytes(self._pieces), bytearray()
        else:
            data = self._header + data
        if self._header:
            self._header = b""
        elif (size := _size_at(data, 4)[0]) != _HEADER_SIZE:
            self._check(size)
            self._header = data
            self.wanted = size - _HEADER_SIZE
            return
        self.wanted = _HEADER_SIZE
        if self._fds:
            whole, self._fds = tuple(self._fds), []
            self._take(data, whole)
        else:
            self._take(data, ())

    def next_event(self) -> Event | None:
        """The oldest event that was not taken yet, or None when more bytes are needed."""
        return self._events.popleft() if self._events else None

    def command(
        self, command: int, payload: Record | None = None, *, fds: Sequence[int] = (), no_reply: bool = False
    ) -> Outgoing:
        """What to send for a command of ours; its reply will come as ``ReplyReceived`` with the same ``message_id``."""
        if SENDERS.get(command, self.role) is not self.role:
            raise LocalProtocolError(f"{name_of(Command, command)} is not for the {self.role.value} to send")
        after = self._when_said.get((self.state, False, command == _VERSION))
        if after is None:
            raise LocalProtocolError(f"{name_of(Command, command)} cannot be sent now ({self.state.value})")
        message_id = self._next_id
        data = wire.build(command, payload, message_id=message_id, flags=_NO_REPLY if no_reply else 0)
        self.state = after
        self._next_id = (message_id + 1) & 0xFFFF
        if not no_reply or command == _VERSION:  # VERSION is answered all the same
            self._awaited[message_id, command] += 1
        return Outgoing((data,), tuple(fds), message_id)

    def withdraw(self, command: int, message_id: int) -> None:
        """Forget a command of ours, other than VERSION, of which nothing could be sent: a reply to it breaks the rules."""
        self._awaited -= {(message_id, command): 1}

    def reply(self, to: CommandReceived, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Outgoing | None:
        """What to send for a reply that says success; None where the command asked for no reply.

        Raises LocalProtocolError where the command has its reply already, or was not for the peer to send.
        """
        return self._answer(to, payload, fds, 0, _REPLY)

    def error(self, to: CommandReceived, errno: int) -> Outgoing | None:
        """What to send for an error reply: the header alone, with ``errno``; None where the command asked for no reply.

        Raises LocalProtocolError where the command has its reply already.
        """
        return self._answer(to, None, (), errno, _REPLY | _ERROR)

    def close(self) -> tuple[int, ...]:
        """End the connection; returns the descriptors that were received and never handed over, for the caller to close."""
        self.state = State.CLOSED
        left = [*self._fds]
        for event in self._events:
            if not isinstance(event, Closed):
                left += event.fds
        self._fds, self._header, self._pieces = [], b"", bytearray()
        self._events.clear()
        return tuple(left)

    def _answer(
        self, to: CommandReceived, payload: Record | None, fds: Sequence[int], errno: int, flags: int
    ) -> Outgoing | None:
        header = to.message.header
        command, message_id = header.command, header.message_id
        version = command == _VERSION
        after = self._when_said.get((self.state, True, version))
        if after is None:
            raise LocalProtocolError(f"{to.message.name} cannot be answered now ({self.state.value})")
        if int(header.flags) & _NO_REPLY and not version:
            return None
        key = (message_id, command)
        due = self._due.get(key)
        if not due:
            raise LocalProtocolError(f"{to.message.name} with id {message_id} has its reply already")
        if not flags & _ERROR and command in self._ours:
            raise LocalProtocolError(f"{to.message.name} is not for the {self._peer.value} to send: it is refused")
        head, tail = wire.parts(command, payload, message_id, flags, errno)
        if due > 1:
            self._due[key] = due - 1
        else:
            del self._due[key]
        if not flags & _ERROR:
            self.state = after
        return _new(Outgoing, ((head + tail,) if len(tail) < _LARGE else (head, tail), tuple(fds), message_id))

    def _take(self, data: bytes, fds: tuple[int, ...]) -> None:
        """Turn one whole message into an event."""
        problem = None
        try:
            message = wire.decode(data)
        except DecodeError as error:
            problem = error
            message = Message(wire.decode_header(data), None, data[wire.HEADER_SIZE :])
        header = message.header
        flags = int(header.flags)
        kind = flags & _TYPE
        if kind > _REPLY:
            self._fds = [*fds]
            self._fail(f"the message has type {kind}, neither command nor reply")
        command = header.command
        after = self._when_heard.get((self.state, kind == _REPLY, command == _VERSION))
        if after is None:
            self._fds = [*fds]
            self._fail(f"{message.name} came out of turn ({self.state.value})")
        key = (header.message_id, command)
        if kind == _REPLY:
            if key not in self._awaited:
                self._fds = [*fds]
                self._fail(f"{message.name} with id {header.message_id} answers no command of ours")
            self._awaited[key] -= 1
            if not self._awaited[key]:
                del self._awaited[key]
            if not message.is_error:
                self.state = after
            self._events.append(ReplyReceived(message, fds, problem))
        else:
            if command in self._ours and key in self._awaited:
                self._fds = [*fds]
                self._fail(f"{message.name} with id {header.message_id} came where the reply to it is due")
            self.state = after
            if not flags & _NO_REPLY or command == _VERSION:
                self._due[key] = self._due.get(key, 0) + 1
            self._events.append(_new(CommandReceived, (message, fds, problem)))

    def _check(self, size: int) -> None:
        if not _HEADER_SIZE <= size <= self.limit:
            self._fail(f"the message size is {size}; {_HEADER_SIZE} to {self.limit} bytes are allowed")

    def _end(self) -> None:
        cut = self._header or self._pieces or self._fds
        self.state = State.CLOSED
        if cut:
            self._fail(f"the peer closed inside a message, {self.wanted} bytes before its end")
        self._events.append(Closed())

    def _fail(self, problem: str) -> NoReturn:
        self.state = State.CLOSED
        raise RemoteProtocolError(problem)
