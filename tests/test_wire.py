"""The codec: plan and construct agree on everything, nothing is lost, errors say where, nothing is allocated on a lie."""

import inspect
import io
import json
import struct
import tracemalloc
from pathlib import Path

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_user_fuzz.strategies import records
from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.errors import DecodeError, EncodeError
from vfio_user_proto.messages import Command, Header, HeaderFlags
from vfio_user_proto.model import Record
from vfio_user_proto.wire import Message

CLASSES = [
    value for _, value in inspect.getmembers(m, inspect.isclass) if issubclass(value, Record) and value is not Record
]
few = settings(max_examples=25)  # per record, and there are many
every_class = pytest.mark.parametrize("record", CLASSES, ids=lambda record: record.__name__)


def by_construct(record: type[Record], data: bytes) -> tuple[Record, bytes] | None:
    """What construct's own parser makes of ``data``; None where it refuses."""
    stream = io.BytesIO(data)
    try:
        value = record.from_container(record.schema.parse_stream(stream))
    except construct.ConstructError:
        return None
    return value, stream.read()


def by_plan(record: type[Record], data: bytes) -> tuple[Record, bytes] | None:
    try:
        return wire.decode_record(record, data)
    except DecodeError:
        return None


def mangled(data: bytes) -> st.SearchStrategy[bytes]:
    """``data`` cut, extended, or with some bytes changed."""
    cut = st.integers(0, len(data)).map(lambda end: data[:end])
    longer = st.binary(min_size=1, max_size=64).map(lambda extra: data + extra)

    def poke(pokes: list[tuple[int, int]]) -> bytes:
        changed = bytearray(data)
        for at, value in pokes:
            changed[at] = value
        return bytes(changed)

    place = st.tuples(st.integers(0, max(0, len(data) - 1)), st.sampled_from([0, 1, 2, 7, 8, 40, 48, 0x7F, 0x80, 0xFF]))
    return st.one_of(cut, longer, st.lists(place, min_size=1, max_size=6).map(poke) if data else st.binary(max_size=64))


def test_every_record_of_the_document_is_tested() -> None:
    """Everything that a table of the generated declarations refers to is among the classes tested here."""
    tables = (m.REQUESTS, m.REPLIES, m.FEATURES, m.REGION_CAPABILITIES, m.SUB_REGIONS)

    assert set(CLASSES) >= {record for table in tables for record in table.values() if record is not None}
    assert {Header, m.CapabilityHeader, m.SparseMmapArea, m.DeviceWrite, m.DmaLoggingRange} <= set(CLASSES)


@every_class
@few
@given(choice=st.data())
def test_plan_and_construct_agree_on_values(record: type[Record], choice: st.DataObject) -> None:
    """A value that fits its counts has the same bytes both ways, and comes back from them."""
    value = choice.draw(records(record))
    data = wire.encode_record(value)

    assert record.schema.build(value.as_dict()) == data
    assert by_plan(record, data) == by_construct(record, data) == (value, b"")
    assert value.wire_size == len(data)


@every_class
@few
@given(choice=st.data())
def test_plan_and_construct_agree_on_mangled_bytes(record: type[Record], choice: st.DataObject) -> None:
    """Both accept the same bytes, see the same values in them, and leave the same rest."""
    data = choice.draw(mangled(wire.encode_record(choice.draw(records(record)))))

    assert by_plan(record, data) == by_construct(record, data)


@every_class
@few
@given(data=st.binary(max_size=200))
def test_plan_and_construct_agree_on_any_bytes(record: type[Record], data: bytes) -> None:
    assert by_plan(record, data) == by_construct(record, data)


@every_class
@few
@given(data=st.binary(max_size=200))
def test_whatever_decodes_encodes_to_the_same_bytes(record: type[Record], data: bytes) -> None:
    found = by_plan(record, data)

    assert found is None or wire.encode_record(found[0]) + found[1] == data


@every_class
@few
@given(choice=st.data())
def test_a_cut_record_names_the_field_and_the_byte(record: type[Record], choice: st.DataObject) -> None:
    """The path is that of the first field that is not whole, the offset where this field begins."""
    data = wire.encode_record(choice.draw(records(record)))
    for end in range(record.fixed_size):
        with pytest.raises(DecodeError) as caught:
            wire.decode_record(record, data[:end])
        name = caught.value.path.removeprefix(f"{record.__name__}.")
        row = record.rows[name]
        assert caught.value.offset == row.offset <= end < row.offset + (row.fixed_size or 0)


COMMANDS = {**{(c, 0): r for c, r in m.REQUESTS.items()}, **{(c, 1): r for c, r in m.REPLIES.items()}}


@given(choice=st.data())
def test_every_message_survives(choice: st.DataObject) -> None:
    """decode → encode gives the same bytes for every command and reply, unknown flag bits and trailing bytes included."""
    command, kind = choice.draw(st.sampled_from(sorted(COMMANDS)))
    record = COMMANDS[command, kind]
    body = wire.encode_record(choice.draw(records(record))) if record is not None else b""
    extra = choice.draw(st.binary(max_size=8))
    flags = kind | choice.draw(st.integers(0, (1 << 28) - 1)) << 4
    header = Header(
        message_id=choice.draw(st.integers(0, 0xFFFF)),
        command=command,
        message_size=16 + len(body) + len(extra),
        flags=flags,
        error=choice.draw(st.integers(0, (1 << 32) - 1)),
    )
    data = wire.encode(Message(header, None, body + extra))
    message = wire.decode(data)

    assert wire.encode(message) == data
    assert message.header == header
    assert int(message.header.flags) == flags


@given(data=st.binary(min_size=16, max_size=120), command=st.integers(0, 20), kind=st.integers(0, 3))
def test_any_bytes_decode_or_raise_decode_error(data: bytes, command: int, kind: int) -> None:
    """Nothing but DecodeError comes out, its offset lies inside the message, and what decodes is lossless."""
    head = struct.pack("=HII", command, len(data), kind)
    data = data[:2] + head + data[12:]
    problem = None
    try:
        assert wire.encode(wire.decode(data)) == data
    except DecodeError as error:
        problem = error

    if problem is not None:
        assert 16 <= (problem.offset or 0) <= len(data)
        assert problem.path.startswith(Message(wire.decode_header(data)).name + ".")


def test_counts_and_argsz_default_to_what_is_there() -> None:
    assert m.RegionWriteRequest(data=b"abc").count == 3
    assert m.DeviceSetIrqsRequest(data=b"ab").argsz == 22
    assert m.DeviceGetRegionIoFdsReply(sub_regions=[m.IoregionfdSubRegion(type=1)]).argsz == 56
    assert wire.build(Command.REGION_WRITE, m.RegionWriteRequest(data=b"abc"))[4:8] == b"\x23\0\0\0"


def test_a_wrong_count_is_encoded_as_it_is() -> None:
    """encode writes what it is given, right or wrong: the conformance cases live on that."""
    data = wire.encode_record(m.RegionWriteRequest(count=9, data=b"abc"))

    assert data == bytes.fromhex("0000000000000000 00000000 09000000 616263")


def test_entries_of_an_unknown_kind_stay_bytes() -> None:
    """Sub-region records of another stride or type are kept as they are."""
    reply = m.DeviceGetRegionIoFdsReply(sub_regions=[b"A" * 40, b"B" * 40])
    body = wire.encode_record(reply)

    assert wire.decode_record(m.DeviceGetRegionIoFdsReply, body) == (reply, b"")


def test_an_io_fds_reply_may_only_say_how_large_the_full_one_is() -> None:
    short = m.DeviceGetRegionIoFdsReply(argsz=96, index=1, count=2, sub_regions=[])

    assert wire.decode_record(m.DeviceGetRegionIoFdsReply, wire.encode_record(short)) == (short, b"")


@pytest.mark.parametrize(
    ("record", "head", "path", "offset"),
    [
        (m.RegionWriteRequest, struct.pack("=QII", 0, 0, 0xFFFFFFFF), "RegionWriteRequest.data", 16),
        (m.DmaWriteRequest, struct.pack("=QQ", 0, (1 << 64) - 1), "DmaWriteRequest.data", 16),
        (m.RegionWriteMultiRequest, struct.pack("=Q", (1 << 64) - 1), "RegionWriteMultiRequest.wrs", 8),
        (m.SparseMmap, struct.pack("=II", 0xFFFFFFFF, 0), "SparseMmap.areas", 8),
        (m.DeviceGetRegionIoFdsReply, struct.pack("=IIII", 0xFFFFFFFF, 0, 0, 0xFFFFFFFF), None, None),
        (
            m.DeviceGetRegionIoFdsReply,
            struct.pack("=IIII", 0xFFFFFFFF, 0, 0, 1),
            "DeviceGetRegionIoFdsReply.sub_regions",
            16,
        ),
        (m.FeatureDmaLoggingStart, struct.pack("=QII", 0, 0xFFFFFFFF, 0), "FeatureDmaLoggingStart.ranges", 16),
    ],
)
def test_a_lying_count_is_refused_before_anything_is_allocated(
    record: type[Record], head: bytes, path: str | None, offset: int | None
) -> None:
    tracemalloc.start()
    try:
        if path is None:
            wire.decode_record(record, head + b"x" * 64)
        else:
            with pytest.raises(DecodeError) as caught:
                wire.decode_record(record, head + b"x" * 64)
            assert (caught.value.path, caught.value.offset) == (path, offset)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_errors_of_a_message_name_command_field_and_byte() -> None:
    """The offset counts from the first byte of the message."""
    data = bytearray(wire.build(Command.REGION_WRITE, m.RegionWriteRequest(data=b"1234")))
    data[28] = 5

    with pytest.raises(DecodeError) as caught:
        wire.decode(data)
    assert str(caught.value) == (
        "VFIO_USER_REGION_WRITE command.RegionWriteRequest.data at byte 32: 5 bytes are due, 4 are there"
    )


@pytest.mark.parametrize(("size", "length"), [(0, 16), (15, 16), (17, 16), (0xFFFFFFFF, 20), (16, 17)])
def test_a_message_is_as_long_as_its_header_says(size: int, length: int) -> None:
    data = wire.encode(Message(Header(message_size=size), None, bytes(length - 16)))

    with pytest.raises(DecodeError) as caught:
        wire.decode(data)
    assert (caught.value.path, caught.value.offset) == ("Header.message_size", 4)


def test_a_cut_header_is_named() -> None:
    with pytest.raises(DecodeError, match=r"Header.message_size at byte 4: 4 bytes are due, 1 are there"):
        wire.decode(b"\0\0\0\0\0")


@pytest.mark.parametrize(
    ("value", "path", "offset"),
    [
        (Header(command=1 << 16), "Header.command", 2),
        (Header(message_id=-1), "Header.message_id", 0),
        (m.DmaMapRequest(address=1 << 64), "DmaMapRequest.address", 16),
        (m.DmaMapRequest(flags=1 << 32), "DmaMapRequest.flags", 4),
        (m.RegionWriteMultiRequest(wrs=[m.DeviceWrite(), m.DeviceWrite(count=1 << 32)]),
         "RegionWriteMultiRequest.wrs[1].DeviceWrite.count", 44),
        (m.DeviceGetRegionIoFdsReply(sub_regions=[bytes(40), m.IoeventfdSubRegion(size=-1)]),
         "DeviceGetRegionIoFdsReply.sub_regions[1].IoeventfdSubRegion.size", 64),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named(value: Record, path: str, offset: int) -> None:
    with pytest.raises(EncodeError) as caught:
        wire.encode_record(value)
    assert (caught.value.path, caught.value.offset) == (path, offset)


def test_a_wrong_header_value_given_to_build_is_named() -> None:
    with pytest.raises(EncodeError, match=r"Header.message_id at byte 0: 65536 does not fit into 2 bytes"):
        wire.build(Command.VERSION, message_id=1 << 16)


def test_decode_takes_any_buffer() -> None:
    data = wire.build(Command.DEVICE_RESET)

    assert wire.decode(bytearray(data)) == wire.decode(memoryview(data)) == wire.decode(data)
    assert wire.decode_header(memoryview(data)) == wire.decode(data).header


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (0, "VFIO_USER_DMA_MAP command"),
        (1, "VFIO_USER_DMA_MAP reply"),
        (0x21, "VFIO_USER_DMA_MAP error reply"),
        (2, "VFIO_USER_DMA_MAP type 2"),
    ],
)
def test_messages_have_names(flags: int, name: str) -> None:
    assert Message(Header(command=2, flags=flags)).name == name


def test_split_cuts_a_stream_into_messages() -> None:
    messages = [wire.build(Command.DEVICE_RESET), wire.build(Command.REGION_WRITE, m.RegionWriteRequest(data=b"12"))]

    assert list(wire.split(b"".join(messages))) == messages


@pytest.mark.parametrize(
    ("rest", "path", "offset"),
    [
        (b"\1\0\2\0\3", "Header.message_size", 20),
        (b"\1\0\2\0\x0f" + bytes(11), "Header.message_size", 20),
        (b"\1\0\2\0\x20" + bytes(11), "Header.message_size", 20),
    ],
)
def test_split_says_where_the_stream_breaks(rest: bytes, path: str, offset: int) -> None:
    """The offset counts from the start of the stream; the messages before it are there."""
    good = wire.build(Command.DEVICE_RESET)
    parts = wire.split(good + rest)

    assert next(parts) == good
    with pytest.raises(DecodeError) as caught:
        next(parts)
    assert (caught.value.path, caught.value.offset) == (path, offset)


def test_split_takes_time_in_proportion_to_the_stream() -> None:
    """A stream of many small messages is not copied again for each."""
    stream = wire.build(Command.DEVICE_RESET) * 20_000
    tracemalloc.start()
    try:
        for _ in wire.split(stream):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < len(stream) / 2


def test_every_captured_message_decodes_and_encodes_to_the_same_bytes(shared: Path) -> None:
    """Real traffic between QEMU and libvfio-user: every field has a name, no byte is left over."""
    count = 0
    for file in sorted((shared / "captures").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            data = bytes.fromhex(record["hex"])
            message = wire.decode(data)
            assert wire.encode(message) == data
            assert message.trailing == b""
            assert message.is_reply == (record["from"] == "server")
            assert (message.payload is None) == (COMMANDS[message.header.command, int(message.is_reply)] is None)
            count += 1
    assert count > 200


def test_flag_values_seen_do_not_fill_the_memory() -> None:
    """A peer that sends ever new flag bits costs nothing that stays."""
    for value in range(1000):
        wire.decode(struct.pack("=HHIII", 0, 13, 16, value << 6, 0))

    assert len(wire._FLAGS) <= 64
    assert HeaderFlags(1 << 20) is not HeaderFlags(1 << 20)
