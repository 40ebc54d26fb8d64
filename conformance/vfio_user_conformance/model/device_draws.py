"""What the device may be drawn to do, where the profile of the target tells how: transfers, interrupts, doorbells."""

from collections.abc import Iterator

from hypothesis import strategies as st

from vfio_user_conformance.model import device, dirty, doorbells, irqs, memory
from vfio_user_conformance.model.client_draws import COUNTS, PAGE, PAGES, PICKS, page_of, pages_at
from vfio_user_conformance.model.machine import Draws, Machine
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.world import Mapped, S, World, overlapped
from vfio_user_proto.messages import DmaMapFlags

DRAWS = Draws()
draw = DRAWS.add
_skips, _lengths = st.integers(0, 4 * PAGE - 1), st.sampled_from((1, 100, 5000))

# Transfers of the device.


def _runs(world: World) -> bool:
    return world.state is S.RUNNING


def _reachable(world: World, access: int) -> list[Mapped]:
    """The mappings with a file and these rights; none while the device does not work."""
    there = [each for each in world.maps if each.sure and each.memory is not None and each.access & access == access]
    return there if _runs(world) else []


def _writeable(world: World) -> list[Mapped]:
    return _reachable(world, DmaMapFlags.WRITEABLE)


def _readable(world: World) -> list[Mapped]:
    return _reachable(world, DmaMapFlags.READABLE)


def _read_only(world: World) -> list[Mapped]:
    return [each for each in _readable(world) if not each.access & DmaMapFlags.WRITEABLE]


def _inside_of(there: list[Mapped], pick: int, skip: int, count: int) -> tuple[int, int]:
    """Address and size of a part of a mapping."""
    found = there[pick % len(there)]
    skip %= found.size
    return found.address + skip, min(count, found.size - skip)


@draw(device.WRITES, when=_writeable, pick=PICKS, skip=_skips, count=_lengths)
def device_writes(machine: Machine, pick: int, skip: int, count: int) -> Iterator[Move]:
    yield device.DeviceWrites(*_inside_of(_writeable(machine.world), pick, skip, count))


@draw(device.READS, when=_runs, pick=PICKS, skip=_skips, count=_lengths, page=PAGES, again=st.booleans())
def device_reads(machine: Machine, pick: int, skip: int, count: int, page: int, again: bool) -> Iterator[Move]:
    """Once, or before and after it writes there."""
    if not _readable(machine.world):
        yield memory.Map(*pages_at(machine, page, 2), fd=True)
    if there := _readable(machine.world):
        place = _inside_of(there, pick, skip, count)
        yield device.DeviceReads(*place)
        if again and there[pick % len(there)].access & DmaMapFlags.WRITEABLE:
            yield device.DeviceWrites(*place)
            yield device.DeviceReads(*place)


@draw(device.READ_ONLY, when=_runs, pick=PICKS, skip=_skips, count=_lengths, page=PAGES, seldom=True)
def device_writes_read_only(machine: Machine, pick: int, skip: int, count: int, page: int) -> Iterator[Move]:
    if not _read_only(machine.world):
        yield memory.Map(*pages_at(machine, page, 2), DmaMapFlags.READABLE, fd=True)
    if there := _read_only(machine.world):
        yield device.DeviceWrites(*_inside_of(there, pick, skip, count))


@draw(device.OUTSIDE, when=lambda world: world.gone and _runs(world), pick=PICKS, skip=_skips, count=_lengths)
def device_writes_outside(machine: Machine, pick: int, skip: int, count: int) -> Iterator[Move]:
    there = [each for each in machine.world.gone if not overlapped(machine.world.maps, each.address, each.size)]
    if there:
        yield device.DeviceWrites(*_inside_of(there, pick, skip, count))


@draw(device.OUTSIDE, when=_writeable, pick=PICKS, skip=_skips, count=_lengths, page=PAGES, pages=COUNTS, seldom=True)
def device_writes_then_outside(
    machine: Machine, pick: int, skip: int, count: int, page: int, pages: int
) -> Iterator[Move]:
    """Where it has just written, when that is no longer mapped, and something else is."""
    there = _writeable(machine.world)
    found, place = there[pick % len(there)], _inside_of(there, pick, skip, count)
    yield device.DeviceWrites(*place)
    yield memory.Unmap(found.address, found.size)
    yield memory.Map(*pages_at(machine, page, pages), fd=True)
    if not overlapped(machine.world.maps, *place):
        yield device.DeviceWrites(*place)


@draw(
    dirty.SCOPE,
    when=_writeable,
    pick=PICKS,
    places=st.lists(_skips, min_size=1, max_size=2),
    page=PAGES,
    more=st.booleans(),
)
def log_writes(machine: Machine, pick: int, places: list[int], page: int, more: bool) -> Iterator[Move]:
    there = _writeable(machine.world)
    found = there[pick % len(there)]
    if machine.world.logging is False:
        yield dirty.StartLog(page_of(machine))
    for place in places:
        yield device.DeviceWrites(found.address + place % found.size, 1)
    if more:
        yield memory.Map(*pages_at(machine, page, 1))
    yield dirty.Report(found.address, found.size, page_of(machine))


# Interrupts.


@draw(irqs.SIGNALS, when=lambda world: world.vectors, pick=PICKS)
def device_raises(machine: Machine, pick: int) -> Iterator[Move]:
    """Of the interrupts that the profile can raise, those that were assigned first."""
    ways = [(each.index, each.vector) for each in machine.facts.profile.irqs]
    ways = [each for each in ways if each in machine.world.vectors] or ways
    if ways:
        yield irqs.DeviceRaises(*ways[pick % len(ways)])


# Doorbells.


def _kickable(world: World) -> list[tuple[int, int, int]]:
    """The eventfds that this client was given."""
    return [key for key, place in world.places.items() if not place.is_ioregion]


@draw(doorbells.ANSWER, pick=PICKS, seldom=True)
def ask_io_fds(machine: Machine, pick: int) -> Iterator[Move]:
    there = [index for index, each in machine.facts.io_fds.items() if each.count]
    yield doorbells.AskIoFds(there[pick % len(there)])


@draw(doorbells.KICK, when=_kickable, pick=st.integers(0, 63))
def kick(machine: Machine, pick: int) -> Iterator[Move]:
    there = _kickable(machine.world)
    yield doorbells.Kick(*there[pick % len(there)])
