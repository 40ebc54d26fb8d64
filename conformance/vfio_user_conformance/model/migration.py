"""Migration: the states and the ways between them, and the state of a device read, written back, and found again."""

from dataclasses import dataclass, replace

from vfio_user_conformance.cases.feature import GET, SET, feature, state
from vfio_user_conformance.expect import ErrorReply, Is, Reply, Whole
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import ARCS, SAVING, S, World, loaded, read, settable, went
from vfio_user_conformance.needs import MIGRATION, PRE_COPY
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureRequest,
    DeviceState,
    MigDataReadReply,
    MigDataReadRequest,
    MigDataWriteRequest,
)

_NEEDS, _HAZARDS = (MIGRATION,), frozenset({"migration"})
# Bytes of the largest message that moves data, and messages after which a transfer of all is given up.
PART, MOST = 1 << 20, 64
ARC = Rule(
    "state",
    "mig-state.arcs",
    "an arc is carried out",
    _NEEDS,
    _HAZARDS,
    ("mig-state-stop-to-running-refused", "sequence-stop-refused-with-log"),
)
COMPLEX = Rule(
    "state-complex",
    "mig-state.complex",
    "a way of several arcs is carried out",
    _NEEDS,
    _HAZARDS,
    ("mig-state-running-to-resuming-refused",),
)
TOLD = Rule(
    "state-told",
    "mig-state.complete",
    "the state is the one that was set",
    _NEEDS,
    _HAZARDS,
    ("mig-state-always-running", "sequence-state-lost-by-map"),
)
UNSUPPORTED = Rule(
    "state-unsupported",
    "mig-state.unsupported",
    "a state that is not offered cannot be set",
    _NEEDS,
    _HAZARDS,
    ("mig-state-p2p-accepted",),
)
ERROR_SET = Rule(
    "state-error",
    "mig-state.error-not-settable",
    "ERROR cannot be set",
    _NEEDS,
    _HAZARDS,
    ("migration-error-settable",),
)
FROM_ERROR = Rule(
    "state-from-error",
    "mig-state.reset-recovers",
    "no set leads out of ERROR",
    _NEEDS,
    _HAZARDS,
    ("sequence-error-left-by-set",),
)
BACK = Rule(
    "state-back-to-pre-copy",
    "mig-state.stop-copy-to-pre-copy",
    "STOP_COPY does not lead to PRE_COPY",
    (*_NEEDS, PRE_COPY),
    _HAZARDS,
    ("mig-state-stop-copy-to-pre-copy-taken",),
)
BAD_DATA = Rule(
    "state-bad-data",
    "mig-state.bad-data",
    "a part of a state is no state",
    _NEEDS,
    _HAZARDS,
    ("mig-state-incomplete-taken",),
)
DATA_READ = Rule(
    "data-read",
    "mig-data-read.state",
    "data are read in PRE_COPY and STOP_COPY",
    _NEEDS,
    _HAZARDS,
    ("mig-data-read-more-than-asked",),
)
NOT_READ = Rule(
    "data-read-refused",
    "mig-data-read.state",
    "data are not read elsewhere",
    _NEEDS,
    _HAZARDS,
    ("mig-data-read-anywhere", "mig-data-read-resuming"),
)
DATA_WRITE = Rule(
    "data-write",
    "mig-data-write.state",
    "data are written in RESUMING",
    _NEEDS,
    _HAZARDS,
    ("mig-data-write-reply-count",),
)
NOT_WRITTEN = Rule(
    "data-write-refused",
    "mig-data-write.state",
    "data are not written elsewhere",
    _NEEDS,
    _HAZARDS,
    ("mig-data-write-anywhere",),
)
RULES = (
    ARC,
    COMPLEX,
    TOLD,
    UNSUPPORTED,
    ERROR_SET,
    FROM_ERROR,
    BACK,
    BAD_DATA,
    DATA_READ,
    NOT_READ,
    DATA_WRITE,
    NOT_WRITTEN,
)
_OFFERED = frozenset({S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING, S.PRE_COPY})


@dataclass(frozen=True)
class SetState(Move):
    """Set the migration state."""

    wanted: int

    def plan(self, world: World, facts: Facts) -> Plan:
        send = (feature(DeviceFeature.MIG_DEVICE_STATE, SET, state(self.wanted), argsz=16),)
        now = world.state
        if now is None or now == self.wanted:
            seen = yield Turn(ARC, send, (SILENT_TEXT,))
            return _unclear(world, self.wanted) if now is None and accepted(seen) else _session_unclear(world)
        if not settable(now, self.wanted, pre_copy=facts.pre_copy):
            yield Turn(self._refusal(now), send, (ErrorReply(),))
            return world
        wanted = DeviceState(self.wanted)
        if now is S.RESUMING and not loaded(world):
            part = world.saved is not None and 0 < (world.loaded or 0) < len(world.saved.data)
            seen = yield Turn(BAD_DATA if part else ARC, send, (ErrorReply() if part else SILENT_TEXT,))
            return went(world, wanted) if accepted(seen) else _unclear(world, S.STOP, S.ERROR, S.RESUMING)
        seen = yield Turn(ARC if (now, wanted) in ARCS else COMPLEX, send, (Reply(fds=0),))
        return went(world, wanted) if accepted(seen) else _unclear(world, *_OFFERED, S.ERROR)

    def _refusal(self, now: DeviceState) -> Rule:
        if now is S.ERROR:
            return FROM_ERROR
        if self.wanted == S.ERROR:
            return ERROR_SET
        return BACK if (now, self.wanted) == (S.STOP_COPY, S.PRE_COPY) else UNSUPPORTED

    def __str__(self) -> str:
        return f"set the migration state {_name(self.wanted)}"


@dataclass(frozen=True)
class GetState(Move):
    """Ask for the migration state."""

    def plan(self, world: World, facts: Facts) -> Plan:
        names = " or ".join(sorted(_name(each) for each in world.states))
        told = [state(each)[:4] for each in world.states]
        expect = Reply(fds=0, data=Is(f"that say {names}", lambda data: len(data) == 8 and data[:4] in told))
        seen = yield Turn(TOLD, (feature(DeviceFeature.MIG_DEVICE_STATE, GET, argsz=16),), (expect,))
        payload = seen.message.payload if isinstance(seen, Received) else None
        if not accepted(seen) or not isinstance(payload, DeviceFeatureRequest):
            return world
        found = next((each for each in DeviceState if payload.data[:4] == state(each)[:4]), None)
        return world if found is None or found == world.state else _unclear(world, found)

    def __str__(self) -> str:
        return "get the migration state"


@dataclass(frozen=True)
class ReadData(Move):
    """Read at most ``size`` bytes of the device's state; 0 for all of it, in messages of any size."""

    size: int = 0

    def plan(self, world: World, facts: Facts) -> Plan:
        size = min(self.size or PART, facts.capabilities.max_data_xfer_size)
        send = (Send(MigDataReadRequest(argsz=MigDataReadReply.fixed_size + size, size=size)),)
        if world.state is None:
            yield Turn(DATA_READ, send, (SILENT_TEXT,))
            return _session_unclear(world)
        if world.state not in SAVING:
            yield Turn(NOT_READ, send, (ErrorReply(),))
            return world
        expect = Reply(fds=0, whole=Whole(f"at most {size} bytes", lambda seen: _too_many(seen, size)))
        for _ in range(1 if self.size else MOST):
            seen = yield Turn(DATA_READ, send, (expect,))
            payload = seen.message.payload if isinstance(seen, Received) and accepted(seen) else None
            if not isinstance(payload, MigDataReadReply):
                return _session_unclear(world)
            world = read(world, payload.data, last=len(payload.data) < size)
            if len(payload.data) < size:
                break
        return world

    def __str__(self) -> str:
        return f"read {f'at most {self.size} bytes' if self.size else 'all'} of the migration data"


@dataclass(frozen=True)
class WriteData(Move):
    """Write the next ``size`` bytes of the state that was read; 0 for all the rest, in messages of any size."""

    size: int = 0

    def plan(self, world: World, facts: Facts) -> Plan:
        saved = b"" if world.saved is None else world.saved.data
        if world.state is not S.RESUMING:
            certain = world.state is not None
            send = Send(MigDataWriteRequest(argsz=16, data=bytes(8)))
            yield Turn(NOT_WRITTEN, (send,), (ErrorReply() if certain else SILENT_TEXT,))
            return world if certain else _session_unclear(world)
        most = min(self.size or PART, facts.capabilities.max_data_xfer_size, PART)
        for _ in range(1 if self.size else MOST):
            data = saved[world.loaded or 0 :][:most]
            if not data or world.loaded is None:
                break
            request = MigDataWriteRequest(argsz=MigDataWriteRequest.fixed_size + len(data), data=data)
            seen = yield Turn(DATA_WRITE, (Send(request),), (Reply(fds=0),))
            world = replace(world, loaded=world.loaded + len(data) if accepted(seen) else None)
        return world

    def __str__(self) -> str:
        return f"write {f'{self.size} bytes' if self.size else 'the rest'} of the migration data that were read"


def _too_many(seen: Received, size: int) -> str:
    payload = seen.message.payload
    count = len(payload.data) if isinstance(payload, MigDataReadReply) else 0
    return f"{count} bytes came, not at most {size}" if count > size else ""


def _session_unclear(world: World) -> World:
    """Nobody can say what was read and written of this session."""
    return replace(world, session=None, loaded=None)


def _unclear(world: World, *states: int) -> World:
    """The device is in one of ``states``, and nothing else about it is certain."""
    found = frozenset(DeviceState(each) for each in states)
    return replace(_session_unclear(world), states=found, scratch={})


def _name(value: int) -> str:
    return DeviceState(value).name if value in set(DeviceState) else str(value)
