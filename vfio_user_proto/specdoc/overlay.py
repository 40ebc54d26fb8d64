"""Reads spec/overlay/*.toml: what the tables of a document cannot say, entry by entry, each with its reason.

Names in an entry are the Python ones, ``Record.field``; only ``names`` itself speaks of sections. What an entry means
stands with its class below; ``apply`` and ``declare`` carry it out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar, get_type_hints

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc.files import load, toml
from vfio_user_proto.specdoc.specs import Source


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry; ``source`` is its line in the overlay."""

    reason: str
    source: Source


@dataclass(frozen=True, kw_only=True)
class Names(Entry):
    """Python names of tables, by key, where the rule gives none that reads well."""

    records: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FlagNames(Entry):
    """The Python name of the bits of some fields, and of members by the document's name."""

    name: str
    fields: tuple[str, ...]
    members: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Counts(Entry):
    """Fields that hold the length of another field of the same record: bytes, or records where it holds records."""

    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Measures(Entry):
    """A field that holds the size of its own record, in every record that has it."""

    field: str


@dataclass(frozen=True, kw_only=True)
class CodesOf(Entry):
    """Fields whose values a code table names."""

    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Arrays(Entry):
    """Fields of variable size that hold records of one kind."""

    fields: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Repeats(Entry):
    """The rows above the dots of a table that are repeated: ``field`` holds ``record``, made of ``rows``."""

    table: str
    rows: tuple[str, ...]
    field: str
    record: str


@dataclass(frozen=True, kw_only=True)
class Lists(Entry):
    """A payload of records of one kind, ``of``, as many as it has room for: ``record`` has them in ``field``."""

    record: str
    field: str
    of: str


@dataclass(frozen=True, kw_only=True)
class Strides(Entry):
    """A field whose entries are records of several kinds and sizes.

    An entry's size is what the measured size of the record leaves for the field, divided by the count; its kind is what
    that size and the ``selector`` in it say: ``records`` has (code, record). ``union`` and ``constant`` name the type
    and the mapping.
    """

    field: str
    measured: str
    selector: str
    codes: str
    records: tuple[tuple[str, str], ...]
    union: str
    constant: str


@dataclass(frozen=True, kw_only=True)
class Added(Entry):
    """A field of bytes at the end of a record that the document describes in words."""

    record: str
    field: str


@dataclass(frozen=True, kw_only=True)
class SameReply(Entry):
    """Commands whose reply has the layout of the request."""

    commands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Empty(Entry):
    """Messages without payload, by section."""

    messages: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Carries(Entry):
    """What commands carry, and their replies, where the document has no sections Request and Reply."""

    requests: Mapping[str, str] = field(default_factory=dict)
    replies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Mappings(Entry):
    """A mapping from codes to the records that they stand for."""

    constant: str
    codes: str
    records: Mapping[str, str]


Kind = TypeVar("Kind", bound=Entry)
KINDS: Mapping[str, type[Entry]] = {
    "names": Names,
    "flags": FlagNames,
    "counts": Counts,
    "measures": Measures,
    "codes": CodesOf,
    "arrays": Arrays,
    "repeats": Repeats,
    "lists": Lists,
    "strides": Strides,
    "added": Added,
    "same_reply": SameReply,
    "carries": Carries,
    "empty": Empty,
    "mappings": Mappings,
}


@dataclass(frozen=True, slots=True)
class Overlay:
    """All entries of one file."""

    file: str
    entries: tuple[Entry, ...] = ()

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The entries of one kind, in the order of the file."""
        return [entry for entry in self.entries if isinstance(entry, kind)]


def read(path: str) -> Overlay:
    """The overlay at ``path``; SpecError with the line where it is not TOML, or an entry is not as its class says."""
    return read_text(load(path), path)


def read_text(text: str, path: str) -> Overlay:
    """The overlay that ``text`` is; ``path`` is the name that messages give it."""
    content = toml(text, path)
    entries: list[Entry] = []
    for kind, tables in content.items():
        if kind not in KINDS:
            raise SpecError(path, _line(text, kind, 0), f"unknown kind of entry {kind!r}; there are {', '.join(KINDS)}")
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise SpecError(path, _line(text, kind, 0), f"entries are written [[{kind}]]")
        entries += [_entry(kind, table, Source(path, _line(text, kind, at))) for at, table in enumerate(tables)]
    return Overlay(path, tuple(entries))


def _line(text: str, kind: str, at: int) -> int:
    """The line where entry number ``at`` of a kind begins; 0 where it is written in another way."""
    head = re.compile(rf"\[+\s*{re.escape(kind)}\s*\]")
    begins = [number for number, line in enumerate(text.splitlines(), 1) if head.match(line.strip())]
    return begins[at] if at < len(begins) else 0


def _entry(kind: str, table: Mapping[str, Any], source: Source) -> Entry:
    """One entry, checked against the fields of its class."""

    def wrong(problem: str) -> SpecError:
        return SpecError(source.file, source.line, f"[[{kind}]]: {problem}")

    cls, hints = KINDS[kind], get_type_hints(KINDS[kind])
    known = {each.name: each for each in fields(cls) if each.name != "source"}
    for key in table:
        if key not in known:
            raise wrong(f"unknown key {key!r}; there are {', '.join(known)}")
    for name, each in known.items():
        if name not in table and each.default_factory is MISSING:
            raise wrong(f"{name} is missing")
    values: dict[str, Any] = {}
    for name, value in table.items():
        take, shape = SHAPES[hints[name]]
        values[name] = take(value)
        if not values[name]:
            raise wrong(f"{name} is not {shape}")
    return cls(source=source, **values)


def _words(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _list(value: object) -> tuple[str, ...] | None:
    return tuple(value) if isinstance(value, list) and all(isinstance(each, str) for each in value) else None


def _pairs(value: object) -> tuple[tuple[str, str], ...] | None:
    pairs = [_list(each) for each in value] if isinstance(value, list) else []
    return (
        tuple((pair[0], pair[1]) for pair in pairs if pair) if all(pair and len(pair) == 2 for pair in pairs) else None
    )


def _table(value: object) -> Mapping[str, str] | None:
    return value if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()) else None


# How the value of each type of field is taken, and what it is called where it cannot be.
SHAPES: Mapping[Any, tuple[Callable[[object], Any], str]] = {
    str: (_words, "a text"),
    tuple[str, ...]: (_list, "a list of names"),
    tuple[tuple[str, str], ...]: (_pairs, "a list of pairs of names"),
    Mapping[str, str]: (_table, "a table of names"),
}
