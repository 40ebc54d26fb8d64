"""No_reply: the bit silences every command but VERSION, and changes nothing else."""

from dataclasses import replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.set_irqs import RAISE
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.expect import Either, Expectation, HangUp, NoReply, Reply
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import (
    MIGRATION,
    RESETTABLE,
    SCRATCH,
    SCRATCH_KEEPS,
    SCRATCH_REGION,
    WITH_IO_FDS,
    WRITE_MULTIPLE,
)
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)

MAP = DmaMapRequest(flags=DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE, address=0x10000, size=0x1000)
UNMAP = DmaUnmapRequest(address=0x10000, size=0x1000)
NO_HAZARD = frozenset[str]()
GET_MIGRATION = DeviceFeatureFlags(DeviceFeatureFlags.GET | DeviceFeature.MIGRATION)


def silent(
    what: str,
    step: Send,
    expect: Expectation | None = None,
    *given: Send,
    needs: tuple[Fact, ...] = (),
    hazards: frozenset[str] = NO_HAZARD,
) -> Case:
    """One more command that may not be answered: servers that get it wrong do so for some commands."""
    return Case(
        ident=f"no-reply/{what}",
        requirement="header.no-reply",
        given=given,
        stimulus=replace(step, no_reply=True),
        expect=expect or NoReply(),
        needs=needs,
        hazards=hazards,
        catches=(f"no-reply-{what}-answered",),
    )


CASES = [
    Case(
        ident="no-reply/success",
        requirement="header.no-reply",
        stimulus=Send(MAP, no_reply=True),
        expect=NoReply(),
        catches=("no-reply-success-answered",),
        note="The vfio-user crate of rust-vmm ignored the bit until April 2026 (rust-vmm/vfio#141).",
    ),
    Case(
        ident="no-reply/failure",
        requirement="header.no-reply",
        stimulus=Send(UNMAP, no_reply=True),
        expect=NoReply(),
        catches=("no-reply-failure-answered",),
    ),
    Case(
        ident="no-reply/query",
        requirement="header.no-reply",
        stimulus=Send(DeviceGetInfoRequest(), no_reply=True),
        expect=NoReply(),
        catches=("no-reply-query-answered",),
    ),
    Case(
        ident="no-reply/unknown-command",
        requirement="header.no-reply",
        stimulus=Send(Command.DEVICE_RESET, command=0xFFF0, no_reply=True),
        expect=Either(NoReply(), HangUp()),
        catches=("no-reply-unknown-answered",),
    ),
    Case(
        ident="no-reply/carried-out",
        requirement="concurrency.in-order",
        stimulus=(Send(MAP, fds=(Memfd(),), no_reply=True), Send(UNMAP)),
        expect=(NoReply(), Reply()),
        catches=("no-reply-not-carried-out",),
    ),
    Case(
        ident="no-reply/write-before-read",
        requirement="concurrency.in-order",
        needs=(SCRATCH_KEEPS,),
        stimulus=(
            Send(RegionWriteRequest(region=SCRATCH_REGION, offset=SCRATCH, data=b"\xa5\x5a\xc3\x3c"), no_reply=True),
            Send(RegionReadRequest(region=SCRATCH_REGION, offset=SCRATCH, count=4)),
        ),
        expect=(NoReply(), Reply(data=b"\xa5\x5a\xc3\x3c")),
        catches=("no-reply-write-late",),
    ),
    Case(
        ident="no-reply/failure-kept-to-itself",
        requirement="header.error-bit",
        stimulus=(Send(UNMAP, no_reply=True), Send(MAP, fds=(Memfd(),))),
        expect=(NoReply(), Reply()),
        catches=("no-reply-error-deferred",),
    ),
    silent("unmap", Send(UNMAP), None, Send(MAP)),
    silent("region-info", Send(DeviceGetRegionInfoRequest(argsz=0x1000, index=7))),
    silent("io-fds", Send(DeviceGetRegionIoFdsRequest(argsz=0x1000, index=WITH_IO_FDS))),
    silent("irq-info", Send(DeviceGetIrqInfoRequest(index=0))),
    silent("set-irqs", RAISE, hazards=frozenset({"irq"})),
    silent("region-read", Send(RegionReadRequest(region=7, offset=0, count=4))),
    silent(
        "region-read-refused",
        Send(RegionReadRequest(region=7, offset=1 << 40, count=4)),
        Either(NoReply(), HangUp()),
    ),
    silent("write-multi", Send(RegionWriteMultiRequest()), needs=(WRITE_MULTIPLE,)),
    silent("reset", Send(Command.DEVICE_RESET), needs=(RESETTABLE,), hazards=frozenset({"reset"})),
    silent("feature", Send(DeviceFeatureRequest(argsz=16, flags=GET_MIGRATION)), needs=(MIGRATION,)),
    silent(
        "short-payload", Send(DeviceGetRegionInfoRequest(argsz=0x1000, index=7), cut=8), Either(NoReply(), HangUp())
    ),
]
