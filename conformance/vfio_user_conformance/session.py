"""One run of one case on the wire: what is sent, what comes, and which command it belongs to."""

import itertools
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from errno import EFAULT
from typing import Any, NamedTuple

from vfio_user_conformance.descriptors import Descriptor, Handle
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.peer import Asked, HungUp, OutOfStep, Peer, Received, Seen, Silence, Timing
from vfio_user_conformance.recipes import Poke
from vfio_user_conformance.sending import Send
from vfio_user_conformance.target import Target
from vfio_user_conformance.words import command_name
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, HeaderFlags, MessageType, VersionRequest
from vfio_user_proto.model import Record
from vfio_user_proto.unix import Stream

# What this suite proposes: the newest minor version in use, and every capability that its main connection can serve.
MAJOR, MINOR = 0, 2
PROPOSED = Capabilities(max_msg_fds=16, write_multiple=True)
_NAMED = frozenset({"max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "write_multiple"})
PROPOSAL = VersionRequest(version_major=MAJOR, version_minor=MINOR, version_data=PROPOSED.to_data(_NAMED))

# The ids of queries have this bit, those of everything else have not.
_QUERY = 0x8000


class Gone(Exception):
    """The target closed the connection where it should not."""


class NotReached(Exception):
    """Something before the stimulus went wrong."""


class NoSession(NotReached):
    """The target refused the usual proposal."""


class Unanswered(Exception):
    """The target lives but no longer answers."""


class Commanded(NamedTuple):
    """A command of the target's, and whether it came on the second socket of twin-socket mode."""

    seen: Received
    on_twin: bool


Answering = Callable[["Session", Peer, Received], None]
# So many commands in one case, and the target will never come to an end.
_ENDLESS = 20000


def refuse(_session: "Session", peer: Peer, seen: Received) -> None:
    """Answer a command of the target's while no memory of ours can be reached by messages."""
    header = seen.message.header
    flags = MessageType.REPLY | HeaderFlags.ERROR
    peer.send((craft(header.command, message_id=header.message_id, flags=flags, error=EFAULT),))


class Session:
    """A connection to ``target`` and all that was sent and received on it; ``log`` is in the capture format.

    ``answer`` answers the target's own commands, which ``commands`` holds. ``asides`` are commands that are sent while the
    target waits for such an answer; their replies may come at any time.
    """

    def __init__(self, target: Target, facts: Facts, timing: Timing) -> None:
        self.target, self.facts, self.timing = target, facts, timing
        self.log: list[dict[str, Any]] = []
        self.started = time.monotonic()
        self.negotiated, self.garbled = False, ""
        self.asked = Asked(0, 0)
        self.answer: Answering = refuse
        self.commands: list[Commanded] = []
        self.asides: dict[Asked, Received | None] = {}
        self.held: list[Handle] = []  # those that the target did not let go of in time
        self._setup: tuple[Poke, ...] = ()  # what is still to be written on this connection
        self._peer: Peer | None = None
        self._twin: Peer | None = None
        self.beside: list[Peer] = []  # further clients
        self._handles: dict[Descriptor, Handle] = {}
        self._asked: list[Asked] = []
        self._answered: set[Asked] = set()
        self._queries: set[Asked] = set()
        self._past: set[Asked] = set()  # queries that were to make something come, and whose answers say nothing
        self._pending: Received | HungUp | None = None
        self._ids = itertools.count(0x101)
        self._query_ids = itertools.count(_QUERY)

    # The connection.

    def connect(self) -> None:
        """Make a connection. Raises TargetError."""
        self._peer = Peer(self.target.connect(), self.log, self.timing, self.started)
        self._setup = self.facts.profile.setup

    def greet(self) -> Seen:
        """Negotiate; returns what came in reply, which is a reply where the session may go on.

        Then the device is made ready; raises NoSession where it refuses that.
        """
        self.send((Send(PROPOSAL),))
        seen = self.observe()
        if self.negotiated:
            self.make_ready()
        return seen

    def make_ready(self) -> None:
        """Write what the profile tells to the device, once for each connection. Raises NoSession where it refuses that."""
        todo, self._setup = self._setup, ()
        for poke in todo:
            write = Send(poke.register.write(poke.data()))
            self.send((write,))
            if not isinstance(seen := self.observe(), Received) or seen.message.is_error:
                raise NoSession(f"[[setup]]: {write}: {seen}")

    def take_twin(self, fd: int) -> None:
        """Expect the target's commands on ``fd`` too, the second socket; a copy of it is used."""
        self._twin = Peer(Stream(socket.socket(fileno=os.dup(fd))), self.log, self.timing, self.started, line="twin")

    def reconnect(self) -> None:
        """A new connection in place of the old one.

        Raises TargetError where there is no more than the old one, NoSession where the target does not negotiate again.
        """
        self.disconnect()
        self.connect()
        seen = self.greet()
        if isinstance(seen, HungUp):
            raise TargetError("a new connection is closed at once")
        if not self.negotiated:
            raise NoSession(f"negotiation: {seen}")

    def restart(self) -> None:
        """A fresh program in place of the present one, and a connection. Raises NotApplicable where there is no other."""
        self.disconnect()
        if not self.target.discard():
            raise NotApplicable("the program is not ours to start again")
        self.target.renew()
        self.reconnect()

    def afresh(self) -> None:
        """A new connection, to a fresh program where the present one serves no other. Raises as ``restart`` does."""
        try:
            self.reconnect()
        except TargetError:
            self.restart()

    def half_close(self) -> None:
        """Send no more; what comes is still read."""
        self._live().half_close()

    def sip(self, count: int) -> None:
        """Read at most ``count`` bytes at a time."""
        self._live().most = count

    def disconnect(self) -> None:
        """Close the connection; nothing that was sent on it is answered any more."""
        for peer in (*self.peers, *self.beside):
            peer.close()
        self._peer, self._twin, self._pending, self.negotiated, self.beside = None, None, None, False, []
        self._asked.clear()
        self._answered.clear()

    def leave(self) -> bool:
        """End the connection so that the target has seen that, and done what it does then; False where it shows no sign of it.

        A program that is stopped before would not show that the end of the connection is what it dies of.
        """
        return self._peer is None or self._peer.leave()

    def close(self) -> None:
        """Give back everything."""
        self.disconnect()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    # Sending.

    def send(self, messages: Sequence[Send], cuts: Sequence[int] = (), *, late: bool = False) -> None:
        """Send messages in one write, cut at ``cuts``; descriptors go with the first byte, or ``late`` behind the last cut."""
        built = list[bytes]()
        handles = [self.handle(each) for message in messages for each in message.fds]
        for message in messages:
            message_id = next(self._ids) if message.message_id is None else message.message_id
            built.append(message.build(message_id, self.facts))
            self._asked.append(Asked(message_id, message.number))
        if late:
            whole = b"".join(built)
            self._live().send((whole[: cuts[-1]],), cuts=cuts[:-1])
            self._live().await_reader()
            built, cuts = [whole[cuts[-1] :]], ()
        self._write(built, handles, cuts)

    def aside(self, message: Send) -> None:
        """Send a command while the target waits for an answer of ours."""
        asked = Asked(next(self._ids), message.number)
        self.asides[asked] = None
        self._live().send((message.build(asked.message_id, self.facts),))

    def send_raw(self, data: bytes, fds: Sequence[Descriptor] = ()) -> None:
        """Send bytes that nothing answers."""
        self._write((data,), [self.handle(each) for each in fds])

    def _write(self, data: Sequence[bytes], handles: Sequence[Handle], cuts: Sequence[int] = ()) -> None:
        self._live().send(data, [handle.lend() for handle in handles], [handle.about for handle in handles], cuts)
        for handle in handles:
            handle.let_go()

    def handle(self, descriptor: Descriptor) -> Handle:
        """The one that ``descriptor`` stands for in this run; made when it is first used."""
        if descriptor not in self._handles:
            self._handles[descriptor] = descriptor.open()
        return self._handles[descriptor]

    # Receiving.

    def observe(self, *, prod: bool = False) -> Seen:
        """What became of the oldest command that was not looked at yet.

        Where nothing comes for a moment, a query is sent: if that one is answered first, it was silence. With ``prod`` it is
        sent at once. A reply that has the id or the command of what is due was meant for it, and is judged as it; one that has
        neither is none. Raises OutOfStep, and Unanswered where the query is not answered either.
        """
        while (asked := self._asked.pop(0)) in self._queries:
            self._past.add(asked)
        self.asked = asked
        self._answered.add(asked)
        seen = None
        if not (prod and self.negotiated):
            seen = self._next(self.timing.patience if self.negotiated else self.timing.answer)
        if seen is None and self.negotiated:
            self._query()
            seen = self._next(self.timing.answer)
        if seen is None:
            raise self._unanswered(command_name(asked.command))
        self._pending = seen
        if isinstance(seen, Received):
            came = _answering(seen)
            if came != asked and came in self._asked:
                return Silence()
            self._pending = None
            if came not in self._answered and not any(_alike(came, each) for each in (asked, *self._asked)):
                raise OutOfStep(f"what came answers nothing that was sent: {seen}")
            self.negotiated |= asked.command == Command.VERSION and not seen.message.is_error
        return seen

    def await_command(self) -> None:
        """Wait for a command of the target's, and leave it unanswered. Raises NotReached where none comes."""
        while not (isinstance(seen := self._live().receive(self.timing.reply), Received) and seen.is_command):
            if not isinstance(seen, Received):
                raise NotReached("the device did not ask for client memory")

    def await_asides(self) -> list[Asked]:
        """Wait for the replies to all asides; returns those that did not come."""
        if self.negotiated and None in self.asides.values():
            self._next(self.timing.reply)
        return [asked for asked, seen in self.asides.items() if seen is None]

    def prove_in_step(self) -> list[Received]:
        """Send a query and wait for its answer; returns what came before it. Raises OutOfStep, Unanswered."""
        query = self._query()
        extra = list[Received]()
        while True:
            seen = self._next(self.timing.answer)
            self._pending = None
            if seen is None:
                raise self._unanswered("the query afterwards")
            if isinstance(seen, HungUp):
                self._pending = seen
                raise Gone
            came = _answering(seen)
            if came == query:
                self._asked.clear()
                return extra
            if came in self._queries:
                continue
            if came not in self._answered and came not in self._asked:
                raise OutOfStep(f"what came answers nothing that was sent: {seen}")
            extra.append(seen)

    def ask(self, command: int, request: Record) -> Record | None:
        """One plain query: the reply's payload, None where it was refused or does not decode, which ``garbled`` then says.

        Raises OutOfStep, Unanswered, Gone.
        """
        seen = self.question(command, request)
        return None if not isinstance(seen, Received) or seen.message.is_error else seen.message.payload

    def question(self, command: int, request: Record, *, tolerant: bool = False) -> Received | Silence:
        """One plain query, and what came. Where that is a reply to something else, OutOfStep, only if not ``tolerant``.

        Raises as ``ask`` does.
        """
        self.send((Send(request, command=command),))
        seen = self.observe()
        if isinstance(seen, HungUp):
            raise Gone
        if isinstance(seen, Received):
            if not tolerant and _answering(seen) != self.asked:
                raise OutOfStep(f"{seen} answers nothing that was sent")
            if not seen.message.is_error:
                self.garbled = self.garbled or seen.problem
        return seen

    @property
    def asks_several(self) -> bool:
        """Whether different commands wait to be looked at."""
        return len({asked.command for asked in self._asked}) > 1

    def _unanswered(self, what: str) -> Unanswered:
        return Unanswered(f"{what} got no answer within {self.timing.reply:g} s")

    def stirs(self, seconds: float) -> bool:
        """Whether anything comes, or is closed, within ``seconds``; it is not read."""
        waiting = select.poll()
        for peer in self.peers:
            waiting.register(peer.stream.fileno(), select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def unread(self) -> int:
        """A number that changes when the target reads something."""
        return sum(peer.stream.unread() for peer in self.peers)

    @property
    def peers(self) -> list[Peer]:
        return [peer for peer in (self._peer, self._twin) if peer is not None]

    def _query(self) -> Asked:
        query = Asked(next(self._query_ids), Command.DEVICE_GET_INFO)
        self._asked.append(query)
        self._queries.add(query)
        self._live().send((craft(query.command, DeviceGetInfoRequest(), message_id=query.message_id),))
        return query

    def _next(self, seconds: float | None) -> Received | HungUp | None:
        """The next message for us; a command of the target's is answered, the reply to an aside kept, and both passed over."""
        if self._pending is not None:
            return self._pending
        while True:
            source = self._source(seconds)
            seen = source.receive(seconds)
            if not isinstance(seen, Received):
                return seen
            if seen.is_command and not self._expects(seen):
                self.commands.append(Commanded(seen, source is self._twin))
                if len(self.commands) > _ENDLESS:
                    raise Unanswered("it sends commands without end")
                self.answer(self, source, seen)
            elif (came := _answering(seen)) in self.asides:
                self.asides[came] = seen
            elif came in self._past:
                continue
            elif source is self._twin:
                raise OutOfStep(f"on the second socket came {seen}")
            else:
                return seen

    def _source(self, seconds: float | None) -> Peer:
        """The socket on which something comes next; the main one where that is within ``seconds`` none."""
        main, twin = self._live(), self._twin
        if twin is not None:
            waiting = select.poll()
            for peer in (main, twin):
                waiting.register(peer.stream.fileno(), select.POLLIN)
            ready = [fd for fd, _ in waiting.poll(None if seconds is None else seconds * 1000)]
            if ready == [twin.stream.fileno()]:
                return twin
        return main

    def _expects(self, seen: Received) -> bool:
        """Whether it is meant as an answer, although it says it is a command."""
        return _answering(seen) in {*self._asked, *self._answered}

    def _live(self) -> Peer:
        assert self._peer is not None, "the case has closed its connection"
        return self._peer


def _answering(seen: Received) -> Asked:
    """The command that a reply answers, by its header."""
    return Asked(seen.message.header.message_id, seen.message.header.command)


def _alike(one: Asked, other: Asked) -> bool:
    """Whether one can be meant for the other: a field of the header may be wrong, not all of them."""
    return one.message_id == other.message_id or one.command == other.command
