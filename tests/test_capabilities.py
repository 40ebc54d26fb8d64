"""Version data: the JSON text of VERSION read with care, since a hostile peer may have written it."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto.capabilities import MAX_DEPTH, MAX_TEXT, Capabilities, parse
from vfio_user_proto.errors import DecodeError


def text(capabilities: Any) -> bytes:
    return json.dumps({"capabilities": capabilities}).encode() + b"\0"


def test_no_data_means_the_defaults_of_the_document() -> None:
    defaults = Capabilities()

    assert parse(b"") == parse(b"{}\0") == defaults
    assert (defaults.max_msg_fds, defaults.max_data_xfer_size, defaults.max_dma_maps) == (1, 1048576, 65535)
    assert (defaults.pgsizes, defaults.twin_socket, defaults.write_multiple) == (4096, False, False)


def test_every_capability_is_read() -> None:
    found = parse(
        text(
            {
                "max_msg_fds": 8,
                "max_data_xfer_size": 4096,
                "max_dma_maps": 3,
                "pgsizes": 0x201000,
                "twin_socket": {"supported": True, "fd_index": 2},
                "write_multiple": True,
                "migration": {"pgsize": 4096},
            }
        )
    )

    assert (found.max_msg_fds, found.max_data_xfer_size, found.max_dma_maps, found.pgsizes) == (8, 4096, 3, 0x201000)
    assert (found.twin_socket, found.twin_socket_fd_index, found.write_multiple) == (True, 2, True)
    assert found.unknown == {"migration": {"pgsize": 4096}}
    assert "pgsizes" in found.named
    assert "migration" in found.named


capability_sets = st.builds(
    Capabilities,
    max_msg_fds=st.integers(0, 1 << 16),
    max_data_xfer_size=st.integers(0, (1 << 64) - 1),
    max_dma_maps=st.integers(0, (1 << 64) - 1),
    pgsizes=st.integers(0, (1 << 64) - 1),
    twin_socket=st.booleans(),
    twin_socket_fd_index=st.none() | st.integers(0, 300),
    write_multiple=st.booleans(),
)


@given(capability_sets)
def test_what_is_written_is_read_back(capabilities: Capabilities) -> None:
    found = parse(capabilities.to_data())

    assert {name: getattr(found, name) for name in Capabilities.__slots__ if name != "named"} == {
        name: getattr(capabilities, name) for name in Capabilities.__slots__ if name != "named"
    }
    assert found.named >= {"max_msg_fds", "max_data_xfer_size", "twin_socket", "write_multiple"}


BAD = {
    "no NUL": (b"{}", "version_data at byte 2: no NUL at the end"),
    "two texts": (b"{}\0{}\0", "version_data at byte 3: 3 bytes behind the NUL"),
    "two NULs": (b"{}\0\0", "version_data at byte 3: 1 bytes behind the NUL"),
    "empty text": (b"\0", "version_data at byte 0: not JSON: Expecting value"),
    "NUL inside": (b'{"a\0": 1}\0', "behind the NUL"),
    "not UTF-8": (b'{"a": "\xff"}\0', "version_data at byte 7: not UTF-8"),
    "UTF-8 surrogate": (b'{"a": "\xed\xa0\x80"}\0', "version_data at byte 7: not UTF-8"),
    "BOM": (b"\xef\xbb\xbf{}\0", "not JSON"),
    "cut": (b'{"capabilities": {\0', "version_data at byte 18: not JSON: Expecting property name"),
    "position in bytes": ('{"é": x}'.encode() + b"\0", "version_data at byte 7: not JSON: Expecting value"),
    "list": (b"[]\0", "version_data at byte 0: the JSON text is not an object"),
    "string": (b'"x"\0', "version_data at byte 0: the JSON text is not an object"),
    "null capabilities": (b'{"capabilities": null}\0', "capabilities: not an object"),
    "list capabilities": (text([]), "capabilities: not an object"),
    "twin as boolean": (text({"twin_socket": True}), "capabilities.twin_socket: not an object"),
    "number as text": (text({"max_msg_fds": "8"}), "capabilities.max_msg_fds: '8' is not a whole number"),
    "number as boolean": (text({"max_msg_fds": True}), "capabilities.max_msg_fds: True is not a whole number"),
    "number as null": (text({"pgsizes": None}), "capabilities.pgsizes: None is not a whole number"),
    "fraction": (text({"pgsizes": 1.5}), "capabilities.pgsizes: 1.5 is not a whole number"),
    "negative": (text({"max_dma_maps": -1}), "capabilities.max_dma_maps: -1 is not a whole number from 0 to 2^64-1"),
    "2^64": (text({"max_data_xfer_size": 1 << 64}), "capabilities.max_data_xfer_size: 18446744073709551616 is not"),
    "a large number": (text({"pgsizes": 10**39}), f"capabilities.pgsizes: {10**39} is not"),
    "a number of many digits": (
        b'{"capabilities": {"pgsizes": ' + b"9" * 5000 + b"}}\0",
        "version_data: a number of 5000 digits, at most 40 are accepted",
    ),
    "an exponent": (b'{"capabilities": {"pgsizes": 1e400}}\0', "capabilities.pgsizes: inf is not a whole number"),
    "NaN": (b'{"capabilities": {"pgsizes": NaN}}\0', "not JSON: NaN"),
    "Infinity": (b'{"capabilities": {"x": Infinity}}\0', "not JSON: Infinity"),
    "-Infinity": (b'{"x": -Infinity}\0', "not JSON: -Infinity"),
    "boolean as number": (text({"write_multiple": 1}), "capabilities.write_multiple: 1 is not true or false"),
    "twin as number": (text({"twin_socket": {"supported": 1}}), "capabilities.twin_socket.supported: 1 is not true"),
    "index as text": (text({"twin_socket": {"fd_index": "0"}}), "capabilities.twin_socket.fd_index: '0' is not"),
    "too long": (b" " * MAX_TEXT + b"\0", f"version_data: {MAX_TEXT + 1} bytes, at most {MAX_TEXT} are accepted"),
}


@pytest.mark.parametrize(("data", "problem"), BAD.values(), ids=BAD)
def test_bad_data_is_refused_with_its_place(data: bytes, problem: str) -> None:
    with pytest.raises(DecodeError) as caught:
        parse(data)
    assert problem in str(caught.value)


def nested(depth: int, opening: str = "[", closing: str = "]") -> bytes:
    return b'{"x": ' + (opening * depth).encode() + b"0" + (closing * depth).encode() + b"}\0"


BOMBS = {
    "lists": nested(30_000),
    "objects": nested(8_000, '{"a":', "}"),
    "hidden behind closing brackets in a text": b'{"y": "' + b"]" * 30_000 + b'", "x": ' + b"[" * 30_000 + b"\0",
    "hidden behind an escaped quote": b'{"y": "\\"' + b"}" * 30_000 + b'", "x": ' + b"[" * 30_000 + b"\0",
    "never closed": b"[" * 60_000 + b"\0",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_deep_nesting_is_refused_before_it_is_parsed(bomb: bytes) -> None:
    """No RecursionError, whatever the text holds to confuse the count."""
    with pytest.raises(DecodeError, match="at most 16 is accepted"):
        parse(bomb)


def test_the_limit_of_nesting_is_exact() -> None:
    assert parse(nested(MAX_DEPTH - 1)) == Capabilities()
    with pytest.raises(DecodeError, match=f"nested {MAX_DEPTH + 1} deep"):
        parse(nested(MAX_DEPTH))


def test_brackets_inside_texts_do_not_count() -> None:
    assert parse(text({"name": "[" * 100 + '"{'})).unknown == {"name": "[" * 100 + '"{'}


@pytest.mark.parametrize("piece", [b'\\"', b'"', b"\\", b'"\\', b"[]", b'{"a":'])
def test_hostile_texts_take_time_in_proportion(piece: bytes) -> None:
    """The longest text of each pattern is judged in far less than a second of processor time."""
    before = time.process_time()
    with pytest.raises(DecodeError):
        parse(piece * (MAX_TEXT // len(piece) - 1) + b"\0")

    assert time.process_time() - before < 1


def test_the_last_of_two_equal_names_counts() -> None:
    assert parse(b'{"capabilities": {"max_msg_fds": 2, "max_msg_fds": 3}}\0').max_msg_fds == 3


def test_a_lone_surrogate_stays_harmless() -> None:
    found = parse(b'{"capabilities": {"\\ud800": "\\udfff"}}\0')

    assert list(found.unknown) == ["\ud800"]
    assert b"\\ud800" in found.to_data()


@given(st.binary(max_size=200))
def test_any_bytes_are_capabilities_or_a_decode_error(data: bytes) -> None:
    offset = None
    try:
        parse(data)
    except DecodeError as error:
        offset = error.offset

    assert offset is None or 0 <= offset <= len(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["max_msg_fds", "max_data_xfer_size", "pgsizes", "twin_socket", "write_multiple", "other"]),
        json_values,
    )
)
def test_any_json_is_capabilities_or_a_decode_error(content: dict[str, Any]) -> None:
    data = text(content)
    try:
        found = parse(data)
    except DecodeError:
        return

    assert 0 <= found.max_msg_fds < 1 << 64
    assert parse(found.to_data()).max_msg_fds == found.max_msg_fds
