"""Faults of devices that work where they are to be at rest, and of what features say of themselves in replies."""

from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.faults.dirty import GET, SET, F, asks, crash_of_start
from vfio_user_proto.faults.kit import Fault, asks_for, crash, feature_answers, fields, method, right
from vfio_user_proto.faults.migration import in_state
from vfio_user_proto.messages import (
    Command,
    DeviceFeatureRequest,
    DeviceState,
    FeatureDmaLoggingReport,
    FeatureMigration,
    MigrationFlags,
)
from vfio_user_proto.responder import Answer, Responder

S = DeviceState
FEATURE = Command.DEVICE_FEATURE


def _as_if(state: DeviceState, instead: DeviceState) -> type[Responder]:
    """The device takes ``state`` for another one whenever it is written to."""

    def region_write(self: Any, request: Any, fds: list[int]) -> Answer:
        if self.device.state != state:
            return right("region_write", self, request, fds)
        self.device.state = instead
        try:
            return right("region_write", self, request, fds)
        finally:
            self.device.state = state

    return method("region_write", region_write)


class _Tired(Responder):
    """The device is at rest for ever when it was once."""

    rested = False

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        answer = super().device_feature(request, fds)
        self.rested |= self.device.state == S.STOP
        return answer

    def region_write(self, request: Any, fds: list[int]) -> Answer:
        state = self.device.state
        if self.rested and state == S.RUNNING:
            self.device.state = S.STOP
        try:
            return super().region_write(request, fds)
        finally:
            self.device.state = state


def _works_in(state: DeviceState) -> Fault:
    name = state.name.lower().replace("_", "-")
    return Fault(f"mig-works-in-{name}", f"{state.name} stops nothing.", responder=_as_if(state, S.RUNNING))


def _argsz(operation: int, change: Callable[[Any], int]) -> Any:
    """Another argsz in the replies to requests with these flags."""
    return fields(FEATURE, argsz=lambda reply: change(reply) if int(reply.flags) == operation else reply.argsz)


def _flags(operation: int) -> Any:
    """No operation in the flags of such replies."""
    return fields(FEATURE, flags=lambda reply: reply.flags & 0xFFFF if int(reply.flags) == operation else reply.flags)


def _reports(name: str, mistake: str, when: Callable[[FeatureDmaLoggingReport], Any]) -> Fault:
    def picks(request: Any) -> bool:
        asked = asks(request)
        return asked is not None and bool(when(asked))

    return Fault(f"dma-logging-{name}-crash", mistake, responder=crash("device_feature", picks))


FAULTS: tuple[Fault, ...] = (
    _works_in(S.STOP),
    _works_in(S.STOP_COPY),
    _works_in(S.RESUMING),
    Fault("mig-rests-in-pre-copy", "A device whose state is read is at rest.", responder=_as_if(S.PRE_COPY, S.STOP)),
    Fault("mig-rests-for-ever", "What was stopped does not start again.", responder=_Tired),
    Fault(
        "mig-data-write-pre-copy",
        "Data can be written in PRE_COPY.",
        responder=in_state("mig_data_write", S.PRE_COPY, None),
    ),
    Fault(
        "mig-data-read-argsz-of-data",
        "argsz counts the data alone.",
        outgoing=fields(Command.MIG_DATA_READ, argsz=lambda reply: reply.size),
    ),
    Fault(
        "mig-state-set-reply-without-flags",
        "The reply to a set does not say so.",
        outgoing=_flags(SET | F.MIG_DEVICE_STATE),
    ),
    Fault(
        "mig-state-pre-copy-not-offered-taken",
        "PRE_COPY works, and is not offered.",
        responder=feature_answers(
            F.MIGRATION, GET, lambda r, data: wire.encode_record(FeatureMigration(flags=MigrationFlags.STOP_COPY))
        ),
    ),
    _reports("page-size-5000", "Page sizes are powers of two.", lambda r: r.page_size.bit_count() > 1),
    _reports("report-nothing", "A range has bytes.", lambda r: not r.length),
    _reports("report-unmapped", "A range is mapped.", lambda r: r.iova == 0x800000),
    Fault(
        "dma-logging-start-page-size-zero-crash",
        "Division by zero.",
        responder=crash_of_start(lambda r: not r.page_size),
    ),
    Fault(
        "dma-logging-ranges-largest-crash",
        "There is room for the ranges that are counted.",
        responder=crash(
            "device_feature", lambda r: asks_for(F.DMA_LOGGING_START, SET)(r) and r.data[8:12] == b"\xff" * 4
        ),
    ),
    Fault(
        "dma-logging-range-wraps-crash",
        "The end of a range is behind its start.",
        responder=crash_of_start(lambda r: any(each.iova + each.length > 1 << 64 for each in r.ranges)),
    ),
    Fault(
        "dma-logging-start-argsz-own",
        "argsz is what the reply needs.",
        outgoing=_argsz(SET | F.DMA_LOGGING_START, lambda reply: 8 + len(reply.data)),
    ),
    Fault(
        "dma-logging-stop-reply-with-data",
        "A stop is answered with the layout of a start.",
        responder=feature_answers(F.DMA_LOGGING_STOP, SET, lambda r, data: bytes(16)),
    ),
    Fault(
        "dma-logging-report-without-flags",
        "The reply to a report does not say so.",
        outgoing=_flags(GET | F.DMA_LOGGING_REPORT),
    ),
    Fault(
        "dma-logging-report-argsz-of-bitmap",
        "argsz counts the bitmap alone.",
        outgoing=_argsz(GET | F.DMA_LOGGING_REPORT, lambda reply: len(reply.data) - 24),
    ),
)
