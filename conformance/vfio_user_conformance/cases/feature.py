"""VFIO_USER_DEVICE_FEATURE: probes, and the migration state as far as one message shows it."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import REFUSED, Either, ErrorReply, Is, Reply
from vfio_user_conformance.needs import MIGRATION
from vfio_user_conformance.sending import Send
from vfio_user_proto import wire
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceState,
    FeatureMigDeviceState,
    MigrationFlags,
)

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
UNKNOWN = 0x7FFF
STOP_COPY = Is(
    "with VFIO_MIGRATION_STOP_COPY", lambda data: len(data) == 8 and bool(data[0] & MigrationFlags.STOP_COPY)
)


def feature(index: int, flags: int, data: bytes = b"", argsz: int = 64) -> Send:
    """Get, set or probe a feature."""
    return Send(DeviceFeatureRequest(argsz=argsz, flags=DeviceFeatureFlags(index | flags), data=data))


def state(wanted: int) -> bytes:
    """The data that ask for a migration state."""
    return wire.encode_record(FeatureMigDeviceState(device_state=wanted))


CASES = [
    Case(
        ident="feature/probe-unknown",
        requirement="feature.probe",
        stimulus=feature(UNKNOWN, PROBE),
        expect=ErrorReply(),
        catches=("feature-probe-always",),
    ),
    Case(
        ident="feature/no-operation",
        requirement="feature.one-operation",
        stimulus=feature(DeviceFeature.MIGRATION, 0),
        expect=REFUSED,
        catches=("feature-no-operation-accepted",),
    ),
    Case(
        ident="feature/migration",
        requirement="migration.stop-copy",
        stimulus=feature(DeviceFeature.MIGRATION, GET, argsz=16),
        expect=Reply(data=STOP_COPY),
        needs=(MIGRATION,),
        catches=("migration-without-stop-copy",),
    ),
    Case(
        ident="feature/probe-echoed",
        requirement="feature.reply-same",
        stimulus=feature(DeviceFeature.MIGRATION, GET | PROBE),
        expect=Reply(argsz=64, flags=DeviceFeatureFlags(DeviceFeature.MIGRATION | GET | PROBE), data=b""),
        needs=(MIGRATION,),
        catches=("migration-probe-answers-data",),
    ),
    Case(
        ident="feature/get-argsz",
        requirement="feature.reply-get-argsz",
        stimulus=feature(DeviceFeature.MIGRATION, GET),
        expect=Reply(argsz=16),
        needs=(MIGRATION,),
        catches=("feature-get-argsz-echoed",),
    ),
    Case(
        ident="feature/state-error-refused",
        requirement="mig-state.error-not-settable",
        stimulus=feature(DeviceFeature.MIG_DEVICE_STATE, SET, state(DeviceState.ERROR)),
        expect=ErrorReply(),
        needs=(MIGRATION,),
        hazards=frozenset({"migration"}),
        catches=("migration-error-settable",),
    ),
    Case(
        ident="feature/refused-set-empty",
        requirement="header.error-reply-empty",
        stimulus=feature(DeviceFeature.MIG_DEVICE_STATE, SET, state(DeviceState.RESUMING).replace(b"\4", b"\x7f")),
        expect=Either(ErrorReply(), Reply()),
        needs=(MIGRATION,),
        hazards=frozenset({"migration"}),
        catches=("migration-refusal-with-payload",),
    ),
]
