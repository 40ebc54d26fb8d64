"""VFIO_DEVICE_FEATURE_DMA_LOGGING_START, _STOP and _REPORT, as far as they show without a write by the device."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.feature import GET, PROBE, SET, feature
from vfio_user_conformance.checks import AfterCheck, under
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.expect import ANYTHING, REFUSED, ErrorReply, Expectation, Is, Reply, Whole
from vfio_user_conformance.needs import DMA_LOGGING
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_conformance.words import plural, shown
from vfio_user_proto import wire
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DmaLoggingRange,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
)

K, F = 4096, DeviceFeatureFlags
PAGES = 100
BITMAP = 16  # bytes for 100 pages, in words of 8
MAP = Send(request(0x100000, PAGES * K), fds=(Memfd(PAGES * K),))
STOP = feature(DeviceFeature.DMA_LOGGING_STOP, SET, argsz=8)
WANTED = FeatureDmaLoggingReport(iova=0x100000, length=PAGES * K, page_size=K)
BOTH = WANTED.replace(length=2 * PAGES * K)
# All there is from the start of the mapping on, round and back to it.
BACKWARDS = WANTED.replace(length=2**64 - 1, page_size=1 << 40)
SIXTEEN = FeatureDmaLoggingReport(iova=0x2000000, length=0x10000, page_size=K)
# 256 pages: one more than a byte counts.
MANY = FeatureDmaLoggingReport(iova=0x1000000, length=0x100000, page_size=K)

WRAPPING = DmaLoggingRange(iova=2**64 - K, length=2 * K)


def start_data(page_size: int = K, count: int = 0) -> bytes:
    """What a start asks for."""
    ranges = tuple(DmaLoggingRange(iova=0x100000 * (1 + at), length=0x10000) for at in range(count))
    return wire.encode_record(FeatureDmaLoggingStart(page_size=page_size, ranges=ranges))


def start(data: bytes) -> Send:
    """Start the log."""
    return feature(DeviceFeature.DMA_LOGGING_START, SET, data, K)


def report(wanted: FeatureDmaLoggingReport, argsz: int = K) -> Send:
    """Ask for a bitmap."""
    return feature(DeviceFeature.DMA_LOGGING_REPORT, GET, wire.encode_record(wanted), argsz)


def started(data: bytes) -> Reply:
    """The reply to a start: the request, with a page size of the server's."""

    def test(came: bytes) -> bool:
        return any(came[:8]) and came[8:] == data[8:]

    return Reply(data=Is("as in the request, with the page size in use", test))


def bitmap(wanted: FeatureDmaLoggingReport, size: int) -> Reply:
    """The reply to a report: its request, and so many bytes."""
    return Reply(whole=layout(wanted, size))


def layout(wanted: FeatureDmaLoggingReport, size: int) -> Whole:
    """The data of a reply to ``wanted``: those of the request, and ``size`` bytes."""
    head = wire.encode_record(wanted)

    def problem(seen: Received) -> str:
        data = data_of(seen)
        if data[: len(head)] != head:
            return f"the data do not begin with those of the request but are {shown(data)}"
        came = len(data) - len(head)
        return "" if came == size else f"the bitmap has {plural(came, 'byte')}, not {size}"

    return Whole(f"the data of the request and {size} bytes", problem, "dma-logging.report-reply")


def data_of(seen: Received) -> bytes:
    """The data of a reply that decoded."""
    assert isinstance(seen.message.payload, DeviceFeatureRequest)
    return seen.message.payload.data


def logging(
    what: str, requirement: str, steps: tuple[tuple[Send, Expectation | AfterCheck], ...], fault: str, note: str = ""
) -> Case:
    """A case about the log; what was started is stopped at the end."""
    return Case(
        ident=f"dma-logging/{what}",
        requirement=requirement,
        given=(MAP,),
        stimulus=tuple(step for step, _ in steps),
        expect=tuple(expected for _, expected in steps),
        needs=(DMA_LOGGING,),
        hazards=frozenset({"migration"}),
        catches=(fault,),
        note=note,
    )


# That a log can be started and stopped is what a probe says, whatever the case is about.
(WORKS,) = under("dma-logging.probe", Reply())
STARTED = (start(start_data()), WORKS)
STOPPED = (STOP, WORKS)
OUTSIDE = Is("with zeros behind page 100", lambda came: len(came) < 24 + BITMAP or not came[36] >> 4 | any(came[37:]))

CASES = [
    logging(
        "probe-stop",
        "dma-logging.probe",
        ((feature(DeviceFeature.DMA_LOGGING_STOP, SET | PROBE, argsz=8), Reply(data=b"")),),
        "dma-logging-stop-not-probed",
    ),
    logging(
        "page-size",
        "dma-logging.page-size",
        ((start(start_data()), started(start_data())), STOPPED),
        "dma-logging-page-size-zero",
    ),
    logging(
        "page-size-odd",
        "dma-logging.page-size",
        ((start(start_data(5000)), started(start_data(5000))), STOPPED),
        "dma-logging-odd-page-size-refused",
    ),
    logging(
        "ranges",
        "dma-logging.scope",
        ((start(start_data(K, 3)), started(start_data(K, 3))), STOPPED),
        "dma-logging-ranges-refused",
    ),
    logging(
        "report-before-start",
        "dma-logging.report-needs-start",
        ((report(WANTED), ErrorReply()),),
        "dma-logging-report-before-start",
    ),
    logging(
        "report-after-stop",
        "dma-logging.report-needs-start",
        (STARTED, STOPPED, (report(WANTED), ErrorReply())),
        "dma-logging-never-stops",
    ),
    logging(
        "report",
        "dma-logging.report-reply",
        (STARTED, (report(WANTED), bitmap(WANTED, BITMAP)), STOPPED),
        "dma-logging-bitmap-of-bytes",
    ),
    logging(
        "report-outside",
        "dma-logging.bitmap-outside",
        (STARTED, (report(WANTED), Reply(data=OUTSIDE)), STOPPED),
        "dma-logging-bits-outside",
    ),
    logging(
        "report-finer",
        "dma-logging.report-any-page-size",
        (
            (start(start_data(16 * K)), Reply()),
            (report(WANTED), bitmap(WANTED, BITMAP)),
            STOPPED,
        ),
        "dma-logging-finer-refused",
    ),
    logging(
        "report-coarser",
        "dma-logging.report-any-page-size",
        (
            STARTED,
            (report(WANTED.replace(page_size=4 * K)), bitmap(WANTED.replace(page_size=4 * K), 8)),
            STOPPED,
        ),
        "dma-logging-coarser-refused",
    ),
    logging(
        "report-two-mappings",
        "dma-logging.scope",
        (
            (Send(request(0x100000 + PAGES * K, PAGES * K), fds=(Memfd(PAGES * K),)), Reply()),
            STARTED,
            (report(BOTH), bitmap(BOTH, 2 * BITMAP)),
            STOPPED,
        ),
        "dma-logging-report-of-two-mappings-empty",
    ),
    logging(
        "report-much-finer",
        "dma-logging.report-any-page-size",
        (
            (Send(request(MANY.iova, MANY.length), fds=(Memfd(MANY.length),)), Reply()),
            (start(start_data(64 * 1024)), Reply()),
            (report(MANY), bitmap(MANY, 32)),
            STOPPED,
        ),
        "dma-logging-much-finer-hangs",
    ),
    logging(
        "page-size-largest",
        "dma-logging.page-size",
        ((start(start_data(1 << 63)), started(start_data(1 << 63))), STOPPED),
        "dma-logging-page-size-largest-refused",
    ),
    logging(
        "report-page-size-zero",
        "security.validate",
        (STARTED, (report(WANTED.replace(page_size=0)), REFUSED)),
        "dma-logging-page-size-zero-crash",
    ),
    logging(
        "report-everything",
        "security.validate",
        (STARTED, (report(WANTED.replace(iova=0, length=2**64 - 1, page_size=1)), REFUSED)),
        "dma-logging-everything-crash",
    ),
    logging(
        "report-wraps",
        "security.validate",
        (STARTED, (report(WANTED.replace(iova=2**64 - K)), REFUSED)),
        "dma-logging-wrap-crash",
    ),
    logging(
        "report-wraps-after-a-good-one",
        "security.validate",
        (STARTED, (report(WANTED), Reply()), (report(BACKWARDS, 0xFFFFFFFF), REFUSED)),
        "dma-logging-wrap-from-the-start-crash",
        "libvfio-user efd091b remembers where the last report was, and writes outside its bitmap (lib/dma.c:581).",
    ),
    logging(
        "report-of-one-page",
        "dma-logging.report-any-page-size",
        (
            (Send(request(SIXTEEN.iova, SIXTEEN.length), fds=(Memfd(SIXTEEN.length),)), Reply()),
            (start(start_data(64 * 1024)), Reply()),
            (report(SIXTEEN), bitmap(SIXTEEN, 8)),
            STOPPED,
        ),
        "dma-logging-one-page-hangs",
        "libvfio-user efd091b writes outside the bitmap where the log has one page of 64 KiB (lib/dma.c:645).",
    ),
    logging(
        "page-size-above-mapping",
        "dma-logging.page-size",
        ((Send(request(0x10000), fds=(Memfd(K),)), Reply()), (start(start_data(16 * K)), Reply()), STOPPED),
        "dma-logging-page-above-mapping-refused",
        "Seen in libvfio-user efd091b.",
    ),
    logging(
        "map-below-page-size",
        "dma-map.any-time",
        ((start(start_data(16 * K)), Reply()), (Send(request(0x10000), fds=(Memfd(K),)), Reply()), STOPPED),
        "map-below-log-page-refused",
        "Seen in libvfio-user efd091b.",
    ),
    logging(
        "start-cut",
        "security.short-payload",
        ((start(start_data()[:12]), REFUSED),),
        "dma-logging-start-cut-padded",
        "libvfio-user efd091b reads behind the data (lib/libvfio-user.c:1110).",
    ),
    logging(
        "report-cut",
        "security.short-payload",
        (
            STARTED,
            (feature(DeviceFeature.DMA_LOGGING_REPORT, GET, wire.encode_record(WANTED)[:20], K), REFUSED),
            STOPPED,
        ),
        "dma-logging-report-cut-padded",
        "libvfio-user efd091b reads behind the data (lib/libvfio-user.c:1059).",
    ),
    logging(
        "ranges-missing",
        "security.validate",
        ((start(start_data(K, 3)[:32]), REFUSED),),
        "dma-logging-ranges-missing-crash",
    ),
    logging(
        "report-page-size-odd",
        "security.validate",
        (STARTED, (report(WANTED.replace(page_size=5000)), ANYTHING)),
        "dma-logging-page-size-5000-crash",
    ),
    logging(
        "report-nothing",
        "security.validate",
        (STARTED, (report(WANTED.replace(length=0)), ANYTHING)),
        "dma-logging-report-nothing-crash",
    ),
    logging(
        "report-unmapped",
        "security.validate",
        (STARTED, (report(WANTED.replace(iova=0x800000)), ANYTHING)),
        "dma-logging-report-unmapped-crash",
    ),
    logging(
        "start-page-size-zero",
        "security.validate",
        ((start(start_data(0)), ANYTHING),),
        "dma-logging-start-page-size-zero-crash",
    ),
    logging(
        "ranges-counted-largest",
        "security.validate",
        ((start(start_data(K, 1)[:8] + b"\xff" * 4 + start_data(K, 1)[12:]), REFUSED),),
        "dma-logging-ranges-largest-crash",
    ),
    logging(
        "range-wraps",
        "security.validate",
        ((start(wire.encode_record(FeatureDmaLoggingStart(page_size=K, ranges=(WRAPPING,)))), ANYTHING),),
        "dma-logging-range-wraps-crash",
    ),
    logging(
        "start-echoed",
        "feature.reply-same",
        ((start(start_data()), Reply(argsz=K, flags=F(SET | DeviceFeature.DMA_LOGGING_START))), STOPPED),
        "dma-logging-start-argsz-own",
    ),
    logging(
        "stop-echoed",
        "feature.reply-same",
        (STARTED, (STOP, Reply(argsz=8, flags=F(SET | DeviceFeature.DMA_LOGGING_STOP), data=b""))),
        "dma-logging-stop-reply-with-data",
    ),
    logging(
        "report-flags",
        "feature.reply-get",
        (STARTED, (report(WANTED), Reply(flags=F(GET | DeviceFeature.DMA_LOGGING_REPORT))), STOPPED),
        "dma-logging-report-without-flags",
    ),
    logging(
        "report-argsz",
        "feature.reply-get-argsz",
        (STARTED, (report(WANTED), Reply(argsz=8 + WANTED.fixed_size + BITMAP)), STOPPED),
        "dma-logging-report-argsz-of-bitmap",
    ),
    logging(
        "stop-with-data",
        "dma-logging.stop-data",
        (STARTED, (feature(DeviceFeature.DMA_LOGGING_STOP, SET, start_data()), ANYTHING)),
        "dma-logging-stop-with-data-hangs",
    ),
    logging(
        "start-twice",
        "dma-logging.stop-data",
        (STARTED, (start(start_data()), ANYTHING), STOPPED),
        "dma-logging-start-twice-crash",
    ),
]
