"""The Wireshark dissector on wrong messages: each has its expert note, and no bytes make Lua fail."""

import random
import struct

import pytest
from export_samples import samples
from export_shark import ERROR, NOTES, REPLY, Shark, message, notes, segments, start

from vfio_user_proto import wire
from vfio_user_proto.export.pcapng import Packet
from vfio_user_proto.messages import (
    CapabilityHeader,
    Command,
    DeviceGetRegionInfoReply,
    DeviceGetRegionIoFdsReply,
    DmaMapRequest,
    HeaderFlags,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    VersionRequest,
)

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def shark(tmp_path_factory: pytest.TempPathFactory) -> Shark:
    """tshark with the dissector."""
    return start(tmp_path_factory.mktemp("shark"))


def chain(*members: tuple[int, bytes], start: int = 32, last: int = 0) -> DeviceGetRegionInfoReply:
    """A reply with capabilities of an ID and a body; the last one leads on to ``last``."""
    data, at = b"", 32
    for number, (code, body) in enumerate(members, 1):
        at += 8 + len(body)
        data += (
            wire.encode_record(CapabilityHeader(id=code, version=1, next=at if number < len(members) else last)) + body
        )
    return DeviceGetRegionInfoReply(flags=15, cap_offset=start, capabilities=data)


REGION_INFO = Command.DEVICE_GET_REGION_INFO
AREA = struct.pack("=IIQQ", 1, 0, 0, 4096)
READ = message(Command.REGION_READ, RegionReadRequest(count=4))
LONG = struct.pack("=QII", 0, 0, 1 << 31) + b"ab"
WRONG = {
    "half a header": (READ[:9], True, {"message_cut"}),
    "a size below that of a header": (message(Command.DEVICE_RESET, message_size=15), True, {"message_size"}),
    "a size of nothing": (message(Command.DEVICE_RESET, message_size=0), True, {"message_size"}),
    "a message that is not all there": (READ[:-2], True, {"message_cut"}),
    "a message of 4 GiB": (message(Command.DEVICE_RESET, message_size=0xFFFFFFFF), True, {"message_cut"}),
    "a payload shorter than its table": (message(Command.REGION_READ)[:4] + b"\x12\0\0\0" + bytes(10), True, {"short"}),
    "data shorter than their count": (
        wire.encode_record(wire.decode_header(message(Command.REGION_WRITE, message_size=34))) + LONG,
        True,
        {"short"},
    ),
    "more writes than there are": (
        message(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wr_cnt=1 << 63)),
        True,
        {"short"},
    ),
    "more writes than 64 bits count": (
        message(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wr_cnt=1 << 61)),
        True,
        {"short"},
    ),
    "trailing bytes": (READ[:4] + struct.pack("=I", 35) + READ[8:] + b"abc", True, {"trailing"}),
    "a reset with a payload": (message(Command.DEVICE_RESET, message_size=20) + bytes(4), True, {"trailing"}),
    "an error reply": (message(Command.DMA_MAP, flags=ERROR, error=22), False, {"error_reply"}),
    "an error reply with a payload": (
        message(Command.DMA_MAP, flags=ERROR, message_size=20) + bytes(4),
        False,
        {"error_reply", "trailing"},
    ),
    "an unknown command": (message(99, message_size=20) + b"abcd", True, {"unknown_command"}),
    "an unknown type": (message(Command.DEVICE_RESET, flags=5), True, {"unknown_value"}),
    "undefined bits of the header": (message(Command.DEVICE_RESET, flags=1 << 31), True, {"undefined_bits"}),
    "undefined bits of a payload": (message(Command.DMA_MAP, DmaMapRequest(flags=4)), True, {"undefined_bits"}),
    "a command of the other side": (message(Command.DEVICE_RESET), False, {"wrong_direction"}),
    "a capability outside the payload": (
        message(REGION_INFO, chain((1, AREA), start=4000), flags=REPLY),
        False,
        {"bad_chain"},
    ),
    "a capability in the fixed part": (
        message(REGION_INFO, chain((1, AREA), start=8), flags=REPLY),
        False,
        {"bad_chain"},
    ),
    "capabilities in a circle": (
        message(REGION_INFO, chain((2, bytes(8)), (1, AREA), last=32), flags=REPLY),
        False,
        {"bad_chain"},
    ),
    "a capability that is cut": (message(REGION_INFO, chain((1, AREA[:12])), flags=REPLY), False, {"short"}),
    "an unknown capability": (message(REGION_INFO, chain((77, b"abcd")), flags=REPLY), False, {"unknown_value"}),
    "version data without a NUL": (message(Command.VERSION, VersionRequest(version_data=b"{}")), True, {"bad_json"}),
    "version data behind the NUL": (
        message(Command.VERSION, VersionRequest(version_data=b"{}\0 \0")),
        True,
        {"bad_json"},
    ),
    "version data that are no object": (
        message(Command.VERSION, VersionRequest(version_data=b"[1]\0")),
        True,
        {"bad_json"},
    ),
    "records that are cut": (
        message(
            Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsReply(argsz=96, count=2), message_size=36, flags=REPLY
        )
        + bytes(4),
        False,
        {"short"},
    ),
    "more writes than are shown": (
        message(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wr_cnt=5000), message_size=24 + 24 * 5000)
        + bytes(24 * 5000),
        True,
        {"not_shown"},
    ),
    "a message longer than Wireshark keeps": (
        message(Command.REGION_WRITE, RegionWriteRequest(data=bytes(300_000))),
        True,
        {"not_captured"},
    ),
}


def test_wrong_messages_are_noted(shark: Shark) -> None:
    """Each mistake has its expert note, and no other one; all are seen in one file."""
    packets = [Packet(data, sender, socket=at) for at, (data, sender, _) in enumerate(WRONG.values())]

    rows = shark(packets, NOTES)

    found = {words: notes(row) - {"no_command"} for words, row in zip(WRONG, rows, strict=True)}
    assert {words: wanted for words, (_, _, wanted) in WRONG.items()} == found


def test_a_reply_with_another_command_is_noted(shark: Shark) -> None:
    """The ID ties it to its command; a command that asked for no reply is not waited for."""
    silent = message(Command.DEVICE_RESET, flags=int(HeaderFlags.NO_REPLY))
    packets = [
        Packet(message(Command.DEVICE_RESET), True),
        Packet(message(Command.DMA_MAP, flags=REPLY), False),
        Packet(silent, True),
        Packet(message(Command.DEVICE_RESET, flags=REPLY), False),
    ]

    rows = shark(packets, ["vfio_user.response_to", *NOTES])

    assert [set(), {"other_command"}, set(), {"no_command"}] == [notes(row) for row in rows]
    assert rows[1]["vfio_user.response_to"] == ["1"]


def test_a_reply_that_only_tells_the_full_size_is_right(shark: Shark) -> None:
    """Region info and sub-regions that did not fit: the fixed part alone, with the size that is needed."""
    packets = [
        Packet(message(REGION_INFO, DeviceGetRegionInfoReply(argsz=64, flags=15, cap_offset=32), flags=REPLY), False),
        Packet(
            message(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsReply(argsz=96, count=2), flags=REPLY), False
        ),
    ]

    assert [{"no_command"}] * 2 == [notes(row) for row in shark(packets, NOTES)]


def test_no_bytes_make_lua_fail(shark: Shark) -> None:
    """300 packets: bytes without a form, and right messages with changed, missing and additional ones."""
    chance = random.Random(20261120)
    packets = [Packet(chance.randbytes(chance.randrange(1, 200)), chance.random() < 0.5) for _ in range(100)]
    every = [each.data for each in samples()]
    for _ in range(200):
        data = bytearray(chance.choice(every))
        for _ in range(chance.randrange(1, 5)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        if chance.random() < 0.5:
            data = data[: chance.randrange(1, len(data) + 1)] + chance.randbytes(chance.randrange(30))
        if chance.random() < 0.7 and len(data) >= 8:
            data[4:8] = struct.pack("=I", len(data))
        packets.append(Packet(bytes(data), chance.random() < 0.5))

    rows = shark(packets, ["vfio_user.message_size", *NOTES])

    assert len(packets) == len(rows)
    assert {"short", "trailing", "message_cut", "unknown_command", "undefined_bits"} <= set().union(*map(notes, rows))


def test_no_stream_makes_lua_fail(shark: Shark) -> None:
    """Messages of wrong sizes over TCP: whatever is taken for a header, something is shown of it."""
    chance = random.Random(20261121)
    stream = b"".join(
        message(Command.DMA_MAP, DmaMapRequest(), message_size=chance.choice((48, 48, 0, 15, 17, 60)))
        for _ in range(60)
    )
    cuts = sorted(chance.sample(range(1, len(stream)), 40))

    rows = shark(segments(stream, cuts), ["vfio_user.message_size", *NOTES], "-d", "tcp.port==5555,vfio_user")

    assert {"message_size", "unknown_command"} <= set().union(*map(notes, rows))
