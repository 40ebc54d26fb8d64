"""The log of the pages of client memory to which the device writes (section VFIO_DEVICE_FEATURE_DMA_LOGGING_START)."""

import errno
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

TOP: Final = 1 << 64
# The finest page of a log, in bytes, and how many pages one remembers: when there are more, its pages get coarser.
FINEST: Final = 4096
MOST_PAGES: Final = 1 << 18
# Bytes of the largest bitmap: 1 TiB in pages of 4096.
MAX_BITMAP: Final = 32 << 20


class DirtyLog:
    """What was written since the start, or the last report. Pages are counted from IOVA 0."""

    def __init__(self) -> None:
        self.page_size = 0  # 0 while nothing is recorded
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._pages: set[int] = set()

    def start(self, page_size: int, ranges: Iterable[tuple[int, int]]) -> int:
        """Record writes inside ``ranges`` of (IOVA, length), everywhere where there is none, whether mapped yet or not.

        Returns the page size in use: a power of two, not above ``page_size`` unless that is less than ``FINEST``.
        Raises OSError: EBUSY where recording goes on already, EINVAL for a range that is empty or ends beyond 2^64.
        """
        if self.page_size:
            raise OSError(errno.EBUSY, "writes are recorded already")
        joined: list[tuple[int, int]] = []
        for start, length in sorted(ranges):
            if not length or start + length > TOP:
                raise OSError(errno.EINVAL, "a range is empty or ends beyond 2^64")
            if joined and start <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], start + length)
            else:
                joined.append((start, start + length))
        joined = joined or [(0, TOP)]
        self._starts, self._ends = [start for start, _ in joined], [end for _, end in joined]
        self._pages = set()
        self.page_size = 1 << max(page_size, FINEST).bit_length() - 1
        return self.page_size

    def stop(self) -> None:
        """Record nothing more, and forget. Raises OSError (EINVAL) where nothing is recorded."""
        self._check()
        self.page_size = 0
        self._pages = set()

    def wrote(self, address: int, count: int) -> None:
        """The device writes ``count`` bytes at ``address``."""
        if not self.page_size:
            return
        for start, end in self._inside(address, address + count):
            self._pages.update(range(start // self.page_size, (end - 1) // self.page_size + 1))
        while len(self._pages) > MOST_PAGES:
            self.page_size *= 2
            self._pages = {page // 2 for page in self._pages}

    def report(self, iova: int, length: int, page_size: int, room: int) -> bytes:
        """The bitmap of ``length`` bytes from ``iova`` on: bit i, least significant first, is page i of ``page_size`` bytes.

        It has whole words of 8 bytes. A recorded page that lies inside as a whole is forgotten.
        Raises OSError: EINVAL where nothing is recorded, for a page size that is no power of two, a range as in ``start``,
        and a bitmap of more than ``room`` bytes; E2BIG for one of more than ``MAX_BITMAP``.
        """
        self._check()
        if page_size.bit_count() != 1 or not length or iova + length > TOP:
            raise OSError(errno.EINVAL, "page size or range")
        count = -(-length // page_size)
        size = bitmap_size(count)
        if size > MAX_BITMAP:
            raise OSError(errno.E2BIG, f"a bitmap of {size} bytes")
        if size > room:
            raise OSError(errno.EINVAL, "the bitmap has no room in the reply")
        bitmap, ours, end = bytearray(size), self.page_size, iova + count * page_size
        for page in self._between(iova // ours, -(-end // ours)):
            low, high = page * ours, (page + 1) * ours
            _set(bitmap, max(low - iova, 0) // page_size, (min(high, end) - iova - 1) // page_size + 1)
            if iova <= low and high <= end:
                self._pages.remove(page)
        return bytes(bitmap)

    def _check(self) -> None:
        if not self.page_size:
            raise OSError(errno.EINVAL, "no writes are recorded")

    def _inside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are to be recorded."""
        place = max(bisect_right(self._starts, start) - 1, 0)
        while place < len(self._starts) and self._starts[place] < end:
            low, high = max(start, self._starts[place]), min(end, self._ends[place])
            if low < high:
                yield low, high
            place += 1

    def _between(self, first: int, end: int) -> list[int]:
        """The recorded pages of a range, looked for on the shorter of two ways."""
        if end - first < len(self._pages):
            return [page for page in range(first, end) if page in self._pages]
        return [page for page in self._pages if first <= page < end]


def bitmap_size(pages: int) -> int:
    """Bytes of a bitmap with one bit for each page: whole words of 8 bytes (section VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT)."""
    return -(-pages // 64) * 8


def _set(bitmap: bytearray, first: int, end: int) -> None:
    """Set the bits from ``first`` to before ``end``."""
    start, stop = first // 8, -(-end // 8)
    if stop - start == 1:
        bitmap[start] |= (0xFF << first % 8) & (0xFF >> -end % 8)
        return
    bitmap[start] |= 0xFF << first % 8 & 0xFF
    bitmap[start + 1 : stop - 1] = b"\xff" * (stop - start - 2)
    bitmap[stop - 1] |= 0xFF >> -end % 8
