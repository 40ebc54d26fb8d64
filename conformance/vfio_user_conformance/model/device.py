"""Writes of the device, where the profile tells how to make it write: where its bytes are to be, and nowhere else."""

from dataclasses import dataclass

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.facts import DMA_WRITE, Facts
from vfio_user_conformance.memory import Holds, Piece
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn
from vfio_user_conformance.model.world import S, World, within, wrote

WRITES = Rule(
    "device-write",
    "dma-map.file-offset",
    "what the device writes is in the file behind the mapping, at its place, and nothing else has changed",
    (DMA_WRITE,),
    catches=("dma-into-first-mapping", "dma-file-offset-lost", "sequence-offset-of-the-first"),
)
RULES = (WRITES,)


@dataclass(frozen=True)
class DeviceWrites(Move):
    """Make the device write inside a mapping that has a file and may be written."""

    iova: int
    length: int

    def plan(self, world: World, facts: Facts) -> Plan:
        found = within(world.maps, self.iova, self.length)
        step = Transfer("write", self.iova, self.length)
        if found is None or found.memory is None or not found.access & 2 or world.state is not S.RUNNING:
            yield Turn(WRITES, (step,), (SILENT_TEXT,))
            return world
        yield Turn(WRITES, (step,), (Reply(fds=0),))
        after = wrote(world, found, self.iova, self.length)
        pieces = next(each.written for each in after.maps if each.address == found.address)
        yield Turn(WRITES, (), (Completed("write"), Holds(found.memory, tuple(Piece(*piece) for piece in pieces))))
        return after

    def __str__(self) -> str:
        return f"make the device write {self.iova:#x} to {self.iova + self.length:#x}"
