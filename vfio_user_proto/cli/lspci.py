"""A PCI configuration space as a person reads it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

# Base classes, and the ids of capabilities, as PCI numbers them.
_CLASSES: Final = {
    0x00: "unclassified", 0x01: "mass storage", 0x02: "network", 0x03: "display", 0x04: "multimedia", 0x05: "memory",
    0x06: "bridge", 0x07: "communication", 0x08: "system peripheral", 0x09: "input", 0x0A: "docking station",
    0x0B: "processor", 0x0C: "serial bus", 0x0D: "wireless", 0x0E: "intelligent", 0x0F: "satellite", 0x10: "encryption",
    0x11: "signal processing", 0x12: "accelerator", 0xFF: "unassigned",
}  # fmt: skip
_CAPABILITIES: Final = {
    0x01: "power management", 0x02: "AGP", 0x03: "VPD", 0x04: "slot id", 0x05: "MSI", 0x06: "hot swap", 0x07: "PCI-X",
    0x08: "HyperTransport", 0x09: "vendor specific", 0x0A: "debug port", 0x0D: "bridge subsystem", 0x10: "PCI Express",
    0x11: "MSI-X", 0x12: "SATA", 0x13: "advanced features", 0x14: "enhanced allocation",
}  # fmt: skip
_HEADER: Final = 64
_STATUS_CAPABILITIES: Final = 0x10
_MSIX: Final = 0x11


def decode(config: bytes) -> dict[str, Any]:
    """The fields of a configuration space of at least 64 bytes, for programs; empty for less."""
    if len(config) < _HEADER:
        return {}
    return {
        "vendor": _word(config, 0),
        "device": _word(config, 2),
        "command": _word(config, 4),
        "status": _word(config, 6),
        "revision": config[8],
        "class": int.from_bytes(config[9:12], "little"),
        "header_type": config[14],
        "subsystem_vendor": _word(config, 0x2C),
        "subsystem": _word(config, 0x2E),
        "interrupt_line": config[0x3C],
        "interrupt_pin": config[0x3D],
        "bars": list(_bars(config)),
        "capabilities": list(_capabilities(config)),
    }


def lines(config: bytes, sizes: Sequence[int]) -> Iterator[str]:
    """The same for people; ``sizes`` are those of the regions BAR0 to BAR5, in bytes."""
    found = decode(config)
    if not found:
        return
    base = _CLASSES.get(found["class"] >> 16, "unknown class")
    yield f"{found['vendor']:04x}:{found['device']:04x}, class {found['class']:06x} ({base}), revision {found['revision']:02x}"
    yield f"subsystem {found['subsystem_vendor']:04x}:{found['subsystem']:04x}"
    if found["interrupt_pin"]:
        yield f"interrupt pin {'?ABCD'[found['interrupt_pin']] if found['interrupt_pin'] < 5 else '?'}"
    for bar in found["bars"]:
        size = sizes[bar["index"]] if bar["index"] < len(sizes) else 0
        if bar["address"] or size:
            yield f"BAR{bar['index']}: {bar['kind']} at {bar['address']:#x}, {size} bytes"
    for capability in found["capabilities"]:
        more = f", {capability['vectors']} vectors" if "vectors" in capability else ""
        yield f"capability at {capability['offset']:#04x}: {capability['name']} ({capability['id']:#04x}){more}"


def _bars(config: bytes) -> Iterator[dict[str, Any]]:
    """The base address registers; the second half of a 64-bit one is part of it."""
    if config[14] & 0x7F:
        return
    index = 0
    while index < 6:
        value = int.from_bytes(config[0x10 + 4 * index : 0x14 + 4 * index], "little")
        step, kind, address = 1, "I/O", value & ~3
        if not value & 1:
            kind, address = "32-bit memory", value & ~15
            if value & 6 == 4 and index < 5:
                step, kind = 2, "64-bit memory"
                address |= int.from_bytes(config[0x14 + 4 * index : 0x18 + 4 * index], "little") << 32
            if value & 8:
                kind += ", prefetchable"
        yield {"index": index, "kind": kind, "address": address}
        index += step


def _capabilities(config: bytes) -> Iterator[dict[str, Any]]:
    """The list of capabilities, as far as it leads to places that it has not been to."""
    at = config[0x34] & ~3 if _word(config, 6) & _STATUS_CAPABILITIES else 0
    seen = set()
    while _HEADER <= at <= len(config) - 2 and at not in seen:
        seen.add(at)
        ident = config[at]
        found = {"offset": at, "id": ident, "name": _CAPABILITIES.get(ident, "unknown")}
        if ident == _MSIX and at + 4 <= len(config):
            found["vectors"] = (_word(config, at + 2) & 0x7FF) + 1
        yield found
        at = config[at + 1] & ~3


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")
