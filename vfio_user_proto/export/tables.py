"""What every export is written from: the tables of ``messages``, in the order of the document, read into plain values."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeVar

import construct

from vfio_user_proto import messages
from vfio_user_proto.messages import (
    FEATURES,
    REGION_CAPABILITIES,
    REPLIES,
    REQUESTS,
    CapabilityHeader,
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    HeaderFlags,
    MessageType,
    VersionRequest,
)
from vfio_user_proto.model import Bits, Codes, Flags, JsonTable, Many, Named, Record, Row, Strided

T = TypeVar("T")

# Names that are the same in every file, so that they can be used without telling where they come from.
GLOBAL_NAME: Final = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
# What the document writes in place of a name, for an array whose first entry stands in the same table.
DOTS: Final = "..."
# What the bits of a mask count. The tables of bits do not say it.
MASKS: Final[Mapping[tuple[type[Bits], str], type[Codes]]] = {
    (HeaderFlags, HeaderFlags.TYPE.name): MessageType,
    (DeviceFeatureFlags, DeviceFeatureFlags.INDEX.name): DeviceFeature,
}


@dataclass(frozen=True, slots=True)
class Chain:
    """Records linked by offsets from the start of the payload: ``start`` names the field with the first, 0 for none.

    Each is a ``header`` whose field ``selector`` tells which of ``records`` follows it and whose field ``next`` leads on.
    """

    start: str
    header: type[Record]
    selector: str
    next: str
    records: Mapping[int, type[Record]]


@dataclass(frozen=True, slots=True)
class Choice:
    """One record, chosen by the number in the bits ``member`` of ``field``, whose bits are ``flags``; nothing is legal too."""

    field: str
    flags: type[Bits]
    member: str
    records: Mapping[int, type[Record]]


@dataclass(frozen=True, slots=True)
class Json:
    """One JSON text in UTF-8 with a NUL behind it, or nothing."""


Contents = Chain | Choice | Json
# What the open last field of a record holds, where its table only says that it is variable.
CONTENTS: Final[Mapping[type[Record], Contents]] = {
    VersionRequest: Json(),
    DeviceGetRegionInfoReply: Chain("cap_offset", CapabilityHeader, "id", "next", REGION_CAPABILITIES),
    DeviceFeatureRequest: Choice("flags", DeviceFeatureFlags, DeviceFeatureFlags.INDEX.name, FEATURES),
}


@dataclass(frozen=True, slots=True)
class Bit:
    """One row of a table of flags: ``width`` bits from bit ``low`` on; ``codes`` names the values of a mask."""

    name: str
    label: str
    constant: str
    low: int
    width: int
    codes: type[Codes] | None

    @property
    def mask(self) -> int:
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record.

    ``size`` is in bytes, None for the open last field. An integer has perhaps ``bits`` or ``codes``; ``raw`` marks one that is
    bytes. An open field takes ``length`` bytes or entries (an expression over the fields before; None: to the end), which are
    bytes or records of one kind (``record``) or of kinds told by size and type (``strided``), and has perhaps ``contents``.
    """

    name: str
    label: str
    offset: int
    size: int | None
    row: Row
    raw: bool = False
    bits: type[Bits] | None = None
    codes: type[Codes] | None = None
    length: object = None
    record: type[Record] | None = None
    strided: Strided | None = None
    contents: Contents | None = None


def fields(record: type[Record]) -> tuple[Field, ...]:
    """The fields of ``record`` in the order of its table."""
    return tuple(_field(record, key, row) for key, row in record.rows.items())


def _field(record: type[Record], key: str, row: Row) -> Field:
    holds, label = row.holds, key if row.label in ("", DOTS) else row.label
    if isinstance(holds, Flags):
        return Field(key, label, row.offset, row.fixed_size, row, bits=holds.bits)
    if isinstance(holds, construct.FormatField):
        return Field(key, label, row.offset, row.fixed_size, row, codes=row.codes)
    if isinstance(holds, construct.Bytes):
        return Field(key, label, row.offset, row.fixed_size, row, raw=True, length=holds.length)
    if holds is construct.GreedyBytes:
        return Field(key, label, row.offset, None, row, raw=True, contents=CONTENTS.get(record))
    if isinstance(holds, Many):
        return Field(key, label, row.offset, None, row, length=holds.subcon.count, record=holds.record)
    if isinstance(holds, Strided):
        return Field(key, label, row.offset, None, row, length=holds.count, strided=holds)
    raise TypeError(f"{record.__name__}.{key}: no export knows {type(holds).__name__}")


def expression(value: object, write: Callable[[str], str]) -> str:
    """The text of a construct expression (``this.argsz - 16``) with each field as ``write`` puts it."""
    return re.sub(r"this\['(\w+)'\]", lambda match: write(match[1]), repr(value))


def bits(flags: type[Bits]) -> tuple[Bit, ...]:
    """The rows of a table of flags, lowest bit first."""
    return tuple(
        Bit(
            name,
            member.document_name,
            constant(member, name),
            (member & -member).bit_length() - 1,
            member.bit_count(),
            MASKS.get((flags, name)),
        )
        for name, member in sorted(flags.__members__.items(), key=lambda item: int(item[1]))
    )


def undefined(flags: type[Bits], size: int) -> int:
    """The bits of a field of ``size`` bytes that no row names."""
    return (1 << 8 * size) - 1 & ~sum(bit.mask for bit in bits(flags))


def snake(name: str) -> str:
    """``DeviceGetInfoReply`` as ``device_get_info_reply``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def constant(member: Named, name: str) -> str:
    """A name for a program: the document's where it has one in capitals, else one made of table and member."""
    document = member.document_name
    return document if GLOBAL_NAME.fullmatch(document) else f"VFIO_USER_{snake(type(member).__name__)}_{name}".upper()


def declared(kind: type[T]) -> tuple[type[T], ...]:
    """The classes of one kind in the order of ``messages``: Record, Bits or Codes."""
    found = vars(messages).values()
    return tuple(each for each in found if isinstance(each, type) and issubclass(each, kind) and each is not kind)


def json_tables() -> dict[str, JsonTable]:
    """The tables of JSON members, by their name in ``messages``."""
    return {name: table for name, table in vars(messages).items() if isinstance(table, JsonTable)}


def version() -> str:
    """The version of the document that ``messages`` was generated from."""
    return messages.VERSION


def direction(command: Command) -> str:
    """Who sends the command and who answers it: "client -> server"."""
    return command.notes[0]


def payloads() -> Iterator[tuple[Command, type[Record] | None, type[Record] | None]]:
    """Each command with the records of its request and of its reply; None where there is no payload."""
    for command in Command:
        yield command, REQUESTS[command], REPLIES[command]


@cache
def width_of(table: type[Codes] | type[Bits]) -> int:
    """Bytes of the fields that hold a number or the bits of this table; 4 where no field says so."""
    every = (field for record in declared(Record) for field in fields(record))
    return max((field.size or 0 for field in every if table in (field.codes, field.bits)), default=4)
