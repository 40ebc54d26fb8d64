"""What is drawn: hypothesis chooses moves and their values, within what the target offers and what is allowed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hypothesis import strategies as st

from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import NotApplicable
from vfio_user_conformance.model import device, dirty, irqs, lifetime, memory, migration, region
from vfio_user_conformance.model.rule import Move, Rule
from vfio_user_conformance.model.trial import Trial
from vfio_user_conformance.model.world import SAVING, Region, S, World
from vfio_user_conformance.verdict import Outcome
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import IrqInfoFlags

# A page of mappings, the first of those that are drawn, and how many are in force at most.
PAGE, BASE, MOST_MAPS = 4096, 0x10000, 24
# Scratch bytes that are used, interrupts of a type, and bytes of one write.
SCRATCH, MOST_VECTORS, WIDTH = 64, 8, 16
# Draws of one sequence at most.
LENGTH = 80
# How much more often than the others something is drawn that is not seldom.
_OFTEN = 4
_pages, _counts = st.integers(0, 15), st.integers(1, 4)
_picks = st.integers(0, 15)
# The interrupt type that has most interrupts comes first, and often.
_types, _starts = st.sampled_from((0, 0, 0, 1, 2, 3, 4)), st.integers(0, MOST_VECTORS - 1)
_sizes = st.sampled_from((0, 0, 0, 1, 64, 5000))
_skips = st.integers(0, 4 * PAGE - 1)
_seldom = st.sampled_from((False, False, False, True))
# What a sequence can be about. Most mistakes take one subject or two; commands of the others would only get in between.
_SUBJECTS = (
    memory.RULES,
    (*memory.RULES, *device.RULES, *dirty.RULES),
    irqs.RULES,
    migration.RULES,
    region.RULES,
    lifetime.RULES,
)


class Lost(BaseException):
    """There is no target any more; no Exception, so that hypothesis does not take it for a finding."""


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except TargetError as error:
        raise Lost(str(error)) from None


def obstacle(rule: Rule, bench: Bench) -> tuple[Outcome, str] | None:
    """Why nothing is done about a rule: a hazard that is not allowed, or something that the target lacks; else None."""
    if blocked := rule.hazards - bench.allow:
        return Outcome.REFUSED_SAFETY, f"needs --allow {','.join(sorted(blocked))}"
    try:
        for need in rule.needs:
            need.read(bench.facts)
    except NotApplicable as missing:
        return Outcome.NOT_APPLICABLE, str(missing)
    return None


@dataclass(frozen=True)
class Draw:
    """What may be drawn where a sequence is about ``rule`` and the model is as ``when`` says, and the values that it takes."""

    do: Callable[..., None]
    rule: Rule
    when: Callable[[World], Any]
    seldom: bool
    values: dict[str, st.SearchStrategy[Any]]


_DRAWS: list[Draw] = []


def draw(
    rule: Rule,
    *,
    when: Callable[[World], Any] = lambda world: True,
    seldom: bool = False,
    **values: st.SearchStrategy[Any],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A method of ``Machine`` that is drawn; its arguments are drawn from ``values``."""

    def note(do: Callable[..., None]) -> Callable[..., None]:
        _DRAWS.append(Draw(do, rule, when, seldom, values))
        return do

    return note


def _writeable(region: Region) -> bool:
    """Whether the device can write there, and we can see what it wrote."""
    return region.sure and region.memory is not None and bool(region.access & 2)


def _loadable(world: World) -> bool:
    """Whether there is a state that can be written."""
    return world.state is S.RESUMING and world.saved is not None and world.loaded is not None


class Machine:
    """One sequence. ``begin`` makes the trial that does what is drawn; ``step`` is called before each move."""

    def __init__(self, begin: Callable[[], Trial], step: Callable[[], None]) -> None:
        self._step = step
        with _noticing():
            self.trial = begin()

    def run(self, data: st.DataObject) -> None:
        """Choose two subjects, or all that the target has and that are allowed; then draw until the sequence ends."""
        subjects = [{rule for rule in each if obstacle(rule, self.trial.bench) is None} for each in _SUBJECTS]
        pairs = [one | other for one, other in combinations(filter(None, subjects), 2)]
        try:
            about = data.draw(st.sampled_from([set[Rule]().union(*subjects), *pairs]))
            for _ in range(data.draw(st.integers(0, LENGTH))):
                there = [each for each in _DRAWS if each.rule in about and each.when(self.trial.world)]
                weighed = [each for each in there for _ in range(1 if each.seldom else _OFTEN)]
                chosen = data.draw(st.sampled_from(weighed))
                chosen.do(self, **{name: data.draw(value) for name, value in chosen.values.items()})
        finally:
            self.trial.close()

    def _do(self, *moves: Move) -> None:
        for move in moves:
            self._step()
            with _noticing():
                self.trial.do(move)

    # Client memory.

    @draw(
        memory.MAP,
        page=_pages,
        pages=_counts,
        access=st.sampled_from((3, 1, 2)),
        behind=st.integers(-1, 2),
        silent=_seldom,
    )
    def map(self, page: int, pages: int, access: int, behind: int, silent: bool) -> None:
        offset = max(behind, 0) * self._page
        if len(self.trial.world.maps) < self._room:
            self._do(
                memory.Map(
                    BASE * self._unit + page * self._page, pages * self._page, access, behind >= 0, offset, silent
                )
            )

    @draw(memory.UNMAP, when=lambda world: world.maps, pick=_picks, silent=_seldom)
    def unmap(self, pick: int, silent: bool) -> None:
        found = self.trial.world.maps[pick % len(self.trial.world.maps)]
        self._do(memory.Unmap(found.address, found.size, silent))

    @draw(memory.MISMATCH, page=_pages, pages=_counts, seldom=True)
    def unmap_range(self, page: int, pages: int) -> None:
        self._do(memory.Unmap(BASE * self._unit + page * self._page, pages * self._page))

    @draw(memory.MISMATCH, when=lambda world: world.maps, pick=_picks, last=st.booleans(), seldom=True)
    def unmap_part(self, pick: int, last: bool) -> None:
        found = self.trial.world.maps[pick % len(self.trial.world.maps)]
        if found.size > self._page:
            self._do(memory.Unmap(found.address + last * self._page, found.size - self._page))

    @property
    def _page(self) -> int:
        sizes = self.trial.bench.facts.capabilities.pgsizes
        return max(sizes & -sizes, PAGE)

    @property
    def _unit(self) -> int:
        return self._page // PAGE

    @property
    def _room(self) -> int:
        return min(MOST_MAPS, self.trial.bench.facts.capabilities.max_dma_maps - 1)

    # Regions.

    @draw(
        region.WRITE,
        at=st.integers(0, SCRATCH - 1),
        count=st.integers(1, WIDTH),
        fill=st.integers(0, 255),
        silent=_seldom,
    )
    def write(self, at: int, count: int, fill: int, silent: bool) -> None:
        at, count = self._inside(at, count)
        self._do(region.Write(at, count, fill, silent))

    @draw(
        region.SEVERAL,
        places=st.lists(st.integers(0, SCRATCH - 8), min_size=1, max_size=3),
        count=st.integers(1, 8),
        fill=st.integers(0, 255),
    )
    def write_several(self, places: list[int], count: int, fill: int) -> None:
        self._do(
            region.WriteSeveral(tuple(self._inside(at, count)[0] for at in places), self._inside(0, count)[1], fill)
        )

    @draw(region.READ, at=st.integers(0, SCRATCH - 1), count=st.sampled_from((SCRATCH, SCRATCH, WIDTH, 4, 1)))
    def read(self, at: int, count: int) -> None:
        self._do(region.Read(*self._inside(at, count)))

    @draw(region.INFO, kind=st.integers(0, 2), pick=_picks, seldom=True)
    def ask(self, kind: int, pick: int) -> None:
        facts = self.trial.bench.facts
        known = ([0], sorted(facts.regions), sorted(facts.irqs))[kind]
        if known:
            self._do(region.Ask(kind, known[pick % len(known)]))

    def _inside(self, at: int, count: int) -> tuple[int, int]:
        """A place and a number of scratch bytes that there are, in accesses as large as the target takes."""
        facts = self.trial.bench.facts
        size = facts.profile.scratch.size if facts.profile.scratch else 1
        count = min(count, size, facts.capabilities.max_data_xfer_size)
        return min(at, size - count), count

    # Interrupts.

    @draw(irqs.ASSIGN, pick=_types, start=_starts, count=_counts)
    def assign(self, pick: int, start: int, count: int) -> None:
        self._do(irqs.Assign(*self._vectors(pick, start, count, self._limit)))

    @draw(irqs.UNASSIGN, when=lambda world: world.vectors, pick=_types, start=_starts, count=_counts)
    def unassign(self, pick: int, start: int, count: int) -> None:
        self._do(irqs.Unassign(*self._vectors(pick, start, count)))

    @draw(irqs.DISABLE, when=lambda world: world.vectors, pick=_types)
    def disable(self, pick: int) -> None:
        self._do(irqs.Disable(self._vectors(pick, 0, 1)[0]))

    @draw(irqs.MASKING, when=lambda world: world.vectors, pick=_types, start=_starts, count=_counts, on=st.booleans())
    def mask(self, pick: int, start: int, count: int, on: bool) -> None:
        index, start, count = self._vectors(pick, start, count)
        if self.trial.bench.facts.irqs[index].flags & IrqInfoFlags.MASKABLE:
            self._do(irqs.Masking(index, start, count, on))

    @draw(irqs.RAISE, when=lambda world: world.vectors, pick=_picks, count=_counts)
    def raise_all(self, pick: int, count: int) -> None:
        self._do(irqs.Raise(*self._used(pick, count)))

    @draw(
        irqs.RAISE,
        when=lambda world: world.vectors,
        pick=_picks,
        values=st.lists(st.integers(0, 1), min_size=1, max_size=4),
    )
    def raise_some(self, pick: int, values: list[int]) -> None:
        index, start, count = self._used(pick, len(values))
        self._do(irqs.Raise(index, start, count, tuple(values[:count])))

    def _used(self, pick: int, count: int) -> tuple[int, int, int]:
        """A range of interrupts of which the first has an eventfd, or had one."""
        had = list(self.trial.world.vectors)
        index, start = had[pick % len(had)]
        return index, start, min(count, self.trial.bench.facts.irqs[index].count - start)

    def _vectors(self, pick: int, start: int, count: int, limit: int = MOST_VECTORS) -> tuple[int, int, int]:
        """A type, and a range of its interrupts."""
        facts = self.trial.bench.facts
        types = [index for index, each in facts.irqs.items() if each.flags & IrqInfoFlags.EVENTFD and each.count]
        types.sort(key=lambda index: -facts.irqs[index].count)
        index = types[pick % len(types)]
        most = min(facts.irqs[index].count, MOST_VECTORS)
        start %= most
        return index, start, min(count, most - start, limit)

    @property
    def _limit(self) -> int:
        """How many descriptors the target takes with one message."""
        return max(self.trial.bench.facts.capabilities.max_msg_fds, 1)

    # Migration.

    @draw(
        migration.ARC,
        when=lambda world: world.state is not None,
        wanted=st.sampled_from((S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING, S.PRE_COPY)),
    )
    def set_state(self, wanted: int) -> None:
        self._do(migration.SetState(int(wanted)))

    @draw(
        migration.ARC,
        when=lambda world: world.state is not None,
        wanted=st.sampled_from((S.ERROR, S.RUNNING_P2P, S.PRE_COPY_P2P, 8)),
        seldom=True,
    )
    def set_no_state(self, wanted: int) -> None:
        self._do(migration.SetState(int(wanted)))

    @draw(migration.TOLD)
    def get_state(self) -> None:
        self._do(migration.GetState())

    @draw(migration.DATA_READ, when=lambda world: world.state in SAVING, size=_sizes)
    @draw(migration.NOT_READ, when=lambda world: world.state not in SAVING, seldom=True, size=_sizes)
    def read_data(self, size: int) -> None:
        self._do(migration.ReadData(size))

    @draw(migration.DATA_WRITE, when=_loadable, size=_sizes)
    @draw(migration.NOT_WRITTEN, when=lambda world: world.state is not S.RESUMING, seldom=True, size=_sizes)
    def write_data(self, size: int) -> None:
        self._do(migration.WriteData(size))

    @draw(migration.DATA_READ, when=lambda world: world.state is S.RUNNING, pre_copy=st.booleans())
    def save(self, pre_copy: bool) -> None:
        states = (S.PRE_COPY, S.STOP_COPY) if pre_copy and self.trial.bench.facts.pre_copy else (S.STOP_COPY,)
        self._do(*(move for state in states for move in (migration.SetState(state), migration.ReadData())))
        self._do(migration.SetState(S.RUNNING))

    @draw(migration.DATA_WRITE, when=lambda world: world.state is S.RUNNING and world.saved, part=_seldom)
    def load(self, part: bool) -> None:
        self._do(migration.SetState(S.RESUMING), migration.WriteData(1000 if part else 0), migration.SetState(S.STOP))
        if self.trial.world.state is S.STOP:
            self._do(migration.SetState(S.RUNNING))
            if obstacle(region.READ, self.trial.bench) is None:
                self._do(region.Read(*self._inside(0, SCRATCH)))

    # The log of writes.

    @draw(dirty.START, shift=st.integers(0, 3), ranges=st.lists(st.tuples(_pages, _counts), max_size=2))
    def start_log(self, shift: int, ranges: list[tuple[int, int]]) -> None:
        flat = [
            number for page, pages in ranges for number in (BASE * self._unit + page * self._page, pages * self._page)
        ]
        self._do(dirty.StartLog(self._page << shift, tuple(flat)))

    @draw(dirty.STOP, when=lambda world: world.logging is not False)
    def stop_log(self) -> None:
        self._do(dirty.StopLog())

    @draw(dirty.REPORT, when=lambda world: world.maps, pick=_picks, skip=st.integers(0, 3), shift=st.integers(0, 2))
    def report(self, pick: int, skip: int, shift: int) -> None:
        found = self.trial.world.maps[pick % len(self.trial.world.maps)]
        skipped = min(skip * self._page, found.size - self._page)
        self._do(dirty.Report(found.address + skipped, found.size - skipped, self._page << shift))

    # Writes of the device.

    @draw(
        device.WRITES,
        when=lambda world: world.state is S.RUNNING and any(map(_writeable, world.maps)),
        pick=_picks,
        skip=_skips,
        count=st.sampled_from((1, 100, 5000)),
    )
    def device_writes(self, pick: int, skip: int, count: int) -> None:
        found = self._written(pick)
        skip %= found.size
        self._do(device.DeviceWrites(found.address + skip, min(count, found.size - skip)))

    @draw(
        dirty.SCOPE,
        when=lambda world: world.state is S.RUNNING and any(map(_writeable, world.maps)),
        pick=_picks,
        places=st.lists(_skips, min_size=1, max_size=2),
        page=_pages,
        more=st.booleans(),
    )
    def log_writes(self, pick: int, places: list[int], page: int, more: bool) -> None:
        found = self._written(pick)
        if self.trial.world.logging is False:
            self._do(dirty.StartLog(self._page))
        self._do(*(device.DeviceWrites(found.address + place % found.size, 1) for place in places))
        if more:
            self._do(memory.Map(BASE * self._unit + page * self._page, self._page))
        self._do(dirty.Report(found.address, found.size, self._page))

    def _written(self, pick: int) -> Region:
        """A mapping that the device can write."""
        there = [each for each in self.trial.world.maps if _writeable(each)]
        return there[pick % len(there)]

    # Everything.

    @draw(lifetime.RESET, seldom=True, silent=_seldom)
    def reset(self, silent: bool) -> None:
        self._do(lifetime.Reset(silent))

    @draw(lifetime.LEFT, seldom=True)
    def next_client(self) -> None:
        self._do(lifetime.NextClient())
