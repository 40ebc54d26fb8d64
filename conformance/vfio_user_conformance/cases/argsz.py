"""Room for less than the reply: no payload is longer than the argsz of its request."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_logging import MAP, STARTED, STOPPED, WANTED, report
from vfio_user_conformance.cases.feature import GET, feature
from vfio_user_conformance.cases.irq_info import ask as ask_irq
from vfio_user_conformance.cases.mig_state import HAZARDS, NEEDS, RESET, S, to
from vfio_user_conformance.cases.region_info import ask as ask_region
from vfio_user_conformance.expect import REFUSED, Either, ErrorReply, Expectation, Reply, Whole
from vfio_user_conformance.needs import DMA_LOGGING, IRQ, MIGRATION
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceGetInfoRequest,
    DeviceGetRegionIoFdsRequest,
    MigDataReadRequest,
)


def within(argsz: int) -> Expectation:
    """No more payload than that, or a refusal."""

    def problem(seen: Received) -> str:
        size = seen.message.header.message_size - 16
        return "" if size <= argsz else f"the payload has {size} bytes"

    return Either(Reply(whole=Whole(f"at most {argsz} bytes of payload", problem)), ErrorReply())


SMALL = Send(MigDataReadRequest(argsz=8, size=64))
CASES = [
    Case(
        ident="argsz/feature",
        requirement="argsz.too-small",
        stimulus=feature(DeviceFeature.MIGRATION, GET, argsz=8),
        expect=within(8),
        needs=(MIGRATION,),
        catches=("feature-argsz-ignored",),
    ),
    Case(
        ident="argsz/log-report",
        requirement="argsz.too-small",
        given=(MAP, STARTED[0]),
        stimulus=(report(WANTED, 8 + 24), STOPPED[0]),
        expect=(within(8 + 24), Reply()),
        needs=(DMA_LOGGING,),
        hazards=frozenset({"migration"}),
        catches=("log-report-argsz-ignored",),
    ),
    Case(
        ident="argsz/migration-data",
        requirement="argsz.too-small",
        given=(RESET, to(S.STOP), to(S.STOP_COPY)),
        stimulus=(SMALL, to(S.RUNNING)),
        expect=(within(8), Reply()),
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("mig-data-read-argsz-ignored",),
    ),
    Case(
        ident="argsz/device-info-zero",
        requirement="argsz.below-fixed-part",
        stimulus=Send(DeviceGetInfoRequest(argsz=0)),
        expect=Either(Reply(argsz=16), ErrorReply()),
        catches=("device-info-argsz-zero-crash",),
    ),
    Case(
        ident="argsz/region-info-zero",
        requirement="argsz.below-fixed-part",
        stimulus=ask_region(7, 0),
        expect=Either(Reply(capabilities=b""), ErrorReply()),
        catches=("region-info-argsz-zero-crash",),
    ),
    Case(
        ident="argsz/irq-info-largest",
        requirement="argsz.reply-needed",
        stimulus=ask_irq(IRQ, 0xFFFFFFFF),
        expect=Reply(argsz=16),
        catches=("irq-info-argsz-largest-refused",),
    ),
    Case(
        ident="argsz/irq-index-largest",
        requirement="get-region-info.index-range",
        stimulus=ask_irq(0xFFFFFFFF),
        expect=REFUSED,
        catches=("irq-info-index-signed",),
    ),
    Case(
        ident="argsz/io-fds-index-largest",
        requirement="get-region-info.index-range",
        stimulus=Send(DeviceGetRegionIoFdsRequest(argsz=0x1000, index=0xFFFFFFFF)),
        expect=REFUSED,
        catches=("io-fds-index-signed",),
    ),
    Case(
        ident="argsz/feature-largest",
        requirement="feature.reply-get-argsz",
        stimulus=feature(DeviceFeature.MIGRATION, GET, argsz=0xFFFFFFFF),
        expect=Reply(argsz=16),
        needs=(MIGRATION,),
        catches=("feature-argsz-largest-hangs",),
    ),
]
