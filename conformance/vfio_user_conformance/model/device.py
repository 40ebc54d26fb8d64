"""Transfers of the device, where the profile tells how to make it do one: bytes are where they are to be, and nowhere else."""

from dataclasses import dataclass

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.memory import Holds, Piece, WasRead
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn
from vfio_user_conformance.model.world import S, World, blurred, files, overlapped, within, wrote
from vfio_user_conformance.needs import DMA_READ, DMA_WRITE

WRITES = Rule(
    "device-write",
    "dma-map.file-offset",
    "what the device writes is in the file behind the mapping, at its place, and nothing else has changed",
    (DMA_WRITE,),
    catches=("dma-into-first-mapping", "dma-file-offset-lost", "sequence-offset-of-the-first"),
)
READS = Rule(
    "device-read",
    "dma-map.file-offset",
    "what the device reads is in the file behind the mapping, at its place",
    (DMA_READ,),
    catches=("dma-read-from-first-mapping", "dma-read-file-offset-lost", "dma-read-caches"),
)
OUTSIDE = Rule(
    "device-outside",
    "dma-map.before-access",
    "a write of the device to where nothing is mapped changes no file, be it that of a mapping that is gone",
    (DMA_WRITE,),
    catches=("dma-falls-back-to-a-mapping", "sequence-last-mapping-cached"),
)
READ_ONLY = Rule(
    "device-read-only",
    "dma-map.access",
    "a write of the device to where it may only read changes no file",
    (DMA_WRITE,),
    catches=("dma-writes-read-only",),
)
RULES = (WRITES, READS, OUTSIDE, READ_ONLY)


@dataclass(frozen=True)
class DeviceWrites(Move):
    """Make the device write a range, whether it may or not."""

    iova: int
    length: int

    def plan(self, world: World, facts: Facts) -> Plan:
        steps = (Transfer("write", self.iova, self.length),)
        touched = overlapped(world.maps, self.iova, self.length)
        found = within(world.maps, self.iova, self.length)
        clear = world.state is S.RUNNING and all(each.sure for each in touched)
        if clear and found is not None and found.memory is not None and found.access & 2:
            yield Turn(WRITES, steps, (Reply(fds=0),))
            after = wrote(world, found, self.iova, self.length)
            yield Turn(WRITES, (), (Completed("write"), *_unchanged(after)))
            return after
        if clear and not any(each.access & 2 for each in touched):
            yield Turn(READ_ONLY if touched else OUTSIDE, steps, (SILENT_TEXT, *_unchanged(world)))
            return world
        yield Turn(WRITES, steps, (SILENT_TEXT,))
        return blurred(world, touched)

    def __str__(self) -> str:
        return f"make the device write {self.iova:#x} to {self.iova + self.length:#x}"


@dataclass(frozen=True)
class DeviceReads(Move):
    """Make the device read a range."""

    iova: int
    length: int

    def plan(self, world: World, facts: Facts) -> Plan:
        steps = (Transfer("read", self.iova, self.length),)
        found = within(world.maps, self.iova, self.length)
        if world.state is not S.RUNNING or found is None or found.memory is None or not found.access & 1:
            yield Turn(READS, steps, (SILENT_TEXT,))
            return world
        yield Turn(READS, steps, (Reply(fds=0),))
        piece = Piece(self.iova - found.address + found.offset, self.length)
        yield Turn(READS, (), (Completed("read"), WasRead(((found.memory, piece),))))
        return world

    def __str__(self) -> str:
        return f"make the device read {self.iova:#x} to {self.iova + self.length:#x}"


def _unchanged(world: World) -> tuple[Holds, ...]:
    """Every file has what the device was to write there, and else what it had."""
    return tuple(Holds(memory, tuple(Piece(*place) for place in written)) for memory, written in files(world))
