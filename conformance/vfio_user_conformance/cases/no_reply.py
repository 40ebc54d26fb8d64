"""No_reply: the bit silences every command but VERSION, and changes nothing else."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import Either, HangUp, NoReply, Reply
from vfio_user_conformance.facts import SCRATCH, SCRATCH_KEEPS, SCRATCH_REGION
from vfio_user_conformance.steps import Send
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    RegionReadRequest,
    RegionWriteRequest,
)

MAP = DmaMapRequest(flags=DmaMapFlags.READABLE, address=0x10000, size=0x1000)
UNMAP = DmaUnmapRequest(address=0x10000, size=0x1000)

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
        stimulus=(Send(MAP, no_reply=True), Send(UNMAP)),
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
]
