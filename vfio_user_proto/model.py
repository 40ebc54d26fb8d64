"""What the generated declarations are made of: flag bits, code tables, records with their rows, over construct."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import KEEP, IntEnum, IntFlag
from types import MappingProxyType
from typing import Any, ClassVar, Self, dataclass_transform

import construct


class Named:
    """What flag bits and codes share: the section of their table, and the names as the document writes them.

    A name is made of ``prefix``, the member's and ``suffix``; ``labels`` has those that are not.
    """

    section: ClassVar[str]
    prefix: ClassVar[str]
    suffix: ClassVar[str]
    labels: ClassVar[Mapping[str, str]]
    name: str

    def __init_subclass__(
        cls,
        *,
        section: str = "",
        prefix: str = "",
        suffix: str = "",
        labels: Mapping[str, str] = MappingProxyType({}),
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.section, cls.prefix, cls.suffix, cls.labels = section, prefix, suffix, labels

    @property
    def document_name(self) -> str:
        """The name as the document writes it: ``VFIO_USER_DMA_MAP`` for ``Command.DMA_MAP``."""
        return self.labels.get(self.name) or f"{self.prefix}{self.name}{self.suffix}"


class Bits(Named, IntFlag, boundary=KEEP):
    """Flag bits of one field; a member of several bits is a mask, such as the type in the header's flags.

    Unknown bits survive. A value that nobody declared is not remembered (``IntFlag`` would keep each for ever), so no
    peer can fill our memory.
    """

    @classmethod
    def _missing_(cls, value: object) -> Any:
        if not isinstance(value, int):
            raise ValueError(f"{value!r} is not a number")
        unknown = int.__new__(cls, value)
        for name, content in (("_name_", None), ("_value_", value), ("_inverted_", None)):
            setattr(unknown, name, content)
        return unknown

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

    def __str__(self) -> str:
        """Names joined by "|", a mask as NAME=value, what is left over in hexadecimal; "0" where no bit is set."""
        left, words = int(self), []
        for name, member in type(self).__members__.items():
            mask = int(member)
            if part := left & mask:
                words.append(name if mask & (mask - 1) == 0 else f"{name}={part // (mask & -mask)}")
                left &= ~mask
        return "|".join([*words, hex(left)] if left else words) or "0"


class Codes(Named, IntEnum):
    """A table of numbers with names; ``notes`` are the texts of the table's further columns."""

    columns: ClassVar[tuple[str, ...]]
    notes: tuple[str, ...]

    def __new__(cls, value: int, *notes: str) -> Self:
        member = int.__new__(cls, value)
        member._value_ = value
        member.notes = notes
        return member

    def __init_subclass__(cls, *, columns: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.columns = columns


def name_of(codes: type[Codes], value: int) -> str:
    """The document's name of ``value``, or the number itself where the table has none."""
    try:
        return codes(value).document_name
    except ValueError:
        return str(value)


class Flags(construct.Adapter):  # type: ignore[misc]
    """construct: an integer read as ``Bits``. (construct's FlagsEnum forgets the bits it does not know.)"""

    def __init__(self, integer: construct.Construct, bits: type[Bits]) -> None:
        super().__init__(integer)
        self.bits = bits

    def _decode(self, obj: int, context: Any, path: str) -> Bits:
        return self.bits(obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return int(obj)


class Rec(construct.Adapter):  # type: ignore[misc]
    """construct: one record inside another."""

    def __init__(self, record: "type[Record]") -> None:
        super().__init__(record.schema)
        self.record = record

    def _decode(self, obj: Any, context: Any, path: str) -> "Record":
        return self.record.from_container(obj)

    def _encode(self, obj: "Record", context: Any, path: str) -> dict[str, Any]:
        return obj.as_dict()


class Many(construct.Adapter):  # type: ignore[misc]
    """construct: ``count`` records of one kind, as a tuple; as many as there is room for where ``count`` is None."""

    def __init__(self, count: Any, record: "type[Record]") -> None:
        super().__init__(construct.GreedyRange(Rec(record)) if count is None else construct.Array(count, Rec(record)))
        self.count, self.record = count, record

    def _decode(self, obj: Any, context: Any, path: str) -> "tuple[Record, ...]":
        return tuple(obj)

    def _encode(self, obj: Any, context: Any, path: str) -> list[Any]:
        return list(obj)


class Strided(construct.Construct):  # type: ignore[misc]
    """construct: an open array of entries of ``total / count`` bytes, each the record that stride and selector name.

    ``total`` and ``count`` are expressions over the fields before; ``records`` maps (stride, selector) to a record. An
    entry of another kind stays ``bytes``. Nothing at all where ``total`` bytes were due is legal: it is the reply that
    only says how large the full one is.
    """

    def __init__(
        self, total: Any, count: Any, selector: str, records: "Mapping[tuple[int, int], type[Record]]"
    ) -> None:
        super().__init__()
        self.total, self.count, self.selector, self.records = total, count, selector, records
        self.selector_at = next(iter(records.values())).rows[selector].offset

    def split(self, data: bytes, count: int) -> "list[tuple[type[Record] | None, bytes]]":
        """Cut ``data`` into ``count`` entries and say which record each is; None for one of no known kind."""
        stride = len(data) // count
        entries = [data[at : at + stride] for at in range(0, stride * count, stride)] if stride else []
        return [(self.record_of(entry), entry) for entry in entries]

    def record_of(self, entry: bytes) -> "type[Record] | None":
        selector = int.from_bytes(entry[self.selector_at : self.selector_at + 4], sys.byteorder)
        return self.records.get((len(entry), selector))

    def _parse(self, stream: Any, context: Any, path: str) -> "tuple[Record | bytes, ...]":
        count, total = int(self.count(context)), int(self.total(context))
        if not count:
            return ()
        whole = stream.read(max(0, total) // count * count)
        if not whole:
            return ()
        if len(whole) < total // count * count:
            raise construct.StreamError(f"{total} bytes of entries are due, {len(whole)} are there", path=path)
        entries = self.split(whole, count)
        return tuple(
            entry if record is None else record.from_container(record.schema.parse(entry)) for record, entry in entries
        )

    def _build(self, obj: "tuple[Record | bytes, ...]", stream: Any, context: Any, path: str) -> Any:
        for entry in obj:
            stream.write(entry if isinstance(entry, bytes) else entry.schema.build(entry.as_dict()))
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        raise construct.SizeofError("an open array has no fixed size", path=path)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: where a field stands and what it holds.

    ``offset`` is in bytes from the start of the record; ``label`` the document's name where it is not the Python one;
    ``counts`` names the field whose length this one holds; ``measures`` marks an ``argsz`` that holds the size of its
    own record; ``codes`` names the values; ``note`` is what the document says of the size besides a number; ``added``
    marks a field that the document describes in words and the overlay adds to its table. A row labelled "..." holds
    records whose own rows stand in this table, the first of them written out, with dots below.
    """

    offset: int
    holds: construct.Construct
    label: str = ""
    counts: str = ""
    measures: bool = False
    codes: type[Codes] | None = None
    note: str = ""
    added: bool = False

    @property
    def fixed_size(self) -> int | None:
        """Bytes, or None for a field that takes as much as a count, or the message, says."""
        try:
            return int(self.holds.sizeof())
        except (construct.SizeofError, KeyError):
            return None

    @property
    def empty(self) -> Any:
        """What the field holds when nobody gave a value: 0, no bytes, no records."""
        holds = self.holds.subcon if isinstance(self.holds, Flags) else self.holds
        if isinstance(holds, construct.FormatField):
            return 0
        return () if isinstance(holds, (Many, Strided)) else bytes(self.fixed_size or 0)


def row(
    offset: int,
    holds: construct.Construct,
    label: str = "",
    *,
    counts: str = "",
    measures: bool = False,
    codes: type[Codes] | None = None,
    note: str = "",
    added: bool = False,
) -> Any:
    """Declare one field of a ``Record``; see ``Row`` for the arguments."""
    return Row(offset, holds, label, counts, measures, codes, note, added)


class _RecordType(type):
    """Turns rows into slots, constructors and a ``construct.Struct``; a third of what ``dataclass`` adds to import."""

    def __new__(
        mcls, name: str, bases: tuple[type, ...], space: dict[str, Any], *, section: str = "", payload: str = ""
    ) -> Any:
        rows = {key: value for key, value in space.items() if isinstance(value, Row)}
        rest = {key: value for key, value in space.items() if key not in rows}
        blank = type(f"_{name}", (), {"__slots__": tuple(rows)})
        cls: Any = super().__new__(mcls, name, (blank, *bases), {**rest, "__slots__": ()})
        cls.section, cls.payload, cls.rows = section, payload, rows
        cls.schema = construct.Struct(*(key / each.holds for key, each in rows.items()))
        cls.fixed_size = 0
        cls.tail = None
        for key, each in rows.items():
            if each.offset != cls.fixed_size or cls.tail:
                raise TypeError(
                    f"{name}.{key} is declared at {each.offset}, the fields before it end at {cls.fixed_size}"
                )
            if each.fixed_size is None:
                cls.tail = key
            else:
                cls.fixed_size += each.fixed_size
        if rows:
            _write_constructors(cls, blank)
        return cls


def _write_constructors(cls: Any, blank: type) -> None:
    """``__init__`` with keywords and defaults, and ``_make`` with every value by position, for the decoder.

    The latter fills a ``blank``, which has the same slots and is not immutable, before it becomes a record: half the time.
    """
    names: dict[str, Any] = {"_cls": cls, "_blank": blank, "_tail_size": tail_size}
    names.update(_len=len, _type=type)
    body, fixed, tail = [], cls.fixed_size, cls.tail
    for key, each in cls.rows.items():
        names[f"set_{key}"] = getattr(cls, key).__set__
        names[f"empty_{key}"] = each.empty
        value = key
        if each.measures:
            value = f"({fixed}{f' + _tail_size({tail})' if tail else ''}) if {key} is None else {key}"
        elif each.counts:
            value = f"_len({each.counts}) if {key} is None else {key}"
        elif isinstance(each.holds, Flags):
            names[f"type_{key}"] = each.holds.bits
            value = f"{key} if _type({key}) is type_{key} else type_{key}({key})"
        elif not isinstance(each.empty, int):
            names[f"type_{key}"] = type(each.empty)
            value = f"{key} if _type({key}) is type_{key} else type_{key}({key})"
        body.append(f"    set_{key}(self, {value})")
    defaults = ", ".join(f"{key}={'None' if r.measures or r.counts else 'empty_' + key}" for key, r in cls.rows.items())
    sets = "\n".join(f"    _self.{key} = {key}" for key in cls.rows)
    source = f"def __init__(self, *, {defaults}):\n" + "\n".join(body)
    source += f"\ndef _make({', '.join(cls.rows)}):\n    _self = _blank()\n{sets}\n    _self.__class__ = _cls\n"
    source += "    return _self\n"
    exec(source, names)
    cls.__init__, cls._make = names["__init__"], staticmethod(names["_make"])


def tail_size(tail: "bytes | tuple[Record | bytes, ...]") -> int:
    """Bytes that the last field takes."""
    return (
        len(tail)
        if isinstance(tail, bytes)
        else sum(part.wire_size if isinstance(part, Record) else len(part) for part in tail)
    )


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Record(metaclass=_RecordType):
    """One table of the document: an immutable value with the table's fields, its rows, and its construct schema.

    Every field may be left out: counts and ``argsz`` then fit the rest, all others are zero or empty.
    ``payload`` is the document's name for what follows the record: "<message data>" behind the header.
    """

    section: ClassVar[str]
    payload: ClassVar[str]
    rows: ClassVar[Mapping[str, Row]]
    schema: ClassVar[construct.Struct]
    fixed_size: ClassVar[int]
    tail: ClassVar[str | None]
    _make: ClassVar[Callable[..., Any]]

    @classmethod
    def from_container(cls, container: Mapping[str, Any]) -> Self:
        """The record of what ``schema.parse`` returned, or of any mapping with the same keys."""
        return cls(**{key: container[key] for key in cls.rows})

    def as_dict(self) -> dict[str, Any]:
        """The fields in the order of the table."""
        return {key: getattr(self, key) for key in self.rows}

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed; counts and ``argsz`` are kept as they are."""
        return type(self)(**{**self.as_dict(), **changes})

    @property
    def wire_size(self) -> int:
        """Bytes that the record takes on the wire."""
        return self.fixed_size + (tail_size(getattr(self, self.tail)) if self.tail else 0)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; use replace({name}=…)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, key) == getattr(other, key) for key in self.rows)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, key) for key in self.rows)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={getattr(self, key)!r}' for key in self.rows)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), *(getattr(self, key) for key in self.rows))


def _restore(record: type[Record], *values: Any) -> Record:
    """What ``pickle`` and ``copy`` make a record with."""
    made: Record = record._make(*values)
    return made


@dataclass(frozen=True, slots=True)
class JsonMember:
    """One row of a table of JSON names: ``type`` as the document writes it (object, number, boolean)."""

    name: str
    type: str
    description: str


@dataclass(frozen=True, slots=True)
class JsonTable:
    """A table of JSON names."""

    section: str
    members: tuple[JsonMember, ...]


@dataclass(frozen=True, slots=True)
class ValueTable:
    """A table that says which value each field of a record has, in the document's own words."""

    section: str
    rows: tuple[tuple[str, str], ...]
