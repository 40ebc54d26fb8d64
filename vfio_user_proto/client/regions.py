"""What the server tells about a region, with the descriptors that came along."""

import os
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import TypeVar

from vfio_user_proto.client.fd import Fd
from vfio_user_proto.closing import Closing
from vfio_user_proto.device import IoFds, descriptors_of
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.messages import (
    DeviceGetRegionInfoReply,
    DeviceGetRegionIoFdsReply,
    RegionType,
    ShadowIoeventfdSubRegion,
    SparseMmap,
    SparseMmapArea,
    SubRegion,
)
from vfio_user_proto.model import Record
from vfio_user_proto.regioncaps import Capability

C = TypeVar("C", bound=Record)


class Window:
    """A part of a region that is accessed through the region's descriptor, without messages.

    Offsets count from the start of the region. The file is read and written, never mapped: the server may shorten it at any
    time, and an access to a page that is gone would kill the process.
    """

    def __init__(self, fd: Fd, base: int, offset: int, size: int) -> None:
        self.offset, self.size = offset, size
        self._fd, self._base = fd, base

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes. Raises ValueError outside the window, RemoteProtocolError where the file ends before."""
        self._check(offset, count)
        data = os.pread(self._fd.fileno(), count, self._base + offset)
        if len(data) != count:
            raise RemoteProtocolError(f"the file of the region ends before byte {self._base + offset + count}")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Store ``data``. Raises as ``read`` does."""
        self._check(offset, len(data))
        if self._fd.size < self._base + offset + len(data):
            raise RemoteProtocolError(f"the file of the region ends before byte {self._base + offset + len(data)}")
        os.pwrite(self._fd.fileno(), data, self._base + offset)

    def _check(self, offset: int, count: int) -> None:
        if not self.offset <= offset <= offset + count <= self.offset + self.size:
            raise ValueError(f"{count} bytes at {offset:#x} are outside {self.size} bytes at {self.offset:#x}")


class _WithFds(Closing):
    """Something that owns descriptors until it is closed."""

    fds: tuple[Fd, ...]

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            fd.close()


@dataclass(frozen=True, slots=True)
class RegionInfo(_WithFds):
    """A region (section VFIO_USER_DEVICE_GET_REGION_INFO)."""

    reply: DeviceGetRegionInfoReply
    capabilities: tuple[Capability, ...] = ()
    fds: tuple[Fd, ...] = ()

    @property
    def fd(self) -> Fd | None:
        """The descriptor of a region that may be mapped; None where none came along, whatever the flags say."""
        return self.fds[0] if self.fds else None

    @property
    def size(self) -> int:
        """Bytes that the region has; 0 for one that is not there."""
        return self.reply.size

    @property
    def areas(self) -> tuple[SparseMmapArea, ...] | None:
        """The parts that may be mapped; None where the whole may, or nothing."""
        sparse = self._capability(SparseMmap)
        return None if sparse is None else sparse.areas

    @property
    def region_type(self) -> RegionType | None:
        """Of a device-specific region, what it is."""
        return self._capability(RegionType)

    def windows(self) -> tuple[Window, ...]:
        """What can be reached through ``fd``: the areas, or the whole region; nothing without ``fd``."""
        if self.fd is None:
            return ()
        areas = (SparseMmapArea(size=self.size),) if self.areas is None else self.areas
        return tuple(Window(self.fd, self.reply.offset, area.offset, area.size) for area in areas)

    def _capability(self, kind: type[C]) -> C | None:
        for each in self.capabilities:
            if isinstance(each.content, kind):
                return each.content
        return None


@dataclass(frozen=True, slots=True)
class RegionIoFds(_WithFds):
    """Sub-regions that are accessed through descriptors (section VFIO_USER_DEVICE_GET_REGION_IO_FDS).

    Of ``fds``, which came with the reply, those that no sub-region uses are closed already.
    """

    reply: DeviceGetRegionIoFdsReply
    sub_regions: tuple[SubRegion, ...]
    fds: tuple[Fd, ...]

    @property
    def io_fds(self) -> IoFds:
        """Records and bare numbers, as ``kvm.GuestBus`` takes them; -1 stands for a descriptor that no record uses."""
        return IoFds(self.sub_regions, tuple(-1 if fd.closed else fd.fileno() for fd in self.fds))

    def fd_of(self, sub_region: SubRegion) -> Fd:
        """The descriptor that is told of an access."""
        return self.fds[sub_region.fd_index]

    def shadow_of(self, sub_region: ShadowIoeventfdSubRegion) -> Fd:
        """The memory in which the value that was written is found."""
        return self.fds[sub_region.shadow_mem_fd_index]


def checked(answer: DeviceGetRegionIoFdsReply, size: int, fds: int) -> tuple[SubRegion, ...]:
    """The sub-regions of ``answer`` for a region of ``size`` bytes, with which ``fds`` descriptors came.

    It is the client's part to check them (section VFIO_USER_DEVICE_GET_REGION_IO_FDS). Raises RemoteProtocolError.
    """
    if len(answer.sub_regions) != answer.count:
        raise RemoteProtocolError(f"{answer.count} sub-regions are due, {len(answer.sub_regions)} came")
    good = []
    for number, entry in enumerate(answer.sub_regions):
        if isinstance(entry, bytes):
            raise RemoteProtocolError(f"sub-region {number} is of no known kind ({len(entry)} bytes)")
        if int(entry.flags) & ~reduce(or_, type(entry.flags), 0):
            raise RemoteProtocolError(f"sub-region {number} has unknown flags ({entry.flags})")
        if max(descriptors_of(entry)) >= fds:
            raise RemoteProtocolError(f"sub-region {number} has descriptor {max(descriptors_of(entry))} of {fds}")
        if entry.offset + entry.size > size or entry.offset >= size:
            raise RemoteProtocolError(f"sub-region {number} reaches beyond the {size} bytes of region {answer.index}")
        good.append(entry)
    return tuple(good)
