"""VFIO_USER_DEVICE_SET_IRQS on a type with several interrupts: which of them an eventfd belongs to, and no other."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.set_irqs import BOOL, EVENTFD, HAZARDS, NONE, TRIGGER, set_irqs
from vfio_user_conformance.checks import Signalled
from vfio_user_conformance.descriptors import Descriptor, EventFd
from vfio_user_conformance.expect import REFUSED, Either, Reply
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import ANOTHER_TYPE, SEVERAL, SEVERAL_COUNT, THREE_FDS
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Reconnect, Step

A, B, C, NEW = (EventFd(name=name) for name in ("A", "B", "C", "D"))


def assign(vector: int, *bells: Descriptor, index: int = SEVERAL) -> Send:
    """Tie eventfds to the interrupts from ``vector`` on."""
    return set_irqs(EVENTFD | TRIGGER, *bells, index=index, start=vector, count=len(bells))


def take(vector: int, count: int = 1, index: int = SEVERAL) -> Send:
    """Undo that."""
    return set_irqs(EVENTFD | TRIGGER, index=index, start=vector, count=count)


def fire(vector: int, count: int = 1, index: int = SEVERAL) -> Send:
    """Raise interrupts."""
    return set_irqs(NONE | TRIGGER, index=index, start=vector, count=count)


def fire_where(*values: int, start: int = 0) -> Send:
    """Raise those whose byte is not zero."""
    return set_irqs(BOOL | TRIGGER, index=SEVERAL, start=start, count=len(values), data=bytes(values))


def disable(index: int) -> Send:
    """Disable all interrupts of a type."""
    return set_irqs(NONE | TRIGGER, index=index, count=0)


THREE = (assign(0, A), assign(1, B), assign(2, C))


def rings(
    what: str,
    requirement: str,
    steps: tuple[Step, ...],
    bells: dict[EventFd, int],
    fault: str,
    *,
    given: tuple[Send, ...] = THREE,
    needs: tuple[Fact, ...] = (),
) -> Case:
    """After these steps the eventfds were signalled so often."""
    replies = [Reply()] * sum(isinstance(step, Send) for step in steps)
    return Case(
        ident=f"set-irqs-vectors/{what}",
        requirement=requirement,
        given=given,
        stimulus=steps,
        expect=(
            *replies,
            *(Signalled(bell, times) for bell, times in sorted(bells.items(), key=lambda each: -each[1])),
        ),
        needs=(SEVERAL, *needs),
        hazards=HAZARDS,
        catches=(fault,),
    )


def odd(what: str, request: Send, fault: str) -> Case:
    """A range that no device has, or that is empty."""
    return Case(
        ident=f"set-irqs-vectors/{what}",
        requirement="set-irqs.refused",
        given=THREE,
        stimulus=request,
        expect=Either(REFUSED, Reply()),
        needs=(SEVERAL,),
        hazards=HAZARDS,
        catches=(fault,),
    )


EVENTS, TAKEN, CLIENT, BOOLS = "set-irqs.eventfd", "set-irqs.eventfd-none", "set-irqs.by-client", "set-irqs.data-bool"

CASES = [
    rings("second", EVENTS, (fire(1),), {B: 1}, "irq-assign-start-ignored", given=(assign(1, B),)),
    rings("raised-alone", CLIENT, (fire(2),), {A: 0, B: 0, C: 1}, "irq-raises-all"),
    rings(
        "three-at-once",
        EVENTS,
        (fire(1),),
        {A: 0, B: 1, C: 0},
        "irq-first-descriptor-for-all",
        given=(assign(0, A, B, C),),
        needs=(THREE_FDS,),
    ),
    rings(
        "last",
        EVENTS,
        (assign(SEVERAL_COUNT - 1, A), fire(SEVERAL_COUNT - 1), fire(0)),
        {A: 1},
        "irq-last-vector-refused",
        given=(),
    ),
    rings("one-after-another", EVENTS, (fire(0),), {A: 1, B: 0, C: 0}, "irq-assign-clears-others"),
    rings("one-replaced", EVENTS, (assign(1, NEW), fire(0, 3)), {A: 1, B: 0, C: 1, NEW: 1}, "irq-replaces-all"),
    rings("raised-twice", EVENTS, (fire(1), fire(1)), {B: 2}, "irq-raised-once-only"),
    rings("raised-in-range", CLIENT, (fire(1, 2),), {A: 0, B: 1, C: 1}, "irq-raise-start-ignored"),
    rings(
        "raised-without-eventfd",
        CLIENT,
        (fire(2), assign(2, C), fire(2)),
        {C: 1},
        "irq-without-descriptor-crash",
        given=(),
    ),
    rings("booleans", BOOLS, (fire_where(1, 0, 1),), {A: 1, B: 0, C: 1}, "irq-first-boolean-for-all"),
    rings("booleans-from-second", BOOLS, (fire_where(0, 1, start=1),), {A: 0, B: 0, C: 1}, "irq-booleans-by-vector"),
    rings("middle-taken-away", TAKEN, (take(1), fire(0, 3)), {A: 1, B: 0, C: 1}, "irq-taking-away-ends-at-count"),
    rings("last-two-taken-away", TAKEN, (take(1, 2), fire(0, 3)), {A: 1, B: 0, C: 0}, "irq-takes-one-away"),
    rings("first-taken-away", TAKEN, (take(0), fire(0, 3)), {A: 0, B: 1, C: 1}, "irq-takes-all-away"),
    rings("taken-and-given", TAKEN, (take(1), assign(1, NEW), fire(1)), {B: 0, NEW: 1}, "irq-taken-for-ever"),
    rings(
        "all-disabled", "set-irqs.disable-all", (disable(SEVERAL), fire(0, 3)), {A: 0, B: 0, C: 0}, "irq-disables-first"
    ),
    rings(
        "disabled-and-given",
        "set-irqs.disable-all",
        (disable(SEVERAL), assign(1, NEW), fire(0, 3)),
        {A: 0, B: 0, C: 0, NEW: 1},
        "irq-disabled-for-ever",
    ),
    rings(
        "other-type-raised",
        CLIENT,
        (fire(0, index=ANOTHER_TYPE),),
        {A: 0, NEW: 1},
        "irq-type-ignored",
        given=(assign(0, A), assign(0, NEW, index=ANOTHER_TYPE)),
        needs=(ANOTHER_TYPE,),
    ),
    rings(
        "other-type-assigned",
        EVENTS,
        (assign(0, NEW, index=ANOTHER_TYPE), fire(0)),
        {A: 1, NEW: 0},
        "irq-types-share-descriptors",
        given=(assign(0, A),),
        needs=(ANOTHER_TYPE,),
    ),
    rings(
        "other-type-disabled",
        "set-irqs.disable-all",
        (disable(ANOTHER_TYPE), fire(0)),
        {A: 1, NEW: 0},
        "irq-disables-all-types",
        given=(assign(0, A), assign(0, NEW, index=ANOTHER_TYPE)),
        needs=(ANOTHER_TYPE,),
    ),
    rings(
        "other-type-taken-away",
        TAKEN,
        (take(0, index=ANOTHER_TYPE), fire(0)),
        {A: 1, NEW: 0},
        "irq-takes-of-all-types",
        given=(assign(0, A), assign(0, NEW, index=ANOTHER_TYPE)),
        needs=(ANOTHER_TYPE,),
    ),
    Case(
        ident="set-irqs-vectors/of-a-lost-client",
        requirement="disconnect.close-irq-fds",
        given=THREE,
        stimulus=(Reconnect(), fire(0, 3)),
        expect=(Either(Reply(), REFUSED), Signalled(A, 0), Signalled(B, 0), Signalled(C, 0)),
        needs=(SEVERAL,),
        hazards=HAZARDS,
        catches=("irq-outlives-client",),
    ),
    Case(
        ident="set-irqs-vectors/full-eventfd",
        requirement="security.validate",
        given=(assign(0, EventFd(2**64 - 2, blocking=True)),),
        stimulus=fire(0),
        expect=Either(Reply(), REFUSED),
        needs=(SEVERAL,),
        hazards=HAZARDS,
        catches=("irq-full-descriptor-blocks",),
    ),
    odd("range-beyond-by-one", fire(SEVERAL_COUNT - 1, 2), "irq-start-alone-checked-crash"),
    odd("range-of-4-gib", fire(0x80000000, 0x80000000), "irq-sum-of-32-bits-crash"),
    odd(
        "range-wraps-into-itself",
        set_irqs(EVENTFD | TRIGGER, index=SEVERAL, start=2, count=0xFFFFFFFF),
        "irq-sum-wraps-crash",
    ),
    odd("empty-range-of-eventfds", set_irqs(EVENTFD | TRIGGER, index=SEVERAL, count=0), "irq-no-eventfds-crash"),
    odd("empty-range-of-booleans", set_irqs(BOOL | TRIGGER, index=SEVERAL, count=0), "irq-no-booleans-crash"),
    odd(
        "empty-range-at-the-end",
        set_irqs(NONE | TRIGGER, index=SEVERAL, start=SEVERAL_COUNT, count=0),
        "irq-empty-at-end-crash",
    ),
    odd("more-booleans", set_irqs(BOOL | TRIGGER, index=SEVERAL, count=1, data=b"\1\1\1"), "irq-more-booleans-crash"),
    odd("fewer-eventfds", set_irqs(EVENTFD | TRIGGER, EventFd(), index=SEVERAL, count=2), "irq-fewer-eventfds-crash"),
]
