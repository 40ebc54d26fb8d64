"""Faults of regions that can be mapped: a mapping that is not of the region, and what a client sees there."""

import errno
import os
from functools import cache
from typing import Any

from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import Fault, fields, method, refuse, right
from vfio_user_proto.messages import (
    Command,
    DeviceGetRegionInfoReply,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteReply,
    RegionWriteRequest,
)
from vfio_user_proto.responder import Answer
from vfio_user_proto.session import Filter

INFO = Command.DEVICE_GET_REGION_INFO
# The region of the test device that can be mapped, its size, and where its first area begins and ends.
MAPPABLE, SIZE, AREA, AREA_END = 2, 0x4000, 0x1000, 0x2000


@cache
def _other(size: int, byte: int) -> int:
    """Memory that has nothing to do with the region; it lives as long as the server."""
    fd = os.memfd_create("other", os.MFD_CLOEXEC)
    os.pwrite(fd, bytes([byte]) * size, 0)
    return fd


def _sending(size: int, byte: int) -> Filter:
    """Another descriptor in place of the region's."""

    def filtered(
        data: bytes, fds: tuple[int, ...], answers: CommandReceived | None
    ) -> tuple[bytes, tuple[int, ...]] | None:
        mine = answers is not None and answers.message.header.command == INFO and bool(fds)
        return data, (_other(size, byte),) if mine else fds

    return filtered


def _first_read(self: Any, request: RegionReadRequest, fds: list[int]) -> Answer:
    """What was read once stays so."""
    known = self.__dict__.setdefault("known", {})
    if request.region != MAPPABLE:
        return right("region_read", self, request, fds)
    key = request.offset, request.count
    if key not in known:
        known[key] = right("region_read", self, request, fds)
    answer: tuple[RegionReadReply, tuple[int, ...]] = known[key]
    return answer


def _kept_apart(self: Any, request: RegionWriteRequest, fds: list[int]) -> Answer:
    """A command writes to the server's own copy."""
    if request.region != MAPPABLE:
        return right("region_write", self, request, fds)
    return RegionWriteReply(offset=request.offset, region=request.region, count=request.count), ()


def _own_memory(self: Any, request: Any, fds: list[int]) -> Answer:
    """A client begins with memory that is clear."""
    if "began" not in self.__dict__:
        self.began = True
        self.device.region_write(MAPPABLE, 0, bytes(SIZE))
    return right("device_get_region_info", self, request, fds)


def _half_pages(reply: DeviceGetRegionInfoReply) -> bytes:
    """The capabilities, in which the size of the first area is that of half a page."""
    return reply.capabilities.replace(
        (0x1000).to_bytes(8, "little") * 2, b"\0\x10" + bytes(6) + b"\0\x08" + bytes(6), 1
    )


def _across(request: RegionReadRequest) -> bool:
    end = request.offset + request.count
    return request.region == MAPPABLE and any(request.offset < edge < end for edge in (AREA, AREA_END))


FAULTS: tuple[Fault, ...] = (
    Fault("mapped-other-memory", "What is mapped is not the region.", outgoing=_sending(SIZE, 0xA5)),
    Fault(
        "mapped-stores-unseen", "What was read once is read from a cache.", responder=method("region_read", _first_read)
    ),
    Fault(
        "mapped-writes-kept-apart", "Commands have a copy of their own.", responder=method("region_write", _kept_apart)
    ),
    Fault(
        "mapped-memory-of-each-client",
        "What was stored leaves with its client.",
        responder=method("device_get_region_info", _own_memory),
    ),
    Fault(
        "mapped-read-across-refused",
        "An access is inside an area, or outside.",
        responder=refuse("region_read", errno.EINVAL, _across),
    ),
    Fault(
        "mapped-areas-of-half-pages",
        "An area has the size of its registers.",
        outgoing=fields(INFO, capabilities=_half_pages),
    ),
    Fault("mapped-file-shorter", "The file ends with the first area.", outgoing=_sending(AREA_END, 0)),
)
