"""The log of the device's writes: when there is one, and what its bitmaps look like."""

from dataclasses import dataclass, replace

from vfio_user_conformance.cases.feature import GET, SET, feature
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import ErrorReply, Is, Problem, Reply, Whole
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import PAGE, World, recording, reported, within
from vfio_user_conformance.needs import DMA_LOGGING, DMA_WRITE
from vfio_user_conformance.peer import Received
from vfio_user_conformance.session import Session
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
STOP = Rule("log-stop", "dma-logging.probe", "the log is stopped", _NEEDS, _HAZARDS, ("sequence-log-read-goes-on",))
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
SCOPE = Rule(
    "log-scope",
    "dma-logging.scope",
    "a report names every page that the device wrote since the start, or the report before",
    (*_NEEDS, DMA_WRITE),
    _HAZARDS,
    ("dirty-last-write-only", "dirty-mappings-of-the-start", "sequence-log-cleared-by-map"),
)
RULES = (START, STOP, REPORT, SCOPE, NOT_STARTED)
_HEAD = FeatureDmaLoggingReport.fixed_size


@dataclass(frozen=True)
class Written(AfterCheck):
    """What is missing in a report that came."""

    missing: str

    def check(self, session: Session) -> list[Problem]:
        return [Problem(self.missing)] if self.missing else []

    def __str__(self) -> str:
        return "every page that was written"


@dataclass(frozen=True)
class StartLog(Move):
    """Record writes, in ``ranges`` of (IOVA, length) as one flat tuple, everywhere where there is none."""

    page_size: int
    ranges: tuple[int, ...] = ()

    def plan(self, world: World, facts: Facts) -> Plan:
        ranges = tuple(DmaLoggingRange(iova=iova, length=length) for iova, length in self._pairs)
        data = wire.encode_record(FeatureDmaLoggingStart(page_size=self.page_size, ranges=ranges))
        started = Is("as in the request, with the page size in use", lambda d: any(d[:8]) and d[8:] == data[8:])
        send = feature(DeviceFeature.DMA_LOGGING_START, SET, data, 8 + len(data))
        clear = world.logging is False and world.working
        seen = yield Turn(START, (send,), (Reply(fds=0, data=started) if clear else SILENT_TEXT,))
        return recording(world, self._pairs) if accepted(seen) else world

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.ranges[::2], self.ranges[1::2], strict=True))

    def __str__(self) -> str:
        where = " and ".join(f"{iova:#x} to {iova + length:#x}" for iova, length in self._pairs) or "all memory"
        return f"start the log of writes in {where}, with pages of {self.page_size}"


@dataclass(frozen=True)
class StopLog(Move):
    """Record nothing more."""

    def plan(self, world: World, facts: Facts) -> Plan:
        send = feature(DeviceFeature.DMA_LOGGING_STOP, SET, argsz=8)
        clear = world.logging is True and world.working
        seen = yield Turn(STOP, (send,), (Reply(fds=0) if clear else SILENT_TEXT,))
        return replace(world, logging=False, dirty=frozenset()) if accepted(seen) else world

    def __str__(self) -> str:
        return "stop the log of writes"


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
        mapped = within(world.maps, self.iova, self.length) is not None

        def problem(seen: Received) -> str:
            payload = seen.message.payload
            data = payload.data if isinstance(payload, DeviceFeatureRequest) else b""
            if data[:_HEAD] != head or len(data) != _HEAD + size:
                return f"{len(data)} bytes, not the {_HEAD} of the request and {size} of a bitmap"
            bits = int.from_bytes(data[_HEAD:], "little")
            return "bits behind the last page are set" if bits >> pages else ""

        def missing(seen: Received) -> str:
            payload = seen.message.payload
            bits = int.from_bytes(payload.data[_HEAD:], "little") if isinstance(payload, DeviceFeatureRequest) else 0
            due = {(page * PAGE - self.iova) // self.page_size for page in world.dirty if page * PAGE >= self.iova}
            lost = [bit for bit in sorted(due) if bit < pages and not bits >> bit & 1]
            at = self.iova + lost[0] * self.page_size if lost else 0
            return f"the page at {at:#x} was written and is not reported" if lost else ""

        if world.logging is False:
            yield Turn(NOT_STARTED, (send,), (ErrorReply(),))
        else:
            whole = Reply(fds=0, whole=Whole(f"a bitmap of {size} bytes", problem, "dma-logging.report-reply"))
            clear = world.logging is True and mapped and world.working and not self.length % self.page_size
            seen = yield Turn(REPORT, (send,), (whole if clear else SILENT_TEXT,))
            if clear and isinstance(seen, Received) and accepted(seen):
                yield Turn(SCOPE, (), (Written(missing(seen)),))
            return reported(world, self.iova, self.length)
        return world

    def __str__(self) -> str:
        return (
            f"report which pages of {self.page_size} were written from {self.iova:#x} to {self.iova + self.length:#x}"
        )
