"""Doorbells: kicks through the descriptors of sub-regions, which mean the same through all the connection."""

from dataclasses import dataclass, replace

from vfio_user_conformance import kicks
from vfio_user_conformance.cases.region_io_fds import ask
from vfio_user_conformance.expect import Reply, Whole
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.kicks import Drained, Place, Shows, places
from vfio_user_conformance.model.rule import Move, Plan, Rule, Turn, or_refused
from vfio_user_conformance.model.world import S, World
from vfio_user_conformance.needs import WITH_IO_FDS
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import NotReached
from vfio_user_proto.messages import RegionReadReply, RegionReadRequest

_NEEDS, _HAZARDS = (WITH_IO_FDS,), frozenset({"write"})
ANSWER = Rule(
    "io-fds",
    "region-io-fds.descriptors",
    "sub-regions come with the descriptors that they name, whenever they are asked for",
    _NEEDS,
    _HAZARDS,
    ("region-io-fds-index-from-one", "sequence-io-fds-once"),
)
KICK = Rule(
    "kick",
    "region-io-fds.same-effect",
    "a kick is taken and rings its doorbell once, through each descriptor of each answer",
    _NEEDS,
    _HAZARDS,
    ("kick-lost", "kick-through-second-answer-lost", "sequence-kick-lost-after-reset"),
)
RULES = (ANSWER, KICK)


@dataclass(frozen=True)
class AskIoFds(Move):
    """Ask for the sub-regions of a region."""

    region: int

    def plan(self, world: World, facts: Facts) -> Plan:
        found = list[Place]()

        def unusable(seen: Received) -> str:
            found.clear()
            try:
                found.extend(places(seen, facts))
            except NotReached as problem:
                return str(problem)
            return ""

        whole = Reply(whole=Whole("the descriptors that its records name", unusable))
        yield Turn(ANSWER, (ask(self.region),), (whole if world.working else or_refused(whole),))
        answer = sum(1 for region, _, record in world.places if (region, record) == (self.region, 0))
        named = {(self.region, answer, record): place for record, place in enumerate(found)}
        return replace(world, places={**world.places, **named})

    def __str__(self) -> str:
        return f"get the I/O descriptors of region {self.region}"


@dataclass(frozen=True)
class Kick(Move):
    """Signal the eventfd of a sub-region, of ``record`` in an ``answer`` of this connection; both are counted from 0."""

    region: int
    answer: int
    record: int

    def plan(self, world: World, facts: Facts) -> Plan:
        place = world.places.get((self.region, self.answer, self.record))
        if place is None or place.is_ioregion or world.state is not S.RUNNING:
            return world
        register = place.bell.count if place.bell else None
        shows = []
        if register is not None:
            request = RegionReadRequest(region=register.region, offset=register.offset, count=register.width)
            seen = yield Turn(KICK, (Send(request),), (Reply(fds=0),))
            payload = seen.message.payload if isinstance(seen, Received) else None
            if not isinstance(payload, RegionReadReply):
                return world
            shows.append(Shows({register: int.from_bytes(payload.data, "little") + 1}))
        yield Turn(KICK, (kicks.Kick(place),), (Drained(place), *shows))
        return world

    def __str__(self) -> str:
        which = "" if not self.answer else f", through the descriptor of answer {self.answer + 1}"
        return f"kick sub-region {self.record} of region {self.region}{which}"
