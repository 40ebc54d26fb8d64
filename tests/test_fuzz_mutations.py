"""Mutations: any bytes will do, a seed says it all, and messages stay in frame unless their size is what is mutated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_fuzz import strategies
from vfio_user_fuzz.conversation import in_frame
from vfio_user_fuzz.corpus import corpus
from vfio_user_fuzz.edges import around, interesting
from vfio_user_fuzz.fields import Kind, fields_of
from vfio_user_fuzz.mutations import MUTATIONS, framed, mutate, mutate_session, seeded
from vfio_user_fuzz.packets import Packet
from vfio_user_proto import wire
from vfio_user_proto.errors import DecodeError

CORPUS = corpus()
SPARE = tuple(CORPUS.values())


@pytest.mark.parametrize("name", MUTATIONS)
@given(data=st.binary(max_size=80), other=st.binary(max_size=80), seed=st.integers(0, 1 << 32))
def test_a_mutation_takes_any_bytes(name: str, data: bytes, other: bytes, seed: int) -> None:
    """Also none at all, and says the same for the same seed."""
    once = MUTATIONS[name](seeded(seed), data, other)

    assert once == MUTATIONS[name](seeded(seed), data, other)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_changes_something(name: str) -> None:
    """None of them is dead."""
    data, other = CORPUS["version-command-full"], CORPUS["region-write-command-full"]

    assert any(MUTATIONS[name](seeded(seed), data, other) != data for seed in range(20))


@given(st.one_of(strategies.messages().map(wire.encode), st.binary(max_size=80)), st.integers(0, 1 << 32))
def test_a_mutated_message_that_decodes_encodes_to_the_same_bytes(data: bytes, seed: int) -> None:
    """The codec is lossless on wrong messages too."""
    mutated = mutate(seeded(seed), data, CORPUS["version-command-full"])
    try:
        message = wire.decode(mutated)
    except DecodeError:
        return

    assert mutated == wire.encode(message)


def test_most_mutated_messages_are_in_frame() -> None:
    """A receiver can go on behind them; the others lie about their size."""
    data = CORPUS["dma-map-command-full"]
    mutated = [mutate(seeded(number), data, CORPUS["device-reset-command"]) for number in range(500)]
    in_step = sum(in_frame([Packet(each)]) for each in mutated)

    assert 400 < in_step < 500


def test_a_frame_says_the_true_length() -> None:
    """And nothing else changes; bytes that are no header stay as they are."""
    assert CORPUS["device-reset-command"] == framed(CORPUS["header-size-0"])
    assert framed(b"short") == b"short"


def test_sessions_are_mutated_alike_for_one_seed_and_differently_for_another() -> None:
    """What makes a finding repeatable."""
    packets = [Packet(CORPUS["version-command-full"]), Packet(CORPUS["device-get-info-command-empty"])]
    some = [mutate_session(seeded(seed), packets, SPARE) for seed in range(50)]

    assert some == [mutate_session(seeded(seed), packets, SPARE) for seed in range(50)]
    assert len(set(some)) > 40
    assert sum(session[0] == packets[0] for session in some) > 40


@given(st.binary(max_size=200))
def test_fields_of_any_bytes_lie_inside_them(data: bytes) -> None:
    """Wild bytes may be a header that promises anything."""
    for field in fields_of(data):
        assert 0 <= field.offset < field.offset + field.size <= len(data)
        assert data == field.write(data, field.read(data))


@pytest.mark.parametrize(
    ("name", "path", "offset", "kind"),
    [
        ("dma-map-command-full", "Header.message_size", 4, Kind.SIZE),
        ("dma-map-command-full", "DmaMapRequest.argsz", 16, Kind.SIZE),
        ("dma-map-command-full", "DmaMapRequest.flags", 20, Kind.FLAGS),
        ("dma-map-command-full", "DmaMapRequest.address", 32, Kind.NUMBER),
        ("region-write-command-full", "RegionWriteRequest.count", 28, Kind.COUNT),
        ("region-write-multi-command-full", "DeviceWrite.region", 56, Kind.NUMBER),
        ("device-get-region-io-fds-reply-full-stride-40", "IoregionfdSubRegion.type", 92, Kind.CODE),
        ("device-get-region-io-fds-reply-full-stride-48", "ShadowIoeventfdSubRegion.datamatch", 120, Kind.NUMBER),
        ("region-info-two-capabilities", "SparseMmap.nr_areas", 56, Kind.COUNT),
        ("region-info-two-capabilities", "SparseMmapArea.size", 88, Kind.NUMBER),
        ("region-info-two-capabilities", "RegionType.subtype", 108, Kind.NUMBER),
        ("device-feature-dma-logging-start", "DmaLoggingRange.length", 64, Kind.NUMBER),
    ],
)
def test_a_field_is_found(name: str, path: str, offset: int, kind: Kind) -> None:
    """In the header, in the fixed part, in entries, in the chain of capabilities, in the data of a feature."""
    found = {(field.path, field.offset): field.kind for field in fields_of(CORPUS[name])}

    assert kind == found[path, offset]


def test_a_circle_of_capabilities_is_followed_only_so_far() -> None:
    """The chain that points to itself ends."""
    assert len(fields_of(CORPUS["region-info-capability-circle"])) < 100


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_edge_values_fit_and_hold_both_ends(size: int) -> None:
    """0, 1, the largest, and powers of two with what is one below."""
    values = interesting(size)

    assert {0, 1, (1 << 8 * size) - 1, 1 << 8 * size - 1, (1 << 8 * size - 1) - 1} <= set(values)
    assert max(values) < 1 << 8 * size
    assert sorted(set(values)) == list(values)


def test_lies_are_never_the_truth() -> None:
    """And stay inside the field."""
    for truth in (0, 1, 32, (1 << 32) - 1):
        lies = around(truth, 4)

        assert truth not in lies
        assert all(0 <= lie < 1 << 32 for lie in lies)
