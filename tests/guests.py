# What the tests of the guest's bus share: records, a server that writes down what it is asked, whether a guest runs here.
import pytest

from vfio_user_proto.kvm import Space, why_not
from vfio_user_proto.messages import (
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
)

MEMORY, PORTS = Space.MEMORY, Space.PORTS
BASE = 0xD0000  # where a guest finds the region of a test
WHY_NOT = why_not()
needs_kvm = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


class Recorder:
    """A server in a list: every access, in order, as (region, offset, bytes written or number of bytes read)."""

    def __init__(self) -> None:
        self.accesses: list[tuple[int, int, bytes | int]] = []
        self.unanswered = 0
        self.refusal: Exception | None = None

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        self.accesses.append((index, offset, count))
        if self.refusal is not None:
            raise self.refusal
        return bytes(range(offset & 0xF, (offset & 0xF) + count))

    def region_write(self, index: int, offset: int, data: bytes, *, no_reply: bool = False) -> None:
        self.unanswered += no_reply
        self.accesses.append((index, offset, data))
        if self.refusal is not None:
            raise self.refusal


def event(offset: int = 0, size: int = 4, match: int | None = None, fd: int = 0) -> IoeventfdSubRegion:
    flags = IoeventfdFlags(0) if match is None else IoeventfdFlags.DATAMATCH
    return IoeventfdSubRegion(offset=offset, size=size, fd_index=fd, flags=flags, datamatch=match or 0)


def ioregion(offset: int, size: int, user_data: int, *, posted: bool = True, fd: int = 0) -> IoregionfdSubRegion:
    flags = IoregionFlags.POSTED_WRITES if posted else IoregionFlags(0)
    return IoregionfdSubRegion(
        offset=offset, size=size, fd_index=fd, type=IoFdType.IOREGIONFD, flags=flags, user_data=user_data
    )


def shadow(offset: int, at: int, kind: IoFdType = IoFdType.IOEVENTFD_SHADOW, **more: int) -> ShadowIoeventfdSubRegion:
    flags = IoeventfdFlags(more.pop("flags", 0))
    return ShadowIoeventfdSubRegion(
        offset=offset, size=4, type=kind, flags=flags, shadow_mem_fd_index=1, shadow_offset=at, **more
    )


def word(value: int) -> bytes:
    return value.to_bytes(4, "little")
