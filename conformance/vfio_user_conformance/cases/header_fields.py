"""Fields of the header that are wrong, one at a time: numbers in the holes of the command table, bits without a meaning."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.header import BAIT, INFO
from vfio_user_conformance.expect import REFUSED, Either, ErrorReply, HangUp, NoReply, Reply
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import each
from vfio_user_proto.messages import Command, DmaUnmapRequest, DmaWriteRequest, HeaderFlags

IGNORED_OR_NOT = Either(Reply(), ErrorReply(), NoReply(), HangUp())


def unknown(what: str, number: int, note: str = "") -> Case:
    """A number that is no command, with a payload that is one."""
    return Case(
        ident=f"header-fields/{what}",
        requirement="commands.unknown-in-step",
        stimulus=Send(Command.DEVICE_RESET, command=number, body=BAIT),
        expect=REFUSED,
        catches=(f"{what}-unread",),
        note=note,
    )


CASES = [
    unknown(
        "command-zero", 0, "The vfio-user crate of rust-vmm leaves the payload in the stream (0.1.3, src/lib.rs:921)."
    ),
    unknown("command-dropped", 14),
    unknown("command-behind-the-last", 19),
    unknown("command-of-the-highest-number", 0xFFFF),
    Case(
        ident="header-fields/dma-write-to-the-server",
        requirement="commands.wrong-direction",
        stimulus=Send(DmaWriteRequest(), body=BAIT),
        expect=REFUSED,
        catches=("dma-write-to-the-server-unread",),
    ),
    Case(
        ident="header-fields/each-undefined-flag",
        requirement="header.undefined-flags",
        stimulus="VFIO_USER_DEVICE_GET_INFO with each of the flags 6 to 31 in turn",
        expect=f"{IGNORED_OR_NOT}",
        script=each([Send(INFO, flags=1 << bit) for bit in range(6, 32)], IGNORED_OR_NOT),
        catches=("undefined-flag-17-crash",),
    ),
    Case(
        ident="header-fields/each-type",
        requirement="header.undefined-flags",
        stimulus="VFIO_USER_DEVICE_GET_INFO of each of the types 2 to 15 in turn",
        expect=f"{IGNORED_OR_NOT}",
        script=each([Send(INFO, kind=kind, body=BAIT) for kind in range(2, 16)], IGNORED_OR_NOT),
        catches=("type-unread",),
    ),
    Case(
        ident="header-fields/error-bit-in-a-command",
        requirement="header.undefined-flags",
        stimulus=Send(INFO, flags=HeaderFlags.ERROR, error=5),
        expect=IGNORED_OR_NOT,
        catches=("error-bit-in-a-command-crash",),
    ),
    Case(
        ident="header-fields/size-zero",
        requirement="header.message-size-bounds",
        stimulus=Send(Command.DEVICE_RESET, command=0xFFF0, message_size=0),
        expect=REFUSED,
        in_step=False,
        catches=("size-zero-hangs",),
    ),
    Case(
        ident="header-fields/size-15",
        requirement="header.message-size-bounds",
        stimulus=Send(Command.DEVICE_RESET, command=0xFFF0, message_size=15),
        expect=REFUSED,
        in_step=False,
        catches=("size-15-crash",),
    ),
    Case(
        ident="header-fields/error-number",
        requirement="header.error-number",
        stimulus=Send(DmaUnmapRequest(address=0x10000, size=0x1000)),
        expect=REFUSED,
        catches=("error-number-table-underrun",),
    ),
]
