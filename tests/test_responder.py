# The responder: what each command is answered, and with which errno each wrong one is refused.
import errno
import json
import os
from collections.abc import Iterator, Sequence

import pytest
from serving import eventfds, memfd, rung

from vfio_user_proto import regioncaps
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.device import Description, Device, IoFds, Irq, Region
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.messages import (
    Command,
    DeviceFeatureRequest,
    DeviceFlags,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DeviceWrite,
    DmaMapRequest,
    DmaUnmapRequest,
    IoeventfdSubRegion,
    IoFdType,
    IrqInfoFlags,
    IrqSetFlags,
    MigDataReadRequest,
    MigDataWriteRequest,
    RegionInfoFlags,
    RegionReadRequest,
    RegionType,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    ShadowIoeventfdSubRegion,
    SparseMmap,
    SparseMmapArea,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import OFFER, Answer, Responder
from vfio_user_proto.states import Role, State

READ, WRITE, MMAP, CAPS = RegionInfoFlags.READ, RegionInfoFlags.WRITE, RegionInfoFlags.MMAP, RegionInfoFlags.CAPS
NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
MASK, UNMASK, TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER
MAP, UNMAP, SET_IRQS = Command.DMA_MAP, Command.DMA_UNMAP, Command.DEVICE_SET_IRQS
TWIN_END = 99
FD, OTHER, SHADOW = 70, 71, 72  # only ever named, never used


class Recorder(Device):
    """A device that remembers what was asked of it."""

    def __init__(self) -> None:
        event = {"type": IoFdType.IOEVENTFD, "size": 4}
        self.description = Description(
            regions={
                0: Region(4096),
                1: Region(4096, flags=READ),
                2: Region(4096, flags=WRITE),
                3: Region(
                    8192, fd=FD, offset=4096, areas=(SparseMmapArea(offset=0, size=4096),), type=RegionType(type=5)
                ),
                4: Region(
                    4096,
                    io_fds=IoFds(
                        (
                            IoeventfdSubRegion(offset=0, fd_index=0, **event),
                            IoeventfdSubRegion(offset=4, fd_index=1, **event),
                            IoeventfdSubRegion(offset=8, fd_index=2, **event),
                        ),
                        (FD, OTHER, FD),
                    ),
                ),
                5: Region(
                    4096,
                    io_fds=IoFds(
                        (
                            ShadowIoeventfdSubRegion(
                                fd_index=1, shadow_mem_fd_index=0, type=IoFdType.IOEVENTFD_SHADOW, size=4
                            ),
                        ),
                        (SHADOW, FD),
                    ),
                ),
                8: Region(4096, fd=FD),
            },
            irqs={
                0: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED),
                2: Irq(4, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE),
                3: Irq(1, IrqInfoFlags.EVENTFD),
                4: Irq(1, IrqInfoFlags(0)),
            },
        )
        self.did: list[tuple[object, ...]] = []
        self.short = False

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        self.did.append(("read", index, offset, count))
        return bytes(count - self.short)

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        self.did.append(("write", index, offset, data))
        if data == b"no":
            raise OSError(errno.EPERM, "not that")

    def reset(self) -> None:
        self.did.append(("reset",))

    def irq_state(self, index: int, start: int, flags: IrqSetFlags, values: Sequence[bool]) -> None:
        self.did.append(("irq", index, start, flags, list(values)))


class Desk:
    """A responder with its table of memory and interrupts, asked with real bytes."""

    def __init__(self, offer: Capabilities = OFFER, peer: Capabilities | None = None) -> None:
        self.device = Recorder()
        self.dma = DmaMap(self)
        self.irqs = Interrupts(self.device.description.irqs)
        self.twins = 0
        self.responder = Responder(self.device, self.dma, self.irqs, offer, self.twin)
        if peer is not None:
            self.ask(Command.VERSION, VersionRequest(version_data=peer.to_data()))

    limit = 0

    def dma_read(self, address: int, count: int) -> bytes:
        raise AssertionError

    def dma_write(self, address: int, data: bytes) -> None:
        raise AssertionError

    def twin(self) -> int:
        self.twins += 1
        return TWIN_END

    def respond(self, command: int, payload: Record | bytes | None, fds: list[int], extra: bytes = b"") -> Answer:
        connection = Connection(Role.SERVER)
        connection.state = State.READY
        data = craft(command, payload, extra=extra)
        connection.receive(data[:16])
        if data[16:]:
            connection.receive(data[16:])
        event = connection.next_event()
        assert isinstance(event, CommandReceived)
        return self.responder.respond(event, fds)

    def ask(self, command: int, payload: Record | None = None, fds: Sequence[int] = ()) -> Answer:
        left = list(fds)
        answer = self.respond(command, payload, left)
        assert left == [], "a command that took descriptors did not keep them"
        return answer

    def refusal(
        self, command: int, payload: Record | bytes | None = None, fds: Sequence[int] = (), extra: bytes = b""
    ) -> int | None:
        """The errno; checks that every descriptor is left to be closed and that nothing reached the device."""
        left, did = list(fds), list(self.device.did)
        with pytest.raises(OSError) as refused:
            self.respond(command, payload, left, extra)
        assert left == list(fds)
        assert self.device.did == did
        return refused.value.errno


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A responder after VERSION with a client that can do everything."""
    one = Desk(peer=OFFER)
    yield one
    one.dma.clear()
    one.irqs.clear()


# VERSION


def version(desk: Desk, data: bytes = b"", *, major: int = 0, minor: int = 0) -> tuple[VersionRequest, Sequence[int]]:
    payload, fds = desk.ask(
        Command.VERSION, VersionRequest(version_major=major, version_minor=minor, version_data=data)
    )
    assert isinstance(payload, VersionRequest)
    return payload, fds


def said(content: object) -> bytes:
    return json.dumps({"capabilities": content}).encode() + b"\0"


def told(reply: VersionRequest) -> dict[str, object]:
    found: dict[str, object] = json.loads(reply.version_data[:-1])["capabilities"]
    return found


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


# DMA_MAP and DMA_UNMAP (the ranges: test_memory)


def test_map_and_unmap(desk: Desk) -> None:
    assert desk.ask(MAP, DmaMapRequest(flags=3, address=0x10000, size=0x2000)) == (None, ())
    assert len(desk.dma) == 1
    assert desk.ask(UNMAP, DmaUnmapRequest(address=0x10000, size=0x2000)) == (
        DmaUnmapRequest(address=0x10000, size=0x2000),
        (),
    )
    assert len(desk.dma) == 0


def test_map_keeps_its_descriptor_and_unmap_closes_it(desk: Desk) -> None:
    with memfd(8192) as fd:
        kept = os.dup(fd)
        desk.ask(MAP, DmaMapRequest(flags=1, offset=4096, address=0, size=4096), [kept])
        os.fstat(kept)
        desk.ask(UNMAP, DmaUnmapRequest(address=0, size=4096))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(kept)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"argsz": 31}, errno.EINVAL),
        ({"argsz": 33}, errno.EINVAL),
        ({"flags": 4}, errno.EINVAL),
        ({"flags": 0x80000003}, errno.EINVAL),
        ({"size": 0}, errno.EINVAL),
        ({"size": 4095}, errno.EINVAL),
        ({"address": 0x10001}, errno.EINVAL),
        ({"address": (1 << 64) - 4096, "size": 8192}, errno.EINVAL),
        ({"offset": 4096}, errno.EINVAL),
        ({"address": 0x8000}, errno.EEXIST),
    ],
)
def test_wrong_map_is_refused(desk: Desk, changes: dict[str, int], expected: int) -> None:
    desk.ask(MAP, DmaMapRequest(flags=3, address=0x8000, size=0x1000))
    right = DmaMapRequest(flags=3, address=0x10000, size=0x1000)
    assert desk.refusal(MAP, right.replace(**changes)) == expected
    assert len(desk.dma) == 1


def test_map_with_two_descriptors_is_refused(desk: Desk) -> None:
    with memfd(4096) as one, memfd(4096) as two:
        assert desk.refusal(MAP, DmaMapRequest(flags=3, address=0, size=4096), [one, two]) == errno.EINVAL


def test_max_dma_maps_is_what_was_agreed() -> None:
    desk = Desk(offer=Capabilities(max_dma_maps=1), peer=Capabilities())
    desk.ask(MAP, DmaMapRequest(address=0, size=4096))
    assert desk.refusal(MAP, DmaMapRequest(address=4096, size=4096)) == errno.ENOSPC


def test_pages_are_as_large_as_agreed() -> None:
    desk = Desk(offer=Capabilities(pgsizes=0x10000), peer=Capabilities())
    assert desk.refusal(MAP, DmaMapRequest(address=0, size=4096)) == errno.EINVAL
    desk.ask(MAP, DmaMapRequest(address=0, size=0x10000))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"flags": 1}, errno.EINVAL), ({"size": 4096}, errno.ENOENT), ({"address": 4096}, errno.ENOENT)],
)
def test_wrong_unmap_is_refused(desk: Desk, changes: dict[str, int], expected: int) -> None:
    desk.ask(MAP, DmaMapRequest(address=0, size=8192))
    assert desk.refusal(UNMAP, DmaUnmapRequest(address=0, size=8192).replace(**changes)) == expected
    assert len(desk.dma) == 1


# Queries


@pytest.mark.parametrize("argsz", [0, 15, 16, 4096])
def test_device_info(desk: Desk, argsz: int) -> None:
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
def test_region_info(desk: Desk, index: int, size: int, flags: int) -> None:
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
def test_irq_info(desk: Desk, index: int, count: int) -> None:
    info, fds = desk.ask(Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=index, argsz=0))
    assert (info.argsz, info.index, info.count, fds) == (16, index, count, ())
    assert bool(info.flags & IrqInfoFlags.EVENTFD) is bool(count)


# SET_IRQS


def irqs(flags: int, *, index: int = 2, start: int = 0, count: int = 1, data: bytes = b"") -> DeviceSetIrqsRequest:
    return DeviceSetIrqsRequest(flags=IrqSetFlags(flags), index=index, start=start, count=count, data=data)


def own(fds: Sequence[int]) -> list[int]:
    """Copies to give away, as the kernel makes them."""
    return [os.dup(fd) for fd in fds]


def test_eventfds_are_assigned_and_signalled(desk: Desk) -> None:
    with eventfds(3) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, start=1, count=3), own(fds))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, start=2, count=2))
        assert [rung(fd) for fd in fds] == [0, 1, 1]
        desk.ask(SET_IRQS, irqs(BOOL | TRIGGER, start=0, count=4, data=b"\1\2\0\1"))
        assert [rung(fd) for fd in fds] == [1, 0, 1]


def test_eventfds_without_descriptors_are_taken_away(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), own(fds))
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, start=1, count=1))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=2))
        assert [rung(fd) for fd in fds] == [1, 0]


def test_count_zero_disables_all(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), own(fds))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=0))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=4))
        assert [rung(fd) for fd in fds] == [0, 0]


def test_masking_reaches_the_device_and_its_eventfds(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | MASK, index=0), own(fds[:1]))
        desk.ask(SET_IRQS, irqs(EVENTFD | UNMASK, index=0), own(fds[1:]))
        desk.ask(SET_IRQS, irqs(NONE | MASK, index=0))
        assert [rung(fd) for fd in fds] == [1, 0]
        desk.ask(SET_IRQS, irqs(BOOL | UNMASK, index=0, data=b"\1"))
        assert [rung(fd) for fd in fds] == [0, 1]
    assert desk.device.did == [("irq", 0, 0, MASK, [True]), ("irq", 0, 0, UNMASK, [True])]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (irqs(TRIGGER), "no data flag"),
        (irqs(NONE), "no action flag"),
        (irqs(NONE | BOOL | TRIGGER, data=b"\1"), "two data flags"),
        (irqs(NONE | MASK | UNMASK), "two action flags"),
        (irqs(NONE | TRIGGER | 0x40), "an unknown flag"),
        (irqs(NONE | TRIGGER, index=5), "an index beyond the last"),
        (irqs(NONE | TRIGGER, index=1), "a kind that the device lacks"),
        (irqs(NONE | TRIGGER, start=4), "a start beyond the last"),
        (irqs(NONE | TRIGGER, start=3, count=2), "an end beyond the last"),
        (irqs(NONE | TRIGGER, start=0xFFFFFFFF, count=2), "an end that wraps at 2^32"),
        (irqs(NONE | TRIGGER, start=1, count=0xFFFFFFFF), "a count that wraps to zero"),
        (irqs(NONE | TRIGGER, data=b"\1"), "data that is not due"),
        (irqs(BOOL | TRIGGER, count=2, data=b"\1"), "too little data"),
        (irqs(BOOL | TRIGGER, count=1, data=b"\1\1"), "too much data"),
        (irqs(EVENTFD | TRIGGER, data=b"\0\0\0\0"), "descriptors by number"),
        (irqs(NONE | TRIGGER).replace(argsz=19), "a small argsz"),
        (irqs(NONE | TRIGGER).replace(argsz=24), "a large argsz"),
        (irqs(NONE | MASK, index=3), "masking what cannot be masked"),
        (irqs(EVENTFD | UNMASK, index=3), "an unmask eventfd for what cannot be masked"),
        (irqs(EVENTFD | TRIGGER, index=4), "an eventfd for what has none"),
        (irqs(NONE | TRIGGER, start=1, count=0), "no count but a start"),
        (irqs(NONE | MASK, count=0), "no count but an action"),
        (irqs(BOOL | TRIGGER, count=0), "no count with booleans"),
        (irqs(EVENTFD | TRIGGER, count=0), "no count with eventfds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_set_irqs_is_refused(desk: Desk, request_: DeviceSetIrqsRequest, why: str) -> None:
    assert desk.refusal(SET_IRQS, request_) == errno.EINVAL


@pytest.mark.parametrize(("count", "given"), [(1, 2), (2, 1), (4, 3)])
def test_another_number_of_eventfds_is_refused(desk: Desk, count: int, given: int) -> None:
    with eventfds(given) as fds:
        assert desk.refusal(SET_IRQS, irqs(EVENTFD | TRIGGER, count=count), fds) == errno.EINVAL


def test_eventfds_where_none_are_due_are_refused(desk: Desk) -> None:
    with eventfds(1) as fds:
        assert desk.refusal(SET_IRQS, irqs(NONE | TRIGGER), fds) == errno.EINVAL


def test_what_is_no_eventfd_is_refused_and_nothing_changes(desk: Desk) -> None:
    pipe = os.pipe()
    with eventfds(1) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER), own(fds))
        assert desk.refusal(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), [*fds, pipe[1]]) == errno.EINVAL
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER))
        assert rung(fds[0]) == 1
    for end in pipe:
        os.close(end)


# Regions


def test_region_read(desk: Desk) -> None:
    reply, _ = desk.ask(Command.REGION_READ, RegionReadRequest(region=0, offset=4092, count=4))
    assert (reply.region, reply.offset, reply.count, reply.data) == (0, 4092, 4, bytes(4))
    assert desk.device.did == [("read", 0, 4092, 4)]


def test_region_write(desk: Desk) -> None:
    reply, _ = desk.ask(Command.REGION_WRITE, RegionWriteRequest(region=0, offset=1, data=b"abc"))
    assert (reply.region, reply.offset, reply.count) == (0, 1, 3)
    assert desk.device.did == [("write", 0, 1, b"abc")]


def test_zero_count_is_answered_with_no_data(desk: Desk) -> None:
    assert desk.ask(Command.REGION_READ, RegionReadRequest(region=0, offset=4096))[0].data == b""
    assert desk.ask(Command.REGION_WRITE, RegionWriteRequest(region=0))[0].count == 0


@pytest.mark.parametrize(
    ("region", "offset", "count", "expected"),
    [
        (0, 4096, 1, errno.EINVAL),
        (0, 4093, 4, errno.EINVAL),
        (0, (1 << 64) - 2, 4, errno.EINVAL),
        (6, 0, 1, errno.EINVAL),
        (6, 0, 0, errno.EINVAL),
        (9, 0, 1, errno.EINVAL),
        (0xFFFFFFFF, 0, 1, errno.EINVAL),
    ],
)
def test_access_outside_is_refused(desk: Desk, region: int, offset: int, count: int, expected: int) -> None:
    read = RegionReadRequest(region=region, offset=offset, count=count)
    assert desk.refusal(Command.REGION_READ, read) == expected
    write = RegionWriteRequest(region=region, offset=offset, data=bytes(count))
    assert desk.refusal(Command.REGION_WRITE, write) == expected


def test_access_that_the_flags_forbid_is_refused(desk: Desk) -> None:
    assert desk.refusal(Command.REGION_READ, RegionReadRequest(region=2, count=1)) == errno.EACCES
    assert desk.refusal(Command.REGION_WRITE, RegionWriteRequest(region=1, data=b"x")) == errno.EACCES
    multi = RegionWriteMultiRequest(wrs=(DeviceWrite(region=1, count=1),))
    assert desk.refusal(Command.REGION_WRITE_MULTI, multi) == errno.EACCES


def test_more_than_max_data_xfer_size_is_refused() -> None:
    desk = Desk(offer=Capabilities(max_data_xfer_size=8), peer=Capabilities())
    desk.ask(Command.REGION_READ, RegionReadRequest(count=8))
    assert desk.refusal(Command.REGION_READ, RegionReadRequest(count=9)) == errno.EINVAL
    assert desk.refusal(Command.REGION_WRITE, RegionWriteRequest(data=bytes(9))) == errno.EINVAL


def test_count_that_is_not_the_data_is_refused(desk: Desk) -> None:
    short = RegionWriteRequest(data=b"1234").replace(count=5)
    assert desk.refusal(Command.REGION_WRITE, short) == errno.EINVAL


def test_refusal_of_the_device_is_passed_on(desk: Desk) -> None:
    with pytest.raises(PermissionError):
        desk.ask(Command.REGION_WRITE, RegionWriteRequest(data=b"no"))


def test_device_that_gives_too_little_is_an_error(desk: Desk) -> None:
    desk.device.short = True
    with pytest.raises(OSError, match="less than it says") as refused:
        desk.ask(Command.REGION_READ, RegionReadRequest(count=4))
    assert refused.value.errno == errno.EIO


def test_write_multi_does_all_in_order(desk: Desk) -> None:
    writes = (DeviceWrite(offset=8, count=2, data=0x3231), DeviceWrite(region=2, offset=0, count=8, data=1))
    reply, _ = desk.ask(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wrs=writes))
    assert reply.wr_cnt == 2
    assert desk.device.did == [("write", 0, 8, b"12"), ("write", 2, 0, b"\1" + bytes(7))]


@pytest.mark.parametrize("wrong", [{"count": 9}, {"offset": 4096}, {"region": 9}, {"offset": (1 << 64) - 1}])
def test_write_multi_with_one_wrong_write_does_none(desk: Desk, wrong: dict[str, int]) -> None:
    writes = (DeviceWrite(count=4), DeviceWrite(count=4).replace(**wrong))
    assert desk.refusal(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wrs=writes)) == errno.EINVAL


def test_write_multi_needs_to_be_agreed() -> None:
    desk = Desk()
    version(desk, said({}))
    assert desk.refusal(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest()) == errno.EOPNOTSUPP


# The rest


def test_reset(desk: Desk) -> None:
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
        (Command.MIG_DATA_READ, MigDataReadRequest(size=4), errno.EOPNOTSUPP),
        (Command.MIG_DATA_WRITE, MigDataWriteRequest(data=b"x"), errno.EOPNOTSUPP),
    ],
)
def test_what_no_device_has_is_refused(desk: Desk, command: Command, payload: Record, expected: int) -> None:
    assert desk.refusal(command, payload) == expected
