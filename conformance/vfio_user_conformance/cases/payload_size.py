"""Payloads that are too short at each byte, and such that go on: a command each, for a server checks each by itself."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.feature import GET, PROBE, feature
from vfio_user_conformance.cases.header import BAIT, INFO
from vfio_user_conformance.cases.set_irqs import HAZARDS, NONE, TRIGGER, set_irqs
from vfio_user_conformance.expect import ANYTHING, REFUSED
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import MIGRATION, RESETTABLE, WRITE_MULTIPLE
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import PROPOSAL
from vfio_user_conformance.steps import each
from vfio_user_proto import wire
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DmaUnmapRequest,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)
from vfio_user_proto.model import Record

MAPPED = Send(request(0x10000))
NO_HAZARD = frozenset[str]()


def short(
    what: str,
    payload: Record,
    *given: Send,
    needs: tuple[Fact, ...] = (),
    hazards: frozenset[str] = NO_HAZARD,
    note: str = "",
) -> Case:
    """A fixed part that ends after each of its bytes but the last."""
    whole = wire.encode_record(payload)[: payload.fixed_size]
    command = Send(payload).number
    return Case(
        ident=f"payload-size/{what}-short",
        requirement="security.short-payload",
        given=given,
        stimulus=f"{Command(command).document_name} with 0 to {len(whole) - 1} of its {len(whole)} bytes",
        expect=f"{REFUSED}, each time",
        script=each([Send(payload, body=whole[:end]) for end in range(len(whole))], REFUSED),
        needs=needs,
        hazards=hazards,
        catches=(f"{what}-short-padded",),
        note=note,
    )


def trailing(
    what: str,
    step: Send,
    *given: Send,
    needs: tuple[Fact, ...] = (),
    hazards: frozenset[str] = NO_HAZARD,
) -> Case:
    """A payload that goes on with what is a command, if the server takes it for one."""
    return Case(
        ident=f"payload-size/{what}-trailing",
        requirement="security.trailing-payload",
        given=given,
        stimulus=step,
        expect=ANYTHING,
        needs=needs,
        hazards=hazards,
        catches=(f"{what}-trailing-left",),
    )


def proposal(what: str, size: int) -> Case:
    """A proposal without all of its version numbers."""
    return Case(
        ident=f"payload-size/{what}",
        requirement="security.short-payload",
        stimulus=Send(PROPOSAL, body=wire.encode_record(PROPOSAL)[:size]),
        expect=REFUSED,
        greet=False,
        catches=(f"{what}-padded",),
        note="The vfio-user crate of rust-vmm ends with a panic (0.1.3, src/lib.rs:938).",
    )


IRQ_INFO = DeviceGetIrqInfoRequest(index=0)
UNMAP = DmaUnmapRequest(address=0x10000, size=0x1000)
READ = RegionReadRequest(region=7, offset=0, count=4)
SET_IRQS = set_irqs(NONE | TRIGGER)
assert isinstance(SET_IRQS.payload, Record)
FEATURE = feature(DeviceFeature.MIGRATION, GET | PROBE).payload
assert isinstance(FEATURE, Record)

CASES = [
    proposal("version-empty", 0),
    proposal("version-cut", 2),
    short("dma-map", request(0x10000)),
    short(
        "dma-unmap",
        UNMAP,
        MAPPED,
        note="libvfio-user efd091b reads behind a payload of 4 bytes before it looks at its length (libvfio-user.c:779).",
    ),
    short("device-info", INFO),
    short("io-fds", DeviceGetRegionIoFdsRequest(index=7)),
    short("irq-info", IRQ_INFO),
    short("set-irqs", SET_IRQS.payload, hazards=HAZARDS),
    short("region-read", READ),
    short("region-write", RegionWriteRequest(region=7, offset=0x3C)),
    short("write-multi", RegionWriteMultiRequest(), needs=(WRITE_MULTIPLE,)),
    short("feature", FEATURE, needs=(MIGRATION,)),
    trailing("dma-map", Send(request(0x10000), extra=BAIT)),
    trailing("dma-unmap", Send(UNMAP, extra=BAIT), MAPPED),
    trailing("irq-info", Send(IRQ_INFO, extra=BAIT)),
    trailing("set-irqs", Send(SET_IRQS.payload, extra=BAIT), hazards=HAZARDS),
    trailing("region-read", Send(READ, extra=BAIT)),
    trailing("reset", Send(Command.DEVICE_RESET, body=BAIT), needs=(RESETTABLE,), hazards=frozenset({"reset"})),
]
