"""Interrupts that the device itself raises, as its profile tells: who is signalled then, and who is not."""

from vfio_user_conformance.acting import Raise
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.server_dma import WHATEVER
from vfio_user_conformance.cases.set_irqs import HAZARDS, MASK, NONE, set_irqs
from vfio_user_conformance.cases.set_irqs_vectors import assign, disable, take
from vfio_user_conformance.checks import Signalled
from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.needs import (
    OTHER_INDEX,
    OTHER_VECTOR,
    RAISED,
    RAISED_AGAIN,
    RAISED_INDEX,
    RAISED_MASKABLE,
    RAISED_TOO,
)
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Reconnect, exchange
from vfio_user_conformance.story import story

A, B, C, NEW = (EventFd(name=name) for name in ("A", "B", "C", "D"))
FIRST, SECOND, OTHER = Raise(RAISED_INDEX, RAISED), Raise(RAISED_INDEX, RAISED_TOO), Raise(OTHER_INDEX, OTHER_VECTOR)
TO_FIRST = assign(RAISED, A, index=RAISED_INDEX)
TO_SECOND = assign(RAISED_TOO, B, index=RAISED_INDEX)
TO_OTHER = assign(OTHER_VECTOR, C, index=OTHER_INDEX)
ANEW = assign(RAISED, NEW, index=RAISED_INDEX)
TWO, BOTH_TYPES = (RAISED_INDEX, RAISED_TOO), (RAISED_INDEX, OTHER_INDEX)
AGAIN = (RAISED_INDEX, RAISED_AGAIN)


def bells(**times: int) -> tuple[Signalled, ...]:
    """How often each of A, B, C and NEW was signalled; those that were not at the end."""
    named = {"a": A, "b": B, "c": C, "new": NEW}
    return tuple(Signalled(named[name], each) for name, each in sorted(times.items(), key=lambda each: -each[1]))


def raised(
    what: str,
    requirement: str,
    steps: tuple[Raise | Send, ...],
    signals: tuple[Signalled, ...],
    fault: str,
    *,
    given: tuple[Send, ...] = (TO_FIRST,),
    needs: tuple[Fact, ...] = (RAISED_INDEX,),
) -> Case:
    """One step after another, and then who was signalled."""
    return story(
        f"set-irqs-device/{what}",
        requirement,
        *(exchange(step, Reply()) for step in steps[:-1]),
        exchange(steps[-1], (Reply(), *signals)),
        given=given,
        needs=needs,
        hazards=HAZARDS,
        catches=(fault,),
    )


EVENTS, TAKEN, DISABLED = "set-irqs.eventfd", "set-irqs.eventfd-none", "set-irqs.disable-all"

CASES = [
    raised("raised", EVENTS, (FIRST,), bells(a=1), "irq-device-silent"),
    raised("raised-just-once", EVENTS, (FIRST,), bells(a=1), "irq-device-twice"),
    raised("raised-again", EVENTS, (FIRST, FIRST), bells(a=2), "irq-device-once", needs=AGAIN),
    raised(
        "of-two-the-first",
        EVENTS,
        (FIRST,),
        bells(a=1, b=0),
        "irq-device-raises-all",
        given=(TO_FIRST, TO_SECOND),
        needs=TWO,
    ),
    raised(
        "of-two-both",
        EVENTS,
        (FIRST, SECOND),
        bells(a=1, b=1),
        "irq-assign-clears-others",
        given=(TO_FIRST, TO_SECOND),
        needs=TWO,
    ),
    raised(
        "of-another-type",
        EVENTS,
        (FIRST,),
        bells(a=1, c=0),
        "irq-device-type-ignored",
        given=(TO_FIRST, TO_OTHER),
        needs=BOTH_TYPES,
    ),
    raised(
        "of-two-types",
        EVENTS,
        (FIRST, OTHER),
        bells(a=1, c=1),
        "irq-types-share-descriptors",
        given=(TO_FIRST, TO_OTHER),
        needs=BOTH_TYPES,
    ),
    raised("replaced", EVENTS, (ANEW, FIRST), bells(new=1, a=0), "set-irqs-second-ignored"),
    raised(
        "without-eventfd",
        EVENTS,
        (FIRST, TO_FIRST, FIRST),
        bells(a=1),
        "irq-device-without-descriptor-crash",
        given=(),
        needs=AGAIN,
    ),
    raised("taken-away", TAKEN, (take(RAISED, index=RAISED_INDEX), FIRST), bells(a=0), "set-irqs-taking-away-ignored"),
    raised(
        "second-taken-away",
        TAKEN,
        (take(RAISED_TOO, index=RAISED_INDEX), FIRST, SECOND),
        bells(a=1, b=0),
        "irq-taking-away-ends-at-count",
        given=(TO_FIRST, TO_SECOND),
        needs=TWO,
    ),
    raised("disabled", DISABLED, (disable(RAISED_INDEX), FIRST), bells(a=0), "set-irqs-disabling-ignored"),
    raised(
        "other-type-disabled",
        DISABLED,
        (disable(OTHER_INDEX), FIRST),
        bells(a=1, c=0),
        "irq-disables-all-types",
        given=(TO_FIRST, TO_OTHER),
        needs=BOTH_TYPES,
    ),
    raised(
        "masked",
        "set-irqs.by-client",
        (set_irqs(NONE | MASK, index=RAISED_INDEX, start=RAISED), FIRST),
        bells(a=0),
        "irq-mask-ignored",
        needs=(RAISED_INDEX, RAISED_MASKABLE),
    ),
    story(
        "set-irqs-device/of-a-lost-client",
        "disconnect.close-irq-fds",
        Exchange((Reconnect(),), ()),
        exchange(FIRST, (WHATEVER, Signalled(A, 0))),
        exchange(ANEW, Reply()),
        exchange(FIRST, (Reply(), Signalled(NEW), Signalled(A, 0))),
        given=(TO_FIRST,),
        needs=AGAIN,
        hazards=HAZARDS,
        catches=("irq-outlives-client",),
    ),
    story(
        "set-irqs-device/full-eventfd",
        "security.validate",
        exchange(assign(RAISED, EventFd(2**64 - 2, blocking=True), index=RAISED_INDEX), Reply()),
        exchange(FIRST, WHATEVER),
        exchange(ANEW, Reply()),
        exchange(FIRST, (Reply(), Signalled(NEW))),
        needs=AGAIN,
        hazards=HAZARDS,
        catches=("irq-device-full-descriptor-blocks",),
    ),
]
