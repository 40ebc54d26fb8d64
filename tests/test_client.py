"""The client: every command against the reference server, or a fake one where that has no such feature."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from fake_server import ONE_SOCKET, Fake, reply_to
from serving import Serving, eventfds, memfd, rung

from vfio_user_proto import messages as m
from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client, Fd, MemoryMap
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import (
    EncodeError,
    ErrorReply,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    VfioUserError,
)
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command, DeviceFeature, DeviceFeatureFlags, IrqSetFlags
from vfio_user_proto.model import Record
from vfio_user_proto.session import Options

TRIGGER = IrqSetFlags.ACTION_TRIGGER

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(params=[OFFER, ONE_SOCKET], ids=["twin socket", "one socket"])
def client(serving: Serving, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.connect(serving.path, offer=request.param, timeout=10) as connected:
        yield connected


# What the device is


def test_device_regions_and_interrupts(client: Client) -> None:
    info = client.device_info()
    assert (info.num_regions, info.num_irqs) == (testdev.RAM + 1, 5)
    assert m.DeviceFlags.PCI in info.flags
    assert (client.irq_info(2).count, client.irq_info(2).index) == (4, 2)
    with client.region_info(0) as plain:
        assert (plain.size, plain.fd, plain.areas, plain.windows()) == (4096, None, None, ())
    with client.region_info(9) as special:
        assert special.region_type == m.RegionType(type=0x80005646, subtype=1)


def test_a_mappable_region_brings_its_areas_and_its_descriptor(client: Client) -> None:
    """The capabilities need more room than the fixed part: the client asks twice."""
    with client.region_info(2) as region:
        assert region.areas == (
            m.SparseMmapArea(offset=0x1000, size=0x1000),
            m.SparseMmapArea(offset=0x3000, size=0x1000),
        )
        assert region.fd is not None
        assert region.fd.kind == "memfd"
        first, second = region.windows()
        first.write(0x1FFC, b"abcd")
        assert client.region_read(2, 0x1FFC, 4) == b"abcd"
        client.region_write(2, 0x3000, b"xy")
        assert second.read(0x3000, 2) == b"xy"
        for window, offset, count in ((first, 0xFFF, 1), (first, 0x1FFF, 2), (second, 0x4000, 1), (first, 0x1000, -1)):
            with pytest.raises(ValueError, match="are outside"):
                window.read(offset, count)
    with pytest.raises(ValueError, match="closed"):
        first.read(0x1000, 1)


def test_sub_regions_come_with_their_descriptors(client: Client) -> None:
    with client.region_io_fds(4, 4096) as io_fds:
        assert [entry.offset for entry in io_fds.sub_regions] == [0, 4, 4, 8, 12, 16, 0x100, 0x200]
        assert [io_fds.fd_of(entry).kind for entry in io_fds.sub_regions] == ["eventfd"] * 6 + ["socket"] * 2
        assert len(io_fds.fds) == 6
    with client.region_io_fds(0) as none:
        assert (none.sub_regions, none.fds) == ((), ())


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.region_info(99),
        lambda client: client.region_io_fds(99),
        lambda client: client.irq_info(99),
        lambda client: client.region_read(0, 4096, 1),
        lambda client: client.region_write(99, 0, b"1"),
        lambda client: client.dma_unmap(0, 4096),
        lambda client: client.set_irqs(99, TRIGGER),
        lambda client: client.device_feature(99, DeviceFeatureFlags.GET),
        lambda client: client.mig_data_read(10),
        lambda client: client.mig_data_write(b"abc"),
        lambda client: client.write_multi([(99, 0, b"1")]),
    ],
)
def test_a_refusal_is_an_error_reply_and_the_session_goes_on(client: Client, ask: Callable[[Client], object]) -> None:
    with pytest.raises(ErrorReply, match="was refused with E"):
        ask(client)
    assert client.device_info().num_irqs == 5


# Accesses


def test_reads_and_writes_go_in_as_many_commands_as_they_need() -> None:
    counts: list[int] = []

    def answer(event: CommandReceived) -> Any:
        request: Any = event.message.payload
        counts.append(request.count)
        if isinstance(request, m.RegionReadRequest):
            data = bytes((request.offset + at) & 0xFF for at in range(request.count))
            return m.RegionReadReply(offset=request.offset, region=request.region, data=data)
        return m.RegionWriteReply(offset=request.offset, region=request.region, count=request.count)

    with Fake(answer, peer=Capabilities(max_data_xfer_size=100)) as server, server.connect() as client:
        assert client.region_read(1, 5, 250) == bytes(range(5, 255))
        client.region_write(1, 0, bytes(201))
        client.region_write(1, 0, bytes(150), no_reply=True)
        assert client.region_read(1, 0, 0) == b""
        assert client.region_read(1, 7, 1) == b"\7"
    assert counts == [100, 100, 50, 100, 100, 1, 100, 50, 1]


def test_our_own_limit_counts_too() -> None:
    offer = replace(ONE_SOCKET, max_data_xfer_size=64)
    with Fake() as server, server.connect(offer=offer) as client:
        assert client.largest_transfer == 64


def test_a_server_that_takes_no_data_is_not_asked_for_ever() -> None:
    with (
        Fake(peer=Capabilities(max_data_xfer_size=0, max_msg_fds=0, write_multiple=True)) as server,
        server.connect() as client,
    ):
        for ask in (
            lambda: client.region_read(0, 0, 1),
            lambda: client.region_write(0, 0, b"1"),
            lambda: client.write_multi([(0, 0, b"1")]),
            lambda: client.set_irqs(0, TRIGGER, eventfds=[0]),
        ):
            with pytest.raises(LocalProtocolError, match="the server takes no"):
                ask()


def test_several_writes_in_one_command(client: Client) -> None:
    client.write_multi([(0, 0x800, b"12345678"), (0, 0x808, b"ab"), (9, 4, b"z")])

    assert client.region_read(0, 0x800, 11) == b"12345678ab\0"
    assert client.region_read(9, 4, 1) == b"z"


def test_several_writes_need_the_server_and_their_size() -> None:
    for peer, data, problem in (
        (Capabilities(write_multiple=True), bytes(9), "at most 8 bytes"),
        (Capabilities(), b"1", "the server does not take VFIO_USER_REGION_WRITE_MULTI"),
    ):
        with Fake(peer=peer) as server, server.connect() as client, pytest.raises(LocalProtocolError, match=problem):
            client.write_multi([(0, 0, data)])


def test_reset(client: Client) -> None:
    client.region_write(9, 0, b"abc")
    client.reset()

    assert client.region_read(9, 0, 3) == b"\0\0\0"


def test_what_does_not_fit_is_told_before_it_is_sent(client: Client) -> None:
    with pytest.raises(EncodeError, match=r"RegionReadRequest.offset"):
        client.region_read(0, 1 << 64, 1)
    assert client.device_info().num_irqs == 5


# Interrupts


def test_eventfds_masks_and_triggers(client: Client) -> None:
    with eventfds(4) as fds, Fd(os.dup(fds[3])) as owned:
        client.set_irqs(2, TRIGGER, eventfds=[*fds[:3], owned])
        client.set_irqs(2, TRIGGER, start=1)
        client.set_irqs(2, TRIGGER, values=[True, False, False, True])
        assert [rung(fd) for fd in fds] == [1, 1, 0, 1]
        client.set_irqs(2, IrqSetFlags.ACTION_MASK, start=0, count=2)
        client.set_irqs(2, TRIGGER, count=4)
        assert [rung(fd) for fd in fds] == [0, 0, 1, 1]
        client.set_irqs(2, IrqSetFlags.ACTION_UNMASK, values=[True, True])
        assert [rung(fd) for fd in fds] == [1, 1, 0, 0]
        client.set_irqs(2, TRIGGER, start=1, count=2, eventfds=())
        client.set_irqs(2, TRIGGER, count=4)
        assert [rung(fd) for fd in fds] == [1, 0, 0, 1]
        client.set_irqs(2, TRIGGER, count=0)
        client.set_irqs(2, TRIGGER, count=4)
        assert [rung(fd) for fd in fds] == [0, 0, 0, 0]


def test_more_eventfds_than_the_server_takes_at_once_go_in_several_commands() -> None:
    requests: list[tuple[int, int, int]] = []

    def answer(event: CommandReceived) -> bytes:
        request: Any = event.message.payload
        requests.append((request.start, request.count, len(event.fds)))
        return reply_to(event)

    with (
        eventfds(5) as fds,
        Fake(answer, peer=Capabilities(max_msg_fds=2)) as server,
        server.connect() as client,
    ):
        client.set_irqs(2, TRIGGER, start=3, eventfds=fds)
    assert requests == [(3, 2, 2), (5, 2, 2), (7, 1, 1)]


# DMA


def transfer(client: Client, operation: int, address: int, length: int) -> tuple[int, int]:
    """Let the test device move bytes; returns its status (1 done, 2 failed) and errno."""
    client.region_write(0, testdev.ADDRESS, address.to_bytes(8, "little"))
    client.region_write(0, testdev.LENGTH, length.to_bytes(4, "little"))
    client.region_write(0, testdev.GO, operation.to_bytes(4, "little"))
    status = client.region_read(0, testdev.STATUS, 8)
    return int.from_bytes(status[:4], "little"), int.from_bytes(status[4:], "little")


def test_the_server_reaches_memory_through_a_descriptor(client: Client) -> None:
    with memfd(8192) as fd:
        client.dma_map(0x10000, 4096, fd, offset=4096)
        assert transfer(client, 1, 0x10010, 100) == (1, 0)
        assert os.pread(fd, 100, 4096 + 16) == testdev.pattern(100, 3)
        client.dma_unmap(0x10000, 4096)
    assert transfer(client, 1, 0x10010, 100) == (2, errno.EFAULT)


def test_the_server_reaches_memory_through_messages(client: Client) -> None:
    """Its commands come while we wait for the reply to the write that started the transfer."""
    memory = bytearray(8192)
    with memfd(4096) as fd:
        client.memory.add(0x10000, memory, 4096, offset=4096)
        client.memory.add(0x20000, fd, 4096)
        for address in (0x10000, 0x20000):
            client.dma_map(address, 4096)
            assert transfer(client, 1, address + 16, 100) == (1, 0)
            assert transfer(client, 2, address + 16, 100) == (1, 0)
        assert memory[4096 + 16 : 4096 + 116] == os.pread(fd, 100, 16) == testdev.pattern(100, 3)


def test_memory_that_is_not_there_or_not_allowed_is_refused(client: Client) -> None:
    client.memory.add(0x10000, bytearray(4096), readable=False)
    client.memory.add(0x20000, bytearray(4096), writeable=False)
    for address in (0x10000, 0x20000, 0x30000):
        client.dma_map(address, 4096)

    assert transfer(client, 2, 0x10000, 4) == (2, errno.EACCES)
    assert transfer(client, 1, 0x20000, 4) == (2, errno.EACCES)
    assert transfer(client, 1, 0x30000, 4) == (2, errno.EFAULT)
    assert transfer(client, 1, 0x10000, 4) == (1, 0)


COMMANDS_FOR_A_CLIENT = {
    "a read": (m.DmaReadRequest(address=0x1000, count=4), Command.DMA_READ, m.DmaReadReply(address=0x1000, data=b"\0\0\0\7")),
    "a write": (m.DmaWriteRequest(address=0x1000, data=b"x"), Command.DMA_WRITE, m.DmaWriteReply(address=0x1000, count=1)),
    "more than we take": (m.DmaReadRequest(address=0x1000, count=101), Command.DMA_READ, errno.EINVAL),
    "2^64 - 1 bytes": (m.DmaReadRequest(address=0x1000, count=(1 << 64) - 1), Command.DMA_READ, errno.EINVAL),
    "no memory there": (m.DmaReadRequest(address=0x5000, count=4), Command.DMA_READ, errno.EFAULT),
    "a cut payload": (b"abc", Command.DMA_READ, errno.EINVAL),
    "a payload too long": (wire.encode_record(m.DmaReadRequest()) + b"x", Command.DMA_READ, errno.EINVAL),
    "a command for a server": (m.DeviceGetInfoRequest(), Command.DEVICE_GET_INFO, errno.EOPNOTSUPP),
    "an unknown command": (b"", 99, errno.EOPNOTSUPP),
}  # fmt: skip


@pytest.mark.parametrize(("payload", "command", "expected"), COMMANDS_FOR_A_CLIENT.values(), ids=COMMANDS_FOR_A_CLIENT)
def test_what_the_server_asks_is_answered_while_a_reply_is_awaited(
    payload: Record | bytes, command: int, expected: Record | int
) -> None:
    """The descriptor that came with the command is closed; our own reply arrives afterwards."""
    answers: list[Any] = []
    asked: list[CommandReceived] = []

    def answer(event: Any) -> Any:
        if isinstance(event, CommandReceived):
            asked.append(event)
            server.engine._awaited[7, int(command)] += 1
            return craft(command, payload, message_id=7), (0,)
        answers.append(event.message.header.error if event.message.is_error else event.message.payload)
        return reply_to(asked[0], wire.encode_record(m.DeviceGetInfoReply(num_irqs=3)))

    memory = MemoryMap()
    memory.add(0x1000, bytearray(b"\0\0\0\7" + bytes(200)))
    offer = replace(ONE_SOCKET, max_data_xfer_size=100)
    with Fake(answer) as server, server.connect(memory=memory, offer=offer) as client:
        assert client.device_info().num_irqs == 3
    assert answers == [expected]


def test_a_command_that_wants_no_reply_gets_none() -> None:
    memory = bytearray(8)

    def answer(event: Any) -> Any:
        assert isinstance(event, CommandReceived)
        write = craft(Command.DMA_WRITE, m.DmaWriteRequest(address=0, data=b"ab"), no_reply=True)
        return [write, m.DeviceGetInfoReply()]

    with Fake(answer) as server, server.connect() as client:
        client.memory.add(0, memory)
        client.device_info()
        client.device_info()
    assert memory[:2] == b"ab"


def test_a_lost_twin_socket_does_not_end_the_session() -> None:
    ours, theirs = unix.pair()
    peer = Capabilities(twin_socket=True, twin_socket_fd_index=0)
    greeting = (m.VersionRequest(version_data=peer.to_data()), (theirs.fileno(),))
    with Fake(lambda event: m.DeviceGetInfoReply(), version=greeting) as server, server.connect(offer=OFFER) as client:
        ours.close()
        theirs.close()
        for _ in range(3):
            client.device_info()


# Features and migration


def test_features() -> None:
    asked: list[m.DeviceFeatureRequest] = []

    def answer(event: CommandReceived) -> Any:
        request = event.message.payload
        assert isinstance(request, m.DeviceFeatureRequest)
        asked.append(request)
        data = {
            0x10001: wire.encode_record(m.FeatureMigration(flags=5)),
            0x10008: request.data + bytes(16),
            0x10005: b"raw",
        }.get(int(request.flags), request.data)
        return m.DeviceFeatureRequest(flags=request.flags, data=data)

    state = m.FeatureMigDeviceState(device_state=3)
    report = m.FeatureDmaLoggingReport(iova=0, length=65 * 4096, page_size=4096)
    get, put, probe = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
    with Fake(answer) as server, server.connect() as client:
        assert client.device_feature(DeviceFeature.MIGRATION, get) == m.FeatureMigration(flags=5)
        assert client.device_feature(DeviceFeature.MIG_DEVICE_STATE, put, state) == state
        assert client.device_feature(DeviceFeature.DMA_LOGGING_REPORT, get, report) == report.replace(bitmap=bytes(16))
        assert client.device_feature(DeviceFeature.MIGRATION, get | probe) is None
        assert client.device_feature(5, get) == b"raw"
        assert client.device_feature(DeviceFeature.DMA_LOGGING_STOP, put) == b""
    assert [(request.argsz, len(request.data)) for request in asked] == [
        (16, 0),
        (16, 8),
        (48, 24),
        (16, 0),
        (8, 0),
        (8, 0),
    ]


def test_migration_data() -> None:
    written: list[bytes] = []

    def answer(event: CommandReceived) -> Any:
        request: Any = event.message.payload
        if isinstance(request, m.MigDataReadRequest):
            assert request.argsz == 8 + request.size
            return m.MigDataReadReply(data=b"abc")
        assert request.argsz == 8 + request.size
        written.append(request.data)
        return reply_to(event)

    with Fake(answer, peer=Capabilities(max_data_xfer_size=4)) as server, server.connect() as client:
        assert client.mig_data_read(5) == b"abc"
        client.mig_data_write(b"0123456789")
    assert written == [b"0123", b"4567", b"89"]


def test_every_error_is_of_one_family() -> None:
    for error in (ErrorReply("X", 1), TransportError("x"), RemoteProtocolError("x"), LocalProtocolError("x")):
        assert isinstance(error, VfioUserError)
    assert str(ErrorReply("X", 0)) == "X was refused with errno 0"


def test_a_session_without_options_against_a_server_without_twin(no_leak: None) -> None:
    with Serving(options=Options(offer=Capabilities())) as serving, Client.connect(serving.path) as client:
        assert client.peer == Capabilities(named=client.peer.named)
        assert client.device_info().num_irqs == 5
