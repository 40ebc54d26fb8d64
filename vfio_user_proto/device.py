"""What a device is to the server: a description, which is data, and a few methods."""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vfio_user_proto.messages import (
    DeviceState,
    IoeventfdFlags,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    IrqInfoFlags,
    IrqSetFlags,
    MigrationFlags,
    RegionInfoFlags,
    RegionType,
    ShadowIoeventfdSubRegion,
    SparseMmapArea,
    SubRegion,
)

READ_WRITE = RegionInfoFlags.READ | RegionInfoFlags.WRITE
NO_MIGRATION = MigrationFlags(0)


@dataclass(frozen=True, slots=True)
class IoFds:
    """Sub-regions whose accesses come through descriptors; ``fds`` are what their ``fd_index`` fields count."""

    sub_regions: tuple[SubRegion, ...]
    fds: tuple[int, ...]


def shadow_of(entry: SubRegion) -> ShadowIoeventfdSubRegion | None:
    """The record, if it has shadow memory: one of 48 bytes that is an ordinary ioeventfd has the same layout."""
    if isinstance(entry, ShadowIoeventfdSubRegion) and entry.type == IoFdType.IOEVENTFD_SHADOW:
        return entry
    return None


def fd_fields(entry: SubRegion) -> tuple[str, ...]:
    """The names of the fields of a sub-region that count descriptors."""
    return ("fd_index",) if shadow_of(entry) is None else ("fd_index", "shadow_mem_fd_index")


def descriptors_of(entry: SubRegion) -> tuple[int, ...]:
    """The numbers of the descriptors that a sub-region uses, among those that came with the reply."""
    return tuple(getattr(entry, name) for name in fd_fields(entry))


def match_of(entry: SubRegion) -> int | None:
    """The one value that an ioeventfd counts; None where it counts all."""
    if isinstance(entry, IoregionfdSubRegion) or not entry.flags & IoeventfdFlags.DATAMATCH:
        return None
    return entry.datamatch


def in_ports(entry: SubRegion) -> bool:
    """Whether the sub-region is in the I/O port space."""
    if isinstance(entry, IoregionfdSubRegion):
        return bool(entry.flags & IoregionFlags.PIO)
    return bool(entry.flags & IoeventfdFlags.PIO)


@dataclass(frozen=True, slots=True)
class Region:
    """One region: ``size`` in bytes, and how it may be accessed.

    ``fd`` makes it mappable from byte ``offset`` of that descriptor on, in whole or, with ``areas``, in parts. The
    descriptor stays the device's.
    """

    size: int
    flags: RegionInfoFlags = READ_WRITE
    fd: int | None = None
    offset: int = 0
    areas: tuple[SparseMmapArea, ...] = ()
    type: RegionType | None = None
    io_fds: IoFds | None = None


@dataclass(frozen=True, slots=True)
class Irq:
    """One kind of interrupt: how many of it there are, and what it can do."""

    count: int
    flags: IrqInfoFlags = IrqInfoFlags.EVENTFD


@dataclass(frozen=True, slots=True)
class Description:
    """What the device offers; a region or interrupt kind that is not listed has size or count 0.

    A PCI device has 9 regions (section VFIO_USER_DEVICE_GET_REGION_INFO) and 5 interrupt kinds. With STOP_COPY in
    ``migration`` the device has ``save`` and ``load``; with PRE_COPY ``save`` may be called while it works.
    """

    regions: Mapping[int, Region]
    irqs: Mapping[int, Irq] = field(default_factory=dict)
    num_regions: int = 9
    num_irqs: int = 5
    resettable: bool = True
    migration: MigrationFlags = NO_MIGRATION


class Memory(Protocol):
    """The client's memory as a device sees it: by IOVA, whichever way the bytes travel."""

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes at ``address``; raises OSError (EFAULT) where they are not mapped for reading."""

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` at ``address``; raises OSError (EFAULT) where that is not mapped for writing."""


class Interrupts(Protocol):
    """How a device raises its interrupts."""

    def trigger(self, index: int, vector: int) -> None:
        """Signal the eventfd that the client set for this interrupt, if any; never blocks."""

    def level(self, index: int, vector: int, asserted: bool) -> None:
        """Hold an interrupt asserted, or let it go: while it is, the client is told again whenever it unmasks it."""


class Host(Memory, Interrupts, Protocol):
    """What a device gets when it is attached to a client."""

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever ``fd``, a non-blocking descriptor of the device's, can be read, until the client leaves."""

    def unwatch(self, fd: int) -> None:
        """Watch a descriptor no longer."""


class Device(Protocol):
    """A device. A method that raises OSError refuses: its errno is what the error reply carries. Anything else that it raises
    is a mistake in its code: the reply carries EIO, and the log has the traceback.

    A class that inherits from this one leaves out what it has no use for. ``state`` is where a device that can migrate stands;
    the server sets it. In STOP, STOP_COPY and RESUMING the device is at rest: it leaves client memory and interrupts alone.
    """

    description: Description
    state: DeviceState = DeviceState.RUNNING

    def attach(self, host: Host) -> None:
        """A client came; use ``host`` until ``detach``."""
        return

    def detach(self) -> None:
        """The client left: its memory and eventfds are gone, the device keeps its state (Client Disconnection)."""
        return

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes; offset and count lie inside the region."""

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        """Take ``data``; it lies inside the region."""
        return

    def reset(self) -> None:
        """Back to the state of the start."""
        return

    def irq_state(self, index: int, start: int, flags: IrqSetFlags, values: Sequence[bool]) -> None:
        """The client masked or unmasked interrupts ``start`` onwards, those whose value is true."""
        return

    def save(self) -> bytes:
        """All that makes the device what it is, except what belongs to the client."""
        raise OSError(errno.EOPNOTSUPP, "no migration")

    def load(self, state: bytes) -> None:
        """Become what was saved; raises OSError or ValueError where that is no state of such a device, which is then lost.

        ``state`` is whole and undamaged, but whoever wrote it may be hostile.
        """
        raise OSError(errno.EOPNOTSUPP, "no migration")

    def close(self) -> None:
        """The server ends: give back what the device opened."""
        return
