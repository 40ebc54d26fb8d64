"""Each feature with each operation: which exist is the same whether it is probed or tried."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_logging import WANTED, start_data
from vfio_user_conformance.cases.feature import GET, PROBE, SET, UNKNOWN, feature, state
from vfio_user_conformance.cases.mig_state import HAZARDS, NEEDS, NOW, RESET, in_state
from vfio_user_conformance.expect import ANYTHING, Either, ErrorReply, Reply, long
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import DMA_LOGGING, MIGRATION
from vfio_user_conformance.sending import Send
from vfio_user_proto import wire
from vfio_user_proto.messages import DeviceFeature, DeviceFeatureFlags, DeviceState

F = DeviceFeature
SETTING = frozenset({"migration"})


def probe(what: str, index: int, operations: int, need: Fact, *, works: bool) -> Case:
    """Whether the feature has the operations, asked by a probe."""
    flags = DeviceFeatureFlags(index | operations | PROBE)
    return Case(
        ident=f"feature-probe/{what}",
        requirement="feature.probe",
        stimulus=feature(index, operations | PROBE, argsz=8),
        expect=Reply(flags=flags, data=b"") if works else ErrorReply(),
        needs=(need,),
        catches=(f"probe-{what}-{'refused' if works else 'succeeds'}",),
    )


def lacking(what: str, step: Send, *needs: Fact) -> Case:
    """An operation that no such feature has."""
    return Case(
        ident=f"feature-probe/{what}",
        requirement="feature.one-operation",
        stimulus=step,
        expect=ErrorReply(),
        needs=needs,
        hazards=SETTING,
        catches=(f"feature-{what}-succeeds",),
    )


CASES = [
    probe("migration", F.MIGRATION, 0, MIGRATION, works=True),
    probe("state", F.MIG_DEVICE_STATE, GET | SET, MIGRATION, works=True),
    probe("log-report", F.DMA_LOGGING_REPORT, GET, DMA_LOGGING, works=True),
    probe("migration-set", F.MIGRATION, SET, MIGRATION, works=False),
    probe("migration-get-and-set", F.MIGRATION, GET | SET, MIGRATION, works=False),
    probe("log-start-get", F.DMA_LOGGING_START, GET, DMA_LOGGING, works=False),
    probe("log-stop-get", F.DMA_LOGGING_STOP, GET | SET, DMA_LOGGING, works=False),
    probe("log-report-set", F.DMA_LOGGING_REPORT, SET, DMA_LOGGING, works=False),
    Case(
        ident="feature-probe/state-complete",
        requirement="feature.reply-get",
        stimulus=NOW,
        expect=Reply(flags=DeviceFeatureFlags(GET | F.MIG_DEVICE_STATE), data=long(8)),
        needs=(MIGRATION,),
        catches=("feature-state-of-four-bytes",),
    ),
    Case(
        ident="feature-probe/changes-nothing",
        requirement="feature.probe",
        given=(RESET,),
        stimulus=(feature(F.MIG_DEVICE_STATE, SET | PROBE, state(DeviceState.STOP)), NOW, RESET),
        expect=(Either(Reply(), ErrorReply()), in_state(DeviceState.RUNNING), Reply()),
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("probe-carried-out",),
    ),
    lacking("get-of-nothing", feature(UNKNOWN, GET)),
    lacking("set-of-nothing", feature(UNKNOWN, SET, bytes(8))),
    lacking("set-of-migration", feature(F.MIGRATION, SET, bytes(8)), MIGRATION),
    lacking("get-of-log-start", feature(F.DMA_LOGGING_START, GET, start_data()), DMA_LOGGING),
    lacking("set-of-log-report", feature(F.DMA_LOGGING_REPORT, SET, wire.encode_record(WANTED)), DMA_LOGGING),
    lacking("get-and-set", feature(F.MIG_DEVICE_STATE, GET | SET, state(DeviceState.RUNNING)), MIGRATION),
    Case(
        ident="feature-probe/undefined-flags",
        requirement="security.validate",
        stimulus=feature(F.MIGRATION, GET | 1 << 31, argsz=16),
        expect=ANYTHING,
        catches=("feature-undefined-flags-crash",),
    ),
    Case(
        ident="feature-probe/get-flags",
        requirement="feature.reply-get",
        stimulus=feature(F.MIGRATION, GET, argsz=16),
        expect=Reply(flags=DeviceFeatureFlags(GET | F.MIGRATION), data=long(8)),
        needs=(MIGRATION,),
        catches=("feature-get-without-flags",),
    ),
]
