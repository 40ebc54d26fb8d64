"""Faults of the log of writes."""

import errno
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.faults.kit import (
    Fault,
    accept,
    asks_for,
    crash,
    die,
    feature_answers,
    method,
    refuse,
    right,
    stuck,
)
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
)
from vfio_user_proto.responder import Answer, Responder

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
F = DeviceFeature
K = 4096
HEAD = FeatureDmaLoggingReport.fixed_size


def asks(request: Any) -> FeatureDmaLoggingReport | None:
    """The report that is asked for."""
    if not asks_for(F.DMA_LOGGING_REPORT, GET)(request):
        return None
    return wire.decode_record(FeatureDmaLoggingReport, request.data)[0]


def _reports(name: str, mistake: str, when: Callable[[FeatureDmaLoggingReport], Any]) -> Fault:
    """Dies of such reports."""

    def picks(request: Any) -> bool:
        asked = asks(request)
        return asked is not None and bool(when(asked))

    return Fault(name, mistake, responder=crash("device_feature", picks))


def _start(request: Any) -> FeatureDmaLoggingStart | None:
    """The start that is asked for, where it is whole."""
    if not asks_for(F.DMA_LOGGING_START, SET)(request) or len(request.data) < 16:
        return None
    count = int.from_bytes(request.data[8:12], "little")
    whole = len(request.data) == 16 + 16 * count
    return wire.decode_record(FeatureDmaLoggingStart, request.data)[0] if whole else None


def _starts(name: str, mistake: str, when: Callable[[FeatureDmaLoggingStart], Any]) -> Fault:
    """Refuses such starts."""

    def picks(request: Any) -> bool:
        asked = _start(request)
        return asked is not None and bool(when(asked))

    return Fault(name, mistake, responder=refuse("device_feature", errno.EINVAL, picks))


def crash_of_start(when: Callable[[FeatureDmaLoggingStart], Any]) -> type[Responder]:
    """Dies of such starts."""

    def picks(request: Any) -> bool:
        asked = _start(request)
        return asked is not None and bool(when(asked))

    return crash("device_feature", picks)


class _StartedAlways(Responder):
    """Records writes from the beginning."""

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if not self.features.log.page_size:
            self.features.log.start(K, ())
        if asks_for(F.DMA_LOGGING_START, SET)(request):
            self.features.log.stop()
        return super().device_feature(request, fds)


def _twice(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    if self.features.log.page_size and asks_for(F.DMA_LOGGING_START, SET)(request):
        return die()
    return right("device_feature", self, request, fds)


def _other_page(finer: bool) -> type[Responder]:
    def feature(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        asked, ours = asks(request), self.features.log.page_size
        if asked is not None and ours and (asked.page_size < ours if finer else asked.page_size > ours):
            raise OSError(errno.EINVAL, "a fault")
        return right("device_feature", self, request, fds)

    return method("device_feature", feature)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "dma-logging-stop-not-probed",
        "Only the start can be probed.",
        responder=refuse("device_feature", errno.ENOTTY, asks_for(F.DMA_LOGGING_STOP, SET | PROBE)),
    ),
    Fault(
        "dma-logging-page-size-zero",
        "No page size is chosen.",
        responder=feature_answers(F.DMA_LOGGING_START, SET, lambda r, data: bytes(8) + data[8:]),
    ),
    _starts("dma-logging-odd-page-size-refused", "Page sizes are to fit.", lambda r: r.page_size.bit_count() != 1),
    _starts("dma-logging-ranges-refused", "All memory is recorded, or nothing.", lambda r: r.num_ranges),
    Fault("dma-logging-report-before-start", "Writes are recorded from the beginning.", responder=_StartedAlways),
    Fault(
        "dma-logging-never-stops",
        "A stop stops nothing.",
        responder=accept("device_feature", lambda r: r, asks_for(F.DMA_LOGGING_STOP, SET)),
    ),
    Fault(
        "dma-logging-bitmap-of-bytes",
        "The bitmap has bytes, not words of 8.",
        responder=feature_answers(F.DMA_LOGGING_REPORT, GET, lambda r, data: data[: HEAD + 13]),
    ),
    Fault(
        "dma-logging-bits-outside",
        "Bits behind the range are set.",
        responder=feature_answers(F.DMA_LOGGING_REPORT, GET, lambda r, data: data[:-1] + b"\x80"),
    ),
    Fault("dma-logging-finer-refused", "Reports are not finer than the log.", responder=_other_page(True)),
    Fault("dma-logging-coarser-refused", "Reports are not coarser than the log.", responder=_other_page(False)),
    _reports("dma-logging-page-size-zero-crash", "Division by zero.", lambda r: not r.page_size),
    _reports("dma-logging-everything-crash", "There is memory for any bitmap.", lambda r: r.length > 1 << 60),
    _reports("dma-logging-wrap-crash", "iova and length fit into 64 bits.", lambda r: r.iova + r.length > 1 << 64),
    Fault(
        "dma-logging-ranges-missing-crash",
        "The ranges are there.",
        responder=crash("device_feature", lambda r: asks_for(F.DMA_LOGGING_START, SET)(r) and _start(r) is None),
    ),
    Fault(
        "dma-logging-stop-with-data-hangs",
        "A stop has no data.",
        responder=stuck("device_feature", lambda r: asks_for(F.DMA_LOGGING_STOP, SET)(r) and r.data),
    ),
    Fault("dma-logging-start-twice-crash", "The log begins once.", responder=method("device_feature", _twice)),
)
