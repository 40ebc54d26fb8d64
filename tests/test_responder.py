# The responder: VERSION, what holds for any command, queries, and what no device has.
import errno
from collections.abc import Iterator

import pytest
from desk import (
    CAPS,
    EVENTFD,
    FD,
    MAP,
    MMAP,
    NONE,
    OTHER,
    READ,
    SET_IRQS,
    SHADOW,
    TRIGGER,
    TWIN_END,
    UNMAP,
    WRITE,
    Desk,
    irqs,
    said,
    told,
    version,
)
from serving import eventfds

from vfio_user_proto import regioncaps
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.device import Description
from vfio_user_proto.messages import (
    Command,
    DeviceFeatureRequest,
    DeviceFlags,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqInfoFlags,
    MigDataReadRequest,
    MigDataWriteRequest,
    RegionReadRequest,
    RegionType,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    SparseMmap,
    SparseMmapArea,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import OFFER, Answer


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A responder after VERSION with a client that can do everything."""
    one = Desk(peer=OFFER)
    yield one
    one.dma.clear()
    one.irqs.clear()


# VERSION


@pytest.mark.parametrize(("proposed", "answered"), [(0, 0), (1, 1), (2, 2), (3, 2), (65535, 2)])
def test_minor_is_at_most_the_proposed_one_and_ours(proposed: int, answered: int) -> None:
    assert version(Desk(), minor=proposed)[0].version_minor == answered


def test_other_major_is_refused() -> None:
    assert Desk().refusal(Command.VERSION, VersionRequest(version_major=1)) == errno.EINVAL


def test_second_version_is_refused(desk: Desk) -> None:
    assert desk.refusal(Command.VERSION, VersionRequest()) == errno.EINVAL


@pytest.mark.parametrize("data", [b"{", b'{"capabilities": 1}\0', b"{}", b"{}\0x", said({"max_msg_fds": -1})])
def test_malformed_version_data_is_refused(data: bytes) -> None:
    assert Desk().refusal(Command.VERSION, VersionRequest(version_data=data)) == errno.EINVAL


def test_no_version_data_is_answered_with_none_and_leaves_the_defaults() -> None:
    desk = Desk()
    assert version(desk)[0].version_data == b""
    assert desk.responder.agreed == desk.responder.peer == Capabilities()


def test_only_capabilities_that_the_client_named_are_answered() -> None:
    reply, _ = version(Desk(), said({"max_msg_fds": 3, "pgsizes": 4096, "migration": {"pgsize": 4096}, "odd": 1}))
    assert told(reply) == {"max_msg_fds": OFFER.max_msg_fds, "pgsizes": 4096}


def test_what_was_not_answered_has_its_default() -> None:
    desk = Desk(offer=Capabilities(max_msg_fds=16, max_data_xfer_size=8))
    version(desk, said({"write_multiple": True}))
    assert (desk.responder.agreed.max_msg_fds, desk.responder.agreed.max_data_xfer_size) == (1, 1048576)


def test_twin_socket_comes_with_its_index_where_both_want_it() -> None:
    reply, fds = version(Desk(), said({"twin_socket": {"supported": True}}))
    assert told(reply) == {"twin_socket": {"supported": True, "fd_index": 0}}
    assert list(fds) == [TWIN_END]


@pytest.mark.parametrize(
    ("offer", "capabilities"),
    [
        (OFFER, {"twin_socket": {"supported": False}}),
        (OFFER, {"twin_socket": {}}),
        (Capabilities(), {"twin_socket": {"supported": True}}),
        (OFFER, {"twin_socket": {"supported": True}, "max_msg_fds": 0}),
    ],
)
def test_no_twin_socket_where_one_side_cannot(offer: Capabilities, capabilities: object) -> None:
    desk = Desk(offer=offer)
    reply, fds = version(desk, said(capabilities))
    assert told(reply)["twin_socket"] == {"supported": False}
    assert (list(fds), desk.twins) == ([], 0)


# Any command


def test_unknown_command_is_refused(desk: Desk) -> None:
    assert desk.refusal(14, b"") == errno.EOPNOTSUPP
    assert desk.refusal(999, b"whatever") == errno.EOPNOTSUPP


@pytest.mark.parametrize("command", [Command.DMA_READ, Command.DMA_WRITE])
def test_command_for_clients_is_refused(desk: Desk, command: Command) -> None:
    assert desk.refusal(command, bytes(16)) == errno.EOPNOTSUPP


@pytest.mark.parametrize("command", [c for c in Command if c not in (Command.DEVICE_RESET, 11, 12)])
def test_cut_payload_is_refused(desk: Desk, command: Command) -> None:
    assert desk.refusal(command, b"\0\0") == errno.EINVAL


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (MAP, DmaMapRequest(address=0, size=4096)),
        (UNMAP, DmaUnmapRequest(address=0, size=4096)),
        (Command.DEVICE_GET_INFO, DeviceGetInfoRequest()),
        (Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest()),
        (Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest()),
        (Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest()),
        (SET_IRQS, DeviceSetIrqsRequest(flags=NONE | TRIGGER)),
        (Command.REGION_READ, RegionReadRequest(count=4)),
        (Command.REGION_WRITE, RegionWriteRequest(data=b"1234")),
        (Command.REGION_WRITE_MULTI, RegionWriteMultiRequest()),
        (Command.DEVICE_RESET, b""),
    ],
)
def test_trailing_bytes_are_refused(desk: Desk, command: Command, payload: Record) -> None:
    assert desk.refusal(command, payload, extra=b"\0") == errno.EINVAL
    assert len(desk.dma) == 0


@pytest.mark.parametrize("command", [Command.DEVICE_GET_INFO, Command.DEVICE_RESET, Command.REGION_READ])
def test_descriptors_with_a_command_that_takes_none_are_refused(desk: Desk, command: Command) -> None:
    payload = {4: DeviceGetInfoRequest(), 9: RegionReadRequest(count=4)}.get(command)
    with eventfds(1) as fds:
        assert desk.refusal(command, payload, fds) == errno.EINVAL


def test_more_descriptors_than_agreed_are_refused() -> None:
    desk = Desk()
    version(desk, said({}))
    with eventfds(2) as fds:
        assert desk.refusal(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), fds) == errno.EINVAL


# Queries


@pytest.mark.parametrize("argsz", [0, 15, 16, 4096])
def test_device_info_is_the_devices_whatever_room_is_told(desk: Desk, argsz: int) -> None:
    info, fds = desk.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(argsz=argsz))
    assert (info.argsz, info.flags, info.num_regions, info.num_irqs) == (
        16,
        DeviceFlags.PCI | DeviceFlags.RESET,
        9,
        5,
    )
    assert fds == ()


def region_info(desk: Desk, index: int, argsz: int = 4096) -> Answer:
    return desk.ask(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(index=index, argsz=argsz))


@pytest.mark.parametrize(
    ("index", "size", "flags"), [(0, 4096, READ | WRITE), (1, 4096, READ), (2, 4096, WRITE), (6, 0, 0)]
)
def test_region_info_is_the_devices(desk: Desk, index: int, size: int, flags: int) -> None:
    info, fds = region_info(desk, index)
    assert (info.argsz, info.index, info.size, info.flags, info.cap_offset) == (32, index, size, flags, 0)
    assert (info.capabilities, fds) == (b"", ())


def test_region_info_with_capabilities_and_descriptor(desk: Desk) -> None:
    info, fds = region_info(desk, 3)
    assert (info.flags, info.offset, info.cap_offset, list(fds)) == (READ | WRITE | MMAP | CAPS, 4096, 32, [FD])
    chain, problem = regioncaps.walk(info)
    assert [(link.header.version, link.content) for link in chain] == [
        (1, SparseMmap(areas=(SparseMmapArea(offset=0, size=4096),))),
        (1, RegionType(type=5)),
    ]
    assert (problem, info.argsz, len(info.capabilities)) == (None, 32 + 32 + 16, 48)


@pytest.mark.parametrize("argsz", [0, 31, 32, 79])
def test_capabilities_that_do_not_fit_leave_the_fixed_part(desk: Desk, argsz: int) -> None:
    whole, _ = region_info(desk, 3)
    info, fds = region_info(desk, 3, min(argsz, whole.argsz - 1))
    assert (info.argsz, info.flags, info.cap_offset, info.capabilities) == (whole.argsz, READ | WRITE, 0, b"")
    assert fds == ()
    assert region_info(desk, 3, whole.argsz)[0] == whole


def test_whole_region_is_mappable_without_capabilities(desk: Desk) -> None:
    info, fds = region_info(desk, 8)
    assert (info.flags, info.argsz, list(fds)) == (READ | WRITE | MMAP, 32, [FD])


def test_no_descriptor_and_no_mmap_flag_for_a_client_that_takes_none() -> None:
    info, fds = region_info(Desk(peer=Capabilities(max_msg_fds=0)), 8)
    assert (info.flags, fds) == (READ | WRITE, ())


@pytest.mark.parametrize("index", [9, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("command", "request_type"),
    [
        (Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest),
        (Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest),
        (Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest),
    ],
)
def test_index_beyond_the_last_is_refused(desk: Desk, command: Command, request_type: type, index: int) -> None:
    assert desk.refusal(command, request_type(index=index, argsz=4096)) == errno.EINVAL


def io_fds(desk: Desk, index: int, argsz: int = 4096) -> Answer:
    return desk.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(index=index, argsz=argsz))


def test_io_fds_are_sent_once_each(desk: Desk) -> None:
    reply, fds = io_fds(desk, 4)
    assert (reply.argsz, reply.count, [sub.fd_index for sub in reply.sub_regions]) == (16 + 3 * 40, 3, [0, 1, 0])
    assert list(fds) == [FD, OTHER]


def test_io_fds_with_shadow_memory_count_both_descriptors(desk: Desk) -> None:
    reply, fds = io_fds(desk, 5)
    assert (reply.argsz, reply.sub_regions[0].fd_index, reply.sub_regions[0].shadow_mem_fd_index) == (64, 0, 1)
    assert list(fds) == [FD, SHADOW]


def test_io_fds_leave_out_what_the_client_cannot_take() -> None:
    reply, fds = io_fds(Desk(peer=Capabilities(max_msg_fds=1)), 4)
    assert (reply.argsz, [sub.offset for sub in reply.sub_regions], list(fds)) == (96, [0, 8], [FD])
    reply, fds = io_fds(Desk(peer=Capabilities(max_msg_fds=1)), 5)
    assert (reply.argsz, reply.count, list(fds)) == (16, 0, [])


def test_region_without_io_fds_has_none(desk: Desk) -> None:
    assert io_fds(desk, 0)[0].argsz == 16
    assert io_fds(desk, 7)[0].count == 0


@pytest.mark.parametrize("argsz", [0, 16, 135])
def test_io_fds_that_do_not_fit_leave_the_fixed_part(desk: Desk, argsz: int) -> None:
    reply, fds = io_fds(desk, 4, argsz)
    assert (reply.argsz, reply.count, reply.sub_regions, fds) == (136, 3, (), ())


@pytest.mark.parametrize("changes", [{"flags": 1}, {"count": 1}])
def test_io_fds_request_fields_must_be_zero(desk: Desk, changes: dict[str, int]) -> None:
    request = DeviceGetRegionIoFdsRequest(index=4).replace(**changes)
    assert desk.refusal(Command.DEVICE_GET_REGION_IO_FDS, request) == errno.EINVAL


@pytest.mark.parametrize(("index", "count"), [(0, 1), (1, 0), (2, 4), (3, 1)])
def test_irq_info_is_the_devices(desk: Desk, index: int, count: int) -> None:
    info, fds = desk.ask(Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=index, argsz=0))
    assert (info.argsz, info.index, info.count, fds) == (16, index, count, ())
    assert bool(info.flags & IrqInfoFlags.EVENTFD) is bool(count)


# The rest


def test_reset_reaches_the_device(desk: Desk) -> None:
    assert desk.ask(Command.DEVICE_RESET) == (None, ())
    assert desk.device.did == [("reset",)]


def test_reset_of_a_device_that_cannot_is_refused(desk: Desk) -> None:
    regions = desk.device.description.regions
    desk.device.description = Description(regions=regions, resettable=False)
    assert desk.refusal(Command.DEVICE_RESET) == errno.EOPNOTSUPP
    assert desk.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())[0].flags == DeviceFlags.PCI


@pytest.mark.parametrize(
    ("command", "payload", "expected"),
    [
        (Command.DEVICE_FEATURE, DeviceFeatureRequest(flags=0x10001), errno.ENOTTY),
        (Command.MIG_DATA_READ, MigDataReadRequest(argsz=12, size=4), errno.EOPNOTSUPP),
        (Command.MIG_DATA_WRITE, MigDataWriteRequest(data=b"x"), errno.EOPNOTSUPP),
    ],
)
def test_migration_is_refused_where_the_device_has_none(
    desk: Desk, command: Command, payload: Record, expected: int
) -> None:
    assert desk.refusal(command, payload) == expected
