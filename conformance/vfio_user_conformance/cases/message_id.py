"""Message ids: any of them, as often as the client likes, and in refusals too."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.header import CONFIG, INFO, MAPPED, OVERLAP, REFUSAL, UNKNOWN
from vfio_user_conformance.expect import REFUSED, ErrorReply, Reply
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Together
from vfio_user_proto.messages import Command

CASES = [
    Case(
        ident="message-id/zero",
        requirement="header.message-id-any",
        stimulus=(Send(INFO, message_id=0), Send(CONFIG, message_id=0)),
        expect=(Reply(), Reply()),
        catches=("id-zero-ignored",),
    ),
    Case(
        ident="message-id/downwards",
        requirement="header.message-id-any",
        stimulus=tuple(Send(INFO, message_id=number) for number in (9, 8, 0x7FFF, 3)),
        expect=(Reply(),) * 4,
        catches=("id-expected-to-grow",),
    ),
    Case(
        ident="message-id/all-alike",
        requirement="header.message-id-any",
        stimulus=Together(tuple(Send(each, message_id=0x55) for each in (INFO, CONFIG) * 8)),
        expect=(Reply(),) * 16,
        catches=("id-names-one-command",),
    ),
    Case(
        ident="message-id/of-a-refusal",
        requirement="header.echo",
        given=(Send(MAPPED),),
        stimulus=Send(OVERLAP, message_id=0x4321),
        expect=REFUSAL,
        catches=("error-reply-id-zero",),
    ),
    Case(
        ident="message-id/of-an-unknown-command",
        requirement="header.echo",
        stimulus=Send(Command.DEVICE_RESET, command=UNKNOWN, message_id=0x1234),
        expect=REFUSED,
        catches=("unknown-command-not-echoed",),
    ),
    Case(
        ident="message-id/reused-after-a-refusal",
        requirement="header.message-id-any",
        given=(Send(MAPPED),),
        stimulus=(Send(OVERLAP, message_id=0x60), Send(INFO, message_id=0x60)),
        expect=(ErrorReply(), Reply()),
        catches=("id-of-a-refusal-remembered",),
    ),
]
