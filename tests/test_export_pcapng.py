"""Capture files: blocks of whole words that say their own length, and packets with their sender, time and true size."""

import struct

from capture_files import blocks, packets

from vfio_user_proto.export.pcapng import LINKTYPE_USER0, LONGEST, Packet, write


def test_a_file_begins_with_a_section_and_one_interface() -> None:
    """In the byte order of the host, of the link type for which the dissector registers."""
    (section, head), (interface, link) = blocks(write([]))

    assert (section, struct.unpack("=IHHq", head)) == (0x0A0D0D0A, (0x1A2B3C4D, 1, 0, -1))
    assert (interface, struct.unpack("=HHI", link)) == (1, (LINKTYPE_USER0, 0, LONGEST))


def test_a_packet_has_its_sender_descriptors_socket_time_and_direction() -> None:
    """Four bytes before the message; a number of descriptors that does not fit is the highest that does."""
    first, second = packets(
        write([Packet(b"abcde", True, 1_700_000_000.000_001, 2, 259), Packet(b"", False, descriptors=1000)])
    )

    assert first == (1_700_000_000_000_001, 9, b"\0\x02\x01\x03abcde", {2: struct.pack("=I", 1), 0: b""})
    assert second == (0, 4, b"\x01\xff\0\0", {2: struct.pack("=I", 2), 0: b""})


def test_a_long_message_is_cut_and_says_its_true_size() -> None:
    """Wireshark refuses a whole file for one packet that is too long."""
    ((_, size, data, _),) = packets(write([Packet(bytes(1 << 20), True)]))

    assert (size, len(data)) == (4 + (1 << 20), LONGEST)
