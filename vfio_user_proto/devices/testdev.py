"""The test device: everything that a client, the conformance suite or a fuzzer can exercise, by registers.

Regions: BAR0, 4 KiB of registers and scratch RAM; BAR2, 16 KiB in a memfd, of which the areas 0x1000-0x1fff and
0x3000-0x3fff can be mapped; BAR4, 4 KiB of doorbells, also reached through descriptors; 7, configuration space; 9, 2 MiB of
RAM of a device-specific type. Interrupts: 1 INTx, 1 MSI, 4 MSI-X, 1 ERR, 1 REQ. It migrates, with PRE_COPY: the contents of
these regions are its state. At rest it keeps what is written to it, but a DMA fails with EBUSY and no interrupt is raised.

BAR0, little endian; what is not listed reads as zero and ignores writes:

    ======  =====  ======  =====================================================================================
    offset  bytes  access  what
    ======  =====  ======  =====================================================================================
    0x000   4      read    0x44465456, "VTFD"
    0x004   4      read    how often the eventfd doorbells rang
    0x008   4      read    how many records came through the ioregionfd doorbell
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
    0x400   64     both    MSI-X table, plain memory
    0x440   8      read    MSI-X pending bits, always zero
    0x800   2048   both    scratch RAM
    ======  =====  ======  =====================================================================================

BAR4: an eventfd covers 4 bytes at 0x000 and 4 bytes at 0x004 (the latter only for the value 0x5a), an ioregionfd
with posted writes covers 0x100-0x1ff. A message that writes to one of these places counts like a kick.
"""

import contextlib
import errno
import fcntl
import os
import socket
import zlib
from collections.abc import Sequence
from typing import Final

from vfio_user_proto.device import Description, Device, Host, IoFds, Irq, Region
from vfio_user_proto.devices.pci import BAR0, BAR2, BAR4, CONFIG, ERR, INTX, MSI, MSIX, REQ, ConfigSpace, msi, msix
from vfio_user_proto.messages import (
    DeviceState,
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    IrqInfoFlags,
    IrqSetFlags,
    MigrationFlags,
    RegionType,
    SparseMmapArea,
)

RAM: Final = 9
BAR2_SIZE, RAM_SIZE = 16384, 2 << 20
MAX_DMA: Final = 16 << 20
RECORD: Final = 32  # bytes of one ioregionfd command
NO_VECTOR: Final = 0xFFFFFFFF
IDENTITY: Final = b"VTFD"

# Registers of BAR0: offset -> (name, bytes).
ADDRESS, LENGTH, GO, STATUS, ERRNO, CRC, PATTERN, VECTOR = 0x100, 0x108, 0x10C, 0x110, 0x114, 0x118, 0x11C, 0x120
RAISE, MASKED = 0x130, 0x134
KICKS, RECORDS = 0x004, 0x008
MSIX_TABLE, MSIX_PENDING, SCRATCH = 0x400, 0x440, 0x800
_WORKING: Final = (DeviceState.RUNNING, DeviceState.PRE_COPY)
# Bytes of BAR0 that keep what is written to them.
_MEMORY: Final = ((ADDRESS, GO), (PATTERN, VECTOR + 4), (MSIX_TABLE, MSIX_PENDING), (SCRATCH, 4096))


class TestDevice(Device):
    """See the head of this file."""

    __test__ = False  # its name is not that of a test

    def __init__(self) -> None:
        self.config = ConfigSpace(
            vendor=0x5646,
            device=0x5444,
            class_code=0xFF0000,
            bars={0: 4096, 2: BAR2_SIZE, 4: 4096},
            interrupt_pin=1,
            capabilities=[msix(4, bar=0, table=MSIX_TABLE, pending=MSIX_PENDING), msi(1)],
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
                BAR4: Region(4096, io_fds=self._io_fds()),
                CONFIG: Region(self.config.size),
                RAM: Region(RAM_SIZE, type=RegionType(type=0x80005646, subtype=1)),
            },
            irqs={
                INTX: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED),
                MSI: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE),
                MSIX: Irq(4, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE),
                ERR: Irq(1),
                REQ: Irq(1),
            },
            num_regions=10,
            migration=MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY,
        )
        self._host: Host | None = None
        self._bar0, self._ram = bytearray(4096), bytearray(RAM_SIZE)
        self.reset()

    def attach(self, host: Host) -> None:
        self._host = host
        host.watch(self.doorbell, self._kicked)
        host.watch(self.matching, self._kicked)
        host.watch(self.ioregion.fileno(), self._recorded)

    def detach(self) -> None:
        self._host = None

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        if index == BAR2:
            return os.pread(self.memory_fd, count, offset)
        if index == BAR4:
            return bytes(count)
        with memoryview(self._bar0 if index == BAR0 else self._ram) as memory:
            return bytes(memory[offset : offset + count])

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
        elif index == BAR2:
            os.pwrite(self.memory_fd, data, offset)
        elif index == RAM:
            self._ram[offset : offset + len(data)] = data
        elif index == BAR4:
            self._ring(offset, data)
        else:
            self._store(offset, data)

    def reset(self) -> None:
        self.config.reset()
        self._bar0[:], self._ram[:] = bytes(4096), bytes(RAM_SIZE)
        self._bar0[:4] = IDENTITY
        self._set(PATTERN, 3)
        self._set(VECTOR, NO_VECTOR)
        os.pwrite(self.memory_fd, bytes(BAR2_SIZE), 0)

    def irq_state(self, index: int, start: int, flags: IrqSetFlags, values: Sequence[bool]) -> None:
        self._set(MASKED, self._get(MASKED) + 1)

    def save(self) -> bytes:
        config = self.config.read(0, self.config.size)
        return bytes(self._bar0) + config + os.pread(self.memory_fd, BAR2_SIZE, 0) + bytes(self._ram)

    def load(self, state: bytes) -> None:
        bar2 = 4096 + self.config.size
        if len(state) != bar2 + BAR2_SIZE + RAM_SIZE or state[:4] != IDENTITY:
            raise ValueError("no state of a test device")
        self._bar0[:], self._ram[:] = state[:4096], state[bar2 + BAR2_SIZE :]
        self.config.reset()
        self.config.write(0, state[4096:bar2])
        os.pwrite(self.memory_fd, state[bar2 : bar2 + BAR2_SIZE], 0)

    def close(self) -> None:
        self._opened.close()

    def _open(self, opened: contextlib.ExitStack) -> None:
        self.memory_fd = os.memfd_create("testdev-bar2", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        opened.callback(os.close, self.memory_fd)
        os.ftruncate(self.memory_fd, BAR2_SIZE)
        fcntl.fcntl(self.memory_fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self.doorbell, self.matching = _doorbell(opened), _doorbell(opened)
        self.ioregion, self.ioregion_of_client = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened.callback(self.ioregion.close)
        opened.callback(self.ioregion_of_client.close)
        self.ioregion.setblocking(False)

    def _io_fds(self) -> IoFds:
        sub_regions = (
            IoeventfdSubRegion(offset=0, size=4, fd_index=0, type=IoFdType.IOEVENTFD),
            IoeventfdSubRegion(
                offset=4, size=4, fd_index=1, type=IoFdType.IOEVENTFD, flags=IoeventfdFlags.DATAMATCH, datamatch=0x5A
            ),
            IoregionfdSubRegion(
                offset=0x100,
                size=0x100,
                fd_index=2,
                type=IoFdType.IOREGIONFD,
                flags=IoregionFlags.POSTED_WRITES,
                user_data=0x100,
            ),
        )
        return IoFds(sub_regions, (self.doorbell, self.matching, self.ioregion_of_client.fileno()))

    def _get(self, offset: int, size: int = 4) -> int:
        return int.from_bytes(self._bar0[offset : offset + size], "little")

    def _set(self, offset: int, value: int) -> None:
        self._bar0[offset : offset + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

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

    def _ring(self, offset: int, data: bytes) -> None:
        """A message wrote to BAR4."""
        if (offset, len(data)) == (0, 4) or (offset, data) == (4, b"\x5a\0\0\0"):
            self._set(KICKS, self._get(KICKS) + 1)
        elif 0x100 <= offset < 0x200:
            self._set(RECORDS, self._get(RECORDS) + 1)

    def _kicked(self) -> None:
        for fd in (self.doorbell, self.matching):
            with contextlib.suppress(BlockingIOError):
                self._set(KICKS, self._get(KICKS) + os.eventfd_read(fd))

    def _recorded(self) -> None:
        with contextlib.suppress(BlockingIOError):
            record = self.ioregion.recv(RECORD)
            if len(record) == RECORD:
                self._set(RECORDS, self._get(RECORDS) + 1)


def _doorbell(opened: contextlib.ExitStack) -> int:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    opened.callback(os.close, fd)
    return fd


def pattern(length: int, start: int) -> bytes:
    """``length`` bytes, of which byte i is (i * 7 + start) & 0xff."""
    period = bytes((i * 7 + start) & 0xFF for i in range(256))
    return (period * (length // 256 + 1))[:length]
