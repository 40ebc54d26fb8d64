"""The test device: everything that a client, the conformance suite or a fuzzer can exercise, by registers.

Regions: BAR0, 4 KiB of registers and scratch RAM; BAR2, 16 KiB in a memfd, of which the areas 0x1000-0x1fff and
0x3000-0x3fff can be mapped; BAR3, 16 I/O ports, BAR4 and BAR5, 4 KiB each, doorbells and windows that are also reached
through descriptors; 7, configuration space; 9, 2 MiB of RAM of a device-specific type. Interrupts: 1 INTx, 2 MSI, 4 MSI-X,
1 ERR, 1 REQ. It migrates, with PRE_COPY: the contents of these regions are its state. At rest it keeps what is written to it,
but a DMA fails with EBUSY and no interrupt is raised.

BAR0, little endian; what is not listed reads as zero and ignores writes:

    ======  =====  ======  =====================================================================================
    offset  bytes  access  what
    ======  =====  ======  =====================================================================================
    0x000   4      read    0x44465456, "VTFD"
    0x100   8      both    DMA: IOVA of client memory
    0x108   4      both    DMA: length in bytes, at most 16 MiB
    0x10c   4      write   DMA: 1 writes client memory with the pattern, 2 reads it; done when the reply comes
    0x110   4      read    DMA: 0 nothing done, 1 done, 2 failed
    0x114   4      read    DMA: errno where it failed
    0x118   4      read    DMA: CRC-32 of the bytes that moved
    0x11c   4      both    DMA: n of the pattern, whose byte i is (i * 7 + n) & 0xff; 3 at the start
    0x120   4      both    DMA: MSI-X vector raised when it is over; 0xffffffff, as at the start, for none
    0x130   4      write   raise an interrupt: kind * 65536 + vector
    0x134   4      read    how many times the client masked or unmasked something
    0x200   176    read    doorbells, 16 bytes each: 8 that count how often it rang; 8 with the last value, which has
                           all bits set where no value was told
    0x400   64     both    MSI-X table, plain memory
    0x440   8      read    MSI-X pending bits, always zero
    0x800   2048   both    scratch RAM
    ======  =====  ======  =====================================================================================

Doorbells and windows; a message that writes to one of them does what a kick or a command does. Byte i of such a region reads
as (i * 7 + i // 256) & 0xff at the start; what is in no window always does:

    ======  =======  ======  ===============================================================================
    region  offset   bytes   what
    ======  =======  ======  ===============================================================================
    BAR3    0x000    4       doorbell 0, an ioeventfd for an I/O port
    BAR3    0x008    8       RAM, an ioregionfd of its own whose writes are answered
    BAR4    0x000    4       doorbell 1, an ioeventfd
    BAR4    0x004    4       doorbell 2, an ioeventfd for the value 0x5a alone, and 3, another one for 0xa5
    BAR4    0x008    4, 4    doorbells 4 and 5, which share one ioeventfd: each kick counts for both
    BAR4    0x010    any     doorbell 6, an ioeventfd for stores of any width
    BAR4    0x100    0x100   RAM, an ioregionfd with posted writes
    BAR4    0x200    0x100   RAM, the same ioregionfd, writes are answered
    BAR5    0x000    4       doorbell 7, an ioeventfd with shadow memory
    BAR5    0x008    8       doorbell 8, an ioeventfd with shadow memory
    BAR5    0x010    4       doorbell 9, an ioeventfd without
    ======  =======  ======  ===============================================================================
"""

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from vfio_user_proto.device import Description, Device, Host, Irq, Region
from vfio_user_proto.devices.pci import (
    BAR0,
    BAR2,
    BAR3,
    BAR4,
    BAR5,
    CONFIG,
    ERR,
    INTX,
    MSI,
    MSIX,
    REQ,
    ConfigSpace,
    msi,
    msix,
)
from vfio_user_proto.iofds import Doorbell, IoFdRegion, Window
from vfio_user_proto.messages import (
    DeviceState,
    IrqInfoFlags,
    IrqSetFlags,
    MigrationFlags,
    RegionType,
    SparseMmapArea,
)

RAM: Final = 9
BAR2_SIZE, RAM_SIZE = 16384, 2 << 20
MAX_DMA: Final = 16 << 20
NO_VECTOR: Final = 0xFFFFFFFF
IDENTITY: Final = b"VTFD"

# Registers of BAR0: offset -> (name, bytes).
ADDRESS, LENGTH, GO, STATUS, ERRNO, CRC, PATTERN, VECTOR = 0x100, 0x108, 0x10C, 0x110, 0x114, 0x118, 0x11C, 0x120
RAISE, MASKED = 0x130, 0x134
BELLS: Final = 0x200
BELL_SIZE: Final = 16
NO_VALUE: Final = (1 << 64) - 1
MSIX_TABLE, MSIX_PENDING, SCRATCH = 0x400, 0x440, 0x800
_WORKING: Final = (DeviceState.RUNNING, DeviceState.PRE_COPY)
# Bytes of BAR0 that keep what is written to them.
_MEMORY: Final = ((ADDRESS, GO), (PATTERN, VECTOR + 4), (MSIX_TABLE, MSIX_PENDING), (SCRATCH, 4096))
# What the regions with doorbells and windows hold at the start.
_AT_START: Final = bytes((at * 7 + at // 256) & 0xFF for at in range(4096))


class TestDevice(Device):
    """See the head of this file."""

    __test__ = False  # its name is not that of a test

    def __init__(self) -> None:
        self.config = ConfigSpace(
            vendor=0x5646,
            device=0x5444,
            class_code=0xFF0000,
            bars={0: 4096, 2: BAR2_SIZE, 4: 4096, 5: 4096},
            ports={3: 16},
            interrupt_pin=1,
            capabilities=[msix(4, bar=0, table=MSIX_TABLE, pending=MSIX_PENDING), msi(2)],
        )
        with contextlib.ExitStack() as opened:
            self._open(opened)
            self._opened = opened.pop_all()
        self.description = Description(
            regions={
                BAR0: Region(4096),
                BAR2: Region(
                    BAR2_SIZE,
                    fd=self.memory_fd,
                    areas=(SparseMmapArea(offset=0x1000, size=0x1000), SparseMmapArea(offset=0x3000, size=0x1000)),
                ),
                **self._with_io_fds(),
                CONFIG: Region(self.config.size),
                RAM: Region(RAM_SIZE, type=RegionType(type=0x80005646, subtype=1)),
            },
            irqs={
                INTX: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED),
                MSI: Irq(2, IrqInfoFlags.EVENTFD | IrqInfoFlags.NORESIZE),
                MSIX: Irq(4, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE),
                ERR: Irq(1),
                REQ: Irq(1),
            },
            num_regions=10,
            migration=MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY,
        )
        self._host: Host | None = None
        self.reset()

    def attach(self, host: Host) -> None:
        self._host = host
        for each in self.io_fds.values():
            each.attach(host)

    def detach(self) -> None:
        self._host = None
        for each in self.io_fds.values():
            each.renew()
        self.description = replace(self.description, regions={**self.description.regions, **self._with_io_fds()})

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        if index == BAR2:
            return os.pread(self.memory_fd, count, offset)
        if index in self._windows:
            return bytes(self._windows[index][offset : offset + count])
        return bytes(memoryview(self._bar0 if index == BAR0 else self._ram)[offset : offset + count])

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
        elif index == BAR2:
            os.pwrite(self.memory_fd, data, offset)
        elif index == RAM:
            self._ram[offset : offset + len(data)] = data
        elif index in self.io_fds:
            self.io_fds[index].write(offset, data)
        else:
            self._store(offset, data)

    def reset(self) -> None:
        self.config.reset()
        self._bar0 = bytearray(4096)
        self._ram = mmap.mmap(-1, RAM_SIZE)  # of the kernel's, which takes no memory for pages that nobody has written
        for windows in self._windows.values():
            windows[:] = _AT_START[: len(windows)]
        self._bar0[:4] = IDENTITY
        self._set(PATTERN, 3)
        self._set(VECTOR, NO_VECTOR)
        os.pwrite(self.memory_fd, bytes(BAR2_SIZE), 0)

    def irq_state(self, index: int, start: int, flags: IrqSetFlags, values: Sequence[bool]) -> None:
        self._set(MASKED, self._get(MASKED) + 1)

    def save(self) -> bytes:
        config, bar2 = self.config.read(0, self.config.size), os.pread(self.memory_fd, BAR2_SIZE, 0)
        return b"".join((self._bar0, config, bar2, self._ram, *self._windows.values()))

    def load(self, state: bytes) -> None:
        memories: Sequence[mmap.mmap | bytearray] = (self._ram, *self._windows.values())
        sizes = (4096, self.config.size, BAR2_SIZE, *map(len, memories))
        if len(state) != sum(sizes) or state[:4] != IDENTITY:
            raise ValueError("no state of a test device")
        ends = list(itertools.accumulate(sizes))
        bar0, config, bar2, *rest = (state[end - size : end] for size, end in zip(sizes, ends, strict=True))
        self._bar0[:] = bar0
        self.config.reset()
        self.config.write(0, config)
        os.pwrite(self.memory_fd, bar2, 0)
        for memory, content in zip(memories, rest, strict=True):
            memory[:] = content

    def close(self) -> None:
        self._opened.close()

    def _open(self, opened: contextlib.ExitStack) -> None:
        self.memory_fd = os.memfd_create("testdev-bar2", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        opened.callback(os.close, self.memory_fd)
        os.ftruncate(self.memory_fd, BAR2_SIZE)
        fcntl.fcntl(self.memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        ports, memory = _Windows(16), _Windows(4096)
        self._windows = {BAR3: ports, BAR4: memory, BAR5: _Windows(4096)}
        count = itertools.count()

        def bell(offset: int, size: int, **more: Any) -> Doorbell:
            return Doorbell(offset, size, partial(self._rung, next(count)), **more)

        entries: Mapping[int, Sequence[Doorbell | Window]] = {
            BAR3: [bell(0, 4, ports=True), Window(8, 8, ports, ports=True)],
            BAR4: [
                bell(0, 4),
                bell(4, 4, match=0x5A),
                bell(4, 4, match=0xA5),
                bell(8, 4, share="both"),
                bell(12, 4, share="both"),
                bell(16, 0),
                Window(0x100, 0x100, memory, posted=True),
                Window(0x200, 0x100, memory),
            ],
            BAR5: [bell(0, 4, shadow=True), bell(8, 8, shadow=True), bell(16, 4)],
        }
        self.io_fds = dict[int, IoFdRegion]()
        for index, each in entries.items():
            region = IoFdRegion(len(self._windows[index]), each)
            self.io_fds[index] = opened.enter_context(contextlib.closing(region))

    def _with_io_fds(self) -> dict[int, Region]:
        return {index: Region(len(self._windows[index]), io_fds=each.io_fds) for index, each in self.io_fds.items()}

    def _get(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self._bar0[offset : offset + size], "little")

    def _set(self, offset: int, value: int, size: int = 4) -> None:
        self._bar0[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def _store(self, offset: int, data: bytes) -> None:
        """A write to BAR0: what is memory keeps it, and two registers act."""
        end = offset + len(data)
        for start, stop in _MEMORY:
            if start < end and offset < stop:
                first, last = max(start, offset), min(stop, end)
                self._bar0[first:last] = data[first - offset : last - offset]
        if offset <= GO and end >= GO + 4:
            self._transfer(int.from_bytes(data[GO - offset : GO - offset + 4], "little"))
        if offset <= RAISE and end >= RAISE + 4:
            kind, vector = divmod(int.from_bytes(data[RAISE - offset : RAISE - offset + 4], "little"), 65536)
            self._raise(kind, vector)

    def _raise(self, kind: int, vector: int) -> None:
        if self._host is not None and self.state in _WORKING:
            self._host.trigger(kind, vector)

    def _transfer(self, operation: int) -> None:
        """Move bytes between client memory and the device, and say how it went."""
        address, length, start = self._get(ADDRESS, 8), self._get(LENGTH), self._get(PATTERN)
        try:
            if self.state not in _WORKING:
                raise OSError(errno.EBUSY, "the device is at rest")
            if self._host is None or length > MAX_DMA or operation not in (1, 2):
                raise OSError(errno.EINVAL, "no such transfer")
            if operation == 1:
                data = pattern(length, start)
                self._host.write(address, data)
            else:
                data = self._host.read(address, length)
            problem = 0
        except OSError as error:
            data, problem = b"", error.errno or errno.EIO
        self._set(STATUS, 2 if problem else 1)
        self._set(ERRNO, problem)
        self._set(CRC, zlib.crc32(data))
        if self._get(VECTOR) != NO_VECTOR:
            self._raise(MSIX, self._get(VECTOR))

    def _rung(self, number: int, value: int | None, times: int) -> None:
        at = BELLS + BELL_SIZE * number
        self._set(at, self._get(at, 8) + times, 8)
        self._set(at + 8, NO_VALUE if value is None else value, 8)


class _Windows(bytearray):
    """A region that keeps what is written to its windows (``iofds.Registers``)."""

    def read_register(self, offset: int, size: int) -> int:
        return int.from_bytes(self[offset : offset + size], sys.byteorder)

    def write_register(self, offset: int, size: int, value: int) -> None:
        self[offset : offset + size] = value.to_bytes(size, sys.byteorder)


def pattern(length: int, start: int) -> bytes:
    """``length`` bytes, of which byte i is (i * 7 + start) & 0xff."""
    period = bytes((i * 7 + start) & 0xFF for i in range(256))
    return (period * (length // 256 + 1))[:length]
