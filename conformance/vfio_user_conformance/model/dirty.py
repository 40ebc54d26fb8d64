"""The log of the device's writes: when there is one, and what its bitmaps look like."""

from dataclasses import dataclass, replace

from vfio_user_conformance.cases.feature import GET, SET, feature
from vfio_user_conformance.expect import ErrorReply, Is, Reply, Whole
from vfio_user_conformance.facts import DMA_LOGGING, Facts
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import World
from vfio_user_conformance.peer import Received
from vfio_user_proto import wire
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureRequest,
    DmaLoggingRange,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
)

_NEEDS, _HAZARDS = (DMA_LOGGING,), frozenset({"migration"})
START = Rule(
    "log-start",
    "dma-logging.page-size",
    "the log is started, with a page size of the server's",
    _NEEDS,
    _HAZARDS,
    ("dma-logging-page-size-zero", "sequence-log-starts-once"),
)
STOP = Rule("log-stop", "dma-logging.probe", "the log is stopped", _NEEDS, _HAZARDS)
REPORT = Rule(
    "log-report",
    "dma-logging.probe",
    "what a probe promised: a bitmap with a bit for each page inside a mapping, and zeros behind",
    _NEEDS,
    _HAZARDS,
    ("dma-logging-bits-outside", "sequence-report-after-unmap-refused"),
)
NOT_STARTED = Rule(
    "log-report-refused",
    "dma-logging.report-needs-start",
    "there is no report where no log was started",
    _NEEDS,
    _HAZARDS,
    ("dma-logging-report-before-start", "dma-logging-never-stops"),
)
RULES = (START, STOP, REPORT, NOT_STARTED)
_HEAD = FeatureDmaLoggingReport.fixed_size


@dataclass(frozen=True)
class StartLog(Move):
    """Record writes, in ``ranges`` of (IOVA, length) as one flat tuple, everywhere where there is none."""

    page_size: int
    ranges: tuple[int, ...] = ()

    def plan(self, world: World, facts: Facts) -> Plan:
        pairs = zip(self.ranges[::2], self.ranges[1::2], strict=True)
        ranges = tuple(DmaLoggingRange(iova=iova, length=length) for iova, length in pairs)
        data = wire.encode_record(FeatureDmaLoggingStart(page_size=self.page_size, ranges=ranges))
        started = Is("as in the request, with the page size in use", lambda d: any(d[:8]) and d[8:] == data[8:])
        send = feature(DeviceFeature.DMA_LOGGING_START, SET, data, 8 + len(data))
        clear = world.logging is False and world.working
        seen = yield Turn(START, (send,), (Reply(fds=0, data=started) if clear else SILENT_TEXT,))
        return replace(world, logging=True) if accepted(seen) else world

    def __str__(self) -> str:
        where = f" in {len(self.ranges) // 2} ranges" if self.ranges else ""
        return f"record writes{where} in pages of {self.page_size}"


@dataclass(frozen=True)
class StopLog(Move):
    """Record nothing more."""

    def plan(self, world: World, facts: Facts) -> Plan:
        send = feature(DeviceFeature.DMA_LOGGING_STOP, SET, argsz=8)
        clear = world.logging is True and world.working
        seen = yield Turn(STOP, (send,), (Reply(fds=0) if clear else SILENT_TEXT,))
        return replace(world, logging=False) if accepted(seen) else world

    def __str__(self) -> str:
        return "stop recording writes"


@dataclass(frozen=True)
class Report(Move):
    """Ask which pages of a range were written."""

    iova: int
    length: int
    page_size: int

    def plan(self, world: World, facts: Facts) -> Plan:
        request = FeatureDmaLoggingReport(iova=self.iova, length=self.length, page_size=self.page_size)
        head, pages = wire.encode_record(request), -(-self.length // self.page_size)
        size = -(-pages // 64) * 8
        send = feature(DeviceFeature.DMA_LOGGING_REPORT, GET, head, 8 + _HEAD + size)
        mapped = any(r.sure and r.address <= self.iova and self.iova + self.length <= r.end for r in world.maps)

        def problem(seen: Received) -> str:
            payload = seen.message.payload
            data = payload.data if isinstance(payload, DeviceFeatureRequest) else b""
            if data[:_HEAD] != head or len(data) != _HEAD + size:
                return f"{len(data)} bytes, not the {_HEAD} of the request and {size} of a bitmap"
            return "bits behind the last page are set" if int.from_bytes(data[_HEAD:], "little") >> pages else ""

        if world.logging is False:
            yield Turn(NOT_STARTED, (send,), (ErrorReply(),))
        else:
            whole = Reply(fds=0, whole=Whole(f"a bitmap of {size} bytes", problem, "dma-logging.report-reply"))
            clear = world.logging is True and mapped and world.working and not self.length % self.page_size
            yield Turn(REPORT, (send,), (whole if clear else SILENT_TEXT,))
        return world

    def __str__(self) -> str:
        return f"ask which pages of {self.page_size} were written from {self.iova:#x} to {self.iova + self.length:#x}"
