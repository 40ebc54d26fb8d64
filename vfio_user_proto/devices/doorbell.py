"""The doorbell device: an NVMe-like page of doorbells, one for each way in which a store can reach a device.

Regions: BAR0, 4 KiB of registers and doorbells; BAR2, 16 I/O ports; BAR4, 4 KiB with shadow memory; 7, configuration space.
All values are little endian; what is not listed reads as zero and ignores writes:

    ======  ======  =====  ======  ==============================================================================
    region  offset  bytes  access  what
    ======  ======  =====  ======  ==============================================================================
    BAR0    0x000   4      read    0x4c424456, "VDBL"
    BAR0    0x100   32     read    what doorbell 0 saw; those of the others follow, in the order of ``Path``
    BAR0    0x800   4      both    doorbell 0, by messages alone
    BAR0    0x804   4      both    doorbell 1, an ioeventfd
    BAR2    0x000   4      both    doorbell 2, an ioeventfd for an I/O port
    BAR4    0x000   4      both    doorbell 3, an ioeventfd with shadow memory
    BAR0    0x808   4      both    doorbell 4, an ioregionfd with posted writes
    BAR0    0x80c   4      both    doorbell 5, an ioregionfd whose writes are answered
    ======  ======  =====  ======  ==============================================================================

What a doorbell saw: 8 bytes that count how often it rang; 8 bytes with the last value, all bits set where the value did not
arrive; 8 bytes with the time of the last ring, in nanoseconds of CLOCK_MONOTONIC; 8 bytes of zeros. A doorbell reads as the
low half of that value. A message that writes to a doorbell rings it like the descriptor does. A reset sets all to zero.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Final

from vfio_user_proto.device import Description, Device, Host, Region
from vfio_user_proto.devices.pci import BAR0, BAR2, BAR4, CONFIG, ConfigSpace
from vfio_user_proto.iofds import Doorbell, IoFdRegion, Window

MAGIC: Final = 0x4C424456
SEEN: Final = 0x100  # of BAR0
SEEN_SIZE: Final = 32
NO_VALUE: Final = (1 << 64) - 1
SIZES: Final = {BAR0: 4096, BAR2: 16, BAR4: 4096}


class Path(IntEnum):
    """The doorbells."""

    MESSAGE = 0
    IOEVENTFD = 1
    IOEVENTFD_PORT = 2
    SHADOW = 3
    IOREGION_POSTED = 4
    IOREGION = 5


# doorbell -> (region, offset)
PLACES: Final = {
    Path.MESSAGE: (BAR0, 0x800),
    Path.IOEVENTFD: (BAR0, 0x804),
    Path.IOEVENTFD_PORT: (BAR2, 0),
    Path.SHADOW: (BAR4, 0),
    Path.IOREGION_POSTED: (BAR0, 0x808),
    Path.IOREGION: (BAR0, 0x80C),
}


@dataclass(slots=True)
class Seen:
    """What a doorbell saw: how many rings, the last value, and when, in nanoseconds."""

    count: int = 0
    value: int = 0
    time: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> "Seen":
        """Read the 32 bytes of the registers."""
        return cls(*(int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16)))

    def to_bytes(self) -> bytes:
        """The 32 bytes of the registers."""
        return b"".join((number & NO_VALUE).to_bytes(8, "little") for number in (self.count, self.value, self.time, 0))


class DoorbellDevice(Device):
    """See the head of this file."""

    def __init__(self) -> None:
        memory = {index: size for index, size in SIZES.items() if index != BAR2}
        self.config = ConfigSpace(
            vendor=0x5646, device=0x4442, class_code=0xFF0000, bars=memory, ports={BAR2: SIZES[BAR2]}
        )
        self.seen = {path: Seen() for path in Path}
        entries: Mapping[int, Sequence[Doorbell | Window]] = {
            BAR0: [
                Doorbell(PLACES[Path.IOEVENTFD][1], 4, self._rung(Path.IOEVENTFD)),
                Window(PLACES[Path.IOREGION_POSTED][1], 4, self, posted=True),
                Window(PLACES[Path.IOREGION][1], 4, self),
            ],
            BAR2: [Doorbell(0, 4, self._rung(Path.IOEVENTFD_PORT), ports=True)],
            BAR4: [Doorbell(0, 4, self._rung(Path.SHADOW), shadow=True)],
        }
        with contextlib.ExitStack() as opened:
            self._io_fds = {
                index: opened.enter_context(contextlib.closing(IoFdRegion(SIZES[index], each)))
                for index, each in entries.items()
            }
            self._opened = opened.pop_all()
        self._paths = {offset: path for path, (region, offset) in PLACES.items() if region == BAR0}
        self.description = self._describe()

    def attach(self, host: Host) -> None:
        for each in self._io_fds.values():
            each.attach(host)

    def detach(self) -> None:
        for each in self._io_fds.values():
            each.renew()
        self.description = self._describe()

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        return bytes(self._registers(index)[offset : offset + count])

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
        elif not self._io_fds[index].write(offset, data) and (index, offset, len(data)) == (*PLACES[Path.MESSAGE], 4):
            self.write_register(offset, 4, int.from_bytes(data, "little"))

    def reset(self) -> None:
        self.config.reset()
        for path in Path:
            self.seen[path] = Seen()

    def close(self) -> None:
        self._opened.close()

    def read_register(self, offset: int, size: int) -> int:
        """A read of BAR0 through the ioregionfd (``iofds.Registers``)."""
        return int.from_bytes(self.region_read(BAR0, offset, size), "little")

    def write_register(self, offset: int, size: int, value: int) -> None:
        """A write to BAR0 that carries its value (``iofds.Registers``)."""
        if offset in self._paths and size == 4:
            self._ring(self._paths[offset], value, 1)

    def _rung(self, path: Path) -> Callable[[int | None, int], None]:
        return partial(self._ring, path)

    def _ring(self, path: Path, value: int | None, times: int) -> None:
        seen = self.seen[path]
        seen.count, seen.value, seen.time = (
            seen.count + times,
            NO_VALUE if value is None else value,
            time.monotonic_ns(),
        )

    def _registers(self, index: int) -> bytearray:
        registers = bytearray(SIZES[index])
        for path, (region, offset) in PLACES.items():
            if region == index:
                registers[offset : offset + 4] = self.seen[path].to_bytes()[8:12]
        if index == BAR0:
            registers[:4] = MAGIC.to_bytes(4, "little")
            seen = b"".join(self.seen[path].to_bytes() for path in Path)
            registers[SEEN : SEEN + len(seen)] = seen
        return registers

    def _describe(self) -> Description:
        regions = {index: Region(SIZES[index], io_fds=each.io_fds) for index, each in self._io_fds.items()}
        return Description(regions={**regions, CONFIG: Region(self.config.size)})
