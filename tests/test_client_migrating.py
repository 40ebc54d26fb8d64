# The client's methods for migration and for the log of writes, against the reference server and against wrong ones.
from collections.abc import Callable
from typing import Any

import pytest
from fake_server import Fake, reply_to
from serving import Serving

from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Client, MemoryMap, migrating
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import ErrorReply, LocalProtocolError, RemoteProtocolError
from vfio_user_proto.messages import Command, DeviceState, MigrationFlags
from vfio_user_proto.session import Options

K = 4096
pytestmark = pytest.mark.usefixtures("no_leak")


def write_memory(client: Client, address: int, length: int) -> None:
    """Have the test device write to the client's memory."""
    client.region_write(0, testdev.ADDRESS, address.to_bytes(8, "little") + length.to_bytes(4, "little"))
    client.region_write(0, testdev.GO, b"\1\0\0\0")
    assert client.region_read(0, testdev.STATUS, 4) == b"\1\0\0\0"


@pytest.mark.parametrize("largest", [1 << 20, 99_999])
def test_a_device_goes_from_server_to_server(largest: int) -> None:
    options = Options(offer=Capabilities(max_data_xfer_size=largest))
    with (
        Serving(options=options) as one,
        Serving(options=options) as two,
        Client.connect(one.path) as source,
        Client.connect(two.path) as destination,
    ):
        assert source.migration_flags() == MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
        source.region_write(0, testdev.SCRATCH, b"first")
        source.set_device_state(DeviceState.PRE_COPY)
        before = list(source.read_migration_data())
        source.region_write(9, 5, b"second")
        source.set_device_state(DeviceState.STOP_COPY)
        assert source.device_state() == DeviceState.STOP_COPY
        rest = list(source.read_migration_data())
        assert sum(map(len, rest)) < sum(map(len, before)) / 10
        destination.set_device_state(DeviceState.RESUMING)
        destination.write_migration_data([*before, *rest])
        destination.set_device_state(DeviceState.RUNNING)
        assert destination.region_read(0, testdev.SCRATCH, 5) == b"first"
        assert destination.region_read(9, 5, 6) == b"second"


def test_data_cut_short_are_refused() -> None:
    with Serving() as serving, Client.connect(serving.path) as client:
        client.set_device_state(DeviceState.STOP_COPY)
        data = b"".join(client.read_migration_data())
        client.set_device_state(DeviceState.RESUMING)
        client.write_migration_data([data[:-1]])
        with pytest.raises(ErrorReply):
            client.set_device_state(DeviceState.STOP)
        assert client.device_state() == DeviceState.RESUMING
        client.write_migration_data([data[-1:]])
        client.set_device_state(DeviceState.STOP)


def test_written_pages_come_as_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges whose bitmap is large are asked for in parts."""
    monkeypatch.setattr(migrating, "BITMAP", 8)
    memory = MemoryMap()
    memory.add(0, bytearray(1 << 20))
    with Serving() as serving, Client.connect(serving.path, memory=memory) as client:
        client.dma_map(0, 1 << 20)
        assert client.dma_logging_start(page_size=K + 1) == K
        for address in (0, 63 * K, 64 * K, 200 * K):
            write_memory(client, address, 1)
        assert client.dma_logging_report(0, 201 * K) == [0, 63 * K, 64 * K, 200 * K]
        assert client.dma_logging_report(0, 201 * K) == []
        write_memory(client, 5 * K, 1)
        assert client.dma_logging_report(4 * K, 4 * K, 2 * K) == [4 * K]
        client.dma_logging_stop()
        with pytest.raises(ErrorReply):
            client.dma_logging_report(0, K)
        assert client.dma_logging_start(ranges=[(K, K), (3 * K, K)]) == K
        write_memory(client, 0, 5 * K)
        assert client.dma_logging_report(0, 8 * K) == [K, 3 * K]


def test_an_odd_page_size_is_not_asked_for() -> None:
    with Serving() as serving, Client.connect(serving.path) as client:
        for page_size in (0, 3):
            with pytest.raises(LocalProtocolError, match="no power of two"):
                client.dma_logging_report(0, K, page_size)


REPORT = wire.encode_record(m.FeatureDmaLoggingReport(iova=0, length=3 * K, page_size=K))
WRONG: dict[str, tuple[Callable[[Client], object], int, bytes, str]] = {
    "no flags": (lambda client: client.migration_flags(), 0x10001, b"", "no data of MIGRATION"),
    "no state": (lambda client: client.device_state(), 0x10002, b"", "no data of MIG_DEVICE_STATE"),
    "no start": (lambda client: client.dma_logging_start(), 0x20006, b"", "chose no page size"),
    "page size 0": (lambda client: client.dma_logging_start(), 0x20006, bytes(16), "chose no page size"),
    "no bitmap": (lambda client: client.dma_logging_report(0, 3 * K), 0x10008, REPORT, "not one bit per page"),
    "long bitmap": (
        lambda client: client.dma_logging_report(0, 3 * K),
        0x10008,
        REPORT + bytes(16),
        "not one bit per page",
    ),
    "bits outside": (
        lambda client: client.dma_logging_report(0, 3 * K),
        0x10008,
        REPORT + b"\x08" + bytes(7),
        "pages outside the range",
    ),
    "other range": (
        lambda client: client.dma_logging_report(K, 3 * K),
        0x10008,
        REPORT + bytes(8),
        "iova is 0, 4096 was asked for",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_reply_that_contradicts_is_a_mistake_of_the_server(name: str) -> None:
    ask, flags, data, words = WRONG[name]
    reply = m.DeviceFeatureRequest(flags=m.DeviceFeatureFlags(flags), data=data)
    with (
        Fake(lambda event: reply) as server,
        server.connect() as client,
        pytest.raises(RemoteProtocolError, match=words),
    ):
        ask(client)


def test_a_stream_ends_with_a_short_part_even_if_that_is_empty() -> None:
    parts = [b"1234", b"5678", b""]

    def answer(event: Any) -> Any:
        if event.message.header.command == Command.MIG_DATA_READ:
            return m.MigDataReadReply(data=parts.pop(0))
        return reply_to(event)

    with Fake(answer, peer=Capabilities(max_data_xfer_size=4)) as server, server.connect() as client:
        assert list(client.read_migration_data()) == [b"1234", b"5678", b""]
    with (
        Fake(answer, peer=Capabilities(max_data_xfer_size=0)) as server,
        server.connect() as client,
        pytest.raises(LocalProtocolError),
    ):
        list(client.read_migration_data())
