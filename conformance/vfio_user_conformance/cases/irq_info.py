"""VFIO_USER_DEVICE_GET_IRQ_INFO."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.set_irqs import EVENTFD, HAZARDS, MASK, NONE, TRIGGER, set_irqs
from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, ErrorReply, Reply
from vfio_user_conformance.facts import MOST, Facts, NotApplicable
from vfio_user_conformance.needs import IRQ, LAST_IRQ, NUM_IRQS
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import DeviceGetIrqInfoRequest, IrqInfoFlags, IrqSetFlags


def ask(index: int, argsz: int = 16) -> Send:
    """Ask for one interrupt type."""
    return Send(DeviceGetIrqInfoRequest(argsz=argsz, index=index))


def every_type(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for each interrupt type; a server may refuse those that the device has none of."""
    if not facts.device.num_irqs:
        raise NotApplicable("there are no interrupt types")
    yield exchange(ask(0), Reply(fds=0))
    for index in range(1, min(facts.device.num_irqs, MOST)):
        yield exchange(ask(index), Either(Reply(fds=0), ErrorReply()))


def every_flag(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Do with each interrupt type what its flags allow."""
    for index, info in facts.irqs.items():
        if info.count and info.flags & IrqInfoFlags.EVENTFD:
            yield exchange(set_irqs(EVENTFD | TRIGGER, EventFd(), index=index), Reply())
        if info.count and info.flags & IrqInfoFlags.MASKABLE:
            for action in (MASK, IrqSetFlags.ACTION_UNMASK):
                yield exchange(set_irqs(NONE | action, index=index), Reply())


CASES = [
    Case(
        ident="irq-info/reply",
        requirement="get-irq-info.reply-layout",
        stimulus="VFIO_USER_DEVICE_GET_IRQ_INFO for each index below num_irqs",
        expect="a reply for the first, a reply or an error reply for each other",
        script=every_type,
        catches=("irq-info-without-count",),
    ),
    Case(
        ident="irq-info/index-echoed",
        requirement="get-region-info.index-echo",
        stimulus=ask(LAST_IRQ),
        expect=Reply(index=LAST_IRQ),
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
    Case(
        ident="irq-info/request-not-zero",
        requirement="security.validate",
        stimulus=Send(DeviceGetIrqInfoRequest(flags=IrqInfoFlags(0xFFFFFFFF), index=IRQ, count=0xFFFFFFFF)),
        expect=ANYTHING,
        catches=("irq-info-count-believed",),
    ),
    Case(
        ident="irq-info/flags",
        requirement="get-irq-info.flags",
        stimulus="an eventfd for each interrupt type with the eventfd flag; mask and unmask for each with the maskable flag",
        expect="a reply to each",
        script=every_flag,
        hazards=HAZARDS,
        catches=("irq-flag-eventfd-in-vain", "irq-flag-maskable-in-vain"),
    ),
]
