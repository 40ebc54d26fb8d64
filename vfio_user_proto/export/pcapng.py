"""Messages as a capture file for Wireshark: pcapng with one packet per message.

The link type is USER0, for which the dissector of ``vfio-user spec export --format wireshark`` registers itself. A packet
is a message from its first byte to its last, as a proxy between client and server sees it, behind 4 bytes of our own: the
sender (0 client, 1 server), the number of descriptors that came along (255 for more), and the number of the socket, as two
bytes, the higher one first. Each connection has a socket number, and so has the second socket of twin-socket mode. The
packet's own flags tell the direction as the server sees it: inbound is from the client.
"""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

LINKTYPE_USER0: Final = 147
# What Wireshark reads of one packet; a longer message stands in the file with its true size and its beginning.
LONGEST: Final = 262144
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
# What each file begins with.
MAGIC: Final = _SECTION.to_bytes(4, "little")
_END, _FLAGS = 0, 2
_INBOUND, _OUTBOUND = 1, 2


class Packet(NamedTuple):
    """One message: its bytes, its sender, seconds since the epoch, how many descriptors came along, and on which socket."""

    data: bytes
    from_client: bool
    seconds: float = 0.0
    descriptors: int = 0
    socket: int = 0


def write(packets: Iterable[Packet]) -> bytes:
    """The bytes of a capture file; its own integers, like those of the messages, have the byte order of the host."""
    return head() + b"".join(map(block_of, packets))


def head() -> bytes:
    """What a file begins with."""
    section = _block(_SECTION, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1))
    return section + _block(_INTERFACE, struct.pack("=HHI", LINKTYPE_USER0, 0, LONGEST))


def block_of(packet: Packet) -> bytes:
    """What a file goes on with, packet by packet."""
    return _block(_PACKET, _packet(packet))


def _packet(packet: Packet) -> bytes:
    whole = struct.pack(">BBH", not packet.from_client, min(packet.descriptors, 255), packet.socket) + packet.data
    microseconds, data = round(packet.seconds * 1_000_000), whole[:LONGEST]
    return (
        struct.pack("=IIIII", 0, microseconds >> 32, microseconds & 0xFFFFFFFF, len(data), len(whole))
        + _padded(data)
        + _option(_FLAGS, struct.pack("=I", _INBOUND if packet.from_client else _OUTBOUND))
        + _option(_END, b"")
    )


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + size + body + size


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("=HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    """``data`` filled up to a multiple of 4 bytes."""
    return data + bytes(-len(data) % 4)
