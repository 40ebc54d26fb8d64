"""What messages.py is made of, before it is text: one object per declaration, with Python names and no layout."""

from collections.abc import Mapping
from dataclasses import dataclass

from vfio_user_proto.specdoc.specs import MemberSpec


@dataclass(frozen=True, slots=True)
class Naming:
    """How Python names make the document's: prefix + name + suffix, or what ``labels`` says instead."""

    prefix: str
    suffix: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FlagsDeclaration:
    """A ``Bits`` class; ``members`` are (name, first bit, last bit), ``field`` is the document's name of the field."""

    name: str
    key: str
    field: str
    naming: Naming
    members: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class CodesDeclaration:
    """A ``Codes`` class; ``members`` are (name, number, notes)."""

    name: str
    key: str
    naming: Naming
    columns: tuple[str, ...]
    members: tuple[tuple[str, int, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class RowDeclaration:
    """One ``row(…)``: ``holds`` is the name of what it holds with its arguments, ("Many", "this.count", "Area")."""

    name: str
    annotation: str
    offset: int
    holds: tuple[str, ...]
    label: str = ""
    counts: str = ""
    measures: bool = False
    codes: str = ""
    note: str = ""
    added: bool = False
    comment: str = ""


@dataclass(frozen=True, slots=True)
class RecordDeclaration:
    """A ``Record`` class; ``says`` is its docstring."""

    name: str
    key: str
    says: str
    payload: str
    rows: tuple[RowDeclaration, ...]


@dataclass(frozen=True, slots=True)
class UnionDeclaration:
    """A type that is one of several records, and the mapping (size, code) that tells which."""

    name: str
    constant: str
    entries: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, slots=True)
class MappingDeclaration:
    """A mapping from codes to records, or to None."""

    constant: str
    comment: str
    entries: tuple[tuple[str, str], ...]
    optional: bool


@dataclass(frozen=True, slots=True)
class ValuesDeclaration:
    """A ``ValueTable`` constant."""

    constant: str
    key: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class JsonDeclaration:
    """A ``JsonTable`` constant."""

    constant: str
    key: str
    members: tuple[MemberSpec, ...]


Declaration = (
    FlagsDeclaration
    | CodesDeclaration
    | RecordDeclaration
    | UnionDeclaration
    | MappingDeclaration
    | ValuesDeclaration
    | JsonDeclaration
)


@dataclass(frozen=True, slots=True)
class Module:
    """A module to be written, its declarations in an order in which each finds what it uses above it.

    ``version`` is that of the document, "" where it states none.
    """

    document: str
    overlay: str
    says: str
    version: str
    declarations: tuple[Declaration, ...]
