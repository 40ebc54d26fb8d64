"""Faults of VFIO_USER_VERSION, and of the table of client memory."""

import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vfio_user_proto import capabilities, unix, wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived, Outgoing
from vfio_user_proto.faults.kit import (
    NO_REPLY,
    Fault,
    Incoming,
    accept,
    crash,
    die,
    fields,
    hang,
    instead,
    longer,
    method,
    refuse,
    respond,
    right,
    shorter,
    stuck,
    without_fds,
)
from vfio_user_proto.memory import Region
from vfio_user_proto.messages import Command, DmaMapRequest, DmaUnmapRequest, VersionRequest
from vfio_user_proto.responder import NOTHING, OFFER, Answer, Responder
from vfio_user_proto.states import State

VERSION, MAP, UNMAP = Command.VERSION, Command.DMA_MAP, Command.DMA_UNMAP


# VERSION.


class _RefusalStays(Connection):
    """Takes another proposal after one that was refused."""

    def error(self, to: CommandReceived, errno: int) -> Outgoing | None:
        out = super().error(to, errno)
        if self.state is State.PROPOSED:
            self.state = State.READY
        return out


class _NotFirst(Incoming):
    """Dies of a first message that is no proposal."""

    def header_came(self, data: bytes) -> bytes:
        return die() if self.state is State.NEW and wire.decode_header(data).command != VERSION else data


def _unheard(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    header = event.message.header
    hangs = header.command == VERSION and int(header.flags) & NO_REPLY
    return hang() if hangs else Responder.respond(self, event, fds)


def _twice(self: Any, request: VersionRequest, fds: list[int]) -> Answer:
    return hang() if self.greeted else right("version", self, request, fds)


def _unknown_member(request: VersionRequest) -> bool:
    return bool(capabilities.parse(request.version_data).unknown)


def _malformed(sign: Callable[[bytes], bool]) -> type[Responder]:
    return crash("version", lambda request: sign(request.version_data))


def _as_text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode(errors="replace")


# DMA_MAP and DMA_UNMAP.


def regions(responder: Any) -> list[Region]:
    """What is mapped now."""
    return list(responder.dma._regions)


def _over(request: DmaMapRequest, region: Region) -> str:
    """How a range lies over a mapping, in the words of the suite; "" where it does not."""
    begin, end = request.address, request.address + request.size
    old, old_end = region.address, region.address + region.size
    if begin >= old_end or end <= old:
        return ""
    if (begin, end) == (old, old_end):
        return "same-range"
    if begin >= old and end <= old_end:
        return "inside"
    if begin <= old and end >= old_end:
        return "around"
    return "first-page" if begin < old else "last-page"


def _overlap_accepted(relation: str) -> type[Responder]:
    """Does not see one way of lying over a mapping."""

    def mapping(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
        if any(_over(request, region) == relation for region in regions(self)):
            return NOTHING
        return right("dma_map", self, request, fds)

    return method("dma_map", mapping)


def _replacing(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    try:
        return right("dma_map", self, request, fds)
    except FileExistsError:
        for region in regions(self):
            if _over(request, region):
                self.dma.unmap(region.address, region.size)
        raise


def _wanting(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    if not fds:
        raise OSError(errno.EINVAL, "no descriptor")
    return right("dma_map", self, request, fds)


def _touching(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    for region in regions(self):
        if request.address <= region.address + region.size and request.address + request.size >= region.address:
            raise OSError(errno.EEXIST, "as if the end were part of it")
    return right("dma_map", self, request, fds)


def _leaking(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    try:
        return right("dma_map", self, request, fds)
    except OSError:
        fds.clear()
        raise


def _second_kept(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    del fds[1:]
    return right("dma_map", self, request, fds)


def dying_of(wrong: Callable[[DmaMapRequest, int], Any]) -> type[Responder]:
    """Dies of a request and its descriptor that ``wrong`` picks."""

    def mapping(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
        return die() if fds and wrong(request, fds[0]) else right("dma_map", self, request, fds)

    return method("dma_map", mapping)


def _duplicating(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    if fds:
        os.dup(fds[0])
    return right("dma_map", self, request, fds)


class _ForgetsAtTheEnd(Responder):
    """Closes client memory when it is unmapped, not when the client leaves."""

    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        self.__dict__.setdefault("copies", {})[request.address] = [os.dup(fd) for fd in fds]
        return super().dma_map(request, fds)

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        unix.close_all(self.__dict__.get("copies", {}).pop(request.address, ()))
        return super().dma_unmap(request, fds)


def _unmapped(request: DmaUnmapRequest) -> DmaUnmapRequest:
    """The reply to a range that was unmapped."""
    return DmaUnmapRequest(address=request.address, size=request.size)


def _unmap_accepted(relation: Callable[[DmaUnmapRequest, list[Region]], bool]) -> type[Responder]:
    """Says that ranges were unmapped that are not one mapping."""

    def unmapping(self: Any, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        return (_unmapped(request), ()) if relation(request, regions(self)) else right("dma_unmap", self, request, fds)

    return method("dma_unmap", unmapping)


def _starts(request: DmaUnmapRequest, known: list[Region]) -> bool:
    return any(region.address == request.address and region.size > request.size for region in known)


def _ends(request: DmaUnmapRequest, known: list[Region]) -> bool:
    end = request.address + request.size
    return any(region.address + region.size == end and region.size > request.size for region in known)


def _longer(request: DmaUnmapRequest, known: list[Region]) -> bool:
    inside = any(region.address < request.address + request.size < region.address + region.size for region in known)
    return inside and any(region.address == request.address and region.size < request.size for region in known)


def _several(request: DmaUnmapRequest, known: list[Region]) -> bool:
    end = request.address + request.size
    return len(known) > 1 and known[0].address == request.address and known[-1].address + known[-1].size == end


def _none(request: DmaUnmapRequest, known: list[Region]) -> bool:
    return all(
        request.address + request.size <= each.address or request.address >= each.address + each.size for each in known
    )


class _Remembers(Responder):
    """Takes a mapping away as often as it is asked to."""

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        gone = self.__dict__.setdefault("gone", set())
        if (request.address, request.size) in gone:
            return _unmapped(request), ()
        gone.add((request.address, request.size))
        return super().dma_unmap(request, fds)


def _offers(name: str, mistake: str, data: Callable[[VersionRequest], bytes]) -> Fault:
    return Fault(name, mistake, outgoing=fields(VERSION, version_data=data))


FAULTS: tuple[Fault, ...] = (
    Fault("version-reply-short", "The reply ends after the major version.", outgoing=shorter(VERSION, 2)),
    Fault("version-major-one", "The reply names another major version.", outgoing=fields(VERSION, version_major=1)),
    Fault(
        "version-major-unchecked",
        "Any major version is agreed to.",
        responder=instead("version", lambda request: request.replace(version_major=0)),
    ),
    Fault("version-refusal-stays", "A refused client stays connected.", connection=_RefusalStays),
    Fault(
        "version-minor-own", "The reply names the server's minor version.", outgoing=fields(VERSION, version_minor=2)
    ),
    Fault(
        "version-minor-refused",
        "A minor version above the server's is refused.",
        responder=refuse("version", errno.EINVAL, lambda request: request.version_minor > 2),
    ),
    Fault(
        "version-data-wanted",
        "There is always version data.",
        responder=refuse("version", errno.EINVAL, lambda request: not request.version_data),
    ),
    Fault(
        "version-unknown-refused",
        "Unknown capabilities are refused.",
        responder=refuse("version", errno.EINVAL, _unknown_member),
    ),
    _offers(
        "version-all-capabilities",
        "The reply names every capability (libvfio-user efd091b, rust-vmm).",
        lambda reply: replace(OFFER, twin_socket=False).to_data(),
    ),
    _offers("version-data-unterminated", "The JSON text has no NUL.", lambda reply: reply.version_data.rstrip(b"\0")),
    _offers(
        "twin-socket-unasked",
        "Twin-socket mode is always said to be on.",
        lambda reply: replace(OFFER, twin_socket_fd_index=0).to_data(),
    ),
    Fault("twin-socket-without-descriptor", "The twin socket is named, not sent.", outgoing=without_fds(VERSION)),
    Fault("data-unterminated-crash", "The JSON text is a C string.", responder=_malformed(lambda d: d[-1:] == b"}")),
    Fault("data-cut-crash", "The JSON text is whole.", responder=_malformed(lambda d: d[-2:] == b" \0")),
    Fault("data-no-object-crash", "The JSON text is an object.", responder=_malformed(lambda d: d[:1] == b"[")),
    Fault("data-not-utf-8-crash", "The JSON text is UTF-8.", responder=_malformed(lambda d: "\ufffd" in _as_text(d))),
    Fault(
        "capability-of-wrong-type-crash",
        "Numbers are numbers.",
        responder=_malformed(lambda data: '"many"' in _as_text(data)),
    ),
    Fault(
        "capability-negative-crash", "Sizes are positive.", responder=_malformed(lambda data: "-1" in _as_text(data))
    ),
    Fault("version-no-reply-hangs", "A proposal wants an answer.", responder=respond(_unheard)),
    Fault("version-not-first-crash", "The first message is a proposal.", connection=_NotFirst),
    Fault("version-twice-hangs", "There is one proposal.", responder=method("version", _twice)),
    Fault("map-reply-with-payload", "The reply repeats the request.", outgoing=longer(MAP, 32)),
    Fault(
        "map-wants-descriptor",
        "There is always a descriptor.",
        responder=method("dma_map", _wanting),
    ),
    Fault(
        "map-offset-refused",
        "Files begin with the mapping.",
        responder=refuse("dma_map", errno.EINVAL, lambda r: r.offset > 0),
    ),
    Fault("map-adjacent-refused", "The end of a mapping belongs to it.", responder=method("dma_map", _touching)),
    Fault(
        "map-highest-page-refused",
        "The end of a range is an address.",
        responder=refuse("dma_map", errno.EINVAL, lambda request: request.address + request.size >= 1 << 64),
    ),
    *(
        Fault(
            f"overlap-{relation}-accepted",
            "One way to lie over a mapping is not seen.",
            responder=_overlap_accepted(relation),
        )
        for relation in ("same-range", "inside", "around", "first-page", "last-page")
    ),
    Fault("overlap-replaces", "The mapping below a refused range is gone.", responder=method("dma_map", _replacing)),
    Fault("map-refused-keeps-descriptor", "A refused descriptor is not closed.", responder=method("dma_map", _leaking)),
    Fault(
        "map-second-descriptor-kept", "A second descriptor is not closed.", responder=method("dma_map", _second_kept)
    ),
    Fault("map-pipe-crash", "Descriptors are memory.", responder=dying_of(lambda _, fd: unix.kind_of(fd) == "pipe")),
    Fault(
        "map-read-only-crash",
        "Memory is writeable.",
        responder=dying_of(lambda _, fd: fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY),
    ),
    Fault(
        "map-short-memory-crash",
        "Files are long enough.",
        responder=dying_of(lambda r, fd: os.fstat(fd).st_size < r.size),
    ),
    Fault("map-size-zero-crash", "Ranges have a size.", responder=crash("dma_map", lambda request: not request.size)),
    Fault(
        "map-past-end-crash",
        "Address and size fit into 64 bits.",
        responder=crash("dma_map", lambda request: request.address + request.size > 1 << 64),
    ),
    Fault("map-unknown-flags-hangs", "Flags are known.", responder=stuck("dma_map", lambda request: request.flags > 3)),
    Fault("unmap-reply-empty", "The reply is a header alone.", outgoing=shorter(UNMAP, 0)),
    Fault("unmap-echoes-nothing", "The reply names no range.", outgoing=fields(UNMAP, address=0, size=0)),
    Fault("unmap-keeps-descriptor", "An unmapped descriptor stays open.", responder=method("dma_map", _duplicating)),
    Fault("unmap-range-stays-taken", "An unmapped range stays in the table.", responder=accept("dma_unmap", _unmapped)),
    Fault("unmap-first-part-accepted", "The start of a mapping names it.", responder=_unmap_accepted(_starts)),
    Fault("unmap-last-part-accepted", "The end of a mapping names it.", responder=_unmap_accepted(_ends)),
    Fault("unmap-larger-accepted", "A range may reach into the next mapping.", responder=_unmap_accepted(_longer)),
    Fault("unmap-two-mappings-accepted", "A range may hold several mappings.", responder=_unmap_accepted(_several)),
    Fault("unmap-unknown-range-accepted", "What is not mapped can be unmapped.", responder=_unmap_accepted(_none)),
    Fault("unmap-twice-accepted", "A mapping can be unmapped again.", responder=_Remembers),
    Fault("unmap-flags-crash", "Flags are zero.", responder=crash("dma_unmap", lambda request: request.flags)),
    Fault("memory-outlives-client", "Client memory is closed by unmapping only.", responder=_ForgetsAtTheEnd),
)
