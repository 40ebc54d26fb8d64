"""Commands of the client that may be drawn, with values within what the target offers."""

from collections.abc import Iterator

from hypothesis import strategies as st

from vfio_user_conformance.model import dirty, irqs, lifetime, memory, migration, region
from vfio_user_conformance.model.machine import Draws, Machine
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.world import SAVING, Mapped, S, World
from vfio_user_proto.messages import IrqInfoFlags

DRAWS = Draws()
draw = DRAWS.add
# A page of mappings, the first of those that are drawn, and how many are in force at most.
PAGE, BASE, MOST_MAPS = 4096, 0x10000, 24
# Scratch bytes that are used, interrupts of a type, and bytes of one write.
SCRATCH, MOST_VECTORS, WIDTH = 64, 8, 16
PAGES, COUNTS, PICKS = st.integers(0, 15), st.integers(1, 4), st.integers(0, 15)
_bytes, _fills = st.integers(0, SCRATCH - 1), st.integers(0, 255)
# The interrupt type that has most interrupts comes first, and often.
_types, _starts = st.sampled_from((0, 0, 0, 1, 2, 3, 4)), st.integers(0, MOST_VECTORS - 1)
_sizes = st.sampled_from((0, 0, 0, 1, 64, 5000))
# STOP and RUNNING are where most ways lead through.
_offered = st.sampled_from((S.STOP, S.STOP, S.RUNNING, S.RUNNING, S.STOP_COPY, S.RESUMING, S.PRE_COPY))
_seldom = st.sampled_from((False, False, False, True))

# Client memory.


@draw(
    memory.MAP, page=PAGES, pages=COUNTS, access=st.sampled_from((3, 1, 2)), behind=st.integers(-1, 2), silent=_seldom
)
def map_(machine: Machine, page: int, pages: int, access: int, behind: int, silent: bool) -> Iterator[Move]:
    if len(machine.world.maps) < min(MOST_MAPS, machine.facts.capabilities.max_dma_maps - 1):
        offset = max(behind, 0) * page_of(machine)
        yield memory.Map(*pages_at(machine, page, pages), access, behind >= 0, offset, silent)


@draw(memory.UNMAP, when=lambda world: world.maps, pick=PICKS, silent=_seldom)
def unmap(machine: Machine, pick: int, silent: bool) -> Iterator[Move]:
    found = _mapping(machine, pick)
    yield memory.Unmap(found.address, found.size, silent)


@draw(memory.MISMATCH, page=PAGES, pages=COUNTS, seldom=True)
def unmap_range(machine: Machine, page: int, pages: int) -> Iterator[Move]:
    yield memory.Unmap(*pages_at(machine, page, pages))


@draw(memory.MISMATCH, when=lambda world: world.maps, pick=PICKS, last=st.booleans(), seldom=True)
def unmap_part(machine: Machine, pick: int, last: bool) -> Iterator[Move]:
    found = _mapping(machine, pick)
    if found.size > page_of(machine):
        yield memory.Unmap(found.address + last * page_of(machine), found.size - page_of(machine))


def _mapping(machine: Machine, pick: int) -> Mapped:
    return machine.world.maps[pick % len(machine.world.maps)]


def page_of(machine: Machine) -> int:
    """Bytes of the smallest page that can be mapped."""
    sizes = machine.facts.capabilities.pgsizes
    return max(sizes & -sizes, PAGE)


def pages_at(machine: Machine, page: int, pages: int) -> tuple[int, int]:
    """Address and size of so many pages."""
    size = page_of(machine)
    return (BASE // PAGE + page) * size, pages * size


# Regions.


@draw(region.WRITE, at=_bytes, count=st.integers(1, WIDTH), fill=_fills, silent=_seldom)
def write(machine: Machine, at: int, count: int, fill: int, silent: bool) -> Iterator[Move]:
    at, count = _inside(machine, at, count)
    yield region.Write(at, count, fill, silent)


@draw(
    region.SEVERAL,
    places=st.lists(st.integers(0, SCRATCH - 8), min_size=1, max_size=3),
    count=st.integers(1, 8),
    fill=_fills,
)
def write_several(machine: Machine, places: list[int], count: int, fill: int) -> Iterator[Move]:
    inside = [_inside(machine, at, count) for at in places]
    yield region.WriteSeveral(tuple(at for at, _ in inside), inside[0][1], fill)


@draw(region.READ, at=_bytes, count=st.sampled_from((SCRATCH, SCRATCH, WIDTH, 4, 1)))
def read(machine: Machine, at: int, count: int) -> Iterator[Move]:
    yield region.Read(*_inside(machine, at, count))


@draw(region.INFO, kind=st.integers(0, 2), pick=PICKS)
def ask(machine: Machine, kind: int, pick: int) -> Iterator[Move]:
    known = ([0], sorted(machine.facts.regions), sorted(machine.facts.irqs))[kind]
    if known:
        yield region.Ask(kind, known[pick % len(known)])


def _inside(machine: Machine, at: int, count: int) -> tuple[int, int]:
    """A place and a number of scratch bytes that there are, in accesses as large as the target takes."""
    scratch = machine.facts.profile.scratch
    size = scratch.size if scratch else 1
    count = min(count, size, machine.facts.capabilities.max_data_xfer_size)
    return min(at, size - count), count


# Interrupts.


@draw(irqs.ASSIGN, pick=_types, start=_starts, count=COUNTS)
def assign(machine: Machine, pick: int, start: int, count: int) -> Iterator[Move]:
    yield irqs.Assign(*_vectors(machine, pick, start, min(count, _with_one_message(machine))))


@draw(irqs.UNASSIGN, when=lambda world: world.vectors, pick=_types, start=_starts, count=COUNTS)
def unassign(machine: Machine, pick: int, start: int, count: int) -> Iterator[Move]:
    yield irqs.Unassign(*_vectors(machine, pick, start, count))


@draw(irqs.DISABLE, when=lambda world: world.vectors, pick=_types)
def disable(machine: Machine, pick: int) -> Iterator[Move]:
    yield irqs.Disable(_vectors(machine, pick, 0, 1)[0])


@draw(irqs.MASKING, when=lambda world: world.vectors, pick=_types, start=_starts, count=COUNTS, on=st.booleans())
def mask(machine: Machine, pick: int, start: int, count: int, on: bool) -> Iterator[Move]:
    index, start, count = _vectors(machine, pick, start, count)
    if machine.facts.irqs[index].flags & IrqInfoFlags.MASKABLE:
        yield irqs.Masking(index, start, count, on)


@draw(irqs.MASKING, pick=_types, start=_starts, count=COUNTS, seldom=True)
def unmask_one(machine: Machine, pick: int, start: int, count: int) -> Iterator[Move]:
    """Of several that are masked, and raise them all."""
    index, start, count = _vectors(machine, pick, start, min(count, _with_one_message(machine)))
    if machine.facts.irqs[index].flags & IrqInfoFlags.MASKABLE:
        yield irqs.Assign(index, start, count)
        yield irqs.Masking(index, start, count, True)
        yield irqs.Masking(index, start, 1, False)
        yield irqs.Raise(index, start, count)


@draw(irqs.RAISE, when=lambda world: world.vectors, pick=PICKS, count=COUNTS)
def raise_all(machine: Machine, pick: int, count: int) -> Iterator[Move]:
    yield irqs.Raise(*_used(machine, pick, count))


@draw(
    irqs.RAISE,
    when=lambda world: world.vectors,
    pick=PICKS,
    values=st.lists(st.integers(0, 1), min_size=1, max_size=4),
)
def raise_some(machine: Machine, pick: int, values: list[int]) -> Iterator[Move]:
    index, start, count = _used(machine, pick, len(values))
    yield irqs.Raise(index, start, count, tuple(values[:count]))


def _with_one_message(machine: Machine) -> int:
    """How many eventfds the target takes at once."""
    return max(machine.facts.capabilities.max_msg_fds, 1)


def _used(machine: Machine, pick: int, count: int) -> tuple[int, int, int]:
    """A range of interrupts of which the first has an eventfd, or had one."""
    had = list(machine.world.vectors)
    index, start = had[pick % len(had)]
    return index, start, min(count, machine.facts.irqs[index].count - start)


def _vectors(machine: Machine, pick: int, start: int, count: int) -> tuple[int, int, int]:
    """A type, and a range of its interrupts."""
    types = [index for index, each in machine.facts.irqs.items() if each.flags & IrqInfoFlags.EVENTFD and each.count]
    types.sort(key=lambda index: -machine.facts.irqs[index].count)
    index = types[pick % len(types)]
    most = min(machine.facts.irqs[index].count, MOST_VECTORS)
    start %= most
    return index, start, min(count, most - start)


# Migration.


@draw(migration.ARC, when=lambda world: world.state is not None, wanted=_offered)
@draw(migration.FROM_ERROR, when=lambda world: world.state is S.ERROR, wanted=_offered)
@draw(
    migration.UNSUPPORTED,
    when=lambda world: world.state not in (None, S.ERROR),
    wanted=st.sampled_from((S.RUNNING_P2P, S.PRE_COPY_P2P, 8)),
    seldom=True,
)
@draw(
    migration.ERROR_SET,
    when=lambda world: world.state not in (None, S.ERROR),
    wanted=st.just(S.ERROR),
    seldom=True,
)
def set_state(machine: Machine, wanted: int) -> Iterator[Move]:
    yield migration.SetState(int(wanted))


@draw(migration.BACK, when=lambda world: world.state is S.RUNNING, seldom=True)
def go_back(machine: Machine) -> Iterator[Move]:
    yield migration.SetState(S.STOP_COPY)
    yield migration.SetState(S.PRE_COPY)


@draw(migration.TOLD)
def get_state(machine: Machine) -> Iterator[Move]:
    yield migration.GetState()


@draw(migration.DATA_READ, when=lambda world: world.state in SAVING, size=_sizes)
@draw(migration.NOT_READ, when=lambda world: world.state not in SAVING, seldom=True, size=_sizes)
def read_data(machine: Machine, size: int) -> Iterator[Move]:
    yield migration.ReadData(size)


def _loadable(world: World) -> bool:
    return world.state is S.RESUMING and world.saved is not None and world.loaded is not None


@draw(migration.DATA_WRITE, when=_loadable, size=_sizes)
@draw(migration.NOT_WRITTEN, when=lambda world: world.state is not S.RESUMING, seldom=True, size=_sizes)
def write_data(machine: Machine, size: int) -> Iterator[Move]:
    yield migration.WriteData(size)


@draw(migration.DATA_READ, when=lambda world: world.state is S.RUNNING, pre_copy=st.booleans())
def save(machine: Machine, pre_copy: bool) -> Iterator[Move]:
    for state in (S.PRE_COPY, S.STOP_COPY) if pre_copy and machine.facts.pre_copy else (S.STOP_COPY,):
        yield migration.SetState(state)
        yield migration.ReadData()
    yield migration.SetState(S.RUNNING)


@draw(
    migration.DATA_WRITE, when=lambda world: world.state is S.RUNNING and world.saved, fill=_fills, anew=st.booleans()
)
def load(machine: Machine, fill: int, anew: bool) -> Iterator[Move]:
    """What was saved, or what is saved now and differs from it."""
    if anew and machine.can(region.WRITE):
        yield region.Write(*_inside(machine, 0, WIDTH), fill)
        yield from save(machine, pre_copy=False)
    yield migration.SetState(S.RESUMING)
    yield migration.WriteData()
    yield migration.SetState(S.STOP)
    if machine.world.state is S.STOP:
        yield migration.SetState(S.RUNNING)
        if machine.can(region.READ):
            yield region.Read(*_inside(machine, 0, SCRATCH))


@draw(
    migration.BAD_DATA,
    when=lambda world: world.state is S.RUNNING,
    size=st.sampled_from((2, 64, 5000)),
    seldom=True,
)
def load_part(machine: Machine, size: int) -> Iterator[Move]:
    """Less than was read, which may itself be a part only."""
    yield migration.SetState(S.STOP_COPY)
    yield migration.ReadData(size)
    yield migration.SetState(S.RESUMING)
    if machine.world.saved is not None and len(machine.world.saved.data) > 1:
        yield migration.WriteData(min(size, len(machine.world.saved.data)) // 2)
    yield migration.SetState(S.STOP)
    yield migration.GetState()


# The log of writes.


@draw(dirty.START, shift=st.integers(0, 3), ranges=st.lists(st.tuples(PAGES, COUNTS), max_size=2))
def start_log(machine: Machine, shift: int, ranges: list[tuple[int, int]]) -> Iterator[Move]:
    flat = [number for page, pages in ranges for number in pages_at(machine, page, pages)]
    yield dirty.StartLog(page_of(machine) << shift, tuple(flat))


@draw(dirty.STOP, when=lambda world: world.logging is not False)
def stop_log(machine: Machine) -> Iterator[Move]:
    yield dirty.StopLog()


@draw(dirty.REPORT, when=lambda world: world.maps, pick=PICKS, skip=st.integers(0, 3), shift=st.integers(0, 2))
def report(machine: Machine, pick: int, skip: int, shift: int) -> Iterator[Move]:
    found = _mapping(machine, pick)
    skipped = min(skip * page_of(machine), found.size - page_of(machine))
    yield dirty.Report(found.address + skipped, found.size - skipped, page_of(machine) << shift)


# Everything.


@draw(lifetime.RESET, seldom=True, silent=_seldom)
@draw(lifetime.RECOVERS, when=lambda world: world.state is S.ERROR, silent=st.just(False))
def reset(machine: Machine, silent: bool) -> Iterator[Move]:
    yield lifetime.Reset(silent)


@draw(lifetime.LEFT, seldom=True)
def next_client(machine: Machine) -> Iterator[Move]:
    yield lifetime.NextClient()
