"""Replies that contradict the request or themselves: told, closed, and the session goes on."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_server import Fake, reply_to
from serving import eventfds, memfd, rung

from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Client
from vfio_user_proto.errors import (
    ErrorReply,
    RemoteProtocolError,
)
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.kvm import GuestBus, Space
from vfio_user_proto.messages import Command, DeviceFeatureFlags

pytestmark = pytest.mark.usefixtures("no_leak")


SPARSE = wire.encode_record(m.CapabilityHeader(id=1, version=1)) + wire.encode_record(
    m.SparseMmap(areas=(m.SparseMmapArea(offset=4096, size=4096),))
)
ENTRY = m.IoeventfdSubRegion(offset=0, size=4)
SHADOW = m.ShadowIoeventfdSubRegion(type=2, shadow_mem_fd_index=1)
CAPS = m.RegionInfoFlags.CAPS

CONTRADICTIONS: dict[str, tuple[Callable[[Client], object], Any, str]] = {
    "another offset": (
        lambda client: client.region_read(1, 8, 4),
        m.RegionReadReply(offset=9, region=1, data=b"1234"),
        "RegionReadReply.offset is 9, 8 was asked for",
    ),
    "another region": (
        lambda client: client.region_read(1, 8, 4),
        m.RegionReadReply(offset=8, region=2, data=b"1234"),
        "RegionReadReply.region is 2, 1 was asked for",
    ),
    "less data": (
        lambda client: client.region_read(1, 8, 4),
        m.RegionReadReply(offset=8, region=1, data=b"123"),
        "RegionReadReply.count is 3, 4 was asked for",
    ),
    "less data than counted": (
        lambda client: client.region_read(1, 8, 4),
        m.RegionReadReply(offset=8, region=1, count=4, data=b"123"),
        "VFIO_USER_REGION_READ reply.RegionReadReply.data at byte 32: 4 bytes are due, 3 are there",
    ),
    "more data than counted": (
        lambda client: client.region_read(1, 8, 4),
        m.RegionReadReply(offset=8, region=1, count=4, data=b"12345"),
        "VFIO_USER_REGION_READ reply: 1 bytes too many",
    ),
    "less written": (
        lambda client: client.region_write(1, 8, b"1234"),
        m.RegionWriteReply(offset=8, region=1, count=2),
        "RegionWriteReply.count is 2, 4 was asked for",
    ),
    "fewer writes": (
        lambda client: client.write_multi([(0, 0, b"1"), (0, 1, b"2")]),
        m.RegionWriteMultiReply(wr_cnt=1),
        "RegionWriteMultiReply.wr_cnt is 1, 2 was asked for",
    ),
    "another range unmapped": (
        lambda client: client.dma_unmap(4096, 4096),
        m.DmaUnmapRequest(address=4096, size=8192),
        "DmaUnmapRequest.size is 8192, 4096 was asked for",
    ),
    "another interrupt": (
        lambda client: client.irq_info(1),
        m.DeviceGetIrqInfoReply(index=2),
        "DeviceGetIrqInfoReply.index is 2, 1 was asked for",
    ),
    "a payload where none is due": (
        lambda client: client.reset(),
        m.DeviceGetIrqInfoReply(),
        "VFIO_USER_DEVICE_RESET reply: 16 bytes too many",
    ),
    "more migration data": (
        lambda client: client.mig_data_read(2),
        m.MigDataReadReply(data=b"123"),
        "3 bytes of migration data came, at most 2 were asked for",
    ),
    "another feature": (
        lambda client: client.device_feature(1, DeviceFeatureFlags.GET),
        m.DeviceFeatureRequest(flags=0x10002),
        "DeviceFeatureRequest.flags is INDEX=2|GET, INDEX=1|GET was asked for",
    ),
    "a cut feature": (
        lambda client: client.device_feature(1, DeviceFeatureFlags.GET),
        m.DeviceFeatureRequest(flags=0x10001, data=b"1234"),
        "VFIO_USER_DEVICE_FEATURE reply: FeatureMigration.flags at byte 0: 8 bytes are due, 4 are there",
    ),
    "a feature too long": (
        lambda client: client.device_feature(1, DeviceFeatureFlags.GET),
        m.DeviceFeatureRequest(flags=0x10001, data=bytes(9)),
        "1 bytes follow the data of feature 1",
    ),
    "the info of another region": (
        lambda client: client.region_info(1),
        (m.DeviceGetRegionInfoReply(index=2), "fds"),
        "DeviceGetRegionInfoReply.index is 2, 1 was asked for",
    ),
    "a cut region info": (
        lambda client: client.region_info(1),
        (m.DeviceGetIrqInfoReply(index=1), "fds"),
        "VFIO_USER_DEVICE_GET_REGION_INFO reply.DeviceGetRegionInfoReply.size at byte 32: 8 bytes are due, 0 are there",
    ),
    "two descriptors": (
        lambda client: client.region_info(1),
        (m.DeviceGetRegionInfoReply(index=1), "fds"),
        "2 descriptors came with region 1, one is due",
    ),
    "a region that needs 4 GiB": (
        lambda client: client.region_info(1),
        (m.DeviceGetRegionInfoReply(argsz=0xFFFFFFFF, index=1), "fds"),
        "VFIO_USER_DEVICE_GET_REGION_INFO reply: 4294967295 bytes are said to be needed",
    ),
    "a region that always needs more": (
        lambda client: client.region_info(1),
        lambda event: (m.DeviceGetRegionInfoReply(argsz=event.message.payload.argsz + 8, index=1), "fds"),
        "VFIO_USER_DEVICE_GET_REGION_INFO reply: 48 bytes are said to be needed",
    ),
    "a chain that breaks": (
        lambda client: client.region_info(1),
        m.DeviceGetRegionInfoReply(argsz=32, index=1, flags=CAPS, cap_offset=64),
        "DeviceGetRegionInfoReply.capabilities: a capability is said to be at byte 64 of 32",
    ),
    "an area beyond the region": (
        lambda client: client.region_info(1),
        m.DeviceGetRegionInfoReply(argsz=32, index=1, flags=CAPS, cap_offset=32, size=8191, capabilities=SPARSE),
        "an area of region 1 reaches beyond its 8191 bytes",
    ),
    "sub-regions of another region": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(argsz=16, index=2), "fds"),
        "DeviceGetRegionIoFdsReply.index is 2, 1 was asked for",
    ),
    "sub-regions under flags that nobody knows": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(argsz=16, flags=1, index=1), "fds"),
        "DeviceGetRegionIoFdsReply.flags is 1, 0 was asked for",
    ),
    "fewer sub-regions": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(argsz=16, index=1, count=2, sub_regions=()), "fds"),
        "2 sub-regions are due, 0 came",
    ),
    "a sub-region of no known kind": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(bytes(24),)), "fds"),
        "sub-region 0 is of no known kind (24 bytes)",
    ),
    "a descriptor that did not come": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(ENTRY, ENTRY.replace(fd_index=2))), "fds"),
        "sub-region 1 has descriptor 2 of 2",
    ),
    "a shadow that did not come": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(SHADOW.replace(shadow_mem_fd_index=0xFFFFFFFF),)), "fds"),
        "sub-region 0 has descriptor 4294967295 of 2",
    ),
    "unknown flags": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(ENTRY.replace(flags=m.IoeventfdFlags(0x11)),)), "fds"),
        "sub-region 0 has unknown flags (DATAMATCH|0x10)",
    ),
    "a sub-region beyond the region": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(ENTRY.replace(offset=4093),)), "fds"),
        "sub-region 0 reaches beyond the 4096 bytes of region 1",
    ),
    "a sub-region beyond 2^64": (
        lambda client: client.region_io_fds(1, 4096),
        (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(ENTRY.replace(offset=(1 << 64) - 1),)), "fds"),
        "sub-region 0 reaches beyond the 4096 bytes of region 1",
    ),
}


@pytest.mark.parametrize(("ask", "answer", "problem"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_told_and_the_session_goes_on(
    ask: Callable[[Client], object], answer: Any, problem: str
) -> None:
    """No descriptor is left of such a reply; the stream is still in step."""
    with eventfds(2) as fds:

        def wrong(event: CommandReceived) -> Any:
            if event.message.header.command == Command.DEVICE_GET_INFO:
                return m.DeviceGetInfoReply(num_irqs=2)
            said = answer(event) if callable(answer) else answer
            return (said[0], fds) if isinstance(said, tuple) else said

        with Fake(wrong, peer=Capabilities(write_multiple=True)) as server, server.connect() as client:
            with pytest.raises(RemoteProtocolError) as caught:
                ask(client)
            assert str(caught.value) == problem
            assert client.device_info().num_irqs == 2


def test_descriptors_with_replies_that_bring_none_are_closed() -> None:
    with eventfds(2) as fds, Fake(lambda event: (m.DeviceGetInfoReply(), fds)) as server, server.connect() as client:
        client.device_info()
    with (
        eventfds(2) as fds,
        Fake(lambda event: (reply_to(event, error=1, flags=0x21), fds)) as server,
        server.connect() as client,
        pytest.raises(ErrorReply, match="EPERM"),
    ):
        client.region_info(0)


def test_a_shadow_sub_region_names_both_descriptors() -> None:
    entry = SHADOW.replace(offset=8, size=4)
    with eventfds(1) as events, memfd(4096) as fd:
        said = (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(entry,)), (events[0], fd))
        with Fake(lambda event: said) as server, server.connect() as client, client.region_io_fds(1, 12) as io_fds:
            (found,) = io_fds.sub_regions
            assert isinstance(found, m.ShadowIoeventfdSubRegion)
            assert (io_fds.fd_of(found).kind, io_fds.shadow_of(found).kind) == ("eventfd", "memfd")


def test_the_shadow_index_of_a_plain_ioeventfd_counts_for_nothing() -> None:
    """A server that sends 48 bytes for every kind leaves anything there; what no sub-region uses is closed."""
    entry = SHADOW.replace(type=m.IoFdType.IOEVENTFD, shadow_mem_fd_index=0xFFFFFFFF)
    with eventfds(2) as fds:
        said = (m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(entry,)), fds)
        with Fake(lambda event: said) as server, server.connect() as client, client.region_io_fds(1, 12) as io_fds:
            assert [fd.kind for fd in io_fds.fds] == ["eventfd", "closed"]
            with GuestBus(client) as bus:
                bus.place(1, 12, 0, io_fds=io_fds.io_fds)
                bus.store(Space.MEMORY, 0, b"\1")
            assert rung(fds[0]) == 1


def test_the_size_of_the_region_is_asked_for_where_it_is_not_given() -> None:
    def answer(event: CommandReceived) -> Any:
        if event.message.header.command == Command.DEVICE_GET_REGION_INFO:
            return m.DeviceGetRegionInfoReply(index=1, size=8)
        return m.DeviceGetRegionIoFdsReply(index=1, sub_regions=(ENTRY.replace(offset=8),)), fds

    with (
        eventfds(1) as fds,
        Fake(answer) as server,
        server.connect() as client,
        pytest.raises(RemoteProtocolError, match="reaches beyond the 8 bytes of region 1"),
    ):
        client.region_io_fds(1)
