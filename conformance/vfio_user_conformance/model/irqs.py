"""Interrupts: which eventfd is signalled when the client or the device raises one, and which are not."""

from collections.abc import Iterator
from dataclasses import dataclass

from vfio_user_conformance import acting
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.expect import Expectation, Problem, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import Vector, World, assigned, disabled, masked, raised
from vfio_user_conformance.needs import IRQ
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import plural
from vfio_user_proto.messages import DeviceSetIrqsRequest, IrqInfoFlags, IrqSetFlags

NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
MASK, UNMASK, TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER
# A signal that was due when the reply came is waited for so many times as long as a reply is before something is asked.
_MOMENTS = 4
_NEEDS, _HAZARDS = (IRQ,), frozenset({"irq"})
ASSIGN = Rule(
    "irq-assign", "get-irq-info.flags", "eventfds are taken", _NEEDS, _HAZARDS, ("sequence-irqs-enabled-once",)
)
UNASSIGN = Rule(
    "irq-unassign",
    "set-irqs.eventfd-none",
    "eventfds are taken away",
    _NEEDS,
    _HAZARDS,
    ("sequence-masked-keeps-eventfd",),
)
DISABLE = Rule(
    "irq-disable",
    "set-irqs.disable-all",
    "a type is disabled",
    _NEEDS,
    _HAZARDS,
    ("sequence-disables-enabled-only",),
)
MASKING = Rule(
    "irq-mask",
    "get-irq-info.flags",
    "a maskable type is masked and unmasked",
    _NEEDS,
    _HAZARDS,
    ("irq-flag-maskable-in-vain",),
)
RAISE = Rule(
    "irq-raise",
    "set-irqs.by-client",
    "interrupts with eventfds can be raised",
    _NEEDS,
    _HAZARDS,
    ("sequence-triggers-end",),
)
SIGNALS = Rule(
    "irq-signals",
    "set-irqs.eventfd",
    "what is raised and not masked signals its eventfd once, and nothing else is signalled",
    _NEEDS,
    _HAZARDS,
    (
        "set-irqs-raise-ignored",
        "set-irqs-second-ignored",
        "set-irqs-taking-away-ignored",
        "set-irqs-disabling-ignored",
        "set-irqs-false-signalled",
        "sequence-vectors-swapped",
        "sequence-disabled-once",
        "irq-mask-ignored",
        "irq-unmasks-all",
        "irq-mask-types-share",
        "irq-device-once",
    ),
)
RULES = (ASSIGN, UNASSIGN, DISABLE, MASKING, RAISE, SIGNALS)


@dataclass(frozen=True)
class Signals(AfterCheck):
    """How often each eventfd is signalled: name, least and most."""

    expected: tuple[tuple[EventFd, str, int, int], ...]

    def check(self, session: Session) -> list[Problem]:
        found = []
        for event, name, least, most in self.expected:
            count = session.handle(event).count(_MOMENTS * session.timing.patience if least else 0)
            if not least <= count <= most:
                found.append(Problem(f"the eventfd of {name} was signalled {plural(count, 'time')}, not {least}"))
        return found

    def __str__(self) -> str:
        names = [name for _, name, least, _ in self.expected if least]
        return f"{' and '.join(names) or 'no eventfd'} signalled{' once, and no other' if names else ''}"


def signals(before: World, after: World, index: int, chosen: range | tuple[int, ...], *, done: bool) -> Turn:
    """What is signalled when vectors are raised: ``done`` where it is certain that they were."""

    def counts() -> Iterator[tuple[EventFd, str, int, int]]:
        for key, one in after.vectors.items():
            if one.event is None:
                continue
            was = before.vectors.get(key, Vector())
            touched = key[0] == index and key[1] in chosen
            certain = done and was.sure and was.masked is False and before.working
            open_ = (touched and not (done and was.sure and was.masked)) or was.pending
            yield one.event, _vectors(*key, 1), int(touched and certain), int(open_)
        for event in after.retired:
            yield event, "an interrupt that has lost it", 0, 0

    return Turn(SIGNALS, (), (Signals(tuple(counts())),))


def _set(flags: int, index: int, start: int, count: int, data: bytes = b"", fds: tuple[EventFd, ...] = ()) -> Send:
    request = DeviceSetIrqsRequest(flags=IrqSetFlags(flags), index=index, start=start, count=count, data=data)
    return Send(request, fds=fds)


def _wish(world: World, *, certain: bool = True) -> tuple[Expectation]:
    return (Reply(fds=0) if world.working and certain else SILENT_TEXT,)


@dataclass(frozen=True)
class Assign(Move):
    """Give the vectors from ``start`` on an eventfd each."""

    index: int
    start: int
    count: int

    def plan(self, world: World, facts: Facts) -> Plan:
        events = tuple(EventFd() for _ in range(self.count))
        send = _set(EVENTFD | TRIGGER, self.index, self.start, self.count, fds=events)
        more = self.index in world.enabled and _flagged(facts, self.index, IrqInfoFlags.NORESIZE)
        seen = yield Turn(ASSIGN, (send,), _wish(world, certain=not more))
        after = assigned(world, self.index, self.start, events) if accepted(seen) else world
        yield signals(world, after, self.index, (), done=False)
        return after

    def __str__(self) -> str:
        return f"assign eventfds to {_vectors(self.index, self.start, self.count)}"


@dataclass(frozen=True)
class Unassign(Move):
    """Take the eventfds of a range away."""

    index: int
    start: int
    count: int

    def plan(self, world: World, facts: Facts) -> Plan:
        has = any((one := world.vectors.get((self.index, v))) and one.event for v in _range(self.start, self.count))
        seen = yield Turn(
            UNASSIGN, (_set(EVENTFD | TRIGGER, self.index, self.start, self.count),), _wish(world, certain=has)
        )
        after = assigned(world, self.index, self.start, [None] * self.count) if accepted(seen) else world
        yield signals(world, after, self.index, (), done=False)
        return after

    def __str__(self) -> str:
        return f"de-assign {_vectors(self.index, self.start, self.count)}, without descriptors"


@dataclass(frozen=True)
class Disable(Move):
    """Disable all interrupts of a type."""

    index: int

    def plan(self, world: World, facts: Facts) -> Plan:
        seen = yield Turn(DISABLE, (_set(NONE | TRIGGER, self.index, 0, 0),), _wish(world))
        after = disabled(world, self.index) if accepted(seen) else world
        yield signals(world, after, self.index, (), done=False)
        return after

    def __str__(self) -> str:
        return f"disable IRQ index {self.index}, with a count of 0"


@dataclass(frozen=True)
class Masking(Move):
    """Mask or unmask a range of a maskable type."""

    index: int
    start: int
    count: int
    on: bool

    def plan(self, world: World, facts: Facts) -> Plan:
        send = _set(NONE | (MASK if self.on else UNMASK), self.index, self.start, self.count)
        seen = yield Turn(MASKING, (send,), _wish(world))
        chosen = _range(self.start, self.count)
        after = (
            masked(world, self.index, chosen, self.on, automasked=_flagged(facts, self.index, IrqInfoFlags.AUTOMASKED))
            if accepted(seen)
            else world
        )
        yield signals(world, after, self.index, (), done=False)
        return after

    def __str__(self) -> str:
        return f"{'mask' if self.on else 'unmask'} {_vectors(self.index, self.start, self.count)}"


@dataclass(frozen=True)
class Raise(Move):
    """Raise interrupts from ``start`` on: all of them, or those whose number in ``values`` is not zero."""

    index: int
    start: int
    count: int
    values: tuple[int, ...] = ()

    def plan(self, world: World, facts: Facts) -> Plan:
        data = bytes(self.values)
        send = _set((BOOL if data else NONE) | TRIGGER, self.index, self.start, self.count, data)
        chosen = tuple(v for i, v in enumerate(_range(self.start, self.count)) if not data or data[i])
        have = all((one := world.vectors.get((self.index, v))) and one.event for v in chosen)
        seen = yield Turn(RAISE, (send,), _wish(world, certain=have))
        after = raised(world, self.index, chosen, automasked=_flagged(facts, self.index, IrqInfoFlags.AUTOMASKED))
        yield signals(world, after, self.index, chosen, done=accepted(seen))
        return after

    def __str__(self) -> str:
        which = f", by booleans {', '.join(map(str, self.values))}" if self.values else ""
        return f"trigger {_vectors(self.index, self.start, self.count)}{which}"


@dataclass(frozen=True)
class DeviceRaises(Move):
    """Make the device raise an interrupt, in the way that the profile tells."""

    index: int
    vector: int

    def plan(self, world: World, facts: Facts) -> Plan:
        wish = Reply(fds=0) if world.working else SILENT_TEXT
        seen = yield Turn(SIGNALS, (acting.Raise(self.index, self.vector),), (wish,))
        after = raised(
            world, self.index, (self.vector,), automasked=_flagged(facts, self.index, IrqInfoFlags.AUTOMASKED)
        )
        yield signals(world, after, self.index, (self.vector,), done=accepted(seen))
        return after

    def __str__(self) -> str:
        return f"make the device raise {_vectors(self.index, self.vector, 1)}"


def _flagged(facts: Facts, index: int, flag: IrqInfoFlags) -> bool:
    return index in facts.irqs and bool(facts.irqs[index].flags & flag)


def _range(start: int, count: int) -> range:
    return range(start, start + count)


def _vectors(index: int, start: int, count: int) -> str:
    which = f"vector {start}" if count == 1 else f"vectors {start} to {start + count - 1}"
    return f"{which} of IRQ index {index}"
