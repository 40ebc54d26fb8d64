"""The protocol in the languages of others, each written from ``messages`` alone: the same tables give the same bytes."""

from collections.abc import Callable, Mapping
from typing import Final

from vfio_user_proto.export import c_header, json_document, kaitai, rust, wireshark

# What ``vfio-user spec export --format`` takes; each returns the whole text of a file.
FORMATS: Final[Mapping[str, Callable[[], str]]] = {
    "c": c_header.text,
    "wireshark": wireshark.text,
    "json": json_document.text,
    "rust": rust.text,
    "kaitai": kaitai.text,
}
