"""Header and framing: what holds for every message, whatever its command."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, ErrorReply, HangUp, NoReply, Reply, at_least
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Together
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DmaMapFlags,
    DmaMapRequest,
    DmaReadRequest,
    MessageType,
)

INFO = DeviceGetInfoRequest()
CONFIG = DeviceGetRegionInfoRequest(argsz=0x1000, index=7)
MAPPED = DmaMapRequest(flags=DmaMapFlags.READABLE, address=0x10000, size=0x2000)
# The reply to CONFIG, whose index has come whole: no other region is as large where a device has few. That index is repeated in
# it is another requirement.
WHOLE = Reply(size=at_least(256))
# What every server has to refuse: a part of what is mapped already.
OVERLAP = MAPPED.replace(size=0x1000)
REFUSAL = under("dma-map.overlap", ErrorReply())
UNKNOWN = 0xFFF0
# A payload that is a command itself: a server that loses its place in the stream answers it.
BAIT = craft(Command.DEVICE_GET_INFO, INFO, message_id=0x7777)


def cut(where: str, at: int) -> Case:
    """A query that arrives in two pieces, the first of ``at`` bytes."""
    return Case(
        ident=f"header/cut-{where}",
        requirement="stream.cut-message",
        stimulus=Send(CONFIG, cuts=(at,)),
        expect=WHOLE,
        catches=(f"cut-{where}-fails",),
    )


CASES = [
    Case(
        ident="header/id-echoed",
        requirement="header.echo",
        stimulus=Send(INFO, message_id=0xFFFF),
        expect=Reply(),
        catches=("id-15-bits",),
    ),
    Case(
        ident="header/reply-size",
        requirement="header.message-size",
        stimulus=Send(CONFIG),
        expect=Reply(),
        catches=("reply-size-without-header",),
    ),
    Case(
        ident="header/reply-type",
        requirement="header.type",
        stimulus=Send(INFO),
        expect=Reply(),
        catches=("reply-type-command",),
    ),
    Case(
        ident="header/command-echoed",
        requirement="header.echo",
        stimulus=Send(INFO),
        expect=Reply(),
        catches=("reply-command-zero",),
    ),
    Case(
        ident="header/answered-once",
        requirement="header.reply-to-each",
        stimulus=Send(CONFIG),
        expect=Reply(),
        catches=("reply-sent-twice",),
    ),
    cut("in-header", 6),
    cut("after-header", 16),
    cut("in-payload", 25),
    Case(
        ident="header/coalesced-and-cut",
        requirement="stream.coalesced-messages",
        stimulus=Together((Send(INFO), Send(CONFIG)), cuts=(40,)),
        expect=(Reply(), WHOLE),
        catches=("coalesced-remainder-dropped",),
    ),
    Case(
        ident="header/coalesced",
        requirement="stream.coalesced-messages",
        stimulus=Together((Send(INFO), Send(CONFIG), Send(DeviceGetIrqInfoRequest(index=0)))),
        expect=(Reply(), WHOLE, Either(Reply(), ErrorReply())),
        catches=("coalesced-dropped",),
    ),
    Case(
        ident="header/each-answered",
        requirement="header.reply-to-each",
        stimulus=tuple(Send(INFO) for _ in range(16)),
        expect=tuple(Reply() for _ in range(16)),
        catches=("reply-lost-under-load",),
    ),
    Case(
        ident="header/id-in-flight-twice",
        requirement="header.message-id-any",
        stimulus=(Send(INFO, message_id=7), Send(CONFIG, message_id=7), Send(INFO, message_id=7)),
        expect=(Reply(), Reply(), Reply()),
        catches=("id-reused-refused",),
    ),
    Case(
        ident="header/error-reply-bit",
        requirement="header.error-bit",
        given=(Send(MAPPED),),
        stimulus=Send(OVERLAP),
        expect=REFUSAL,
        catches=("error-bit-missing",),
    ),
    Case(
        ident="header/error-reply-type",
        requirement="header.type",
        given=(Send(MAPPED),),
        stimulus=Send(OVERLAP),
        expect=REFUSAL,
        catches=("error-reply-type-command",),
        note="Seen in the vfio-user crate of rust-vmm until April 2026 (rust-vmm/vfio#143).",
    ),
    Case(
        ident="header/error-reply-empty",
        requirement="header.error-reply-empty",
        given=(Send(MAPPED),),
        stimulus=Send(OVERLAP),
        expect=REFUSAL,
        catches=("error-reply-with-payload",),
    ),
    Case(
        ident="header/error-field-set",
        requirement="header.error-reserved",
        stimulus=Send(INFO, error=22),
        expect=Reply(),
        catches=("error-field-obeyed",),
    ),
    Case(
        ident="header/undefined-flags",
        requirement="header.undefined-flags",
        stimulus=Send(INFO, flags=1 << 31),
        expect=Either(Reply(), ErrorReply(), NoReply(), HangUp()),
        catches=("undefined-flags-crash",),
    ),
    Case(
        ident="header/unasked-reply",
        requirement="header.undefined-flags",
        stimulus=Send(INFO, kind=MessageType.REPLY, body=BAIT),
        expect=Either(NoReply(), ErrorReply(), HangUp()),
        catches=("unasked-reply-out-of-step",),
    ),
    Case(
        ident="header/unknown-type",
        requirement="header.undefined-flags",
        stimulus=Send(INFO, kind=5, body=BAIT),
        expect=Either(NoReply(), ErrorReply(), HangUp()),
        catches=("unknown-type-hangs",),
    ),
    Case(
        ident="header/unknown-command",
        requirement="commands.unknown-refused",
        stimulus=Send(Command.DEVICE_RESET, command=UNKNOWN),
        expect=REFUSED,
        catches=("unknown-command-succeeds",),
    ),
    Case(
        ident="header/unknown-command-with-payload",
        requirement="commands.unknown-in-step",
        stimulus=Send(Command.DEVICE_RESET, command=UNKNOWN, body=BAIT),
        expect=REFUSED,
        catches=("unknown-command-payload-unread",),
    ),
    Case(
        ident="header/wrong-direction",
        requirement="commands.wrong-direction",
        stimulus=Send(DmaReadRequest(address=0x1000, count=16)),
        expect=REFUSED,
        catches=("wrong-direction-ignored",),
    ),
    Case(
        ident="header/payload-short",
        requirement="security.short-payload",
        stimulus=Send(CONFIG, cut=8),
        expect=REFUSED,
        catches=("payload-short-padded",),
    ),
    Case(
        ident="header/payload-missing",
        requirement="security.short-payload",
        stimulus=Send(CONFIG, body=b""),
        expect=REFUSED,
        catches=("payload-missing-crash",),
    ),
    Case(
        ident="header/payload-trailing",
        requirement="security.trailing-payload",
        stimulus=Send(INFO, extra=BAIT),
        expect=ANYTHING,
        catches=("payload-trailing-left",),
    ),
    Case(
        ident="header/size-below-header",
        requirement="header.message-size-bounds",
        stimulus=Send(Command.DEVICE_RESET, command=UNKNOWN, message_size=8),
        expect=REFUSED,
        in_step=False,
        catches=("size-below-header-crash",),
    ),
    Case(
        ident="header/size-4-gib",
        requirement="header.message-size-bounds",
        stimulus=Send(Command.DEVICE_RESET, command=UNKNOWN, message_size=0xFFFFFFFF),
        expect=REFUSED,
        in_step=False,
        catches=("size-4-gib-awaited",),
    ),
]
