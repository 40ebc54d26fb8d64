"""Regions: scratch bytes that read as written, and descriptions that stay what they were."""

import sys
from dataclasses import dataclass

from vfio_user_conformance.expect import NoReply, Reply, Whole
from vfio_user_conformance.facts import ARGSZ, Facts
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted, or_refused
from vfio_user_conformance.model.world import World, differs, known, written
from vfio_user_conformance.needs import SCRATCH, WRITE_MULTIPLE
from vfio_user_conformance.peer import Received
from vfio_user_conformance.profile import Scratch
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import (
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceState,
    DeviceWrite,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)
from vfio_user_proto.model import Record

READ = Rule(
    "read",
    "get-region-info.access-flags",
    "scratch bytes read as they were written",
    (SCRATCH,),
    catches=("write-lost", "sequence-unmap-undoes-write", "sequence-first-state-loaded"),
)
WRITE = Rule(
    "write",
    "get-region-info.access-flags",
    "scratch bytes can be written",
    (SCRATCH,),
    catches=("sequence-write-behind-silent-refused",),
)
SEVERAL = Rule(
    "write-several",
    "write-multi.reply",
    "several scratch bytes are written by one command",
    (SCRATCH, WRITE_MULTIPLE),
    catches=("sequence-write-behind-silent-refused",),
)
INFO = Rule(
    "info",
    "get-info.counts",
    "device, regions and interrupts are described as at the start",
    catches=("sequence-irq-info-once",),
)
RULES = (READ, WRITE, SEVERAL, INFO)


def pattern(fill: int, count: int) -> bytes:
    """``count`` bytes that begin with ``fill`` and count up."""
    return bytes((fill + i) & 0xFF for i in range(count))


def _scratch(facts: Facts) -> Scratch:
    SCRATCH.read(facts)
    assert facts.profile.scratch is not None
    return facts.profile.scratch


@dataclass(frozen=True)
class Write(Move):
    """Write scratch bytes, ``at`` counted from their beginning; ``silent`` wants no reply."""

    at: int
    count: int
    fill: int
    silent: bool = False

    def plan(self, world: World, facts: Facts) -> Plan:
        scratch, data = _scratch(facts), pattern(self.fill, self.count)
        request = RegionWriteRequest(region=scratch.region, offset=scratch.offset + self.at, data=data)
        silent = self.silent and world.working
        wish = Reply(fds=0) if world.working else SILENT_TEXT
        seen = yield Turn(WRITE, (Send(request, no_reply=silent),), (NoReply() if silent else wish,))
        return written(world, self.at, data) if silent or accepted(seen) else world

    def __str__(self) -> str:
        quiet = ", no reply wanted" if self.silent else ""
        return f"write {pattern(self.fill, self.count).hex(' ')} to scratch byte {self.at:#x}{quiet}"


@dataclass(frozen=True)
class WriteSeveral(Move):
    """Write ``count`` scratch bytes at each of ``places`` with one VFIO_USER_REGION_WRITE_MULTI; later places win."""

    places: tuple[int, ...]
    count: int
    fill: int

    def plan(self, world: World, facts: Facts) -> Plan:
        scratch, after = _scratch(facts), world
        writes = []
        for number, at in enumerate(self.places):
            data = pattern(self.fill + 16 * number, self.count)
            value = int.from_bytes(data.ljust(8, b"\0"), sys.byteorder)
            writes.append(DeviceWrite(region=scratch.region, offset=scratch.offset + at, count=self.count, data=value))
            after = written(after, at, data)
        wish = Reply(fds=0, wr_cnt=len(writes)) if world.working else SILENT_TEXT
        seen = yield Turn(SEVERAL, (Send(RegionWriteMultiRequest(wrs=tuple(writes))),), (wish,))
        return after if accepted(seen) else world

    def __str__(self) -> str:
        places = ", ".join(
            f"{pattern(self.fill + 16 * number, self.count).hex(' ')} to {at:#x}"
            for number, at in enumerate(self.places)
        )
        return f"write with one command, to scratch bytes: {places}"


@dataclass(frozen=True)
class Read(Move):
    """Read scratch bytes."""

    at: int
    count: int

    def plan(self, world: World, facts: Facts) -> Plan:
        scratch = _scratch(facts)
        request = RegionReadRequest(region=scratch.region, offset=scratch.offset + self.at, count=self.count)
        sure = scratch.keeps and DeviceState.RESUMING not in world.states

        def problem(seen: Received) -> str:
            payload = seen.message.payload
            if not isinstance(payload, RegionReadReply) or len(payload.data) != self.count:
                return f"not {self.count} bytes"
            at = differs(world, self.at, payload.data) if sure else None
            if at is None:
                return ""
            return f"scratch byte {at:#x} is {payload.data[at - self.at]:#04x}, not {world.scratch[at]:#04x}"

        whole = Reply(fds=0, whole=Whole("the bytes as they were written", problem))
        wish = whole if world.working else SILENT_TEXT if not sure else or_refused(whole)
        seen = yield Turn(READ, (Send(request),), (wish,))
        payload = seen.message.payload if isinstance(seen, Received) else None
        learns = sure and isinstance(payload, RegionReadReply)
        return known(world, self.at, payload.data) if learns and isinstance(payload, RegionReadReply) else world

    def __str__(self) -> str:
        return f"read {self.count} scratch bytes from {self.at:#x} on"


@dataclass(frozen=True)
class Ask(Move):
    """Ask for the description of the device (``kind`` 0), of a region (1) or of an interrupt type (2)."""

    kind: int
    index: int = 0

    def plan(self, world: World, facts: Facts) -> Plan:
        request: Record = DeviceGetInfoRequest()
        known_: Record | None = facts.device
        if self.kind == 1:
            request, known_ = DeviceGetRegionInfoRequest(argsz=ARGSZ, index=self.index), facts.regions.get(self.index)
        elif self.kind:
            request, known_ = DeviceGetIrqInfoRequest(index=self.index), facts.irqs.get(self.index)

        def problem(seen: Received) -> str:
            payload = seen.message.payload
            if payload is None or known_ is None:
                return ""
            now, then = payload.as_dict(), known_.as_dict()
            return "; ".join(f"{name} is {now[name]}, was {then[name]}" for name in now if now[name] != then[name])

        whole = Reply(whole=Whole("the values of the start", problem))
        yield Turn(INFO, (Send(request),), (whole if world.working and known_ is not None else or_refused(whole),))
        return world

    def __str__(self) -> str:
        of = (f"region {self.index}", f"IRQ index {self.index}")
        return f"get the info of {of[self.kind - 1] if self.kind else 'the device'}"
