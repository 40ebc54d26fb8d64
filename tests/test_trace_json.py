"""Messages as JSON objects, both ways."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_fuzz.strategies import records
from vfio_user_proto import messages as m
from vfio_user_proto import trace, wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import CapabilityHeader, Command, DeviceGetRegionInfoReply, RegionInfoFlags

TABLES = {0: m.REQUESTS, 1: m.REPLIES}


@st.composite
def a_message(draw: st.DrawFn) -> bytes:
    """Any message that decodes, its flags and trailing bytes wild."""
    kind = draw(st.sampled_from([0, 1]))
    record = TABLES[kind][draw(st.sampled_from(sorted(Command)))]
    command = next(command for command, each in TABLES[kind].items() if each is record)
    body = wire.encode_record(draw(records(record))) if record is not None else b""
    flags = kind | draw(st.integers(0, (1 << 28) - 1)) << 4
    return craft(command, body, flags=flags, extra=draw(st.binary(max_size=3)), error=draw(st.integers(0, 200)))


def chain(*links: bytes) -> DeviceGetRegionInfoReply:
    return DeviceGetRegionInfoReply(flags=RegionInfoFlags.CAPS, cap_offset=32, capabilities=b"".join(links))


def link(ident: int, following: int, content: m.Record | None = None) -> bytes:
    head = CapabilityHeader(id=ident, version=1, next=following)
    return wire.encode_record(head) + (wire.encode_record(content) if content is not None else b"")


AREAS = m.SparseMmap(areas=[m.SparseMmapArea(offset=0, size=4096), m.SparseMmapArea(offset=8192, size=4096)])
TYPE = m.RegionType(type=5, subtype=6)


@given(a_message())
def test_messages_survive_json(data: bytes) -> None:
    """bytes → JSON text → bytes gives the same bytes, flags nobody knows and trailing bytes included."""
    content = json.loads(json.dumps(trace.as_json(wire.decode(data))))

    assert trace.from_json(content) == data


@given(st.binary(max_size=100), st.integers(0, 20), st.integers(0, 2))
def test_whatever_decodes_survives_json(body: bytes, command: int, kind: int) -> None:
    data = craft(command, body, kind=kind)
    try:
        message = wire.decode(data)
    except ValueError:
        return

    assert trace.from_json(trace.as_json(message)) == data


def test_json_has_names_and_what_lies_inside_bytes() -> None:
    reply = chain(link(1, 80, AREAS), link(2, 0, TYPE))
    content = trace.as_json(wire.decode(craft(Command.DEVICE_GET_REGION_INFO, reply, kind=1, message_id=3)))

    assert content == {
        "message_id": 3,
        "command": "VFIO_USER_DEVICE_GET_REGION_INFO",
        "message_size": 112,
        "flags": "REPLY",
        "error": 0,
        "payload": {
            "argsz": 96,
            "flags": "CAPS",
            "index": 0,
            "cap_offset": 32,
            "size": 0,
            "offset": 0,
            "capabilities": [
                {
                    "id": "VFIO_REGION_INFO_CAP_SPARSE_MMAP",
                    "version": 1,
                    "next": 80,
                    "nr_areas": 2,
                    "reserved": 0,
                    "areas": [{"offset": 0, "size": 4096}, {"offset": 8192, "size": 4096}],
                },
                {"id": "VFIO_REGION_INFO_CAP_TYPE", "version": 1, "next": 0, "type": 5, "subtype": 6},
            ],
        },
    }


WRITTEN = {
    "defaults": ({"command": "VFIO_USER_DEVICE_GET_INFO"}, craft(4, m.DeviceGetInfoRequest())),
    "a short name": ({"command": "DEVICE_RESET"}, craft(13)),
    "a number": ({"command": 13, "message_id": "0x1f"}, craft(13, message_id=31)),
    "flags by name": (
        {"command": "DMA_MAP", "flags": "NO_REPLY", "payload": {"flags": "READABLE | WRITEABLE", "size": "0x1000"}},
        craft(2, m.DmaMapRequest(flags=3, size=4096), no_reply=True),
    ),
    "flags by the document's name": (
        {"command": 5, "flags": "REPLY", "payload": {"flags": "VFIO_REGION_INFO_FLAG_READ|0x10"}},
        craft(5, DeviceGetRegionInfoReply(flags=0x11), kind=1),
    ),
    "flags by number": ({"command": 2, "flags": 0x71}, craft(2, flags=0x71)),
    "a mask": ({"command": 13, "flags": "TYPE=3|NO_REPLY"}, craft(13, kind=3, no_reply=True)),
    "an errno": ({"command": "DMA_MAP", "flags": "REPLY|ERROR", "error": "EEXIST"}, craft(2, flags=0x21, error=17)),
    "a feature": (
        {"command": "DEVICE_FEATURE", "payload": {"flags": "MIG_DEVICE_STATE|SET", "data": {"device_state": "STOP"}}},
        craft(16, m.DeviceFeatureRequest(flags=0x20002, data=b"\1\0\0\0\0\0\0\0")),
    ),
    "version data": (
        {"command": "VERSION", "payload": {"version_data": {"text": "{}\0"}}},
        craft(1, m.VersionRequest(version_data=b"{}\0")),
    ),
    "bytes": (
        {"command": "REGION_WRITE", "payload": {"region": 2, "data": "de ad"}},
        craft(10, m.RegionWriteRequest(region=2, data=b"\xde\xad")),
    ),
    "a wrong count": ({"command": 10, "payload": {"count": 9}}, craft(10, m.RegionWriteRequest(count=9))),
    "a wrong size": ({"command": 13, "message_size": 15}, craft(13, message_size=15)),
    "sub-regions": (
        {
            "command": 6,
            "flags": "REPLY",
            "payload": {"sub_regions": [{"type": "IOREGIONFD", "user_data": 5}, {"type": 0, "datamatch": 6}]},
        },
        craft(
            6,
            m.DeviceGetRegionIoFdsReply(
                sub_regions=[m.IoregionfdSubRegion(type=1, user_data=5), m.IoeventfdSubRegion(datamatch=6)]
            ),
            kind=1,
        ),
    ),
    "a shadow sub-region": (
        {"command": 6, "flags": "REPLY", "payload": {"sub_regions": [{"type": 2, "size": 4}, "00" * 48]}},
        craft(
            6,
            m.DeviceGetRegionIoFdsReply(sub_regions=[m.ShadowIoeventfdSubRegion(type=2, size=4), bytes(48)]),
            kind=1,
        ),
    ),
    "a payload of bytes": ({"command": "DMA_MAP", "payload": "abcd"}, craft(2, b"\xab\xcd")),
    "no payload at all": ({"command": "DMA_MAP", "payload": ""}, craft(2)),
    "trailing bytes": ({"command": 13, "trailing": "ff"}, craft(13, extra=b"\xff")),
    "what a capture adds": ({"command": 13, "from": "client", "fds": 0, "t": 1.5}, craft(13)),
}


@pytest.mark.parametrize(("content", "data"), WRITTEN.values(), ids=WRITTEN)
def test_messages_written_by_hand(content: dict[str, Any], data: bytes) -> None:
    assert trace.from_json(content) == data


WRONG = {
    "no command": ({}, "command: missing"),
    "a misspelt member": ({"command": 1, "paylaod": {}}, "paylaod: no such field; did you mean payload?"),
    "a misspelt field": (
        {"command": "DMA_MAP", "payload": {"adress": 1}},
        "payload.adress: no such field; did you mean address?",
    ),
    "a misspelt command": (
        {"command": "DMA_MPA"},
        "command: 'DMA_MPA' is no name of Command; did you mean DMA_MAP?",
    ),
    "a misspelt flag": (
        {"command": 2, "payload": {"flags": "READABEL"}},
        "payload.flags: 'READABEL' is no flag of DmaMapFlags; did you mean READABLE?",
    ),
    "a misspelt errno": ({"command": 2, "error": "EEXISTS"}, "error: 'EEXISTS' is no errno; did you mean EEXIST?"),
    "nothing near": ({"command": "xyzzy"}, "command: 'xyzzy' is no name of Command"),
    "too large": ({"command": 65536}, "command: 65536 does not fit into 2 bytes"),
    "too large a text": ({"command": "0x10000"}, "command: 65536 does not fit into 2 bytes"),
    "too large flags": ({"command": 2, "flags": "0x100000000"}, "flags: 4294967296 does not fit into 4 bytes"),
    "negative": ({"command": 2, "message_id": -1}, "message_id: -1 does not fit into 2 bytes"),
    "a fraction": ({"command": 2, "payload": {"size": 1.5}}, "payload.size: 1.5 is not a whole number"),
    "a boolean": ({"command": 2, "payload": {"size": True}}, "payload.size: True is not a whole number"),
    "null": ({"command": 2, "payload": {"size": None}}, "payload.size: None is not a whole number"),
    "no digits": ({"command": 2, "payload": {"size": "4k"}}, "payload.size: '4k' is not a number"),
    "a list of flags": ({"command": 2, "flags": ["REPLY"]}, "flags: ['REPLY'] is not a whole number"),
    "a held value without digits": ({"command": 2, "flags": "TYPE=x"}, "flags: 'x' is not a number"),
    "odd digits": ({"command": 10, "payload": {"data": "abc"}}, "payload.data: not pairs of hexadecimal digits"),
    "no hex": ({"command": 10, "payload": {"data": 7}}, "payload.data: not hexadecimal digits"),
    "a payload where none is due": (
        {"command": 13, "payload": {"x": 1}},
        "payload: VFIO_USER_DEVICE_RESET command has none",
    ),
    "a payload that is a list": ({"command": 2, "payload": []}, "payload: not an object"),
    "trailing": ({"command": 2, "trailing": []}, "trailing: not hexadecimal digits"),
    "no list": ({"command": 15, "payload": {"wrs": {}}}, "payload.wrs: not a list"),
    "inside a list": (
        {"command": 15, "payload": {"wrs": [{}, {"ofset": 1}]}},
        "payload.wrs[1].ofset: no such field; did you mean offset?",
    ),
    "an unknown sub-region field": (
        {"command": 6, "flags": "REPLY", "payload": {"sub_regions": [{"datamtach": 1}]}},
        "payload.sub_regions[0].datamtach: no such field; did you mean datamatch?",
    ),
    "fields of two kinds": (
        {"command": 6, "flags": "REPLY", "payload": {"sub_regions": [{"user_data": 1, "shadow_offset": 1}]}},
        "payload.sub_regions[0]: no kind of entry has all of these fields: user_data, shadow_offset",
    ),
    "a sub-region that is a number": (
        {"command": 6, "flags": "REPLY", "payload": {"sub_regions": [5]}},
        "payload.sub_regions[0]: neither an object nor hexadecimal digits",
    ),
    "inside a capability": (
        {"command": 5, "flags": "REPLY", "payload": {"capabilities": [{"id": "TYPE", "subtyp": 1}]}},
        "payload.capabilities[0].subtyp: no such field; did you mean subtype?",
    ),
    "content of an unknown capability": (
        {"command": 5, "flags": "REPLY", "payload": {"capabilities": [{"id": 9, "areas": []}]}},
        "payload.capabilities[0].areas: no such field",
    ),
    "a capability that is a number": (
        {"command": 5, "flags": "REPLY", "payload": {"capabilities": [1]}},
        "payload.capabilities[0]: not an object",
    ),
    "version data as an object": (
        {"command": 1, "payload": {"version_data": {"txt": ""}}},
        "payload.version_data.txt: no such field; did you mean text?",
    ),
}


@pytest.mark.parametrize(("content", "problem"), WRONG.values(), ids=WRONG)
def test_mistakes_are_named(content: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        trace.from_json(content)
    assert str(caught.value) == problem
