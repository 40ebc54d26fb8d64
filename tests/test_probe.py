"""Asking a server for all that it offers: complete with a good one, tolerant of every other."""

import errno
import re
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from fake_server import Fake, leave, reply_to
from serving import Serving, eventfds, memfd

from vfio_user_proto import messages as m
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Client, QueryCalls
from vfio_user_proto.device import Region
from vfio_user_proto.devices.pci import CONFIG
from vfio_user_proto.errors import ErrorReply
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command, DeviceFeature
from vfio_user_proto.probe import Descriptor, FeatureOffer, Offer, probe

pytestmark = pytest.mark.usefixtures("no_leak")


def server(**answers: Any) -> Callable[[CommandReceived], Any]:
    """A server's answers by command: a function of the request, or the same each time; ENOTSUP for all others."""

    def answer(event: CommandReceived) -> Any:
        said = answers.get(Command(event.message.header.command).name, errno.ENOTSUP)
        return said(event.message.payload) if callable(said) else said

    return answer


def probed(answer: Callable[[CommandReceived], Any], timeout: float = 10, **options: Any) -> Offer:
    with Fake(answer, **options) as fake, fake.connect(timeout=timeout) as client:
        return probe(client)


def placeless(record: m.SubRegion) -> m.SubRegion:
    """A record without its descriptors' numbers, which a reply counts in the order in which it brings them."""
    if isinstance(record, m.ShadowIoeventfdSubRegion):
        return record.replace(fd_index=0, shadow_mem_fd_index=0)
    return record.replace(fd_index=0)


def test_everything_that_the_reference_server_offers() -> None:
    """What is found is what the device's description says."""
    with Serving() as serving, Client.connect(serving.path) as client:
        offer = probe(client)
        description = serving.devices[0].description
        regions = [description.regions.get(index, Region(0)) for index in range(description.num_regions)]

    assert offer.version == (0, 2)
    assert offer.capabilities.max_msg_fds == 16
    assert offer.device is not None
    assert len(offer.irqs) == description.num_irqs
    assert [irq.reply.count if irq.reply else None for irq in offer.irqs] == [
        description.irqs[index].count for index in range(description.num_irqs)
    ]
    assert [region.size for region in offer.regions] == [region.size for region in regions]
    assert [region.areas or () for region in offer.regions] == [region.areas for region in regions]
    assert [region.type for region in offer.regions] == [region.type for region in regions]
    assert [region.fd is not None for region in offer.regions] == [region.fd is not None for region in regions]
    assert [[placeless(each) for each in region.sub_regions] for region in offer.regions] == [
        [placeless(each) for each in region.io_fds.sub_regions] if region.io_fds else [] for region in regions
    ]
    assert {region.fd.kind for region in offer.regions if region.fd} == {"memfd"}
    assert {fd.kind for region in offer.regions for fd in region.io_fds} == {"eventfd", "memfd", "socket"}
    assert (len(offer.config), offer.config[:2]) == (256, b"\x46\x56")
    assert (offer.problems, offer.ended) == ((), "")


def test_a_server_that_refuses_everything() -> None:
    """The regions and interrupts of a PCI device are asked for all the same; each reason is there."""
    offer = probed(server())

    assert offer.device is None
    assert offer.problems == ("VFIO_USER_DEVICE_GET_INFO was refused with ENOTSUP",)
    assert [region.problem for region in offer.regions] == [
        "VFIO_USER_DEVICE_GET_REGION_INFO was refused with ENOTSUP"
    ] * 9
    assert [irq.problem for irq in offer.irqs] == ["VFIO_USER_DEVICE_GET_IRQ_INFO was refused with ENOTSUP"] * 5
    assert (offer.features, offer.config, offer.ended) == ((), b"", "")


def test_an_item_that_fails_does_not_hide_the_next() -> None:
    def region(request: m.DeviceGetRegionInfoRequest) -> Any:
        if request.index == 1:
            return m.DeviceGetRegionInfoReply(index=5)
        return m.DeviceGetRegionInfoReply(index=request.index, size=64, flags=m.RegionInfoFlags.READ)

    offer = probed(
        server(
            DEVICE_GET_INFO=m.DeviceGetInfoReply(num_regions=CONFIG + 1),
            DEVICE_GET_REGION_INFO=region,
            REGION_READ=errno.EIO,
        )
    )

    assert [region.problem for region in offer.regions] == [
        "",
        "DeviceGetRegionInfoReply.index is 5, 1 was asked for",
        *[""] * 6,
    ]
    assert offer.regions[0].io_problem == "VFIO_USER_DEVICE_GET_REGION_IO_FDS was refused with ENOTSUP"
    assert offer.problems == ("configuration space: VFIO_USER_REGION_READ was refused with EIO",)


def test_a_server_that_takes_no_bytes_is_described_all_the_same() -> None:
    region = m.DeviceGetRegionInfoReply(index=CONFIG, size=64, flags=m.RegionInfoFlags.READ)
    offer = probed(
        server(DEVICE_GET_INFO=m.DeviceGetInfoReply(num_regions=8), DEVICE_GET_REGION_INFO=region),
        peer=Capabilities(max_data_xfer_size=0),
    )

    assert offer.regions[CONFIG].reply == region
    assert offer.problems == ("configuration space: the server takes no bytes",)


def test_absurd_numbers_are_bounded_and_told() -> None:
    offer = probed(server(DEVICE_GET_INFO=m.DeviceGetInfoReply(num_regions=0xFFFFFFFF, num_irqs=65)))

    assert (len(offer.regions), len(offer.irqs)) == (64, 64)
    assert offer.problems == (
        "4294967295 regions, of which the first 64 are asked for",
        "65 kinds of interrupts, of which the first 64 are asked for",
    )


def test_a_huge_configuration_space_is_read_in_part() -> None:
    counts = []

    def read(request: m.RegionReadRequest) -> m.RegionReadReply:
        counts.append(request.count)
        return m.RegionReadReply(offset=request.offset, region=request.region, data=bytes(request.count))

    def region(request: m.DeviceGetRegionInfoRequest) -> m.DeviceGetRegionInfoReply:
        return m.DeviceGetRegionInfoReply(index=request.index, size=1 << 60, flags=m.RegionInfoFlags.READ)

    offer = probed(server(DEVICE_GET_REGION_INFO=region, REGION_READ=read), peer=Capabilities(max_data_xfer_size=1024))

    assert len(offer.config) == 4096
    assert counts == [1024] * 4


def test_features_are_probed_and_read() -> None:
    def feature(request: m.DeviceFeatureRequest) -> Any:
        index, flags = int(request.flags) & 0xFFFF, int(request.flags) >> 16
        if index == DeviceFeature.MIGRATION and flags in (5, 1):
            return request.replace(data=b"" if flags == 5 else b"\5" + bytes(7))
        if index == DeviceFeature.DMA_LOGGING_START and flags == 6:
            return request
        if index == DeviceFeature.MIG_DEVICE_STATE and flags in (5, 6):
            return request
        return errno.ENOTTY

    offer = probed(server(DEVICE_FEATURE=feature))

    assert offer.features == (
        FeatureOffer(DeviceFeature.MIGRATION, True, False, m.FeatureMigration(flags=5)),
        FeatureOffer(
            DeviceFeature.MIG_DEVICE_STATE, True, True, None, "VFIO_USER_DEVICE_FEATURE was refused with ENOTTY"
        ),
        FeatureOffer(DeviceFeature.DMA_LOGGING_START, False, True),
    )


class Refusing:
    """All that a question needs of a connection; each is refused."""

    version, peer, offer, limit, largest_transfer = (0, 1), Capabilities(), Capabilities(), 1 << 20, 1 << 20

    async def call(self, command: int, payload: object = None, *, fds: object = ()) -> NoReturn:
        raise ErrorReply(f"command {command}", errno.EPERM)


def test_asking_needs_nothing_but_replies() -> None:
    """No command without a reply, no greeting, no second socket: whoever can ask can be probed."""
    offer = probe(QueryCalls(Refusing()))

    assert (offer.version, offer.ended) == ((0, 1), "")
    assert {region.problem for region in offer.regions} == {
        f"command {Command.DEVICE_GET_REGION_INFO} was refused with EPERM"
    }


@pytest.mark.parametrize("after", range(0, 20, 3))
def test_a_server_that_leaves_is_asked_nothing_more(after: int) -> None:
    count = 0

    def answer(event: CommandReceived) -> Any:
        nonlocal count
        count += 1
        return leave(event) if count > after else errno.ENOTSUP

    offer = probed(answer)

    assert re.fullmatch(r"the connection has ended before VFIO_USER_\w+ was done: the server closed it", offer.ended)
    assert count == after + 1


def test_a_server_that_falls_silent_costs_one_deadline() -> None:
    offer = probed(server(DEVICE_GET_INFO=m.DeviceGetInfoReply(num_irqs=3), DEVICE_GET_IRQ_INFO=None), timeout=0.1)

    assert offer.ended == "VFIO_USER_DEVICE_GET_IRQ_INFO has no reply within 0.1 s"
    assert [irq.problem for irq in offer.irqs] == [offer.ended] * 3


def test_a_stream_that_breaks_is_told() -> None:
    """RemoteProtocolError from the engine is the end, and is told as one."""
    offer = probed(server(DEVICE_GET_INFO=lambda request: b"\0" * 16))

    assert offer.problems[0] == "the message size is 0; 16 to 1052672 bytes are allowed"
    assert offer.ended == "the connection has ended: the message size is 0; 16 to 1052672 bytes are allowed"


def test_descriptors_are_described_and_closed() -> None:
    """Also those that should not have come, and one that is no file."""
    with memfd(100) as fd, eventfds(1) as events:

        def region(event: CommandReceived) -> Any:
            request = event.message.payload
            assert isinstance(request, m.DeviceGetRegionInfoRequest)
            reply = m.DeviceGetRegionInfoReply(index=request.index, size=4096, flags=m.RegionInfoFlags.MMAP)
            return (reply, {0: (fd,), 1: (events[0],), 2: (fd, fd)}.get(request.index, ()))

        def answer(event: CommandReceived) -> Any:
            if event.message.header.command == Command.DEVICE_GET_REGION_INFO:
                return region(event)
            return reply_to(event, error=errno.EIO, flags=0x21), (fd,)

        offer = probed(answer)

    assert [region.fd for region in offer.regions[:4]] == [
        Descriptor("memfd", 100),
        Descriptor("eventfd", 0),
        None,
        None,
    ]
    assert offer.regions[2].problem == "2 descriptors came with region 2, one is due"


def test_a_descriptor_that_no_sub_region_uses_is_told_of() -> None:
    """The client has closed it before anybody could look at it."""
    entry = m.IoeventfdSubRegion(offset=0, size=4, fd_index=1, type=m.IoFdType.IOEVENTFD)
    with eventfds(2) as events:

        def answer(event: CommandReceived) -> Any:
            request = event.message.payload
            if isinstance(request, m.DeviceGetRegionInfoRequest):
                return m.DeviceGetRegionInfoReply(index=request.index, size=4096, flags=m.RegionInfoFlags.READ)
            if isinstance(request, m.DeviceGetRegionIoFdsRequest):
                reply = m.DeviceGetRegionIoFdsReply(index=request.index, sub_regions=(entry,))
                return reply, events
            return errno.ENOTSUP

        offer = probed(answer)

    assert [fd.kind for fd in offer.regions[0].io_fds] == ["unused", "eventfd"]


def test_migration_that_the_probe_denies_is_found() -> None:
    def feature(request: m.DeviceFeatureRequest) -> Any:
        works = int(request.flags) == DeviceFeature.MIGRATION | m.DeviceFeatureFlags.GET
        return request.replace(data=b"\5" + bytes(7)) if works else errno.ENOTTY

    offer = probed(server(DEVICE_FEATURE=feature))

    denied = "the probe denies that it can be read"
    assert offer.features == (FeatureOffer(DeviceFeature.MIGRATION, False, False, m.FeatureMigration(flags=5), denied),)
