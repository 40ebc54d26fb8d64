"""VFIO_USER_DEVICE_SET_IRQS with the mask and unmask actions, on a type that has them: whose signals are withheld."""

from dataclasses import dataclass

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.set_irqs import BOOL, EVENTFD, HAZARDS, MASK, NONE, set_irqs
from vfio_user_conformance.cases.set_irqs_vectors import assign as assign_to
from vfio_user_conformance.cases.set_irqs_vectors import fire as fire_of
from vfio_user_conformance.checks import AfterCheck, Signalled
from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.expect import REFUSED, Either, Problem, Reply
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import ANOTHER_TYPE, AUTOMASKED, MASKABLE, SEVERAL
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import plural
from vfio_user_proto.messages import IrqSetFlags

UNMASK = IrqSetFlags.ACTION_UNMASK
A, B, C, SPARE = (EventFd(name=name) for name in ("A", "B", "C", "D"))


@dataclass(frozen=True)
class Rung(AfterCheck):
    """The eventfd was signalled: once, or twice where what was raised under a mask is made up for; the text is silent."""

    bell: EventFd

    def check(self, session: Session) -> list[Problem]:
        count = session.handle(self.bell).count(session.timing.reply)
        return [] if count in (1, 2) else [Problem(f"{self.bell} was signalled {plural(count, 'time')}")]

    def __str__(self) -> str:
        return f"{self.bell} signalled"


def fire(vector: int, count: int = 1) -> Send:
    """Raise interrupts."""
    return fire_of(vector, count, MASKABLE)


def act(action: int, vector: int, count: int = 1) -> Send:
    """Mask or unmask interrupts."""
    return set_irqs(NONE | action, index=MASKABLE, start=vector, count=count)


def act_where(action: int, *values: int, start: int = 0) -> Send:
    """Mask or unmask those whose byte is not zero."""
    return set_irqs(BOOL | action, index=MASKABLE, start=start, count=len(values), data=bytes(values))


THREE = tuple(assign_to(vector, bell, index=MASKABLE) for vector, bell in enumerate((A, B, C)))
ALL_MASKED = (*THREE, act(MASK, 0, 3))


def masks(
    what: str,
    requirement: str,
    steps: tuple[Send, ...],
    checks: tuple[AfterCheck, ...],
    fault: str,
    *,
    given: tuple[Send, ...] = THREE,
    needs: tuple[Fact, ...] = (),
) -> Case:
    """After these commands some eventfds were signalled, and others not."""
    return Case(
        ident=f"set-irqs-masks/{what}",
        requirement=requirement,
        given=given,
        stimulus=steps,
        expect=(*[Reply()] * len(steps), *checks),
        needs=(MASKABLE, *needs),
        hazards=HAZARDS,
        catches=(fault,),
    )


def only(*bells: EventFd) -> tuple[AfterCheck, ...]:
    """These were signalled once, the others of the three never."""
    return (*(Signalled(bell) for bell in bells), *(Signalled(bell, 0) for bell in (A, B, C) if bell not in bells))


def itself(what: str, steps: tuple[Send, ...], times: int, fault: str) -> Case:
    """After these commands on a type that masks itself its eventfd was signalled so often."""
    return Case(
        ident=f"set-irqs-masks/{what}",
        requirement="get-irq-info.masks-itself",
        given=(assign_to(0, A, index=AUTOMASKED),),
        stimulus=steps,
        expect=(*[Reply()] * len(steps), Signalled(A, times)),
        needs=(AUTOMASKED,),
        hazards=HAZARDS,
        catches=(fault,),
    )


RAISED = fire_of(0, 1, AUTOMASKED)
CLIENT, BOOLS = "set-irqs.by-client", "set-irqs.data-bool"

CASES = [
    masks("withheld", CLIENT, (act(MASK, 0, 3), fire(0, 3)), only(), "irq-mask-ignored"),
    masks("one", CLIENT, (act(MASK, 1), fire(0, 3)), only(A, C), "irq-masks-all"),
    masks("range", CLIENT, (act(MASK, 1, 2), fire(0, 3)), only(A), "irq-mask-start-ignored"),
    masks("booleans", BOOLS, (act_where(MASK, 0, 1, 0), fire(0, 3)), only(A, C), "irq-mask-booleans-ignored"),
    masks(
        "booleans-from-second",
        BOOLS,
        (act_where(MASK, 0, 1, start=1), fire(0, 3)),
        only(A, B),
        "irq-booleans-by-vector",
    ),
    masks(
        "lifted",
        CLIENT,
        (act(UNMASK, 0, 3), fire(0, 3)),
        tuple(map(Rung, (A, B, C))),
        "irq-never-unmasked",
        given=ALL_MASKED,
    ),
    masks(
        "lifted-after-raised",
        CLIENT,
        (fire(1), act(UNMASK, 1), fire(1)),
        (Rung(B),),
        "irq-never-unmasked",
        given=ALL_MASKED,
    ),
    masks("one-lifted", CLIENT, (act(UNMASK, 2), fire(0, 3)), only(C), "irq-unmasks-all", given=ALL_MASKED),
    masks(
        "lifted-where-true",
        BOOLS,
        (act_where(UNMASK, 1, 0, 1), fire(0, 3)),
        only(A, C),
        "irq-unmask-booleans-ignored",
        given=ALL_MASKED,
    ),
    masks("lifted-where-none", CLIENT, (act(UNMASK, 0, 3),), only(), "irq-unmask-signals"),
    masks(
        "of-one-type",
        CLIENT,
        (fire_of(0, 1, ANOTHER_TYPE),),
        (Signalled(SPARE),),
        "irq-mask-types-share",
        given=(*ALL_MASKED, assign_to(0, SPARE, index=ANOTHER_TYPE)),
        needs=(SEVERAL, ANOTHER_TYPE),
    ),
    itself("by-itself", (RAISED, RAISED), 1, "irq-automask-ignored"),
    itself("by-itself-lifted", (RAISED, set_irqs(NONE | UNMASK, index=AUTOMASKED), RAISED), 2, "irq-automask-stays"),
    Case(
        ident="set-irqs-masks/eventfd-for-mask",
        requirement="set-irqs.eventfd",
        given=THREE,
        stimulus=(set_irqs(EVENTFD | MASK, SPARE, index=MASKABLE), fire(0)),
        expect=(Either(Reply(), REFUSED), Reply(), Signalled(A), Signalled(SPARE, 0)),
        needs=(MASKABLE,),
        hazards=HAZARDS,
        catches=("irq-mask-descriptor-masks",),
        note="It is to be signalled when the guest masks; that it was given masks nothing.",
    ),
    Case(
        ident="set-irqs-masks/eventfd-for-unmask",
        requirement="set-irqs.eventfd",
        given=ALL_MASKED,
        stimulus=(set_irqs(EVENTFD | UNMASK, SPARE, index=MASKABLE), fire(0)),
        expect=(Either(Reply(), REFUSED), Reply(), Signalled(A, 0), Signalled(SPARE, 0)),
        needs=(MASKABLE,),
        hazards=HAZARDS,
        catches=("irq-unmask-descriptor-unmasks",),
        note="It is to be signalled when the guest unmasks; that it was given unmasks nothing.",
    ),
    Case(
        ident="set-irqs-masks/range-beyond",
        requirement="set-irqs.refused",
        stimulus=act(MASK, 0, 0x10000),
        expect=Either(REFUSED, Reply()),
        needs=(MASKABLE,),
        hazards=HAZARDS,
        catches=("irq-mask-beyond-crash",),
    ),
]
