"""Crafted messages: right without arguments, and wrong in exactly the way that an argument says."""

import pytest

from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import EncodeError
from vfio_user_proto.messages import Command, DmaMapRequest, HeaderFlags, MessageType, RegionReadRequest

READ = RegionReadRequest(offset=4, region=1, count=8)
RIGHT = wire.build(Command.REGION_READ, READ)


def test_a_crafted_message_is_right_by_default() -> None:
    assert craft(Command.REGION_READ, READ) == RIGHT
    assert craft(Command.DEVICE_RESET) == wire.build(Command.DEVICE_RESET)
    assert craft(Command.REGION_READ, READ, message_id=7, error=3) == wire.build(
        Command.REGION_READ, READ, message_id=7, error=3
    )


def test_no_reply_and_kind_set_their_bits() -> None:
    assert wire.decode(craft(Command.REGION_READ, READ, no_reply=True)).header.flags == HeaderFlags.NO_REPLY
    assert wire.decode(craft(Command.DEVICE_RESET, kind=MessageType.REPLY)).is_reply
    assert int(wire.decode(craft(Command.DEVICE_RESET, kind=3, no_reply=True)).header.flags) == 0x13


def test_flags_replace_all_flags() -> None:
    assert int(wire.decode(craft(Command.DEVICE_RESET, no_reply=True, kind=1, flags=0x80)).header.flags) == 0x80


@pytest.mark.parametrize("size", [0, 15, 17, 0xFFFFFFFF])
def test_message_size_lies_and_changes_nothing_else(size: int) -> None:
    data = craft(Command.REGION_READ, READ, message_size=size)

    assert data[:4] + data[8:] == RIGHT[:4] + RIGHT[8:]
    assert wire.decode_header(data).message_size == size


def test_extra_bytes_are_counted() -> None:
    message = wire.decode(craft(Command.REGION_READ, READ, extra=b"xyz"))

    assert (message.payload, message.trailing, message.header.message_size) == (READ, b"xyz", 35)


@pytest.mark.parametrize(("cut", "length"), [(0, 32), (1, 31), (16, 16), (99, 16)])
def test_cut_takes_bytes_off_the_end_but_never_of_the_header(cut: int, length: int) -> None:
    data = craft(Command.REGION_READ, READ, cut=cut)

    assert data[8:] == RIGHT[8:length]
    assert wire.decode_header(data).message_size == len(data) == length


def test_a_payload_of_bytes_is_sent_as_it_is() -> None:
    assert craft(Command.DMA_MAP, b"abc")[16:] == b"abc"
    assert craft(999, b"")[2:4] == b"\xe7\x03"


def test_a_payload_of_another_command_is_no_obstacle() -> None:
    assert wire.decode_header(craft(Command.DEVICE_RESET, DmaMapRequest())).message_size == 48


def test_what_does_not_fit_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match=r"Header.message_size at byte 4: 4294967296 does not fit"):
        craft(Command.DEVICE_RESET, message_size=1 << 32)
