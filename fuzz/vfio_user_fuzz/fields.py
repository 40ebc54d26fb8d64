"""Where the numbers of a message stand in its bytes, for mutations that know what they change."""

from collections.abc import Iterator, Mapping
from enum import Enum
from sys import byteorder
from typing import Final, NamedTuple

from vfio_user_proto.messages import (
    FEATURES,
    REGION_CAPABILITIES,
    REPLIES,
    REQUESTS,
    CapabilityHeader,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    Header,
    HeaderFlags,
    MessageType,
)
from vfio_user_proto.model import Flags, Many, Record, Row, Strided

# A chain of capabilities is followed this far: in wild bytes it may be a circle.
_HOPS: Final = 8
_TABLES: Final[Mapping[int, Mapping[int, type[Record] | None]]] = {
    MessageType.COMMAND: REQUESTS,
    MessageType.REPLY: REPLIES,
}


class Kind(Enum):
    """What a number means, as far as a mutation cares."""

    SIZE = "the size of a message or a record in bytes"
    COUNT = "how many bytes or records follow"
    FLAGS = "flag bits"
    CODE = "a number from a table"
    NUMBER = "any other number"


class Field(NamedTuple):
    """One number in a message: ``offset`` and ``size`` in bytes; ``declared`` holds its known flag bits or codes."""

    path: str
    offset: int
    size: int
    kind: Kind
    declared: tuple[int, ...] = ()

    def read(self, data: bytes) -> int:
        """The value that the field has in ``data``."""
        return int.from_bytes(data[self.offset : self.offset + self.size], byteorder)

    def write(self, data: bytes, value: int) -> bytes:
        """``data`` with ``value`` in the field."""
        return data[: self.offset] + value.to_bytes(self.size, byteorder) + data[self.offset + self.size :]


def fields_of(data: bytes) -> tuple[Field, ...]:
    """Every number of the message ``data`` that is there in whole, in the order of the bytes; any bytes will do."""
    fields = _fixed(Header, data, 0)
    if len(data) < Header.fixed_size:
        return tuple(fields)
    by_name = {field.path: field for field in fields}
    kind = by_name["Header.flags"].read(data) & int(HeaderFlags.TYPE)
    record = _TABLES.get(kind, {}).get(by_name["Header.command"].read(data))
    if record is not None:
        fields += _fields(record, data, Header.fixed_size)
    return tuple(fields)


def _fields(record: type[Record], data: bytes, at: int) -> list[Field]:
    """The numbers of one record that begins at byte ``at``, and of the records inside it."""
    fields = _fixed(record, data, at)
    tail_at = at + record.fixed_size
    if record.tail is None or tail_at > len(data):
        return fields
    values = {field.path.partition(".")[2]: field.read(data) for field in fields}
    for part, place in _parts(record, record.rows[record.tail], values, data, tail_at):
        fields += _fields(part, data, place)
    return fields


def _fixed(record: type[Record], data: bytes, at: int) -> list[Field]:
    return [
        Field(f"{record.__name__}.{key}", at + row.offset, size, *_meaning(record, key, row))
        for key, row in record.rows.items()
        if (size := row.fixed_size) is not None and at + row.offset + size <= len(data)
    ]


def _meaning(record: type[Record], key: str, row: Row) -> tuple[Kind, tuple[int, ...]]:
    if row.measures or (record, key) == (Header, "message_size"):
        return Kind.SIZE, ()
    if row.counts:
        return Kind.COUNT, ()
    if isinstance(row.holds, Flags):
        return Kind.FLAGS, tuple(int(bits) for bits in row.holds.bits.__members__.values())
    if row.codes is not None:
        return Kind.CODE, tuple(int(code) for code in row.codes)
    return Kind.NUMBER, ()


def _parts(
    record: type[Record], tail: Row, values: Mapping[str, int], data: bytes, at: int
) -> Iterator[tuple[type[Record], int]]:
    """The records inside the open field that begins at byte ``at``, each with the byte where it begins."""
    holds = tail.holds
    if isinstance(holds, Many):
        for place in range(at, len(data) - holds.record.fixed_size + 1, holds.record.fixed_size):
            yield holds.record, place
    elif isinstance(holds, Strided):
        counter = next(key for key, row in record.rows.items() if row.counts == record.tail)
        if 0 < values[counter] <= len(data) - at:
            place = at
            for kind, entry in holds.split(data[at:], values[counter]):
                if kind is not None:
                    yield kind, place
                place += len(entry)
    elif record is DeviceFeatureRequest:
        feature = FEATURES.get(values["flags"] & DeviceFeatureFlags.INDEX)
        if feature is not None:
            yield feature, at
    elif record is DeviceGetRegionInfoReply:
        yield from _chain(data, at - record.fixed_size, values["cap_offset"])


def _chain(data: bytes, start: int, first: int) -> Iterator[tuple[type[Record], int]]:
    """The capabilities of a region: ``first`` and each ``next`` count from the byte ``start`` of the reply's payload."""
    following = first
    for _ in range(_HOPS):
        place = start + following
        if not following or place + CapabilityHeader.fixed_size > len(data):
            return
        yield CapabilityHeader, place
        kind, _version, following = (field.read(data) for field in _fixed(CapabilityHeader, data, place))
        if kind in REGION_CAPABILITIES:
            yield REGION_CAPABILITIES[kind], place + CapabilityHeader.fixed_size
