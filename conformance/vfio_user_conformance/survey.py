"""What a target says of itself: the questions of ``vfio-user info``, over a session that survives any answer."""

import os
from collections.abc import Sequence

from vfio_user_conformance.facts import ARGSZ, Facts, NotApplicable
from vfio_user_conformance.peer import OutOfStep, Received, Silence
from vfio_user_conformance.session import PROPOSED, Gone, NoSession, Session, Unanswered
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Fd, QueryCalls, Reply
from vfio_user_proto.errors import ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.messages import Command, DeviceGetRegionInfoRequest, DeviceGetRegionIoFdsRequest
from vfio_user_proto.model import Record, name_of
from vfio_user_proto.probe import Offer, probe

_END = (NoSession, NotApplicable, OutOfStep, Unanswered, Gone)


def survey(session: Session, facts: Facts) -> Offer:
    """Ask everything that changes nothing, over a session that is negotiated.

    ``facts`` gets what was answered, even where an answer contradicts itself; the offer is what a careful client makes of it.
    Raises nothing that the target can cause.
    """
    return probe(QueryCalls(_Exchange(session, facts)))


class _Exchange:
    """The session as the connection of a client (``client.asking.Exchanging``)."""

    limit = 1 << 20

    def __init__(self, session: Session, facts: Facts) -> None:
        self._session, self._facts = session, facts
        self.version = facts.major, facts.minor
        self.peer: Capabilities = facts.capabilities

    @property
    def offer(self) -> Capabilities:
        return PROPOSED

    @property
    def largest_transfer(self) -> int:
        return min(self.offer.max_data_xfer_size, self.peer.max_data_xfer_size)

    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply:
        assert payload is not None, "every question has a payload"
        try:
            seen = self._ask(command, payload)
        except _END as error:
            raise TransportError(str(error) or "the connection was closed") from None
        if not isinstance(seen, Received):
            raise RemoteProtocolError(f"{name_of(Command, command)} has no reply")
        if seen.message.is_error:
            raise ErrorReply(name_of(Command, command), seen.message.header.error)
        if seen.problem:
            raise RemoteProtocolError(seen.problem)
        self._facts.take(payload, seen.message.payload)
        return Reply(seen.message, tuple(Fd(os.dup(fd)) for fd in seen.fds))

    def _ask(self, command: int, payload: Record) -> Received | Silence:
        """One question, with room for any reply; a target that an earlier one has brought out of step is asked afresh."""
        if isinstance(payload, (DeviceGetRegionInfoRequest, DeviceGetRegionIoFdsRequest)):
            payload = payload.replace(argsz=max(payload.argsz, ARGSZ))
        try:
            return self._session.question(command, payload)
        except (OutOfStep, Gone):
            self._session.afresh()
            return self._session.question(command, payload, tolerant=True)
