# VFIO_USER_DEVICE_FEATURE and migration data, from the request to the reply, through a server and its test device.
import errno
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from serving import Client, Serving, by_message, memfd, start, status

from vfio_user_proto import wire
from vfio_user_proto.devices import testdev
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceState,
    DmaLoggingRange,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    MigDataReadRequest,
    MigDataWriteRequest,
)
from vfio_user_proto.migration import Saving
from vfio_user_proto.model import Record

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
STATE = DeviceFeature.MIG_DEVICE_STATE
START, STOP, REPORT = (
    DeviceFeature.DMA_LOGGING_START,
    DeviceFeature.DMA_LOGGING_STOP,
    DeviceFeature.DMA_LOGGING_REPORT,
)
S = DeviceState
K = 4096
# What can be done with each feature.
POSSIBLE: dict[int, int] = {DeviceFeature.MIGRATION: GET, STATE: GET | SET, START: SET, STOP: SET, REPORT: GET}


@pytest.fixture
def client() -> Iterator[Client]:
    with Serving() as serving:
        yield serving.client()


def request(feature: int, operation: int, data: Record | bytes = b"", argsz: int = K) -> DeviceFeatureRequest:
    body = wire.encode_record(data) if isinstance(data, Record) else data
    return DeviceFeatureRequest(argsz=argsz, flags=DeviceFeatureFlags(feature | operation), data=body)


def ask(client: Client, *arguments: Any) -> DeviceFeatureRequest:
    reply: DeviceFeatureRequest = client.ask(Command.DEVICE_FEATURE, request(*arguments))
    return reply


def refused(client: Client, *arguments: Any) -> int:
    return client.refused(Command.DEVICE_FEATURE, request(*arguments))


def state(client: Client) -> int:
    return int.from_bytes(ask(client, STATE, GET).data[:4], "little")


def go(client: Client, wanted: DeviceState) -> None:
    ask(client, STATE, SET, FeatureMigDeviceState(device_state=wanted))


def read_all(client: Client, size: int = 1 << 20) -> bytes:
    data: bytes = b""
    while True:
        part = client.ask(Command.MIG_DATA_READ, MigDataReadRequest(argsz=8 + size, size=size))
        assert part.argsz == 8 + part.size
        data += bytes(part.data)
        if part.size < size:
            return data


def write_all(client: Client, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        part = MigDataWriteRequest(data=data[at : at + size])
        assert client.ask(Command.MIG_DATA_WRITE, part) is None


def report(client: Client, iova: int, pages: int, page_size: int = K) -> set[int]:
    wanted = FeatureDmaLoggingReport(iova=iova, length=pages * page_size, page_size=page_size)
    answer = ask(client, REPORT, GET, wanted).data
    assert answer[:24] == wire.encode_record(wanted)
    number = int.from_bytes(answer[24:], "little")
    return {page for page in range(len(answer[24:]) * 8) if number >> page & 1}


# Operations


@pytest.mark.parametrize("feature", range(12))
@pytest.mark.parametrize("operation", [0, GET, SET, GET | SET])
def test_a_probe_succeeds_where_everything_named_is_possible(client: Client, feature: int, operation: int) -> None:
    """Its reply is the request."""
    possible = POSSIBLE.get(feature)
    if possible is not None and not operation & ~possible:
        asked = request(feature, PROBE | operation, argsz=99)
        assert client.ask(Command.DEVICE_FEATURE, asked) == asked
    else:
        assert refused(client, feature, PROBE | operation) == errno.ENOTTY
    assert state(client) == S.RUNNING


@pytest.mark.parametrize(("feature", "operation"), list(itertools.product(DeviceFeature, (0, GET, SET, GET | SET))))
def test_without_a_probe_exactly_one_possible_operation_is_asked_for(
    client: Client, feature: DeviceFeature, operation: int
) -> None:
    if operation in (GET, SET) and operation & POSSIBLE[feature]:
        return
    expected = errno.ENOTTY if operation & ~POSSIBLE[feature] else errno.EINVAL
    assert refused(client, feature, operation) == expected


def test_unknown_flag_bits_are_refused(client: Client) -> None:
    assert refused(client, DeviceFeature.MIGRATION, GET | 1 << 19) == errno.EINVAL


def test_migration_flags_and_argsz(client: Client) -> None:
    reply = ask(client, DeviceFeature.MIGRATION, GET)
    assert (reply.argsz, reply.flags, reply.data) == (16, GET | 1, b"\5\0\0\0\0\0\0\0")
    assert ask(client, DeviceFeature.MIGRATION, GET, b"", 16) == reply
    assert refused(client, DeviceFeature.MIGRATION, GET, b"", 15) == errno.EINVAL


def test_the_reply_to_a_set_is_the_request(client: Client) -> None:
    asked = request(STATE, SET, FeatureMigDeviceState(device_state=S.STOP, data_fd=0xFFFFFFFF), 7)
    assert client.ask(Command.DEVICE_FEATURE, asked) == asked
    assert state(client) == S.STOP


@pytest.mark.parametrize("data", [b"", bytes(7), b"\1" + bytes(8)])
def test_a_state_of_another_size_is_refused(client: Client, data: bytes) -> None:
    assert refused(client, STATE, SET, data) == errno.EINVAL
    assert state(client) == S.RUNNING


# Migration


@pytest.mark.parametrize(("size", "other"), [(1 << 20, 1 << 20), (70_001, 333_331)])
def test_a_device_goes_to_another_server(size: int, other: int) -> None:
    with Serving() as one, Serving() as two:
        source, destination = one.client(), two.client()
        source.write(0, testdev.SCRATCH, b"scratch")
        source.write(2, 0x1234, b"mapped")
        source.write(7, 4, b"\6\0")
        go(source, S.PRE_COPY)
        data = read_all(source, size)
        source.write(9, 0x100000, b"ram")
        go(source, S.STOP_COPY)
        data += read_all(source, size)
        go(destination, S.RESUMING)
        write_all(destination, data, other)
        go(destination, S.RUNNING)
        for region, offset, content in (
            (0, testdev.SCRATCH, b"scratch"),
            (2, 0x1234, b"mapped"),
            (7, 4, b"\6\0"),
            (9, 0x100000, b"ram"),
        ):
            assert destination.read(region, offset, len(content)) == content
        destination.set(testdev.GO, 1)
        assert status(destination) == (1, 0)


def test_data_are_refused_in_other_states(client: Client) -> None:
    for wanted in (S.RUNNING, S.STOP, S.RESUMING):
        go(client, wanted)
        assert client.refused(Command.MIG_DATA_READ, MigDataReadRequest(argsz=12, size=4)) == errno.EINVAL
    assert client.refused(Command.DEVICE_FEATURE, request(STATE, SET, FeatureMigDeviceState(device_state=3))) == 22
    client.ask(Command.DEVICE_RESET)
    for wanted in (S.RUNNING, S.PRE_COPY, S.STOP, S.STOP_COPY):
        go(client, wanted)
        assert client.refused(Command.MIG_DATA_WRITE, MigDataWriteRequest(data=b"1")) == errno.EINVAL


def test_a_read_with_no_room_or_over_the_limit_is_refused(client: Client) -> None:
    go(client, S.STOP_COPY)
    for argsz, size in ((11, 4), (0, 0), (0xFFFFFFFF, 0xFFFFFFF0), ((1 << 20) + 9, (1 << 20) + 1)):
        assert client.refused(Command.MIG_DATA_READ, MigDataReadRequest(argsz=argsz, size=size)) == errno.EINVAL
    assert client.ask(Command.MIG_DATA_READ, MigDataReadRequest(argsz=8, size=0)).data == b""


def test_argsz_of_a_write_says_nothing(client: Client) -> None:
    go(client, S.RESUMING)
    for argsz in (0, 8, 0xFFFFFFFF):
        client.ask(Command.MIG_DATA_WRITE, MigDataWriteRequest(argsz=argsz, data=b"1"))


def test_the_state_of_another_kind_of_device_leads_to_error_and_reset_out_of_it(client: Client) -> None:
    saving = Saving(lambda: b"something else")
    saving.finish()
    go(client, S.RESUMING)
    write_all(client, saving.read(saving.due), 100)
    assert refused(client, STATE, SET, FeatureMigDeviceState(device_state=S.STOP)) == errno.EINVAL
    assert state(client) == S.ERROR
    assert refused(client, STATE, SET, FeatureMigDeviceState(device_state=S.RUNNING)) == errno.EINVAL
    client.ask(Command.DEVICE_RESET)
    assert state(client) == S.RUNNING


def test_a_device_at_rest_keeps_writes_and_leaves_memory_alone(client: Client) -> None:
    guest = by_message(client)
    go(client, S.STOP)
    client.write(0, testdev.SCRATCH, b"kept")
    start(client, 1, 0, 64)
    assert status(client) == (2, errno.EBUSY)
    assert client.read(0, testdev.SCRATCH, 4) == b"kept"
    go(client, S.RUNNING)
    start(client, 1, 0, 64)
    assert status(client) == (1, 0)
    assert bytes(guest.memory[:64]) == testdev.pattern(64, 3)


def test_the_next_client_finds_the_device_at_rest() -> None:
    with Serving() as serving:
        first = serving.client()
        go(first, S.STOP_COPY)
        first.close()
        serving.wait_left()
        assert state(serving.client()) == S.STOP


# The log


def test_writes_are_recorded_and_reads_are_not(client: Client) -> None:
    by_message(client)
    chosen = wire.decode_record(
        FeatureDmaLoggingStart, ask(client, START, SET, FeatureDmaLoggingStart(page_size=5)).data
    )
    assert chosen[0].page_size == K
    start(client, 2, 0, 8 * K)
    assert report(client, 0, 64) == set()
    start(client, 1, 3 * K - 1, K + 2)
    assert report(client, 0, 64) == {2, 3, 4}
    assert report(client, 0, 64) == set()
    ask(client, STOP, SET)
    assert refused(client, REPORT, GET, FeatureDmaLoggingReport(length=K, page_size=K)) == errno.EINVAL


def test_regions_mapped_after_the_start_are_recorded_and_unmapped_ones_remembered(client: Client) -> None:
    ask(client, START, SET, FeatureDmaLoggingStart(page_size=K))
    with memfd(4 * K) as fd:
        for address in (0x10000, 0x10000 + 4 * K):
            client.ask(
                Command.DMA_MAP,
                DmaMapRequest(flags=DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE, address=address, size=4 * K),
                [fd],
            )
        start(client, 1, 0x10000 + 3 * K, 2 * K)
        assert status(client) == (1, 0)
        client.ask(Command.DMA_UNMAP, DmaUnmapRequest(address=0x10000, size=4 * K))
    assert report(client, 0x10000, 8) == {3, 4}


def test_only_writes_inside_the_ranges_are_recorded(client: Client) -> None:
    by_message(client)
    ranges = (DmaLoggingRange(iova=2 * K, length=K), DmaLoggingRange(iova=8 * K, length=K))
    ask(client, START, SET, FeatureDmaLoggingStart(page_size=K, ranges=ranges))
    start(client, 1, 0, 16 * K)
    assert report(client, 0, 16) == {2, 8}


def test_a_write_that_fails_is_no_write(client: Client) -> None:
    ask(client, START, SET, FeatureDmaLoggingStart(page_size=K))
    start(client, 1, 0, K)
    assert status(client) == (2, errno.EFAULT)
    assert report(client, 0, 64) == set()


def test_room_for_the_bitmap_may_come_with_the_request(client: Client) -> None:
    ask(client, START, SET, FeatureDmaLoggingStart(page_size=K))
    wanted = FeatureDmaLoggingReport(length=K, page_size=K)
    assert ask(client, REPORT, GET, wire.encode_record(wanted) + bytes(8)).argsz == 40
    assert ask(client, REPORT, GET, wanted, 40).data[24:] == bytes(8)
    assert refused(client, REPORT, GET, wanted, 39) == errno.EINVAL


@pytest.mark.parametrize("data", [b"", bytes(15), bytes(8) + b"\1\0\0\0" + bytes(4), bytes(17)])
def test_a_start_that_does_not_fit_its_table_is_refused(client: Client, data: bytes) -> None:
    assert refused(client, START, SET, data) == errno.EINVAL


def test_the_log_ends_with_its_client() -> None:
    with Serving() as serving:
        first = serving.client()
        ask(first, START, SET, FeatureDmaLoggingStart(page_size=K))
        first.close()
        serving.wait_left()
        ask(serving.client(), START, SET, FeatureDmaLoggingStart(page_size=K))
