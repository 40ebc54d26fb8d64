"""The version data of VFIO_USER_VERSION: JSON text to checked capabilities and back (section VFIO_USER_VERSION)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vfio_user_proto.errors import DecodeError

# No text of ours reaches 1 KiB, and no known peer's does; what is longer or deeper is an attack or a mistake.
MAX_TEXT: Final = 65536
MAX_DEPTH: Final = 16
MAX_DIGITS: Final = 40


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one side offers, with the defaults that the document gives for what it leaves out.

    ``pgsizes`` is a mask of page sizes in bytes, ``max_data_xfer_size`` a number of bytes. ``named`` holds the names that
    were really there, ``unknown`` the ones that the document lacks.
    """

    max_msg_fds: int = 1
    max_data_xfer_size: int = 1048576
    max_dma_maps: int = 65535
    pgsizes: int = 4096
    twin_socket: bool = False
    twin_socket_fd_index: int | None = None
    write_multiple: bool = False
    named: frozenset[str] = frozenset()
    unknown: Mapping[str, Any] = field(default_factory=dict)

    def to_data(self, only: Collection[str] | None = None) -> bytes:
        """The version data that says just this, in UTF-8 with the closing NUL: every capability, or those in ``only``."""
        content: dict[str, Any] = {
            "max_msg_fds": self.max_msg_fds,
            "max_data_xfer_size": self.max_data_xfer_size,
            "max_dma_maps": self.max_dma_maps,
            "pgsizes": self.pgsizes,
            "write_multiple": self.write_multiple,
            "twin_socket": {"supported": self.twin_socket},
            **self.unknown,
        }
        if self.twin_socket_fd_index is not None:
            content["twin_socket"]["fd_index"] = self.twin_socket_fd_index
        if only is not None:
            content = {name: value for name, value in content.items() if name in only}
        return json.dumps({"capabilities": content}).encode() + b"\0"


def parse(data: bytes) -> Capabilities:
    """Read version data; none at all gives the defaults.

    Raises DecodeError with the JSON path for text that is too long, not terminated, not UTF-8, not JSON, or holds a value of
    the wrong type or range.
    """
    if not data:
        return Capabilities()
    if len(data) > MAX_TEXT:
        raise DecodeError("version_data", f"{len(data)} bytes, at most {MAX_TEXT} are accepted")
    text, nul, rest = data.partition(b"\0")
    if not nul:
        raise DecodeError("version_data", "no NUL at the end", len(data))
    if rest:
        raise DecodeError("version_data", f"{len(rest)} bytes behind the NUL", len(text) + 1)
    content = load(text)
    if not isinstance(content, dict):
        raise DecodeError("version_data", "the JSON text is not an object", 0)
    offered = content.get("capabilities", {})
    if not isinstance(offered, dict):
        raise DecodeError("capabilities", "not an object")
    twin = offered.get("twin_socket", {})
    if not isinstance(twin, dict):
        raise DecodeError("capabilities.twin_socket", "not an object")
    known = {"max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "twin_socket", "write_multiple"}
    return Capabilities(
        max_msg_fds=_number(offered, "max_msg_fds", 1),
        max_data_xfer_size=_number(offered, "max_data_xfer_size", 1048576),
        max_dma_maps=_number(offered, "max_dma_maps", 65535),
        pgsizes=_number(offered, "pgsizes", 4096),
        twin_socket=_boolean(twin, "supported", "capabilities.twin_socket"),
        twin_socket_fd_index=_number(twin, "fd_index", 0, "capabilities.twin_socket") if "fd_index" in twin else None,
        write_multiple=_boolean(offered, "write_multiple"),
        named=frozenset(offered),
        unknown={name: value for name, value in offered.items() if name not in known},
    )


def load(text: bytes) -> Any:
    """The JSON value in version data whose NUL was taken off. Raises DecodeError as ``parse`` does."""
    deepest = _depth(text)
    if deepest > MAX_DEPTH:
        raise DecodeError("version_data", f"nested {deepest} deep, at most {MAX_DEPTH} is accepted", 0)
    try:
        content = text.decode()
    except UnicodeDecodeError as error:
        raise DecodeError("version_data", "not UTF-8", error.start) from None
    try:
        return json.loads(content, parse_int=_whole, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise DecodeError("version_data", f"not JSON: {error.msg}", len(content[: error.pos].encode())) from None


def _depth(text: bytes) -> int:
    """How deep lists and objects stand in one another; brackets inside texts do not count."""
    depth = deepest = 0
    quoted = escaped = False
    for byte in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = byte == 0x5C, byte != 0x22
        elif byte == 0x22:
            quoted = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise DecodeError("version_data", f"a number of {len(digits)} digits, at most {MAX_DIGITS} are accepted")
    return int(digits)


def _refuse(constant: str) -> None:
    raise DecodeError("version_data", f"not JSON: {constant}")


def _number(values: Mapping[str, Any], name: str, default: int, inside: str = "capabilities") -> int:
    value = values.get(name, default)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise DecodeError(f"{inside}.{name}", f"{value!r:.40} is not a whole number from 0 to 2^64-1")
    return value


def _boolean(values: Mapping[str, Any], name: str, inside: str = "capabilities") -> bool:
    value = values.get(name, False)
    if type(value) is not bool:
        raise DecodeError(f"{inside}.{name}", f"{value!r:.40} is not true or false")
    return value
