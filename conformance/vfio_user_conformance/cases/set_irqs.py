"""VFIO_USER_DEVICE_SET_IRQS: eventfds, who signals them, and ranges that do not exist."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import Signalled
from vfio_user_conformance.descriptors import Descriptor, EventFd
from vfio_user_conformance.expect import REFUSED, Either, Reply
from vfio_user_conformance.needs import IRQ, IRQ_COUNT, NUM_IRQS, UNMASKABLE
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DeviceSetIrqsRequest, IrqSetFlags

NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
TRIGGER, MASK = IrqSetFlags.ACTION_TRIGGER, IrqSetFlags.ACTION_MASK
BELL, OTHER = EventFd(), EventFd()
HAZARDS = frozenset({"irq"})


def set_irqs(
    flags: int, *fds: Descriptor, index: int = IRQ, start: int = 0, count: int = 1, data: bytes = b"", **odd: int
) -> Send:
    """Act on a range of one interrupt type, by default its first one."""
    request = DeviceSetIrqsRequest(flags=IrqSetFlags(flags), index=index, start=start, count=count, data=data, **odd)
    return Send(request, fds=fds)


ASSIGN = set_irqs(EVENTFD | TRIGGER, BELL)
RAISE = set_irqs(NONE | TRIGGER)


def refused(what: str, request: Send, fault: str, requirement: str = "set-irqs.refused") -> Case:
    """A range or a combination that no device has."""
    return Case(
        ident=f"set-irqs/{what}",
        requirement=requirement,
        stimulus=request,
        expect=Either(REFUSED, Reply()),
        hazards=HAZARDS,
        catches=(fault,),
    )


CASES = [
    Case(
        ident="set-irqs/reply",
        requirement="set-irqs.reply-empty",
        stimulus=ASSIGN,
        expect=Reply(fds=0),
        hazards=HAZARDS,
        catches=("set-irqs-reply-with-payload",),
    ),
    Case(
        ident="set-irqs/raised-by-client",
        requirement="set-irqs.by-client",
        given=(ASSIGN,),
        stimulus=RAISE,
        expect=(Reply(), Signalled(BELL)),
        hazards=HAZARDS,
        catches=("set-irqs-raise-ignored",),
    ),
    Case(
        ident="set-irqs/boolean-true",
        requirement="set-irqs.data-bool",
        given=(ASSIGN,),
        stimulus=set_irqs(BOOL | TRIGGER, data=b"\1"),
        expect=(Reply(), Signalled(BELL)),
        hazards=HAZARDS,
        catches=("set-irqs-true-ignored",),
    ),
    Case(
        ident="set-irqs/boolean-false",
        requirement="set-irqs.data-bool",
        given=(ASSIGN,),
        stimulus=set_irqs(BOOL | TRIGGER, data=b"\0"),
        expect=(Reply(), Signalled(BELL, 0)),
        hazards=HAZARDS,
        catches=("set-irqs-false-signalled",),
    ),
    Case(
        ident="set-irqs/replaced",
        requirement="set-irqs.eventfd",
        given=(ASSIGN, set_irqs(EVENTFD | TRIGGER, OTHER)),
        stimulus=RAISE,
        expect=(Reply(), Signalled(OTHER), Signalled(BELL, 0)),
        hazards=HAZARDS,
        catches=("set-irqs-second-ignored",),
    ),
    Case(
        ident="set-irqs/taken-away",
        requirement="set-irqs.eventfd-none",
        given=(ASSIGN,),
        stimulus=(set_irqs(EVENTFD | TRIGGER), RAISE),
        expect=(Reply(), Reply(), Signalled(BELL, 0)),
        hazards=HAZARDS,
        catches=("set-irqs-taking-away-ignored",),
    ),
    Case(
        ident="set-irqs/all-disabled",
        requirement="set-irqs.disable-all",
        given=(ASSIGN,),
        stimulus=(set_irqs(NONE | TRIGGER, count=0), RAISE),
        expect=(Reply(), Reply(), Signalled(BELL, 0)),
        hazards=HAZARDS,
        catches=("set-irqs-disabling-ignored",),
    ),
    refused("start-beyond", set_irqs(NONE | TRIGGER, start=IRQ_COUNT), "set-irqs-start-crash"),
    refused("count-beyond", set_irqs(NONE | TRIGGER, count=IRQ_COUNT + 1), "set-irqs-count-crash"),
    refused("count-largest", set_irqs(NONE | TRIGGER, count=0xFFFFFFFF), "set-irqs-count-hangs"),
    refused("range-wraps", set_irqs(NONE | TRIGGER, start=0xFFFFFFFF, count=2), "set-irqs-wrap-crash"),
    refused("index-beyond", set_irqs(NONE | TRIGGER, index=NUM_IRQS), "set-irqs-index-crash"),
    refused("data-short", set_irqs(BOOL | TRIGGER, data=b""), "set-irqs-data-crash"),
    refused("two-actions", set_irqs(NONE | TRIGGER | MASK), "set-irqs-two-actions-crash"),
    refused("no-data-flag", set_irqs(TRIGGER), "set-irqs-no-data-flag-crash"),
    refused("two-data-flags", set_irqs(NONE | BOOL | TRIGGER, data=b"\1"), "set-irqs-two-data-flags-crash"),
    refused("no-action", set_irqs(NONE), "set-irqs-no-action-crash"),
    refused("unknown-flags", set_irqs(NONE | TRIGGER | 1 << 31), "set-irqs-unknown-flags-crash"),
    refused("mask-of-unmaskable", set_irqs(NONE | MASK, index=UNMASKABLE), "set-irqs-mask-of-unmaskable-crash"),
    refused("argsz-zero", set_irqs(NONE | TRIGGER, argsz=0), "set-irqs-argsz-zero-crash", "security.validate"),
    refused(
        "argsz-largest", set_irqs(NONE | TRIGGER, argsz=0xFFFFFFFF), "set-irqs-argsz-largest-crash", "security.validate"
    ),
    refused("descriptors-for-nothing", set_irqs(NONE | TRIGGER, BELL), "set-irqs-descriptors-hang"),
]
