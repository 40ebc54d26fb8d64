"""Faults of the log of writes that show when the device really writes: bits that are missing, too many, or elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from vfio_user_proto.device import Device
from vfio_user_proto.dirty import DirtyLog
from vfio_user_proto.faults.kit import Fault, die, hang
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.responder import Responder

K = 4096


def _log(name: str, mistake: str, **methods: Any) -> Fault:
    """A server with another log; ``dma`` is the table of client memory, ``first`` the log that was there before any start."""
    table = type("Faulty", (DirtyLog,), methods)

    class Faulty(Responder):
        replaces = (table,)

        def __init__(self, device: Device, dma: DmaMap, *rest: Any) -> None:
            super().__init__(device, dma, *rest)
            log: Any = self.features.log
            log.__class__, log.dma = table, dma
            dma.wrote = log.wrote

    return Fault(name, mistake, responder=Faulty)


# Reports. A change gets the log, the range's start and length, the page size and the right bits, and returns others.

Change = Callable[[Any, int, int, int, set[int]], Iterable[int]]


def _reports(name: str, mistake: str, change: Change) -> Fault:
    def report(self: Any, iova: int, length: int, page_size: int, room: int) -> bytes:
        right = DirtyLog.report(self, iova, length, page_size, room)
        bits = set(change(self, iova, length, page_size, set(_bits(right))))
        return b"".join(_word(bits, at) for at in range(len(right) // 8))

    return _log(name, mistake, report=report)


def _bits(bitmap: bytes) -> Iterator[int]:
    return (bit for bit in range(len(bitmap) * 8) if bitmap[bit // 8] >> bit % 8 & 1)


def _word(bits: set[int], at: int) -> bytes:
    return sum(1 << bit % 64 for bit in bits if bit // 64 == at).to_bytes(8, "little")


def _finer(log: Any, page_size: int) -> int:
    """How many pages of a report one of the log has."""
    return max(int(log.page_size) // page_size, 1)


def _coarser(log: Any, page_size: int) -> int:
    """How many pages of the log one of a report has."""
    return max(page_size // int(log.page_size), 1)


def _of_address(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    """The published formula: word by page of the range, bit by page of the address."""
    return {bit // 64 * 64 + (iova // size + bit) % 64 for bit in bits}


def _from_mapping(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    region = next((each for each in log.dma._regions if each.address <= iova < each.address + each.size), None)
    return bits if region is None else {bit + (iova - region.address) // size for bit in bits}


def _only_first(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    """The first of the mappings, wherever the range is."""
    first = log.dma._regions[0]
    return bits if first.address <= iova < first.address + first.size else set()


def _of_one_mapping(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    """Those of the mapping in which the range begins."""
    end = next(
        (each.address + each.size for each in log.dma._regions if each.address <= iova < each.address + each.size), 0
    )
    return {bit for bit in bits if iova + bit * size < end}


def _one_of_several(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    return {bit for bit in bits if not bit % _finer(log, size)}


def _repeated_wrongly(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    if bits and max(bits) > 255 and _finer(log, size) > 1:
        hang()
    return bits


def _combined_wrongly(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    return {bit % 256 for bit in bits} if _coarser(log, size) > 1 else bits


def _large_page(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    return set() if size > length else bits


def _whole_pages(log: Any, iova: int, length: int, size: int, bits: set[int]) -> Iterable[int]:
    return {bit for bit in bits if bit < length // size}


def _first_page_only(self: Any, iova: int, length: int, page_size: int, room: int) -> bytes:
    """A coarser page is as dirty as the first page below it."""
    if page_size > self.page_size:
        self._pages = {page for page in self._pages if not page * self.page_size % page_size}
    return DirtyLog.report(self, iova, length, page_size, room)


def _unchecked(self: Any, iova: int, length: int, page_size: int, room: int) -> bytes:
    """All pages that the words of the bitmap have room for."""
    if not page_size:
        return DirtyLog.report(self, iova, length, page_size, room)
    words = -(-length // page_size // 64)
    return DirtyLog.report(self, iova, words * 64 * page_size, page_size, room)


def _clears_all(self: Any, iova: int, length: int, page_size: int, room: int) -> bytes:
    bitmap = DirtyLog.report(self, iova, length, page_size, room)
    self._pages.clear()
    return bitmap


def _dies_of_second(self: Any, iova: int, length: int, page_size: int, room: int) -> bytes:
    if (iova, length) in self.__dict__.setdefault("asked", set()):
        die()
    self.asked.add((iova, length))
    return DirtyLog.report(self, iova, length, page_size, room)


# Writes. A change gets the log and a write, and returns the writes that are recorded in its place.

Place = tuple[int, int]


def _writes(name: str, mistake: str, change: Callable[[Any, int, int], Iterable[Place]], **methods: Any) -> Fault:
    def wrote(self: Any, address: int, count: int) -> None:
        for place in change(self, address, count):
            DirtyLog.wrote(self, *place)

    return _log(name, mistake, wrote=wrote, **methods)


def _last_only(log: Any, address: int, count: int) -> list[Place]:
    log._pages.clear()
    return [(address, count)]


def _once(log: Any, address: int, count: int) -> list[Place]:
    known = log.__dict__.setdefault("known", set())
    fresh = [] if address // K in known else [(address, count)]
    known.add(address // K)
    return fresh


def _of_start(log: Any, address: int, count: int) -> list[Place]:
    known = any(each.address <= address < each.address + each.size for each in log.__dict__.get("known", ()))
    return [(address, count)] if known else []


def _knows(self: Any, page_size: int, ranges: Iterable[Place]) -> int:
    self.known = list(self.dma._regions)
    return DirtyLog.start(self, page_size, ranges)


def _one_range(self: Any, page_size: int, ranges: Iterable[Place]) -> int:
    return DirtyLog.start(self, page_size, list(ranges)[:1])


def _with_descriptor(log: Any, address: int, count: int) -> list[Place]:
    regions = [each for each in log.dma._regions if each.address <= address < each.address + each.size]
    return [(address, count)] if regions and regions[0].fd is not None else []


def _early(self: Any, address: int, count: int) -> None:
    if self.page_size:
        DirtyLog.wrote(self, address, count)
    else:
        self.__dict__.setdefault("early", set()).add(address // K)


def _late(self: Any, page_size: int, ranges: Iterable[Place]) -> int:
    size = DirtyLog.start(self, page_size, ranges)
    self._pages |= {page * K // size for page in self.__dict__.get("early", set())}
    return size


def _kept(self: Any, page_size: int, ranges: Iterable[Place]) -> int:
    size = DirtyLog.start(self, page_size, ranges)
    self._pages |= self.__dict__.get("before", set())
    return size


def _keeping(self: Any) -> None:
    self.before = set(self._pages)
    DirtyLog.stop(self)


class _LogsReads(Responder):
    """Records what the device reads too."""

    def __init__(self, device: Device, dma: Any, *rest: Any) -> None:
        super().__init__(device, dma, *rest)

        def read(address: int, count: int) -> bytes:
            self.features.log.wrote(address, count)
            return DmaMap.read(dma, address, count)

        dma.read = read


FAULTS: tuple[Fault, ...] = (
    _reports("dirty-bits-from-the-top", "Bit 7 comes first.", lambda log, i, n, size, bits: {bit ^ 7 for bit in bits}),
    _reports("dirty-bits-one-on", "Pages are counted from 1.", lambda log, i, n, size, bits: {bit + 1 for bit in bits}),
    _writes(
        "dirty-end-rounded-down",
        "Bytes of a last page are no page.",
        lambda log, at, n: [(at, n // 2 * 2)] if n > 1 else [],
    ),
    _writes("dirty-first-page-only", "A write lies in one page.", lambda log, at, n: [(at, 1)]),
    _writes("dirty-end-counted-too", "The end of a write is written.", lambda log, at, n: [(at, n + 1)]),
    _writes("dirty-last-write-only", "There is one dirty range.", _last_only),
    _writes("dirty-addresses-of-32-bits", "Addresses have 32 bits.", lambda log, at, n: [(at & 0xFFFFFFFF, n)]),
    _reports("dirty-bits-from-the-mapping", "Bit 0 is the first page of the mapping.", _from_mapping),
    _log("dirty-range-unchecked", "A range ends where its bitmap does (libvfio-user efd091b).", report=_unchecked),
    _reports("dirty-first-mapping-only", "There is one mapping.", _only_first),
    _reports("dirty-two-mappings-as-one", "A report ends with the mapping in which it begins.", _of_one_mapping),
    _reports("dirty-bit-of-address", "A bit is that of the address, as the published formula has it.", _of_address),
    _reports("dirty-page-of-8-bits", "There are 256 pages.", lambda log, i, n, size, bits: {bit % 256 for bit in bits}),
    _reports("dirty-4096-pages", "There are 4096 pages.", lambda log, i, n, size, bits: {b for b in bits if b < 4096}),
    _reports("dirty-part-of-page-lost", "A range has whole pages.", _whole_pages),
    _reports("dirty-finer-one-bit", "Each page of the log is one of the report.", _one_of_several),
    _reports(
        "dirty-finer-page-of-8-bits-hangs",
        "The number of a page has 8 bits, so that the loop has no end (libvfio-user efd091b).",
        _repeated_wrongly,
    ),
    _log("dirty-coarser-first-page-only", "A page is that which begins with it.", report=_first_page_only),
    _reports(
        "dirty-coarser-page-of-8-bits", "The number of a page has 8 bits (libvfio-user efd091b).", _combined_wrongly
    ),
    _reports("dirty-page-larger-than-range", "A range has at least a page.", _large_page),
    _log("dirty-report-clears-all", "A report empties the log.", report=_clears_all),
    _log("dirty-second-report-crash", "A range is asked for once.", report=_dies_of_second),
    _writes("dirty-once-only", "What was reported is known.", _once),
    _writes("dirty-mappings-of-the-start", "The log has room for the mappings there are.", _of_start, start=_knows),
    Fault("dirty-by-reads", "Every access is recorded.", responder=_LogsReads),
    _log("dirty-before-the-start", "Writes are recorded from the beginning.", wrote=_early, start=_late),
    _log("dirty-kept-over-stop", "A new log goes on where the last one ended.", stop=_keeping, start=_kept),
    _log("dirty-first-range-only", "There is one range.", start=_one_range),
    _writes("dirty-not-by-message", "The client knows what it wrote itself (libvfio-user efd091b).", _with_descriptor),
)
