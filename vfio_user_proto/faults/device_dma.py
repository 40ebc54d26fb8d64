"""Faults of a device that reaches into client memory through descriptors."""

import errno
import os
from collections.abc import Callable
from typing import Any

from vfio_user_proto.faults.kit import Fault, die
from vfio_user_proto.memory import DmaMap, Region
from vfio_user_proto.responder import Responder

# Part of an access: a region, where in it, and how many bytes.
Part = tuple[Region, int, int]
TOP = 1 << 64


def memory(table: type[DmaMap]) -> type[Responder]:
    """A server with another table of client memory."""

    class Faulty(Responder):
        replaces = (table,)

        def __init__(self, device: Any, dma: DmaMap, *rest: Any) -> None:
            super().__init__(device, dma, *rest)
            dma.__class__ = table

    return Faulty


class _Table(DmaMap):
    """A table that is wrong about writes, or about reads where ``writes`` is False."""

    writes = True

    def _pieces(self, address: int, count: int, *, write: bool) -> list[Part]:
        if write != self.writes:
            return super()._pieces(address, count, write=write)
        return self.parts(address, count)

    def right(self, address: int, count: int) -> list[Part]:
        return DmaMap._pieces(self, address, count, write=self.writes)

    def parts(self, address: int, count: int) -> list[Part]:
        raise NotImplementedError

    def around(self, address: int) -> Region | None:
        """The region that an address belongs to."""
        return next((each for each in self._regions if each.address <= address < each.address + each.size), None)


class _Believing(_Table):
    """Takes every mapping for what the client says it is."""

    def map(self, region: Region) -> None:
        size, self.page_size = self.page_size, 1
        inside = region if region.fd is None else region._replace(size=os.fstat(region.fd).st_size - region.offset)
        checked = min(inside, region, key=lambda each: each.size)
        try:
            super().map(checked)
        finally:
            self.page_size = size
        self._regions[self._regions.index(checked)] = region


def _wrong(
    name: str,
    mistake: str,
    parts: Callable[[Any, int, int], list[Part]],
    *,
    writes: bool = True,
    table: type[_Table] = _Table,
) -> Fault:
    return Fault(name, mistake, responder=memory(type("Faulty", (table,), {"parts": parts, "writes": writes})))


def _each(change: Callable[[Any, Part], Part]) -> Callable[[Any, int, int], list[Part]]:
    """Parts that are right but for a change."""
    return lambda self, address, count: [change(self, part) for part in self.right(address, count)]


def _place_lost(self: Any, part: Part) -> Part:
    return part[0], 0, part[2]


def _file_offset_lost(self: Any, part: Part) -> Part:
    return part[0]._replace(offset=0), part[1], part[2]


def _first(self: Any, part: Part) -> Part:
    return self._regions[0], part[1], part[2]


def _known_file(self: Any, part: Part) -> Part:
    region = part[0]
    for each in self._regions:
        if each.fd is not None and region.fd is not None and os.path.sameopenfile(each.fd, region.fd):
            return region._replace(offset=each.offset), part[1], part[2]
    return part


def _refusing(when: Callable[[Part], bool]) -> Callable[[Any, int, int], list[Part]]:
    def parts(self: Any, address: int, count: int) -> list[Part]:
        found: list[Part] = self.right(address, count)
        if any(when(part) for part in found):
            raise OSError(errno.EFAULT, "a fault")
        return found

    return parts


def _dying(when: Callable[[Part], bool]) -> Callable[[Any, int, int], list[Part]]:
    def parts(self: Any, address: int, count: int) -> list[Part]:
        found: list[Part] = self.right(address, count)
        if any(when(part) for part in found):
            die()
        return found

    return parts


def _runs_on(self: Any, address: int, count: int) -> list[Part]:
    (region, at, _), *_rest = self.right(address, count)
    return [(region, at, count)]


def _end_unchecked(self: Any, address: int, count: int) -> list[Part]:
    (region, at, _), *_rest = self.right(address, 1)
    return [(region, at, count)]


def _start_unchecked(self: Any, address: int, count: int) -> list[Part]:
    region = self.around(address + count - 1)
    return self.right(address, count) if region is None else [(region, address - region.address, count)]


def _end_inside(self: Any, address: int, count: int) -> list[Part]:
    ends = [each for each in self._regions if each.address + each.size == address]
    return [(ends[0], ends[0].size, count)] if ends else self.right(address, count)


def _anywhere(self: Any, address: int, count: int) -> list[Part]:
    region = self._regions[0]
    return [(region, address % region.size, count)] if self.around(address) is None else self.right(address, count)


def _wraps(self: Any, address: int, count: int) -> list[Part]:
    over = max(address + count - TOP, 0)
    parts: list[Part] = self.right(address, count - over)
    return parts + self.right(0, over) if over else parts


def _permission_unchecked(self: Any, address: int, count: int) -> list[Part]:
    try:
        parts: list[Part] = self.right(address, count)
    except OSError:
        parts = DmaMap._pieces(self, address, count, write=not self.writes)
    return parts


def _both_wanted(self: Any, address: int, count: int) -> list[Part]:
    self.right(address, count)
    return DmaMap._pieces(self, address, count, write=not self.writes)


def _last_used(self: Any, address: int, count: int) -> list[Part]:
    """Where an access wraps, its end lies before that of the region that was used last: it is taken to lie in there."""
    if address + count > TOP and "last" in self.__dict__:
        die()
    found: list[Part] = self.right(address, count)
    self.__dict__["last"] = found
    return found


def _without_access(self: Any, address: int, count: int) -> list[Part]:
    region = self.around(address)
    if region is not None and not (region.readable or region.writeable):
        die()
    found: list[Part] = self.right(address, count)
    return found


def _by_the_page(part: Part) -> bool:
    """What lies in the page behind the ones that the size alone needs."""
    region, at, count = part
    return region.offset % 4096 + at + count > -(-region.size // 4096) * 4096


def _behind_the_file(part: Part) -> bool:
    region, at, count = part
    return region.fd is not None and os.fstat(region.fd).st_size < region.offset + at + count


class _Keeps(_Table):
    """Finds mappings that are gone: ``gone`` has them, with copies of their descriptors."""

    gone: list[Region]

    def parts(self, address: int, count: int) -> list[Part]:
        try:
            return self.right(address, count)
        except OSError:
            for region in self.gone:
                if region.address <= address and address + count <= region.address + region.size:
                    return [(region, address - region.address, count)]
            raise

    def keep(self, region: Region) -> None:
        self.gone.append(region._replace(fd=None if region.fd is None else os.dup(region.fd)))


class _Unmapped(_Keeps):
    """Those that were unmapped."""

    def unmap(self, address: int, size: int) -> None:
        for region in self._regions:
            if (region.address, region.size) == (address, size):
                self.keep(region)
        super().unmap(address, size)


class _OfLastClient(_Keeps):
    """Those of clients that left."""

    def clear(self) -> None:
        for region in self._regions:
            self.keep(region)
        super().clear()


def _keeps(name: str, mistake: str, table: type[_Keeps], *, writes: bool = True) -> Fault:
    return Fault(name, mistake, responder=memory(type("Faulty", (table,), {"gone": [], "writes": writes})))


class _Remembers(DmaMap):
    """Takes the descriptor that it once got for an address."""

    def map(self, region: Region) -> None:
        known = self.__dict__.setdefault("known", {})
        if region.fd is not None:
            fd = region.fd
            region = region._replace(fd=os.dup(known.setdefault(region.address, os.dup(fd))))
            os.close(fd)
        super().map(region)


class _Caches(DmaMap):
    """Reads what it read before from a cache."""

    def read(self, address: int, count: int) -> bytes:
        cache: dict[tuple[int, int], bytes] = self.__dict__.setdefault("cache", {})
        if (address, count) not in cache:
            cache[address, count] = super().read(address, count)
        return cache[address, count]


def _stores(name: str, mistake: str, change: Callable[[int, bytes], tuple[int, bytes]]) -> Fault:
    """Writes something else, or elsewhere."""

    def write(self: Any, address: int, data: bytes) -> None:
        DmaMap.write(self, *change(address, data))

    return Fault(name, mistake, responder=memory(type("Faulty", (DmaMap,), {"write": write})))


def _to_the_end(part: Part) -> bool:
    return part[1] + part[2] == part[0].size


FAULTS: tuple[Fault, ...] = (
    _wrong("dma-offset-in-map-lost", "Writes begin where the mapping does.", _each(_place_lost)),
    _stores("dma-rounded-to-words", "Addresses are those of words.", lambda address, data: (address & ~3, data)),
    _stores("dma-at-least-a-word", "The least that is written is a word.", lambda at, data: (at, data.ljust(4, b"\0"))),
    _wrong("dma-file-offset-lost", "A mapping begins where its file does.", _each(_file_offset_lost)),
    _wrong("dma-first-byte-outside", "The first byte of a mapping is not part of it.", _refusing(lambda p: not p[1])),
    _wrong("dma-last-byte-outside", "The last byte of a mapping is not part of it.", _refusing(_to_the_end)),
    _stores(
        "dma-one-page-at-most", "What is written lies within a page.", lambda address, data: (address, data[:4096])
    ),
    _stores("dma-addresses-of-32-bits", "An address has 32 bits.", lambda at, data: (at & 0xFFFFFFFF, data)),
    _wrong(
        "dma-highest-page-outside",
        "The end of an access is an address.",
        _refusing(lambda part: part[0].address + part[1] + part[2] == TOP),
    ),
    _wrong("dma-into-first-mapping", "There is one mapping.", _each(_first)),
    _wrong("dma-file-known-already", "A file is mapped from one offset on.", _each(_known_file)),
    _wrong("dma-runs-on-in-file", "Mappings side by side are one file.", _runs_on),
    _wrong("dma-end-unchecked", "An access that begins in a mapping lies within it.", _end_unchecked),
    _wrong("dma-start-unchecked", "An access that ends in a mapping lies within it.", _start_unchecked),
    _wrong("dma-end-belongs-to-it", "The end of a mapping belongs to it.", _end_inside),
    _wrong("dma-falls-back-to-a-mapping", "Every address is in some mapping.", _anywhere),
    _wrong("dma-wraps", "Behind the highest address comes the lowest.", _wraps),
    _wrong("dma-writes-read-only", "What is mapped can be written.", _permission_unchecked),
    _keeps("dma-after-unmap", "A mapping that is gone is written.", _Unmapped),
    _keeps("dma-after-reconnect", "The memory of a client that left is written.", _OfLastClient),
    Fault("dma-remembers-mapping", "An address has one descriptor for ever.", responder=memory(_Remembers)),
    _wrong("dma-read-offset-in-map-lost", "Reads begin where the mapping does.", _each(_place_lost), writes=False),
    _wrong(
        "dma-read-file-offset-lost", "A mapping is read from its file's start.", _each(_file_offset_lost), writes=False
    ),
    _wrong("dma-read-last-byte-outside", "The last byte is not read.", _refusing(_to_the_end), writes=False),
    _wrong("dma-read-from-first-mapping", "One mapping is read.", _each(_first), writes=False),
    _wrong("dma-read-wants-writeable", "What is not writeable is not read.", _both_wanted, writes=False),
    Fault("dma-read-caches", "Client memory changes by the device alone.", responder=memory(_Caches)),
    _wrong("dma-wraps-in-the-last", "An address and a length have a sum (libvfio-user efd091b).", _last_used),
    _wrong(
        "dma-read-wraps-in-the-last",
        "An address and a length have a sum (libvfio-user efd091b).",
        _last_used,
        writes=False,
    ),
    _wrong(
        "dma-mapped-by-the-page",
        "A mapping begins with a page of its file (libvfio-user efd091b).",
        _dying(_by_the_page),
        table=_Believing,
    ),
    _wrong(
        "dma-reads-behind-the-file",
        "A file is as long as its mapping (libvfio-user efd091b).",
        _dying(_behind_the_file),
        writes=False,
        table=_Believing,
    ),
    _wrong(
        "dma-reads-without-access",
        "A mapping without rights is mapped, and read (libvfio-user efd091b).",
        _without_access,
        writes=False,
    ),
    _wrong(
        "dma-reads-write-only",
        "What is mapped can be read (libvfio-user efd091b).",
        _permission_unchecked,
        writes=False,
    ),
    _wrong("dma-read-end-unchecked", "A read that begins in a mapping lies within it.", _end_unchecked, writes=False),
    _wrong("dma-read-end-belongs-to-it", "The end of a mapping is read.", _end_inside, writes=False),
    _keeps("dma-read-after-unmap", "A mapping that is gone is read.", _Unmapped, writes=False),
    _keeps("dma-read-after-reconnect", "The memory of a client that left is read.", _OfLastClient, writes=False),
)
