"""One run of one case on the wire: what is sent, what comes, and which command it belongs to."""

import itertools
import time
from collections.abc import Sequence
from errno import EFAULT
from typing import Any

from vfio_user_conformance.descriptors import Descriptor, Handle
from vfio_user_conformance.expect import Asked
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import HungUp, OutOfStep, Peer, Received, Seen, Silence, Timing
from vfio_user_conformance.steps import Send
from vfio_user_conformance.target import Target
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, HeaderFlags, MessageType, VersionRequest
from vfio_user_proto.model import Record

# What this suite proposes: the newest minor version in use, and every capability that its main connection can serve.
MAJOR, MINOR = 0, 2
PROPOSED = Capabilities(max_msg_fds=16, write_multiple=True)
_NAMED = frozenset({"max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "write_multiple"})
PROPOSAL = VersionRequest(version_major=MAJOR, version_minor=MINOR, version_data=PROPOSED.to_data(_NAMED))

# How a command of the target's is answered: no memory of ours can be reached by messages.
_REFUSAL = MessageType.REPLY | HeaderFlags.ERROR

# The ids of queries have this bit, those of everything else have not.
_QUERY = 0x8000


class Gone(Exception):
    """The target closed the connection where it should not."""


class NoSession(Exception):
    """The target refused the usual proposal."""


class Unanswered(Exception):
    """The target lives but no longer answers."""


class Session:
    """A connection to ``target`` and all that was sent and received on it; ``log`` is in the capture format."""

    def __init__(self, target: Target, facts: Facts, timing: Timing) -> None:
        self.target, self.facts, self.timing = target, facts, timing
        self.log: list[dict[str, Any]] = []
        self.started = time.monotonic()
        self.negotiated = False
        self.garbled = ""
        self.asked = Asked(0, 0)
        self._peer: Peer | None = None
        self._handles: dict[Descriptor, Handle] = {}
        self._asked: list[Asked] = []
        self._answered: set[Asked] = set()
        self._queries: set[Asked] = set()
        self._pending: Received | HungUp | None = None
        self._ids = itertools.count(0x101)
        self._query_ids = itertools.count(_QUERY)

    # The connection.

    def connect(self) -> None:
        """Make a connection. Raises TargetError."""
        self._peer = Peer(self.target.connect(), self.log, self.timing, self.started)

    def greet(self) -> Seen:
        """Negotiate; returns what came in reply, which is a reply where the session may go on."""
        self.send((Send(PROPOSAL),))
        return self.observe()

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

    def disconnect(self) -> None:
        """Close the connection; nothing that was sent on it is answered any more."""
        if self._peer is not None:
            self._peer.close()
        self._peer, self._pending, self.negotiated = None, None, False
        self._asked.clear()
        self._answered.clear()

    def close(self) -> None:
        """Give back everything."""
        self.disconnect()
        for handle in self._handles.values():
            handle.close()
        self._handles.clear()

    # Sending.

    def send(self, messages: Sequence[Send], cuts: Sequence[int] = ()) -> None:
        """Send messages in one write, cut at ``cuts``."""
        built = list[bytes]()
        handles = [self.handle(each) for message in messages for each in message.fds]
        for message in messages:
            message_id = next(self._ids) if message.message_id is None else message.message_id
            built.append(message.build(message_id, self.facts))
            self._asked.append(Asked(message_id, message.number))
        self._live().send(built, [handle.fd for handle in handles], [handle.about for handle in handles], cuts)
        for handle in handles:
            handle.let_go()

    def send_raw(self, data: bytes) -> None:
        """Send bytes that nothing answers."""
        self._live().send((data,))

    def handle(self, descriptor: Descriptor) -> Handle:
        """The one that ``descriptor`` stands for in this run; made when it is first used."""
        if descriptor not in self._handles:
            self._handles[descriptor] = descriptor.open()
        return self._handles[descriptor]

    # Receiving.

    def observe(self, *, prod: bool = False) -> Seen:
        """What became of the oldest command that was not looked at yet.

        Where nothing comes for a moment, a query is sent: if that one is answered first, it was silence. With ``prod`` it is
        sent at once. Raises OutOfStep, and Unanswered where the query is not answered either.
        """
        asked = self.asked = self._asked.pop(0)
        self._answered.add(asked)
        seen = None
        if not (prod and self.negotiated):
            seen = self._next(self.timing.patience if self.negotiated else self.timing.reply)
        if seen is None and self.negotiated:
            self._query()
            seen = self._next(self.timing.reply)
        if seen is None:
            raise Unanswered("nothing came")
        self._pending = seen
        if isinstance(seen, Received):
            came = Asked(seen.message.header.message_id, seen.message.header.command)
            if came != asked and came in self._asked:
                return Silence()
            self._pending = None
            self.negotiated |= asked.command == Command.VERSION and not seen.message.is_error
        return seen

    def prove_in_step(self) -> list[Received]:
        """Send a query and wait for its answer; returns what came before it. Raises OutOfStep, Unanswered."""
        query = self._query()
        extra = list[Received]()
        while True:
            seen = self._next(self.timing.reply)
            self._pending = None
            if seen is None:
                raise Unanswered("the query afterwards got no answer")
            if isinstance(seen, HungUp):
                self._pending = seen
                raise Gone
            came = Asked(seen.message.header.message_id, seen.message.header.command)
            if came == query:
                self._asked.clear()
                return extra
            if came in self._queries:
                continue
            if came not in self._answered and came not in self._asked:
                raise OutOfStep(f"what came answers nothing that was sent: {seen}")
            extra.append(seen)

    def ask(self, command: int, request: Record) -> Record | None:
        """One plain query: the reply's payload, None where it was refused or does not decode, which ``garbled`` then says."""
        self.send((Send(request, command=command),))
        seen = self.observe()
        if isinstance(seen, HungUp):
            raise Gone
        if not isinstance(seen, Received) or seen.message.is_error:
            return None
        self.garbled = self.garbled or seen.problem
        return seen.message.payload

    def _query(self) -> Asked:
        query = Asked(next(self._query_ids), Command.DEVICE_GET_INFO)
        self._asked.append(query)
        self._queries.add(query)
        self._live().send((craft(query.command, DeviceGetInfoRequest(), message_id=query.message_id),))
        return query

    def _next(self, seconds: float | None) -> Received | HungUp | None:
        """The next message for us; a command of the target's is refused and passed over."""
        if self._pending is not None:
            return self._pending
        while True:
            seen = self._live().receive(seconds)
            if not isinstance(seen, Received) or not seen.is_command or self._expects(seen):
                return seen
            header = seen.message.header
            self._live().send((craft(header.command, message_id=header.message_id, flags=_REFUSAL, error=EFAULT),))

    def _expects(self, seen: Received) -> bool:
        """Whether it is meant as an answer, although it says it is a command."""
        header = seen.message.header
        return Asked(header.message_id, header.command) in {*self._asked, *self._answered}

    def _live(self) -> Peer:
        assert self._peer is not None, "the case has closed its connection"
        return self._peer
