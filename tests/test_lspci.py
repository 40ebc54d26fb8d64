"""Configuration spaces as a person reads them, right ones and hostile ones."""

import pytest

from vfio_user_proto.cli import lspci


def config(**changes: bytes) -> bytes:
    """A configuration space with bytes replaced: ``at_<hexadecimal offset>``."""
    space = bytearray(256)
    for place, data in changes.items():
        at = int(place.removeprefix("at_"), 16)
        space[at : at + len(data)] = data
    return bytes(space)


def test_a_configuration_space_is_decoded() -> None:
    space = config(
        at_0=bytes.fromhex("8680 1015"),
        at_6=b"\x10\0",
        at_8=b"\3\2\1\0",
        at_10=bytes.fromhex("0c00f0fe 01000000 01c00000 00000080"),
        at_34=b"\x50",
        at_3d=b"\2",
        at_50=bytes.fromhex("1160 0380 00200000 00300000"),
        at_60=bytes.fromhex("05f0"),
    )

    assert list(lspci.lines(space, [1 << 14, 0, 32, 4096, 0, 0])) == [
        "8086:1510, class 000102 (unclassified), revision 03",
        "subsystem 0000:0000",
        "interrupt pin B",
        "BAR0: 64-bit memory, prefetchable at 0x1fef00000, 16384 bytes",
        "BAR2: I/O at 0xc000, 32 bytes",
        "BAR3: 32-bit memory at 0x80000000, 4096 bytes",
        "capability at 0x50: MSI-X (0x11), 4 vectors",
        "capability at 0x60: MSI (0x05)",
        "capability at 0xf0: unknown (0x00)",
    ]


@pytest.mark.parametrize(
    ("space", "offsets"),
    [
        (config(at_6=b"\x10", at_34=b"\x40", at_40=b"\1\x40"), [0x40]),
        (config(at_6=b"\x10", at_34=b"\x40", at_40=b"\1\x50", at_50=b"\1\x43"), [0x40, 0x50]),
        (config(at_6=b"\x10", at_34=b"\x10"), []),
        (config(at_34=b"\x40", at_40=b"\1"), []),
        (config(at_6=b"\x10", at_34=b"\xfc", at_fc=b"\x11\0\3\0"), [0xFC]),
        (config(at_6=b"\x10", at_34=b"\x40")[:65], []),
    ],
    ids=["into itself", "a circle", "into the header", "without the status bit", "at the end", "cut"],
)
def test_a_list_of_capabilities_ends(space: bytes, offsets: list[int]) -> None:
    assert [each["offset"] for each in lspci.decode(space)["capabilities"]] == offsets


def test_less_than_a_header_is_nothing() -> None:
    assert lspci.decode(bytes(63)) == {}
    assert list(lspci.lines(bytes(63), [])) == []


def test_a_bridge_has_no_such_registers() -> None:
    assert lspci.decode(config(at_e=b"\x81", at_10=b"\xff" * 24))["bars"] == []
