"""Faults of client memory: files that are none, several mappings at a time, fields that nobody looked at."""

import errno
import fcntl
import os
from collections.abc import Callable
from typing import Any

from vfio_user_proto import unix
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    accept,
    crash,
    cut_to_argsz,
    die,
    method,
    refuse,
    respond,
    right,
    stuck,
)
from vfio_user_proto.faults.memory import dying_of, regions
from vfio_user_proto.memory import Region
from vfio_user_proto.messages import Command, DmaMapRequest, DmaUnmapRequest
from vfio_user_proto.responder import NOTHING, Answer, Responder

PAGE, TOP = 4096, 1 << 64
When = Callable[[DmaMapRequest, int], Any]


# Files.


def _kind(kind: str) -> Fault:
    wrong = dying_of(lambda request, fd: unix.kind_of(fd) == kind)
    return Fault(f"map-{_NAMES.get(kind, kind)}-crash", "Descriptors are memory.", responder=wrong)


_NAMES = {"file": "file-on-disk"}


def _kept(kind: str) -> Fault:
    def mapping(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
        if fds and unix.kind_of(fds[0]) == kind:
            os.dup(fds[0])
        return right("dma_map", self, request, fds)

    return Fault(f"map-{kind}-kept", "What cannot be mapped stays open.", responder=method("dma_map", mapping))


def _sealed(request: DmaMapRequest, fd: int) -> bool:
    memory = unix.kind_of(fd) == "memfd"
    return memory and bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE)


def _place(name: str, mistake: str, when: Callable[[DmaMapRequest, int], Any]) -> Fault:
    """Dies of such a range of a file; ``when`` gets the request and the size of the file."""
    return Fault(name, mistake, responder=dying_of(lambda request, fd: when(request, os.fstat(fd).st_size)))


# Ranges.


def _covers(request: Any, region: Region) -> bool:
    return bool(request.address < region.address + region.size and request.address + request.size > region.address)


def _accepted(when: Callable[[DmaMapRequest, list[Region]], Any]) -> type[Responder]:
    """Does not see that a range lies over mappings that ``when`` picks."""

    def mapping(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
        over = [region for region in regions(self) if _covers(request, region)]
        return NOTHING if over and when(request, over) else right("dma_map", self, request, fds)

    return method("dma_map", mapping)


class _Used(Responder):
    """Takes no more memory when the device was used."""

    used = False

    def region_read(self, request: Any, fds: list[int]) -> Answer:
        self.used = True
        return super().region_read(request, fds)

    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        if self.used:
            raise OSError(errno.EBUSY, "the device is in use")
        return super().dma_map(request, fds)


def _between(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    known = regions(self)
    if any(each.address < request.address for each in known) and any(each.address > request.address for each in known):
        raise OSError(errno.EEXIST, "between the lowest and the highest")
    return right("dma_map", self, request, fds)


def _last(self: Any, request: DmaUnmapRequest, fds: list[int]) -> Answer:
    known = regions(self)
    if len(known) > 2 and any(each[:2] == (request.address, request.size) for each in known):
        self.dma.unmap(known[-1].address, known[-1].size)
        return DmaUnmapRequest(address=request.address, size=request.size), ()
    return right("dma_unmap", self, request, fds)


def _unmaps(name: str, mistake: str, when: Callable[[DmaUnmapRequest], Any]) -> Fault:
    """Says that such a range was unmapped."""
    done = accept("dma_unmap", lambda r: DmaUnmapRequest(address=r.address, size=r.size), when)
    return Fault(f"unmap-{name}-accepted", mistake, responder=done)


def _bitmap(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    unmaps = event.message.header.command == Command.DMA_UNMAP and event.problem is None
    return die() if unmaps and len(event.message.trailing) == 16 else Responder.respond(self, event, fds)


FAULTS: tuple[Fault, ...] = (
    _kept("socket"),
    _kept("eventfd"),
    *map(_kind, ("directory", "device", "file")),
    Fault("map-sealed-memory-crash", "Memory can be written.", responder=dying_of(_sealed)),
    _place("map-empty-file-crash", "Files are not empty.", lambda request, size: not size),
    _place("map-offset-behind-the-end-crash", "Offsets lie in the file.", lambda r, size: size <= r.offset < 1 << 62),
    _place("map-offset-wraps-crash", "offset and size fit into 64 bits.", lambda r, size: r.offset + r.size > TOP),
    _place(
        "map-offset-not-of-a-page-crash",
        "Offsets are those of pages (libvfio-user efd091b).",
        lambda r, size: r.offset % PAGE,
    ),
    _place("map-part-of-a-page-crash", "Sizes are those of pages.", lambda r, size: r.size % PAGE),
    _place("map-address-not-of-a-page-crash", "Addresses are those of pages.", lambda r, size: r.address % PAGE),
    _place("map-larger-than-memory-crash", "What is announced is there.", lambda r, size: r.size >= 1 << 60),
    Fault("map-before-first-access-only", "Memory is announced before the device is used.", responder=_Used),
    Fault("map-gap-refused", "All between two mappings is mapped.", responder=method("dma_map", _between)),
    Fault(
        "overlap-two-accepted",
        "A range lies over one mapping at most.",
        responder=_accepted(lambda r, over: len(over) > 1),
    ),
    Fault(
        "overlap-same-range-with-file-accepted",
        "What is mapped already need not be mapped (libvfio-user efd091b).",
        responder=_accepted(lambda r, over: over[0].fd is not None and over[0][:2] == (r.address, r.size)),
    ),
    Fault(
        "overlap-at-the-top-accepted",
        "The end of the highest range is 0.",
        responder=_accepted(lambda r, over: r.address + r.size == TOP),
    ),
    Fault("overlap-at-zero-accepted", "Nothing is mapped at 0.", responder=_accepted(lambda r, over: not r.address)),
    Fault("unmap-removes-the-last", "The table is a stack.", responder=method("dma_unmap", _last)),
    Fault(
        "map-readable-only-refused",
        "A device writes.",
        responder=refuse("dma_map", errno.EINVAL, lambda r: r.flags == 1),
    ),
    Fault(
        "map-writeable-only-refused",
        "A device reads.",
        responder=refuse("dma_map", errno.EINVAL, lambda r: r.flags == 2),
    ),
    Fault(
        "map-without-permissions-crash", "A device reads or writes.", responder=crash("dma_map", lambda r: not r.flags)
    ),
    Fault("map-argsz-zero-crash", "argsz counts the request.", responder=crash("dma_map", lambda r: not r.argsz)),
    Fault(
        "map-argsz-largest-hangs",
        "argsz is what is to be read.",
        responder=stuck("dma_map", lambda r: r.argsz >= 1 << 31),
    ),
    Fault("unmap-cut-to-argsz", "A small argsz cuts the fixed part.", outgoing=cut_to_argsz(Command.DMA_UNMAP, 24)),
    Fault(
        "unmap-argsz-largest-crash",
        "There is memory for any argsz.",
        responder=crash("dma_unmap", lambda r: r.argsz >= 1 << 31),
    ),
    Fault("unmap-bitmap-crash", "A bitmap has room behind the range.", responder=respond(_bitmap)),
    _unmaps("begins-before", "A range ends where its mapping does.", lambda r: r.address == 0xF000),
    _unmaps("size-zero", "A range is named by its address.", lambda r: not r.size),
    _unmaps("everything", "All there is can be unmapped at once.", lambda r: r.size == TOP - 1),
    _unmaps("wraps", "Ends are compared in 64 bits.", lambda r: r.address + r.size > TOP),
)
