"""What the model knows of a target: plain values, and pure functions that tell what becomes of them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.kicks import Place
from vfio_user_conformance.memory import Pages
from vfio_user_proto.messages import DeviceState

S = DeviceState
WORKING = frozenset({S.RUNNING, S.PRE_COPY})
SAVING = frozenset({S.PRE_COPY, S.STOP_COPY})
# Bytes of the pages in which the model remembers writes.
PAGE = 4096


@dataclass(frozen=True)
class Mapped:
    """A mapping of client memory, from ``address`` on; ``memory`` is the file behind it, where it has one.

    ``access`` has the bits of ``DmaMapFlags``. It is not ``sure`` where nobody can say whether it is in force. ``written`` are
    the places and lengths that the device wrote in the file, in this order; None where nobody can say.
    """

    address: int
    size: int
    access: int
    memory: Pages | None = None
    offset: int = 0
    sure: bool = True
    written: tuple[tuple[int, int], ...] | None = ()

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class Vector:
    """One interrupt: the eventfd that it is to signal, whether it is masked (None: nobody can say) and was raised meanwhile."""

    event: EventFd | None = None
    masked: bool | None = False
    pending: bool = False
    sure: bool = True


# Interrupts by index and vector; one that is not here is as it was at the start.
Vectors = Mapping[tuple[int, int], Vector]
# Scratch bytes by offset, as far as they are known.
Scratch = Mapping[int, int]


@dataclass(frozen=True)
class Saved:
    """A migration state as it was read, ``whole`` or the beginning of it, and the scratch bytes of then."""

    data: bytes = field(repr=False)
    scratch: Scratch
    whole: bool = True


@dataclass(frozen=True)
class World:
    """All that the model knows."""

    # The mappings, by address, and those that are gone.
    maps: tuple[Mapped, ...] = ()
    gone: tuple[Mapped, ...] = ()
    # Interrupts; IRQ indexes that got eventfds since they were disabled; eventfds that nothing may signal any more.
    vectors: Vectors = field(default_factory=dict)
    enabled: frozenset[int] = frozenset()
    retired: tuple[EventFd, ...] = ()
    # The sub-regions that this client was told, by region, answer and record.
    places: Mapping[tuple[int, int, int], Place] = field(default_factory=dict)
    scratch: Scratch = field(default_factory=dict)
    # The migration states that the device can be in: one, unless the text leaves it open.
    states: frozenset[DeviceState] = frozenset({S.RUNNING})
    # What was read since the saving session began, None outside of one, and whether that was its end.
    session: bytes | None = None
    ended: bool = False
    # A state that was read, and how many bytes of it were written in RESUMING, None where that is no longer known.
    saved: Saved | None = None
    loaded: int | None = 0
    # Whether writes are recorded, None where nobody can say; in which (IOVA, length), everywhere where there is none; and the
    # pages of PAGE bytes that a report has to name.
    logging: bool | None = False
    logged: tuple[tuple[int, int], ...] = ()
    dirty: frozenset[int] = frozenset()

    @property
    def state(self) -> DeviceState | None:
        """The migration state, None where it is not certain."""
        return next(iter(self.states)) if len(self.states) == 1 else None

    @property
    def working(self) -> bool:
        """Whether the device works for certain, so that every command is its business."""
        return self.states <= WORKING


# Client memory.


def overlapped(maps: Iterable[Mapped], address: int, size: int) -> tuple[Mapped, ...]:
    """The mappings that share a byte with a range."""
    return tuple(each for each in maps if each.address < address + size and address < each.end)


def exactly(maps: Iterable[Mapped], address: int, size: int) -> Mapped | None:
    """The mapping that has just this range."""
    return next((each for each in maps if (each.address, each.size) == (address, size)), None)


def mapped(world: World, new: Mapped) -> World:
    """A range was mapped; what it lies over was not there any more."""
    gone = overlapped(world.maps, new.address, new.size)
    kept = [each for each in world.maps if each not in gone]
    maps = tuple(sorted([*kept, new], key=lambda each: each.address))
    return replace(world, maps=maps, gone=(*world.gone, *gone))


def unmapped(world: World, old: Mapped) -> World:
    """A mapping was taken away, and nobody asks what was written there."""
    maps = tuple(each for each in world.maps if each is not old)
    return replace(world, maps=maps, gone=(*world.gone, old), dirty=world.dirty - _pages(old.address, old.size))


def files(world: World) -> list[tuple[Pages, tuple[tuple[int, int], ...]]]:
    """The files behind mappings, also behind those that are gone, and what the device wrote there, as far as that is known."""
    every = (*world.gone, *world.maps)
    return [(each.memory, each.written) for each in every if each.memory is not None and each.written is not None]


def blurred(world: World, touched: Collection[Mapped]) -> World:
    """The device may have written something in these mappings, or not."""
    maps = tuple(replace(each, written=None) if each in touched else each for each in world.maps)
    return replace(world, maps=maps)


def within(maps: Iterable[Mapped], address: int, size: int) -> Mapped | None:
    """The mapping, certainly in force, that has a range inside."""
    return next((r for r in maps if r.sure and r.address <= address and address + size <= r.end), None)


def wrote(world: World, region: Mapped, address: int, size: int) -> World:
    """The device wrote a range of a mapping that has a file."""
    place = address - region.address + region.offset
    after = region if region.written is None else replace(region, written=(*region.written, (place, size)))
    recorded = [
        (max(address, iova), min(address + size, iova + length))
        for iova, length in world.logged or ((region.address, region.size),)
    ]
    dirty = [_pages(start, end - start) for start, end in recorded if start < end] if world.logging else []
    maps = tuple(after if each is region else each for each in world.maps)
    return replace(world, maps=maps, dirty=world.dirty.union(*dirty))


def reported(world: World, iova: int, length: int) -> World:
    """A report was given: whether its pages are reported again nobody says."""
    return replace(world, dirty=world.dirty - _pages(iova, length))


def recording(world: World, ranges: Iterable[tuple[int, int]] = ()) -> World:
    """The log was started, with nothing in it."""
    return replace(world, logging=True, logged=tuple(ranges), dirty=frozenset())


def _pages(address: int, size: int) -> frozenset[int]:
    return frozenset(range(address // PAGE, (address + size - 1) // PAGE + 1))


# Interrupts.


def assigned(world: World, index: int, start: int, events: Iterable[EventFd | None]) -> World:
    """Vectors from ``start`` on have other eventfds, or none; whether they stay masked nobody says."""
    vectors, retired = dict(world.vectors), list(world.retired)
    for vector, event in enumerate(events, start):
        before = vectors.get((index, vector), Vector())
        if before.event is not None:
            retired.append(before.event)
        vectors[index, vector] = Vector(event, None if before.masked else before.masked, before.pending)
    return replace(world, vectors=vectors, enabled=world.enabled | {index}, retired=tuple(retired))


def disabled(world: World, index: int) -> World:
    """Every interrupt of one index has lost its eventfd."""
    mine = {key: one for key, one in world.vectors.items() if key[0] == index}
    others = {key: one for key, one in world.vectors.items() if key[0] != index}
    gone = tuple(one.event for one in mine.values() if one.event is not None)
    masked = {key: Vector(masked=None if one.masked else one.masked) for key, one in mine.items()}
    enabled = world.enabled - {index}
    return replace(world, vectors={**others, **masked}, enabled=enabled, retired=(*world.retired, *gone))


def masked(world: World, index: int, chosen: Iterable[int], on: bool, *, automasked: bool = False) -> World:
    """Vectors were masked, or unmasked: then nothing waits any more; one that masks itself may be masked by what waited."""
    vectors = dict(world.vectors)
    for vector in chosen:
        before = vectors.get((index, vector), Vector())
        vectors[index, vector] = replace(
            before, masked=None if automasked and not on and before.pending else on, pending=on and before.pending
        )
    return replace(world, vectors=vectors)


def raised(world: World, index: int, chosen: Iterable[int], *, automasked: bool) -> World:
    """Vectors were raised; one that masks itself may be masked now."""
    vectors = dict(world.vectors)
    for vector in chosen:
        before = vectors.get((index, vector), Vector())
        after = None if automasked and before.masked is False else before.masked
        vectors[index, vector] = replace(before, masked=after, pending=before.masked is not False)
    return replace(world, vectors=vectors)


# Scratch bytes.


def known(world: World, at: int, data: bytes) -> World:
    """Bytes were read: they are these."""
    return replace(world, scratch={**world.scratch, **dict(enumerate(data, at))})


def written(world: World, at: int, data: bytes) -> World:
    """Bytes were written: from now on they are these. Whether a state that is being saved has them nobody says in STOP_COPY."""
    after = known(world, at, data)
    return after if S.STOP_COPY not in world.states else replace(after, session=None)


def differs(world: World, at: int, data: bytes) -> int | None:
    """The first offset at which ``data`` is not what is known; None where there is none."""
    return next((at + i for i, byte in enumerate(data) if world.scratch.get(at + i, byte) != byte), None)


# Migration.


def settable(start: DeviceState, wanted: int, *, pre_copy: bool) -> bool:
    """Whether a set leads from one state to another (sections Direct and Complex State Transitions)."""
    offered = {S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING} | ({S.PRE_COPY} if pre_copy else set())
    return start in offered and wanted in offered and (start, wanted) != (S.STOP_COPY, S.PRE_COPY)


# The arcs; every other way is made of these.
ARCS = frozenset(
    {
        (S.RUNNING, S.STOP),
        (S.STOP, S.RUNNING),
        (S.RUNNING, S.PRE_COPY),
        (S.PRE_COPY, S.RUNNING),
        (S.STOP, S.STOP_COPY),
        (S.PRE_COPY, S.STOP_COPY),
        (S.STOP_COPY, S.STOP),
        (S.STOP, S.RESUMING),
        (S.RESUMING, S.STOP),
    }
)


def loaded(world: World) -> bool:
    """Whether a whole state was written in RESUMING."""
    return world.saved is not None and world.saved.whole and world.loaded == len(world.saved.data)


def went(world: World, wanted: DeviceState) -> World:
    """The device went from its state to another one: sessions end and begin, and what was loaded is its state."""
    scratch, session, ended = world.scratch, world.session, world.ended
    if world.state is S.RESUMING:
        scratch = world.saved.scratch if world.saved and loaded(world) else {}
    if wanted is S.RESUMING:
        scratch = {}
    if (world.state, wanted) != (S.PRE_COPY, S.STOP_COPY):
        session, ended = (b"" if wanted in SAVING else None), False
    states = frozenset({wanted})
    return replace(world, states=states, scratch=scratch, session=session, ended=ended, loaded=0)


def read(world: World, data: bytes, *, last: bool) -> World:
    """Data of a saving session were read; in STOP_COPY the ``last`` of them complete a state.

    The beginning of a state is remembered where there is no whole one.
    """
    if world.session is None or world.ended:
        return world
    session = world.session + data
    if world.state is not S.STOP_COPY:
        return replace(world, session=session)
    keeps = last or not (world.saved and world.saved.whole)
    saved = Saved(session, world.scratch, last) if keeps else world.saved
    return replace(world, session=session, ended=last, saved=saved)


# What touches everything.


def reset(world: World) -> World:
    """The device was reset: the text says nothing of mappings, eventfds and the log, and only how to leave ERROR."""
    states = {S.RUNNING} if world.states <= {S.ERROR, S.RUNNING} else {*world.states, S.RUNNING, S.STOP}
    return replace(
        world,
        maps=tuple(replace(each, sure=False) for each in world.maps),
        vectors={key: Vector(one.event, None, one.pending, sure=False) for key, one in world.vectors.items()},
        scratch={},
        states=frozenset(states),
        session=None,
        loaded=None,
        logging=None if world.logging else world.logging,
        dirty=frozenset(),
    )


def reconnected(world: World) -> World:
    """Another client came: mappings and eventfds are gone, the device is as it was, but may have left its migration state."""
    return World(
        gone=(*world.gone, *world.maps),
        scratch=world.scratch if S.RESUMING not in world.states else {},
        states=world.states | ({S.RUNNING, S.STOP} if world.state is not S.RUNNING else set()),
        saved=world.saved,
        loaded=None,
        logging=None if world.logging else world.logging,
    )
