"""The client's memory as the server sees it: the regions that VFIO_USER_DMA_MAP announced, by IOVA."""

import errno
import fcntl
import mmap
import os
import stat
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

_READ_ONLY_SEALS: Final = fcntl.F_SEAL_WRITE | getattr(fcntl, "F_SEAL_FUTURE_WRITE", 0x10)


class Transfer(Protocol):
    """How bytes travel for a region without descriptor: one message each (VFIO_USER_DMA_READ, VFIO_USER_DMA_WRITE)."""

    limit: int

    def dma_read(self, address: int, count: int) -> bytes:
        """Exactly ``count`` bytes, at most ``limit``; raises OSError."""

    def dma_write(self, address: int, data: bytes) -> None:
        """Store ``data``, at most ``limit`` bytes; raises OSError."""


class Region(NamedTuple):
    """One region of client memory: ``fd`` is ours and holds byte ``address`` at ``offset``; None where there is none."""

    address: int
    size: int
    readable: bool
    writeable: bool
    fd: int | None = None
    offset: int = 0


class DmaMap:
    """The table of regions, sorted by address, none over another.

    Descriptors are read and written with pread and pwrite: a client that truncates its file then makes an access fail
    (EFAULT), where an access to mapped memory would kill the server. A file that cannot be written that way, one of
    hugetlbfs, is mapped, but only the kernel touches that memory. All methods refuse by raising OSError. ``wrote`` gets the
    address and count of each write before it is done.
    """

    def __init__(self, transfer: Transfer, *, max_regions: int = 65535, page_size: int = 4096) -> None:
        self.max_regions, self.page_size = max_regions, page_size
        self.wrote: Callable[[int, int], None] = lambda address, count: None
        self._transfer = transfer
        self._addresses: list[int] = []
        self._regions: list[Region] = []
        self._huge: dict[int, _HugePages] = {}  # by address

    def __len__(self) -> int:
        return len(self._regions)

    def map(self, region: Region) -> None:
        """Add a region and own its descriptor from here on (section VFIO_USER_DMA_MAP).

        EINVAL for a size of 0, an end beyond 2^64, no page boundary, or a descriptor that is no regular file or too short;
        EEXIST over a region that is there; ENOSPC for one too many; EACCES or EPERM for a file that forbids what the region
        allows; ENOMEM where there are not the huge pages for it. The descriptor then stays the caller's.
        """
        address, size = region.address, region.size
        if not size or address + size > 1 << 64 or (address | size | region.offset) % self.page_size:
            raise OSError(errno.EINVAL, "no whole pages below 2^64")
        if region.fd is None and region.offset:
            raise OSError(errno.EINVAL, "an offset without a descriptor")
        place = bisect_right(self._addresses, address)
        before = self._regions[place - 1] if place else None
        behind = self._addresses[place] if place < len(self._addresses) else 1 << 64
        if behind < address + size or (before and before.address + before.size > address):
            raise OSError(errno.EEXIST, "over another region")
        if len(self._regions) >= self.max_regions:
            raise OSError(errno.ENOSPC, "too many regions")
        if region.fd is not None:
            _check_file(region, region.fd)
            if region.writeable and not _takes_writes(region.fd):
                self._huge[address] = _HugePages(region.fd, region.offset, size)
        self._addresses.insert(place, address)
        self._regions.insert(place, region)

    def unmap(self, address: int, size: int) -> None:
        """Remove the region that has just this address and size, and close its descriptor; ENOENT where there is none."""
        place = bisect_right(self._addresses, address) - 1
        if place < 0 or self._regions[place][:2] != (address, size):
            raise OSError(errno.ENOENT, "no such region")
        del self._addresses[place]
        self._release(self._regions.pop(place))

    def clear(self) -> None:
        """Remove every region and close the descriptors."""
        for region in self._regions:
            self._release(region)
        self._addresses.clear()
        self._regions.clear()

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes at ``address``, across adjacent regions; EFAULT where one is missing or not readable."""
        parts = [self._read(region, at, size) for region, at, size in self._pieces(address, count, write=False)]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` at ``address``, across adjacent regions; EFAULT, with nothing written, where one is missing."""
        done = 0
        pieces = self._pieces(address, len(data), write=True)
        self.wrote(address, len(data))
        for region, at, size in pieces:
            self._write(region, at, data[done : done + size])
            done += size

    def _pieces(self, address: int, count: int, *, write: bool) -> list[tuple[Region, int, int]]:
        """What to access for ``count`` bytes: (region, offset in it, bytes) each."""
        pieces = []
        place = bisect_right(self._addresses, address) - 1
        while count:
            region = self._regions[place] if 0 <= place < len(self._regions) else None
            if (
                region is None
                or not region.address <= address < region.address + region.size
                or not (region.writeable if write else region.readable)
            ):
                raise OSError(errno.EFAULT, f"no memory at {address:#x}")
            size = min(count, region.address + region.size - address)
            pieces.append((region, address - region.address, size))
            address, count, place = address + size, count - size, place + 1
        return pieces

    def _read(self, region: Region, at: int, count: int) -> bytes:
        if region.fd is not None:
            data = os.pread(region.fd, count, region.offset + at)
            if len(data) < count:
                raise OSError(errno.EFAULT, "the file behind the memory is shorter than it was")
            return data
        pieces = bytearray()
        while len(pieces) < count:
            pieces += self._transfer.dma_read(
                region.address + at + len(pieces), min(count - len(pieces), self._limit())
            )
        return bytes(pieces)

    def _write(self, region: Region, at: int, data: bytes) -> None:
        if region.fd is not None:
            place = region.offset + at
            done = -1
            # Writing beyond the end would make the file longer.
            if os.fstat(region.fd).st_size >= place + len(data):
                huge = self._huge.get(region.address)
                done = os.pwrite(region.fd, data, place) if huge is None else huge.write(at, data)
            if done < len(data):
                raise OSError(errno.EFAULT, "the file behind the memory is shorter than it was")
            return
        limit = self._limit()
        for start in range(0, len(data), limit):
            self._transfer.dma_write(region.address + at + start, data[start : start + limit])

    def _release(self, region: Region) -> None:
        if region.fd is not None:
            os.close(region.fd)
        huge = self._huge.pop(region.address, None)
        if huge is not None:
            huge.close()

    def _limit(self) -> int:
        if not self._transfer.limit:
            raise OSError(errno.EOPNOTSUPP, "the client takes no data in messages")
        return self._transfer.limit


class _HugePages:
    """``size`` bytes from ``offset`` on of a file of huge pages, which can be written only where it is mapped.

    The kernel copies, from a file of ours: where the client has made its own shorter, or the machine has no page left, that is
    an error (EFAULT), while a store of ours would be answered with SIGBUS. Raises OSError where it cannot be mapped.
    """

    def __init__(self, fd: int, offset: int, size: int) -> None:
        page = os.fstat(fd).st_blksize
        first = offset // page * page
        end = -(-(offset + size) // page) * page
        try:
            self._memory = mmap.mmap(fd, end - first, offset=first)
        except ValueError as problem:
            raise OSError(errno.EINVAL, str(problem)) from None
        self._start = offset - first

    def write(self, at: int, data: bytes) -> int:
        """Store ``data`` at ``at``; returns how many bytes were."""
        copy = os.memfd_create("dma-write", os.MFD_CLOEXEC)
        try:
            os.pwrite(copy, data, 0)
            start = self._start + at
            with memoryview(self._memory) as whole, whole[start : start + len(data)] as part:
                return os.preadv(copy, [part], 0)
        finally:
            os.close(copy)

    def close(self) -> None:
        self._memory.close()


def _takes_writes(fd: int) -> bool:
    """Whether pwrite works, found out with no byte; the files of hugetlbfs refuse it (EINVAL)."""
    try:
        os.pwrite(fd, b"", 0)
    except OSError:
        return False
    return True


def _check_file(region: Region, fd: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or region.offset + region.size > status.st_size:
        raise OSError(errno.EINVAL, "no regular file, or too short a one")
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    mode = flags & os.O_ACCMODE
    if flags & os.O_PATH or mode == os.O_WRONLY or (region.writeable and mode == os.O_RDONLY):
        raise OSError(errno.EACCES, "the descriptor was opened for less than the region allows")
    if region.writeable and _seals(fd) & _READ_ONLY_SEALS:
        raise OSError(errno.EPERM, "the file is sealed against writing")


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        return 0
