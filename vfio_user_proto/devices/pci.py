"""PCI as devices need it: indexes of regions and interrupt kinds, and a configuration space with its capabilities."""

from collections.abc import Mapping, Sequence
from typing import Final

# Regions and kinds of interrupts of a PCI device (linux/vfio.h numbers them so).
BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, ROM, CONFIG, VGA = range(9)
INTX, MSI, MSIX, ERR, REQ = range(5)

_STATUS_CAPABILITIES: Final = 0x10
_FIRST_CAPABILITY: Final = 0x40


class ConfigSpace:
    """256 bytes of configuration space; only what a driver may set changes when it is written.

    ``bars`` maps the number of a memory BAR to its size, a power of two of at least 16 bytes: writing all ones to it and
    reading it back tells the size. ``capabilities`` are (id, body, mask) each: the bytes behind the two of the header, and
    which of their bits can be written.
    """

    size: Final = 256

    def __init__(
        self,
        *,
        vendor: int,
        device: int,
        class_code: int,
        bars: Mapping[int, int],
        interrupt_pin: int = 0,
        capabilities: Sequence[tuple[int, bytes, bytes]] = (),
    ) -> None:
        start, mask = bytearray(self.size), bytearray(self.size)
        start[0:2], start[2:4] = vendor.to_bytes(2, "little"), device.to_bytes(2, "little")
        start[9:12] = class_code.to_bytes(3, "little")
        start[0x2C:0x30] = start[0:4]
        start[0x3D] = interrupt_pin
        mask[4:6] = b"\x07\x05"  # command: I/O, memory, bus master, SERR, INTx disable
        mask[0x0C], mask[0x3C] = 0xFF, 0xFF  # cache line size, interrupt line
        for bar, size in bars.items():
            mask[0x10 + 4 * bar : 0x14 + 4 * bar] = (-size & 0xFFFFFFF0).to_bytes(4, "little")
        link, place = 0x34, _FIRST_CAPABILITY
        for ident, body, body_mask in capabilities:
            start[6] |= _STATUS_CAPABILITIES
            start[link], link = place, place + 1
            start[place], start[place + 2 : place + 2 + len(body)] = ident, body
            mask[place + 2 : place + 2 + len(body)] = body_mask
            place += (2 + len(body) + 3) & ~3
        self._start, self._mask = bytes(start), bytes(mask)
        self._now = bytearray(start)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on."""
        return bytes(self._now[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Change the writable bits of the bytes from ``offset`` on."""
        for at, byte in enumerate(data, offset):
            mask = self._mask[at]
            self._now[at] = (self._now[at] & ~mask) | (byte & mask)

    def reset(self) -> None:
        """Every byte as at the start."""
        self._now[:] = self._start


def msix(count: int, *, bar: int, table: int, pending: int) -> tuple[int, bytes, bytes]:
    """The MSI-X capability of ``count`` vectors, whose table and pending bits stand at these offsets of a BAR."""
    body = (
        (count - 1).to_bytes(2, "little") + (table | bar).to_bytes(4, "little") + (pending | bar).to_bytes(4, "little")
    )
    return 0x11, body, b"\x00\xc0" + bytes(8)
