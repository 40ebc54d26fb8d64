"""The Wireshark dissector, run by tshark: every field of every message, replies tied to commands, streams cut anywhere."""

import struct
from pathlib import Path

import pytest
from export_samples import Sample, captured, integers, samples
from export_shark import ERROR, NOTES, REPLY, Shark, message, notes, segments, start

from vfio_user_proto.export import tables
from vfio_user_proto.export.pcapng import Packet
from vfio_user_proto.messages import (
    Command,
    DeviceGetRegionIoFdsReply,
    DmaMapRequest,
    Header,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record

pytestmark = pytest.mark.interop
ENDS = [f"vfio_user_socket.{name}" for name in ("sender", "descriptors", "number")]


@pytest.fixture(scope="module")
def shark(tmp_path_factory: pytest.TempPathFactory) -> Shark:
    """tshark with the dissector."""
    return start(tmp_path_factory.mktemp("shark"))


def name(record: type[Record], field: str) -> str:
    """The display filter of a field."""
    return f"vfio_user.{field}" if record is Header else f"vfio_user.{tables.snake(record.__name__)}.{field}"


NUMBERS = [
    name(record, field.name)
    for record in tables.declared(Record)
    for field in tables.fields(record)
    if field.size is not None and not field.raw
]


def expected(sample: Sample) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in sample.parts:
        for field, value in integers(part).items():
            found.setdefault(name(type(part), field), []).append(value)
    return found


def test_every_field_of_every_message_is_shown_with_its_value(shark: Shark) -> None:
    """Commands and replies of each kind, nested records in their order, as the codec reads them; nothing is noted."""
    every = samples()

    rows = shark([Packet(each.data, each.from_client) for each in every], NUMBERS + NOTES)

    for sample, row in zip(every, rows, strict=True):
        found = {field: [int(value, 0) for value in values] for field, values in row.items() if field in NUMBERS}
        assert expected(sample) == found, sample.name
        assert notes(row) <= {"no_command"}, sample.name


def test_sender_descriptors_and_socket_are_shown(shark: Shark) -> None:
    """What the bytes of a message cannot tell, and the file does."""
    (row,) = shark([Packet(message(Command.DEVICE_RESET), True, descriptors=3, socket=258)], ENDS)

    assert [row[field] for field in ENDS] == [["0"], ["3"], ["258"]]


def test_data_is_shown_as_bytes(shark: Shark) -> None:
    """The data of a transfer stand in a field of their own."""
    data = message(Command.REGION_WRITE, RegionWriteRequest(data=b"\x01\x02\xfe"))

    (row,) = shark([Packet(data, True)], ["vfio_user.region_write_request.data"])

    assert [value.replace(":", "") for value in row["vfio_user.region_write_request.data"]] == ["0102fe"]


def test_flags_are_shown_bit_by_bit_and_codes_by_name(shark: Shark) -> None:
    """Each bit is a field for the display filter, and a number with a name shows it."""
    every = [
        Packet(message(Command.DMA_MAP, DmaMapRequest(flags=2)), True),
        Packet(message(Command.DMA_MAP, flags=ERROR, error=17), False),
    ]
    fields = ["vfio_user.dma_map_request.flags.readable", "vfio_user.dma_map_request.flags.writeable"]
    fields += ["vfio_user.flags.type", "vfio_user.flags.error", "_ws.col.Info", "_ws.col.Protocol"]

    asked, refused = shark(every, fields)

    truth = {"0": False, "False": False, "1": True, "True": True}
    assert [truth[asked[field][0]] for field in fields[:2]] == [False, True]
    assert [row["vfio_user.flags.type"] for row in (asked, refused)] == [["0"], ["1"]]
    assert [truth[row["vfio_user.flags.error"][0]] for row in (asked, refused)] == [False, True]
    assert asked["_ws.col.info"] == ["VFIO_USER_DMA_MAP command, id 1"]
    assert refused["_ws.col.info"] == ["VFIO_USER_DMA_MAP error reply, id 1 error 17"]
    assert asked["_ws.col.protocol"] == ["vfio-user"]


def test_a_real_session_is_dissected_without_a_note(shark: Shark, shared: Path) -> None:
    """QEMU against libvfio-user: all fields as the codec reads them, each reply tied to its command."""
    every = captured(shared)
    wanted = ["vfio_user.response_to", "vfio_user.response_in", "vfio_user_socket.sender", *NUMBERS, *NOTES]

    rows = shark([Packet(each.data, each.from_client, at / 1000) for at, each in enumerate(every)], wanted)

    for sample, row in zip(every, rows, strict=True):
        for field, values in expected(sample).items():
            assert values == [int(value, 0) for value in row[field]], sample.name
        assert ["0" if sample.from_client else "1"] == row["vfio_user_socket.sender"]
        assert not notes(row), sample.name
    for number, row in enumerate(rows, 1):
        for request in row.get("vfio_user.response_to", ()):
            assert str(number) in rows[int(request) - 1]["vfio_user.response_in"]
            assert row["vfio_user.command"] == rows[int(request) - 1]["vfio_user.command"]
            assert row["vfio_user.message_id"] == rows[int(request) - 1]["vfio_user.message_id"]
    assert len(rows) // 2 == sum("vfio_user.response_to" in row for row in rows)


def test_version_data_goes_to_the_json_dissector(shark: Shark) -> None:
    """The capabilities can be filtered by the fields that Wireshark has for JSON."""
    payload = VersionRequest(version_data=b'{"capabilities": {"max_msg_fds": 16}}\0')

    (row,) = shark([Packet(message(Command.VERSION, payload), True)], ["json.key", "json.value.number", "_ws.col.Info"])

    assert sorted(row["json.key"]) == ["capabilities", "max_msg_fds"]
    assert row["json.value.number"] == ["16"]
    assert row["_ws.col.info"] == ["VFIO_USER_VERSION command, id 1"]


def test_replies_are_matched_by_id_direction_and_socket(shark: Shark) -> None:
    """Equal IDs of both sides, of two sockets, and twice in flight on one socket, do not get mixed up."""
    read = message(Command.REGION_READ, RegionReadRequest(count=1), message_id=7)
    got = message(Command.REGION_READ, RegionReadReply(data=b"x"), message_id=7, flags=REPLY)
    dma = message(Command.DEVICE_RESET, message_id=7)
    done = message(Command.DEVICE_RESET, message_id=7, flags=REPLY)
    packets = [
        Packet(read, True, 1.0),
        Packet(dma, False, 1.5),  # not its direction, but an ID of the other side
        Packet(read, True, 2.0),
        Packet(read, True, 2.0, socket=1),
        Packet(got, False, 3.25),
        Packet(done, True, 3.5),
        Packet(got, False, 4.0, socket=1),
        Packet(got, False, 5.0),
    ]

    fields = ["vfio_user.response_to", "vfio_user.response_in", "vfio_user.response_time"]
    rows = shark(packets, fields + NOTES)

    assert [row["vfio_user.response_in"] for row in rows[:4]] == [["5"], ["6"], ["8"], ["7"]]
    assert [row["vfio_user.response_to"] for row in rows[4:]] == [["1"], ["2"], ["4"], ["3"]]
    assert [float(row["vfio_user.response_time"][0]) for row in rows[4:]] == [2.25, 2.0, 2.0, 3.0]
    assert [set(), {"wrong_direction"}, *[set()] * 6] == [notes(row) for row in rows]


def test_a_sub_region_of_an_unknown_kind_is_bytes(shark: Shark) -> None:
    """The stride is what argsz leaves for each; a size or type without a table shows as bytes."""
    payload = DeviceGetRegionIoFdsReply(sub_regions=(bytes(56), bytes(56)))

    (row,) = shark(
        [Packet(message(Command.DEVICE_GET_REGION_IO_FDS, payload, flags=REPLY), False)], ["vfio_user.entry", *NOTES]
    )

    assert len(row["vfio_user.entry"]) == 2
    assert {"no_command"} == notes(row)


def test_one_packet_may_hold_several_messages(shark: Shark) -> None:
    """They are cut by their sizes; each has its ID, and the columns name both."""
    both = message(Command.DEVICE_RESET, message_id=1) + message(Command.DEVICE_RESET, message_id=2)

    (row,) = shark([Packet(both, True)], ["vfio_user.message_id", "_ws.col.Info"])

    assert row["vfio_user.message_id"] == ["1", "2"]
    assert row["_ws.col.info"] == ["VFIO_USER_DEVICE_RESET command, id 1; VFIO_USER_DEVICE_RESET command, id 2"]


@pytest.mark.parametrize("cuts", [(), (3,), (16,), (20, 21, 70), tuple(range(1, 96, 5))], ids=str)
def test_a_stream_is_cut_into_messages_by_their_sizes(shark: Shark, cuts: tuple[int, ...]) -> None:
    """Over TCP, wherever the segments end, each message comes out once and whole."""
    stream = b"".join(message(Command.DMA_MAP, DmaMapRequest(size=at), message_id=at) for at in (5, 6))

    rows = shark(
        segments(stream, cuts),
        ["vfio_user.message_id", "vfio_user.dma_map_request.size", *NOTES],
        "-d",
        "tcp.port==5555,vfio_user",
    )

    assert [value for row in rows for value in row.get("vfio_user.message_id", ())] == ["5", "6"]
    assert [int(value, 0) for row in rows for value in row.get("vfio_user.dma_map_request.size", ())] == [5, 6]
    assert not [notes(row) for row in rows if notes(row)]


def test_the_byte_order_of_the_hosts_is_a_preference(shark: Shark) -> None:
    """The same fields out of a message of big-endian hosts."""
    payload = struct.pack(">IIQQQ", 32, 3, 0, 0x123456789, 4096)
    data = struct.pack(">HHIII", 9, Command.DMA_MAP, 48, 0, 0) + payload

    fields = ["vfio_user.message_id", "vfio_user.dma_map_request.address", "vfio_user.dma_map_request.flags.writeable"]
    (row,) = shark([Packet(data, True)], [*fields, *NOTES], "-o", "vfio_user.byte_order:Big endian")

    assert row[fields[0]] == ["9"]
    assert int(row[fields[1]][0], 0) == 0x123456789
    assert row[fields[2]][0] in ("1", "True")
    assert not notes(row)
