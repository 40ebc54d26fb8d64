# Records that cannot be right: each is named with its number and what is wrong with it.
import os
import socket
from collections.abc import Iterator

import pytest
from serving import eventfds, memfd

from vfio_user_proto.device import IoFds, shadow_of
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.kvm.records import check, match_of, why_unusable
from vfio_user_proto.messages import (
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
    SubRegion,
)

pytestmark = pytest.mark.usefixtures("no_leak")
EVENTFD, FILE, SOCKET = range(3)
POSTED, MATCH = IoregionFlags.POSTED_WRITES, IoeventfdFlags.DATAMATCH


@pytest.fixture
def fds() -> Iterator[tuple[int, ...]]:
    one, other = socket.socketpair()
    with eventfds(1) as [eventfd], memfd(4096) as file, one, other:
        yield eventfd, file, one.fileno()


def event(offset: int = 0, size: int = 4, match: int | None = None, fd: int = EVENTFD) -> IoeventfdSubRegion:
    flags = IoeventfdFlags(0) if match is None else MATCH
    return IoeventfdSubRegion(offset=offset, size=size, fd_index=fd, flags=flags, datamatch=match or 0)


def ioregion(offset: int = 0, size: int = 4, flags: IoregionFlags = POSTED, fd: int = SOCKET) -> IoregionfdSubRegion:
    return IoregionfdSubRegion(offset=offset, size=size, fd_index=fd, type=IoFdType.IOREGIONFD, flags=flags)


def shadow(offset: int = 0, kind: IoFdType = IoFdType.IOEVENTFD_SHADOW, memory: int = FILE) -> ShadowIoeventfdSubRegion:
    return ShadowIoeventfdSubRegion(
        offset=offset, size=4, fd_index=EVENTFD, type=kind, shadow_mem_fd_index=memory, flags=MATCH, datamatch=6
    )


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([event(0xFFD)], "sub-region 0 reaches beyond the 4096 bytes of its region"),
        ([event(0x1000, 0)], "sub-region 0 reaches beyond"),
        ([event(), ioregion(0xFFF, 8)], "sub-region 1 reaches beyond"),
        ([event(fd=FILE)], "sub-region 0 brings no eventfd but something else (memfd)"),
        ([event(fd=SOCKET)], "sub-region 0 brings no eventfd but something else (socket)"),
        ([ioregion(fd=EVENTFD)], "sub-region 0 brings no socket but something else (eventfd)"),
        ([shadow(memory=SOCKET)], "sub-region 0 brings no shadow memory but something else (socket)"),
        (
            [shadow().replace(shadow_offset=4093)],
            "sub-region 0 has its value at byte 4093 of a shadow memory of 4096 bytes",
        ),
        ([shadow().replace(shadow_offset=(1 << 64) - 1)], "of a shadow memory of 4096 bytes"),
        ([ioregion(size=0, flags=IoregionFlags(0))], "sub-region 0 has size 0, but its writes are not posted"),
        ([event().replace(flags=IoeventfdFlags.PIO)], "sub-region 0 is in the I/O port space, its region is not"),
        ([ioregion(flags=IoregionFlags.PIO)], "sub-region 0 is in the I/O port space, its region is not"),
        ([event(), event(8), event()], "sub-regions 0 and 2 claim the same accesses"),
        ([event(match=1), event(match=1)], "sub-regions 0 and 1 claim"),
        ([event(), event(match=1)], "sub-regions 0 and 1 claim"),
        ([event(), event(size=0)], "sub-regions 0 and 1 claim"),
        ([ioregion(0, 8), event(4)], "sub-regions 0 and 1 claim"),
        ([ioregion(4), ioregion(0, 8)], "sub-regions 0 and 1 claim"),
        ([ioregion(4, 0), ioregion(4, 0)], "sub-regions 0 and 1 claim"),
        ([event(at, 1) for at in range(1001)], "1001 sub-regions are more than the 1000 that are used"),
    ],
)
def test_records_that_contradict_something_are_refused(
    fds: tuple[int, ...], entries: list[SubRegion], problem: str
) -> None:
    with pytest.raises(RemoteProtocolError) as refusal:
        check(IoFds(tuple(entries), fds), 4096, ports=False)
    assert problem in str(refusal.value)


def test_memory_in_a_region_of_ports_is_refused(fds: tuple[int, ...]) -> None:
    with pytest.raises(RemoteProtocolError, match="sub-region 0 is not in the I/O port space, its region is"):
        check(IoFds((event(),), fds), 16, ports=True)


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [event(match=1), event(match=2), event(size=2), event(4, 0)],
        [ioregion(0, 4), ioregion(4, 4), event(8), ioregion(12, 0)],
        [shadow(), shadow(8, IoFdType.IOEVENTFD, memory=99)],
    ],
)
def test_records_that_can_live_together_are_accepted(fds: tuple[int, ...], entries: list[SubRegion]) -> None:
    """Of a record of 48 bytes that is no shadow, the number of the memory does not count."""
    check(IoFds(tuple(entries), fds), 4096, ports=False)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (event(size=3), "an ioeventfd for stores of 3 bytes"),
        (event().replace(flags=IoeventfdFlags.VIRTIO_CCW_NOTIFY), "flags VIRTIO_CCW_NOTIFY"),
        (event().replace(flags=IoeventfdFlags(0x40)), "flags 0x40"),
        (ioregion(flags=IoregionFlags(4)), "flags 0x4"),
        (event(), ""),
        (ioregion(size=3), ""),
    ],
)
def test_what_nobody_here_knows_stays_with_messages(entry: SubRegion, reason: str) -> None:
    """It is not judged either."""
    assert why_unusable(entry) == reason
    if reason:
        check(IoFds((entry, entry), ()), 1, ports=False)


def test_shadow_memory_that_can_only_be_read_is_refused(fds: tuple[int, ...]) -> None:
    read_only = os.open(f"/proc/self/fd/{fds[FILE]}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with pytest.raises(
            RemoteProtocolError, match="sub-region 0 brings shadow memory that cannot be read and written"
        ):
            check(IoFds((shadow(),), (fds[EVENTFD], read_only)), 4096, ports=False)
    finally:
        os.close(read_only)


def test_a_record_of_48_bytes_has_shadow_memory_if_its_type_says_so() -> None:
    assert shadow_of(shadow()) == shadow()
    assert shadow_of(shadow(kind=IoFdType.IOEVENTFD)) is None
    assert shadow_of(event()) is None
    assert match_of(shadow(kind=IoFdType.IOEVENTFD)) == 6
    assert match_of(ioregion()) is None
