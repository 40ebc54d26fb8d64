"""Replies to VFIO_USER_DMA_READ and DMA_WRITE: refusals, such as come in pieces, and such as are wrong."""

from errno import EFAULT, ENOMEM

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.answers import Answer, Serve
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_messages import (
    MEMORY,
    READ,
    SERVED,
    WAS_READ,
    WRITE,
    WRITTEN,
    announced,
    proposal,
)
from vfio_user_conformance.cases.server_dma import BASE, WHATEVER
from vfio_user_conformance.checks import AfterCheck, under
from vfio_user_conformance.expect import Either, ErrorReply, Expectation, HangUp, Reply
from vfio_user_conformance.memory import Refill
from vfio_user_conformance.needs import DMA_READ, DMA_WRITE
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Afresh, Exchange, exchange
from vfio_user_conformance.story import story
from vfio_user_proto.messages import Command, MessageType

# After a reply that is wrong, a server may also break off.
WHATEVER_OR_END = Either(Reply(), ErrorReply(), HangUp())
SUCCESS = Reply()
RANGES = ((BASE, MEMORY),)
DONE: dict[str, tuple[AfterCheck, ...]] = {"write": (Completed(), WRITTEN), "read": (Completed("read"), WAS_READ)}


def again(step: Transfer) -> Exchange:
    """The same transfer once more, answered right."""
    return exchange((SERVED, step), under("dma-map.without-descriptor", Reply(), *DONE[step.operation]))


def refused(
    what: str,
    answer: Answer,
    fault: str,
    *,
    step: Transfer,
    only: int = 1,
    given: tuple[Send, ...] = (announced(),),
    greet: bool = True,
    requirement: str = "header.error-reply-empty",
) -> Case:
    """A refusal: the server is still in step, and the next transfer succeeds."""
    return story(
        f"dma-replies/{what}",
        requirement,
        exchange((Serve(RANGES, answer, only), step), (WHATEVER,)),
        again(step),
        given=given,
        greet=greet,
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        catches=(fault,),
    )


def right(
    what: str, requirement: str, answer: Answer, fault: str, *, step: Transfer, reply: Expectation = SUCCESS
) -> Case:
    """A reply that the server takes, as it takes one that is like every other."""
    return story(
        f"dma-replies/{what}",
        requirement,
        again(step),
        *((exchange(Refill(MEMORY), ()),) if step.operation == "read" else ()),
        exchange((Serve(RANGES, answer), step), (reply, *DONE[step.operation])),
        given=(announced(),),
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        catches=(fault,),
    )


def wrong(what: str, answer: Answer, fault: str, *, step: Transfer) -> Case:
    """A reply that is wrong: the server is still in step, or breaks off, and serves the next client."""
    return story(
        f"dma-replies/{what}",
        "security.validate",
        exchange((Serve(RANGES, answer, 1), step), WHATEVER_OR_END),
        Exchange((Afresh(),), ()),
        exchange(announced(), Reply()),
        again(step),
        given=(announced(),),
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        catches=(fault,),
    )


MORE = bytes(range(1, 33))
SMALL = (proposal(limit=64), announced())

CASES = [
    refused("refused-write", Answer(error=EFAULT), "message-refused-crash", step=WRITE),
    refused("refused-read", Answer(error=EFAULT), "message-refused-read-awaits-data", step=READ),
    refused(
        "refused-without-errno",
        Answer(error=0),
        "message-errno-zero-crash",
        step=READ,
        requirement="header.error-bit",
    ),
    refused("refused-with-unknown-errno", Answer(error=0xFFFFFFFF), "message-errno-unknown-crash", step=WRITE),
    refused(
        "refused-second-write",
        Answer(error=ENOMEM),
        "message-refused-later-crash",
        step=WRITE,
        only=2,
        given=SMALL,
        greet=False,
    ),
    refused(
        "refused-second-read",
        Answer(error=ENOMEM),
        "message-refused-read-later-hangs",
        step=READ,
        only=2,
        given=SMALL,
        greet=False,
    ),
    right(
        "write-narrow-count",
        "dma-write.reply",
        Answer(narrow=True),
        "message-narrow-reply-refused",
        step=WRITE,
        reply=Either(SUCCESS, HangUp()),
    ),
    right("read-cut-in-header", "stream.cut-message", Answer(cuts=(7,)), "cut-in-header-fails", step=READ),
    right("read-cut-after-header", "stream.cut-message", Answer(cuts=(16,)), "cut-after-header-fails", step=READ),
    right("read-cut-in-payload", "stream.cut-message", Answer(cuts=(20, 100)), "cut-in-payload-fails", step=READ),
    right("write-cut-in-header", "stream.cut-message", Answer(cuts=(1,)), "cut-in-header-fails", step=WRITE),
    right("write-cut-in-payload", "stream.cut-message", Answer(cuts=(28,)), "cut-in-payload-fails", step=WRITE),
    wrong("read-more-counted", Answer(count=16), "message-count-more-crash", step=READ),
    wrong("read-largest-count", Answer(count=2**64 - 0x200), "message-count-more-crash", step=READ),
    wrong("read-less", Answer(lost=16), "message-count-less-hangs", step=READ),
    wrong("read-data-missing", Answer(cut=16), "message-data-short-crash", step=READ),
    wrong("read-data-too-long", Answer(extra=MORE), "message-data-long-crash", step=READ),
    wrong("read-without-payload", Answer(cut=0x150), "message-reply-empty-crash", step=READ),
    wrong("read-other-address", Answer(address=0x500000000), "message-address-other-crash", step=READ),
    wrong(
        "refused-read-with-data",
        Answer(error=EFAULT, extra=MORE),
        "message-refusal-with-data-crash",
        step=READ,
    ),
    wrong("write-more-counted", Answer(count=16), "message-count-more-crash", step=WRITE),
    wrong("write-less-counted", Answer(count=-16), "message-count-less-hangs", step=WRITE),
    wrong("write-reply-too-long", Answer(extra=MORE), "message-data-long-crash", step=WRITE),
    wrong("write-without-payload", Answer(cut=16), "message-reply-empty-crash", step=WRITE),
    wrong(
        "refused-write-with-data",
        Answer(error=EFAULT, extra=MORE),
        "message-refusal-with-data-crash",
        step=WRITE,
    ),
    wrong("other-id", Answer(message_id=1), "message-unasked-reply-crash", step=WRITE),
    wrong("other-id-before", Answer(stray=True), "message-unasked-reply-crash", step=READ),
    wrong("other-command", Answer(command=Command.DMA_WRITE), "message-unasked-reply-crash", step=READ),
    wrong("twice", Answer(twice=True), "message-answered-twice-hangs", step=WRITE),
    wrong("unknown-type", Answer(kind=MessageType.REPLY + 1), "message-unasked-reply-crash", step=WRITE),
]
