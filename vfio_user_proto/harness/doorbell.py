"""Measuring: a guest rings the doorbells of ``devices.doorbell`` over each path, many times and one by one."""

import os
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from vfio_user_proto.client import Client
from vfio_user_proto.devices.doorbell import MAGIC, NO_VALUE, PLACES, SEEN, SEEN_SIZE, SIZES, Path, Seen
from vfio_user_proto.devices.pci import BAR0, BAR2, BAR4
from vfio_user_proto.drafts.ioregionfd import KvmCapability
from vfio_user_proto.errors import TargetError
from vfio_user_proto.kvm import GuestBus, InKernel, MicroVm, Program, Space, Via, why_not

# Writes are timed in so many batches; after each the device catches up.
BATCHES: Final = 20
# So many single writes tell after which time the device sees one.
SINGLES: Final = 100
# Seconds that a guest gets to come to its end: so many, and so many more for each write.
_PATIENCE: Final = 60.0
_SLOWEST: Final = 0.01
# So much cheaper than a message with reply must an ioeventfd be for the processor of a guest.
FACTOR: Final = 4.0
# What others measured: label -> writes per second. The figures are of May 2009, with iosignalfd, the former ioeventfd.
REFERENCES: Final[Mapping[str, int]] = {
    "2009: exit to QEMU, memory": 110_000,
    "2009: iosignalfd, memory": 200_100,
    "2009: iosignalfd, port": 367_300,
}
FACTOR_OF_2022: Final = 4.0  # shadow ioeventfd against messages of vfio-user, in October 2022


class Way(NamedTuple):
    """One path from a store to the device; ``posted`` asks for no reply to the message."""

    name: str
    path: Path
    posted: bool = False


MESSAGE: Final = Way("message with reply", Path.MESSAGE)
WAYS: Final = (
    MESSAGE,
    Way("message with No_reply", Path.MESSAGE, posted=True),
    Way("ioeventfd, port", Path.IOEVENTFD_PORT),
    Way("ioeventfd, memory", Path.IOEVENTFD),
    Way("shadow ioeventfd", Path.SHADOW),
    Way("ioregionfd, posted", Path.IOREGION_POSTED),
    Way("ioregionfd with reply", Path.IOREGION),
)
# Where the guest finds the regions. The second place of BAR0 is for posted messages and has no descriptors.
_ADDRESSES: Final = {BAR0: 0xD0000, BAR2: 0x500, BAR4: 0xD1000}
_POSTED: Final = 0xE0000
_PORTS: Final = {BAR2}


@dataclass(frozen=True, slots=True)
class Result:
    """One path, each time in microseconds; ``exits`` is None where no processor ran.

    ``cost`` is what the guest's processor spends per write, for each batch. ``delay`` is from before a single write until
    the device's code was called, for each of them.
    """

    name: str
    via: Via
    reason: str
    cost: tuple[float, ...]
    delay: tuple[float, ...]
    writes: int
    seen: int
    value_arrives: bool
    exits: int | None

    @property
    def median(self) -> float:
        """Microseconds per write."""
        return statistics.median(self.cost)


@dataclass(frozen=True, slots=True)
class Measurement:
    """All paths. ``on_kvm`` says whether a guest ran; if not, ``reason`` why. ``kernel`` is what KVM says that it has.

    ``idle`` is the part of every cost that is no write: the microseconds of a round of the guest's loop.
    """

    on_kvm: bool
    reason: str
    kernel: Mapping[str, bool]
    idle: float
    results: tuple[Result, ...]

    def times_cheaper(self, result: Result) -> float:
        """How often the cost of a path goes into that of a message with reply, by the medians."""
        return self.results[WAYS.index(MESSAGE)].median / result.median

    @property
    def ioeventfd_factor(self) -> float:
        """``times_cheaper`` of the dearer one of the two ioeventfds."""
        return min(self.times_cheaper(result) for result in self.results if result.name.startswith("ioeventfd"))

    @property
    def complete(self) -> bool:
        """Whether the device saw every write."""
        return all(result.seen == result.writes for result in self.results)


class Guest(Protocol):
    """Whoever writes to the doorbells."""

    def ring(self, bus: GuestBus, space: Space, address: int, first: int, count: int) -> tuple[int, int, int | None]:
        """Write ``first`` and the ``count`` - 1 numbers behind it; returns begin and end in nanoseconds, and the exits."""


class RealGuest:
    """A processor under KVM."""

    def __init__(self, machine: MicroVm) -> None:
        self._machine = machine

    def ring(self, bus: GuestBus, space: Space, address: int, first: int, count: int) -> tuple[int, int, int | None]:
        """See ``Guest``."""
        if space is Space.PORTS:
            program, write = Program().port(address), Program().out(4)
        else:
            program, write = Program().segment(address & ~0xFFFF), Program().store(address & 0xFFFF, 4)
        self._machine.load(program.value(first).repeat(count, write.add_one()))
        began = time.monotonic_ns()
        exits = self._machine.run(bus, timeout=_PATIENCE + count * _SLOWEST)
        return began, time.monotonic_ns(), exits.total()


class NoGuest:
    """A loop of ours in a guest's place."""

    def ring(self, bus: GuestBus, space: Space, address: int, first: int, count: int) -> tuple[int, int, int | None]:
        """See ``Guest``."""
        values = [number.to_bytes(4, sys.byteorder) for number in range(first, first + count)]
        began = time.monotonic_ns()
        for value in values:
            bus.store(space, address, value)
        return began, time.monotonic_ns(), None


def measure(client: Client, *, count: int, kvm: bool = True, timeout: float = 10.0) -> Measurement:
    """Ring every doorbell ``count`` times, at least once per batch, and ``SINGLES`` times.

    The device behind ``client`` must be ``devices.doorbell``: TargetError. Without ``kvm``, or where it does not work, the
    stores come from a loop of this program. What the device has not seen after ``timeout`` seconds counts as lost.
    """
    _check_device(client)
    with ExitStack() as stack:
        reason = why_not() if kvm else "KVM was not to be used"
        machine = None if reason else stack.enter_context(MicroVm())
        kernel = None if machine is None else InKernel(machine.vm)
        guest: Guest = NoGuest() if machine is None else RealGuest(machine)
        bus = stack.enter_context(GuestBus(client, kernel, timeout=timeout))
        _place(client, bus)
        results = tuple(_measure(way, client, bus, guest, max(1, count // BATCHES), timeout) for way in WAYS)
        idle = 0.0 if machine is None else _idle(machine, bus)
        return Measurement(machine is not None, reason, _kernel(machine, kernel), idle, results)


def _check_device(client: Client) -> None:
    with client.region_info(BAR0) as info:
        if info.size != SIZES[BAR0] or client.region_read(BAR0, 0, 4) != MAGIC.to_bytes(4, "little"):
            raise TargetError("the server's device is not the doorbell device (vfio-user serve --device doorbell)")


def _place(client: Client, bus: GuestBus) -> None:
    for region, address in _ADDRESSES.items():
        with client.region_io_fds(region, SIZES[region]) as found:
            space = Space.PORTS if region in _PORTS else Space.MEMORY
            bus.place(region, SIZES[region], address, space=space, io_fds=found.io_fds)
    bus.place(BAR0, SIZES[BAR0], _POSTED, posted=True)


def _measure(way: Way, client: Client, bus: GuestBus, guest: Guest, batch: int, timeout: float) -> Result:
    region, offset = PLACES[way.path]
    address = offset + (_POSTED if way.posted else _ADDRESSES[region])
    space = Space.PORTS if region in _PORTS else Space.MEMORY
    before = _seen(client, way.path).count
    cost, delay, exits, writes = [], [], 0, 0
    latest = Seen()
    for number, size in enumerate([batch] * BATCHES + [1] * SINGLES):
        began, ended, left = guest.ring(bus, space, address, writes + 1, size)
        writes, exits = writes + size, exits + (left or 0)
        if number < BATCHES:
            cost.append((ended - began) / 1000 / size)
        latest = _wait(client, way.path, before + writes, timeout)
        if latest.count - before != writes:
            break
        if number >= BATCHES:
            delay.append((latest.time - began) / 1000)
    wiring = next((w for w in bus.wirings if (w.region, w.sub_region.offset) == (region, offset)), None)
    return Result(
        way.name,
        Via.MESSAGE if wiring is None else wiring.via,
        "" if wiring is None else wiring.reason,
        tuple(cost),
        tuple(delay),
        writes,
        latest.count - before,
        latest.value != NO_VALUE and latest.value == writes,
        exits if isinstance(guest, RealGuest) else None,
    )


def _idle(machine: MicroVm, bus: GuestBus) -> float:
    """Microseconds that a round of the guest's loop takes without a write; the best of several attempts."""
    times = []
    for _ in range(5):
        machine.load(Program().value(1).repeat(1000, Program().add_one()))
        began = time.monotonic_ns()
        machine.run(bus)
        times.append(time.monotonic_ns() - began)
    return min(times) / 1000 / 1000


def _seen(client: Client, path: Path) -> Seen:
    return Seen.from_bytes(client.region_read(BAR0, SEEN + SEEN_SIZE * path, SEEN_SIZE))


def _wait(client: Client, path: Path, count: int, timeout: float) -> Seen:
    """What the device saw, once it saw ``count`` rings; or what it saw when the time was over."""
    deadline = time.monotonic() + timeout
    while (seen := _seen(client, path)).count < count and time.monotonic() < deadline:
        os.sched_yield()
    return seen


def _kernel(machine: MicroVm | None, kernel: InKernel | None) -> Mapping[str, bool]:
    if machine is None or kernel is None:
        return {}
    known = (KvmCapability.IOEVENTFD, KvmCapability.IOEVENTFD_ANY_LENGTH)
    return {
        **{each.document_name: bool(machine.vm.extension(each)) for each in known},
        "KVM_IOEVENTFD_FLAG_COMMIT_WRITE": kernel.commits_writes,
        "KVM_SET_IOREGION": kernel.has_ioregions,
    }
