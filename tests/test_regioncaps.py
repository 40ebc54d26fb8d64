"""Chains of region capabilities: followed with care."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_fuzz.strategies import records
from vfio_user_proto import messages as m
from vfio_user_proto import regioncaps, wire
from vfio_user_proto.messages import CapabilityHeader, DeviceGetRegionInfoReply, RegionInfoFlags


def chain(*links: bytes) -> DeviceGetRegionInfoReply:
    return DeviceGetRegionInfoReply(flags=RegionInfoFlags.CAPS, cap_offset=32, capabilities=b"".join(links))


def link(ident: int, following: int, content: m.Record | None = None) -> bytes:
    head = CapabilityHeader(id=ident, version=1, next=following)
    return wire.encode_record(head) + (wire.encode_record(content) if content is not None else b"")


AREAS = m.SparseMmap(areas=[m.SparseMmapArea(offset=0, size=4096), m.SparseMmapArea(offset=8192, size=4096)])
TYPE = m.RegionType(type=5, subtype=6)


def test_a_chain_of_capabilities_is_followed() -> None:
    found, problem = regioncaps.walk(chain(link(1, 80, AREAS), link(2, 96, TYPE), link(3, 0)))

    assert problem is None
    assert [(each.offset, each.header.id, each.content) for each in found] == [
        (32, 1, AREAS),
        (80, 2, TYPE),
        (96, 3, None),
    ]


def test_a_chain_may_run_backwards() -> None:
    info = chain(link(2, 0, TYPE), link(1, 32, AREAS)).replace(cap_offset=48)

    assert [each.offset for each in regioncaps.walk(info)[0]] == [48, 32]
    assert regioncaps.walk(info)[1] is None


@pytest.mark.parametrize(
    "info",
    [
        chain(link(1, 0, AREAS)).replace(flags=RegionInfoFlags.READ),
        chain(link(1, 0, AREAS)).replace(cap_offset=0),
        DeviceGetRegionInfoReply(),
    ],
)
def test_without_flag_or_offset_there_is_no_chain(info: DeviceGetRegionInfoReply) -> None:
    assert regioncaps.walk(info) == ([], None)


BROKEN_CHAINS = {
    "into itself": (chain(link(2, 32, TYPE)), 1, "the chain comes back to byte 32"),
    "a circle of two": (chain(link(2, 48, TYPE), link(2, 32, TYPE)), 2, "the chain comes back to byte 32"),
    "into the info": (chain(link(2, 8, TYPE)), 1, "a capability is said to be at byte 8 of 48"),
    "beyond the end": (chain(link(2, 48, TYPE)), 1, "a capability is said to be at byte 48 of 48"),
    "far beyond": (chain(link(2, 0xFFFFFFFF, TYPE)), 1, "a capability is said to be at byte 4294967295 of 48"),
    "header cut": (chain(link(3, 44), b"1234567"), 1, "a capability is said to be at byte 44 of 47"),
    "nothing there": (chain(), 0, "a capability is said to be at byte 32 of 32"),
    "content cut": (chain(link(2, 0, TYPE)[:-1]), 0, "RegionType.subtype at byte 44: 4 bytes are due, 3 are there"),
    "count of 2^32-1": (
        chain(link(1, 0), b"\xff\xff\xff\xff\0\0\0\0"),
        0,
        "SparseMmap.areas at byte 48: 68719476720 bytes are due, 0 are there",
    ),
}


@pytest.mark.parametrize(("info", "right", "problem"), BROKEN_CHAINS.values(), ids=BROKEN_CHAINS)
def test_a_broken_chain_is_told_after_what_is_right(info: DeviceGetRegionInfoReply, right: int, problem: str) -> None:
    found, error = regioncaps.walk(info)

    assert len(found) == right
    assert problem in str(error)
    assert str(error).startswith("DeviceGetRegionInfoReply.capabilities")


@given(st.lists(st.integers(-1, 12), max_size=12), st.integers(0, 12))
def test_any_chain_ends(followers: list[int], first: int) -> None:
    """Wherever each capability says that the next one is: itself, one before it, none, or behind the last."""
    links = [link(77, 32 + 8 * follower if follower >= 0 else 0) for follower in followers]
    found, problem = regioncaps.walk(chain(*links).replace(cap_offset=32 + 8 * first))

    assert len({each.offset for each in found}) == len(found) <= len(links)
    assert (problem is None) is (found[-1:] != [] and found[-1].header.next == 0)


@given(records(DeviceGetRegionInfoReply), st.integers(24, 100))
def test_no_bytes_break_the_walk(info: DeviceGetRegionInfoReply, first: int) -> None:
    found, _ = regioncaps.walk(info.replace(flags=RegionInfoFlags.CAPS, cap_offset=first))

    assert len(found) <= len(info.capabilities)
