"""Descriptors that no command takes: whoever gets them closes them, which the other end of a pipe sees."""

from collections.abc import Sequence
from dataclasses import replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.header import CONFIG, INFO, MAPPED, OVERLAP, UNKNOWN
from vfio_user_conformance.cases.region_access import PATTERN, write
from vfio_user_conformance.cases.set_irqs import EVENTFD, HAZARDS, NONE, RAISE, TRIGGER, set_irqs
from vfio_user_conformance.checks import Released, under
from vfio_user_conformance.descriptors import Descriptor, EventFd, LoneEventFd, Odd, Pipe
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, Expectation, NoReply, Reply
from vfio_user_conformance.needs import NUM_IRQS, SEVERAL
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import PROPOSAL
from vfio_user_conformance.steps import Disconnect, Step
from vfio_user_proto.messages import Command, MessageType

PIPE, BELL = Pipe(), LoneEventFd()
PIPES = tuple(Pipe() for _ in range(64))
ASSIGN = set_irqs(EVENTFD | TRIGGER, BELL)
CLOSED = under("security.validate", Released(PIPE))


def unasked(what: str, step: Send, expect: Expectation = ANYTHING, *given: Send, greet: bool = True) -> Case:
    """A pipe with something that takes no descriptor."""
    return Case(
        ident=f"descriptors/{what}",
        requirement="stream.unexpected-descriptors",
        given=given,
        stimulus=replace(step, fds=(PIPE,)),
        expect=(expect, *CLOSED),
        greet=greet,
        catches=(f"descriptor-{what}-kept",),
    )


def eventfd(
    what: str,
    requirement: str,
    given: Sequence[Send],
    step: Step | tuple[Step, ...],
    expect: Sequence[Expectation],
    released: str = "",
) -> Case:
    """An eventfd that is of no more use."""
    return Case(
        ident=f"descriptors/{what}",
        requirement=requirement,
        given=tuple(given),
        stimulus=step,
        expect=(*expect, *under(released or requirement, Released(BELL))),
        hazards=HAZARDS,
        catches=(f"descriptor-{what}-kept",),
    )


def no_eventfd(what: str, passed: Descriptor, fault: str, note: str) -> Case:
    """Something that takes bytes, but not as an eventfd does, for an interrupt that is then raised."""
    return Case(
        ident=f"descriptors/{what}",
        requirement="security.validate",
        stimulus=(set_irqs(EVENTFD | TRIGGER, passed), RAISE),
        expect=(Either(REFUSED, Reply()), ANYTHING),
        hazards=HAZARDS,
        catches=(fault,),
        note=note,
    )


CASES = [
    unasked("on-a-query", Send(CONFIG)),
    unasked("on-a-write", write(PATTERN)),
    unasked("on-no-reply", Send(OVERLAP, no_reply=True), NoReply(), Send(MAPPED)),
    unasked("on-an-unknown-command", Send(Command.DEVICE_RESET, command=UNKNOWN), REFUSED),
    unasked("on-a-reply", Send(INFO, kind=MessageType.REPLY), Either(NoReply(), REFUSED)),
    unasked("on-version", Send(PROPOSAL), greet=False),
    unasked("before-version", Send(INFO), greet=False),
    Case(
        ident="descriptors/sixty-four",
        requirement="stream.unexpected-descriptors",
        stimulus=Send(request(0x10000), fds=PIPES),
        expect=(ANYTHING, *under("security.validate", Released(PIPES[-1]))),
        catches=("descriptor-sixty-four-kept",),
    ),
    eventfd(
        "of-a-refused-interrupt",
        "stream.unexpected-descriptors",
        (),
        set_irqs(EVENTFD | TRIGGER, BELL, index=NUM_IRQS),
        (Either(REFUSED, Reply()),),
        "security.validate",
    ),
    eventfd(
        "of-a-replaced-interrupt",
        "set-irqs.eventfd-none",
        (ASSIGN,),
        set_irqs(EVENTFD | TRIGGER, LoneEventFd()),
        (Reply(),),
    ),
    eventfd("of-an-interrupt-taken-away", "set-irqs.eventfd-none", (ASSIGN,), set_irqs(EVENTFD | TRIGGER), (Reply(),)),
    eventfd(
        "of-disabled-interrupts",
        "set-irqs.disable-all",
        (ASSIGN,),
        set_irqs(NONE | TRIGGER, count=0),
        (Reply(),),
        "set-irqs.eventfd-none",
    ),
    eventfd("of-a-lost-client", "disconnect.close-irq-fds", (ASSIGN,), Disconnect(), ()),
    eventfd(
        "more-eventfds-than-interrupts",
        "set-irqs.eventfd-count",
        (),
        set_irqs(EVENTFD | TRIGGER, EventFd(), BELL),
        (Either(REFUSED, Reply()),),
        "security.validate",
    ),
    eventfd(
        "fewer-eventfds-than-interrupts",
        "set-irqs.eventfd-count",
        (),
        (set_irqs(EVENTFD | TRIGGER, BELL, index=SEVERAL, count=2), set_irqs(NONE | TRIGGER, index=SEVERAL, count=0)),
        (Either(REFUSED, Reply()), Reply()),
        "security.validate",
    ),
    no_eventfd(
        "broken-pipe-as-eventfd",
        Odd("broken pipe"),
        "eventfd-broken-pipe-crash",
        "libvfio-user efd091b is killed by SIGPIPE (lib/irq.c:194).",
    ),
    no_eventfd(
        "full-pipe-as-eventfd",
        Pipe(1 << 20),
        "eventfd-full-pipe-hangs",
        "libvfio-user efd091b waits for ever (lib/irq.c:194).",
    ),
]
