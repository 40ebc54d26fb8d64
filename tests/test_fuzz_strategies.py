"""Recipes for values: what they make is what the schemas allow, and wrong arguments are refused."""

from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from vfio_user_fuzz import strategies
from vfio_user_proto import messages, wire
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapFlags, IoFdType
from vfio_user_proto.model import Bits, Record

RECORDS = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Record) and value is not Record
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_any_record_survives_encoding_and_decoding(record: type[Record], data: st.DataObject) -> None:
    """By plan and by construct, with bits and codes that nobody declared too."""
    value = data.draw(strategies.records(record))
    encoded = wire.encode_record(value)

    assert (value, b"") == wire.decode_record(record, encoded)
    assert encoded == record.schema.build(value.as_dict())
    assert value == record.from_container(record.schema.parse(encoded))
    assert len(encoded) == value.wire_size


@given(strategies.messages())
def test_any_message_survives_encoding_and_decoding(message: wire.Message) -> None:
    """Commands, replies and error replies, of known and unknown numbers, with bytes behind the payload."""
    assert message == wire.decode(wire.encode(message))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
@settings(max_examples=10)
@given(data=st.data())
def test_without_unknown_every_bit_is_declared(record: type[Record], data: st.DataObject) -> None:
    """``unknown=False`` keeps to the tables."""
    value = data.draw(strategies.records(record, unknown=False))

    for content in value.as_dict().values():
        if isinstance(content, Bits):
            assert not int(content) & ~sum_of(type(content))


def sum_of(bits: type[Bits]) -> int:
    """All declared bits of one field."""
    total = 0
    for member in bits.__members__.values():
        total |= int(member)
    return total


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        (strategies.numbers(size=4), lambda value: value == (1 << 32) - 1),
        (strategies.numbers(size=8), lambda value: value == 4096),
        (strategies.flags(DmaMapFlags, size=4), lambda value: value & ~sum_of(DmaMapFlags)),
        (strategies.codes(IoFdType, size=4), lambda value: value > max(IoFdType)),
        (
            strategies.commands(),
            lambda message: message.payload is None and message.header.command not in list(Command),
        ),
        (strategies.commands(command=Command.REGION_WRITE), lambda message: message.trailing and message.payload.data),
        (strategies.replies(), lambda message: message.is_error and message.header.error),
        (
            strategies.replies(command=Command.DEVICE_GET_REGION_IO_FDS),
            lambda message: message.payload and any(isinstance(part, Record) for part in message.payload.sub_regions),
        ),
        (strategies.packets(), lambda packets: any(packet.fds for packet in packets) and len(packets) > 2),
    ],
)
def test_a_recipe_reaches(recipe: SearchStrategy[Any], wanted: Any) -> None:
    """The values that matter are found, not merely possible."""
    find(recipe, wanted, settings=settings(phases=[Phase.generate], max_examples=1000, database=None, derandomize=True))


@pytest.mark.parametrize(
    "recipe",
    [
        lambda: strategies.numbers(size=0),
        lambda: strategies.numbers(size=9),
        lambda: strategies.flags(int, size=4),  # type: ignore[arg-type]
        lambda: strategies.codes(DmaMapFlags, size=4),  # type: ignore[arg-type]
        lambda: strategies.records(Record),
        lambda: strategies.records(DeviceGetInfoRequest(), max_bytes=1),  # type: ignore[arg-type]
        lambda: strategies.records(DeviceGetInfoRequest, max_bytes=-1),
        lambda: strategies.records(DeviceGetInfoRequest, max_parts=0.5),  # type: ignore[arg-type]
        lambda: strategies.commands(command=1 << 16),
        lambda: strategies.descriptors(kinds=["floppy"]),
        lambda: strategies.packets(max_fds=-1),
    ],
)
def test_wrong_arguments_are_refused(recipe: Any) -> None:
    """At once, not when the first value is drawn."""
    with pytest.raises(InvalidArgument):
        recipe()
