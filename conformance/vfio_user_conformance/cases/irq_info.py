"""VFIO_USER_DEVICE_GET_IRQ_INFO."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import REFUSED, Either, ErrorReply, Reply
from vfio_user_conformance.facts import IRQ, NUM_IRQS
from vfio_user_conformance.steps import Send
from vfio_user_proto.messages import DeviceGetIrqInfoRequest


def ask(index: int, argsz: int = 16) -> Send:
    """Ask for one interrupt type."""
    return Send(DeviceGetIrqInfoRequest(argsz=argsz, index=index))


CASES = [
    Case(
        ident="irq-info/reply",
        requirement="get-irq-info.reply-layout",
        stimulus=ask(0),
        expect=Reply(fds=0),
        catches=("irq-info-without-count",),
    ),
    Case(
        ident="irq-info/index-echoed",
        requirement="get-region-info.index-echo",
        stimulus=ask(NUM_IRQS - 1),
        expect=Reply(index=NUM_IRQS - 1),
        catches=("irq-info-index-zero",),
    ),
    Case(
        ident="irq-info/argsz-above",
        requirement="argsz.reply-needed",
        stimulus=ask(IRQ, 0x1000),
        expect=Reply(argsz=16),
        catches=("irq-info-argsz-echoed",),
    ),
    Case(
        ident="irq-info/argsz-below",
        requirement="argsz.below-fixed-part",
        stimulus=ask(IRQ, 8),
        expect=Either(Reply(argsz=16), ErrorReply()),
        catches=("irq-info-cut-to-argsz",),
    ),
    Case(
        ident="irq-info/index-beyond",
        requirement="get-region-info.index-range",
        stimulus=ask(NUM_IRQS),
        expect=REFUSED,
        catches=("irq-info-index-crash",),
    ),
]
