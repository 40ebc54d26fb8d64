"""Client memory: what is mapped, over what nothing may be mapped, what can be unmapped."""

from dataclasses import dataclass
from errno import EEXIST

from vfio_user_conformance.checks import Released, under
from vfio_user_conformance.expect import Either, ErrorReply, Expectation, NoReply, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.memory import Pages
from vfio_user_conformance.model.rule import Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import Mapped, World, exactly, files, mapped, overlapped, unmapped
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DmaMapFlags, DmaMapRequest, DmaUnmapRequest

MAP = Rule(
    "map",
    "dma-map.any-time",
    "a range that touches no mapping is mapped",
    catches=("map-adjacent-refused", "unmap-range-stays-taken", "sequence-slots-leak"),
)
OVERLAP = Rule(
    "map-overlap",
    "dma-map.overlap",
    "a range over a mapping is refused with EEXIST",
    catches=("overlap-inside-accepted", "overlap-first-page-accepted", "overlap-last-page-accepted"),
)
UNMAP = Rule(
    "unmap",
    "dma-unmap.reply",
    "a mapping is unmapped, and its descriptor closed before the reply",
    catches=("overlap-replaces", "unmap-keeps-descriptor", "sequence-unmap-takes-the-next"),
)
MISMATCH = Rule(
    "unmap-mismatch",
    "dma-unmap.mismatch",
    "a range that is no mapping is not unmapped",
    catches=("unmap-first-part-accepted", "unmap-last-part-accepted", "unmap-twice-accepted"),
)
RULES = (MAP, OVERLAP, UNMAP, MISMATCH)
# So many files are told apart by what they hold.
_SEEDS = 256


@dataclass(frozen=True)
class Map(Move):
    """Map a range, with memory behind it or without; ``silent`` wants no reply."""

    address: int
    size: int
    access: int = 3
    fd: bool = False
    offset: int = 0
    silent: bool = False

    def plan(self, world: World, facts: Facts) -> Plan:
        memory = Pages(self.offset + self.size, seed=len(files(world)) % _SEEDS) if self.fd else None
        over = overlapped(world.maps, self.address, self.size)
        sure = [each for each in over if each.sure]
        silent = self.silent and world.working and len(sure) == len(over)
        new = Mapped(self.address, self.size, self.access, memory, self.offset, sure=not silent)
        request = DmaMapRequest(
            flags=DmaMapFlags(self.access), offset=self.offset, address=self.address, size=self.size
        )
        send = Send(request, fds=() if memory is None else (memory,), no_reply=silent)
        expect: Expectation = ErrorReply(EEXIST) if sure else Reply(fds=0)
        if over and not sure:
            expect = Either(expect, ErrorReply(EEXIST))
        seen = yield Turn(OVERLAP if sure else MAP, (send,), (NoReply() if silent else expect,))
        return mapped(world, new) if not sure and (silent or accepted(seen)) else world

    def __str__(self) -> str:
        access = " and ".join(each.name.lower() for each in DmaMapFlags if each & self.access and each.name)
        behind = f"with a file from {self.offset:#x} on" if self.fd else "without a file"
        return f"map {_range(self.address, self.size)}, {access}, {behind}{_quiet(self.silent)}"


@dataclass(frozen=True)
class Unmap(Move):
    """Unmap a range, whether it is a mapping or not."""

    address: int
    size: int
    silent: bool = False

    def plan(self, world: World, facts: Facts) -> Plan:
        found = exactly(world.maps, self.address, self.size)
        silent = self.silent and world.working and (found is None or found.sure)
        send = Send(DmaUnmapRequest(address=self.address, size=self.size), no_reply=silent)
        if found is None:
            yield Turn(MISMATCH, (send,), (NoReply() if silent else ErrorReply(),))
            return world
        done = Reply(fds=0)
        expect = done if found.sure and world.working else Either(done, ErrorReply())
        released = () if found.memory is None else under("dma-unmap.released", Released(found.memory, at_once=True))
        seen = yield Turn(UNMAP, (send,), (NoReply() if silent else expect,))
        if not silent and not accepted(seen) and found.sure:
            return world
        checks = released if silent or accepted(seen) else ()
        yield Turn(UNMAP, (), checks)
        return unmapped(world, found)

    def __str__(self) -> str:
        return f"unmap {_range(self.address, self.size)}{_quiet(self.silent)}"


def _range(address: int, size: int) -> str:
    return f"{address:#x} to {address + size:#x}"


def _quiet(silent: bool) -> str:
    return ", no reply wanted" if silent else ""
