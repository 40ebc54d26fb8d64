"""What a document says, in neutral form: layouts, code tables, values, JSON names and requirements.

A spec knows the file and line that it was read from. Two are equal when they say the same, wherever they stand.
``key`` says which table it is; see ``keys``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc.keys import without_ordinal

LEVELS = ("must", "should", "info")
SIDES = ("server", "client", "both")
DOTS = "..."  # a row, or a size, that stands for more of the same


ERROR, WARNING = "error", "warning"  # a message could be misread; or only the words are at fault


@dataclass(frozen=True, slots=True)
class Source:
    """Where something stands; ``line`` counts from 1, 0 means the whole file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


def fault(source: Source, message: str) -> SpecError:
    """The error of what stands at ``source``."""
    return SpecError(source.file, source.line, message)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where; printed as a compiler prints it.

    ``rule`` names the kind of mistake, ``level`` is ERROR or WARNING. ``words`` are those of the line that are at fault;
    ``column``, from 1, is where they begin, 0 as long as nobody has looked.
    """

    source: Source
    message: str
    rule: str
    level: str = ERROR
    words: str = ""
    column: int = 0

    def as_dict(self) -> dict[str, str | int]:
        """The problem for programs."""
        place: dict[str, str | int] = {"file": self.source.file, "line": self.source.line, "column": self.column}
        return {**place, "level": self.level, "message": self.message, "rule": self.rule}

    def __str__(self) -> str:
        place = f"{self.source}:{self.column}" if self.source.line and self.column else str(self.source)
        return f"{place}: {self.level}: {self.message} [{self.rule}]"


class UnsoundDocument(SpecError):
    """A document whose tables cannot be used; ``problems`` has all that is wrong, the message the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.source.file, first.source.line, first.message)
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class BitSpec:
    """Bits ``first`` to ``last`` of a field, counted from the least significant one."""

    first: int
    last: int
    name: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One row of a layout: ``offset`` and ``size`` in bytes, size None for a variable one.

    ``note`` is what the cell of the size says besides. A name in angle brackets is no field: it is what follows.
    """

    name: str
    offset: int
    size: int | None
    note: str
    bits: tuple[BitSpec, ...]
    source: Source = field(compare=False)

    @property
    def is_payload(self) -> bool:
        """Whether this is what follows: ``<message data>`` behind the header."""
        return self.name.startswith("<")


@dataclass(frozen=True, slots=True)
class LayoutSpec:
    """A table of fields. Offsets count from its first byte; ``base`` is what the document adds: 16 for the header, or 0.

    ``repeats`` says that the table ends with a row of dots.
    """

    key: str
    fields: tuple[FieldSpec, ...]
    repeats: bool
    source: Source = field(compare=False)
    base: int = field(default=0, compare=False)

    @property
    def fixed_size(self) -> int:
        """Bytes of the fields before a variable one."""
        return sum(each.size or 0 for each in self.fields)


@dataclass(frozen=True, slots=True)
class CodeSpec:
    """One number of a code table, its name, and the texts of the further columns."""

    name: str
    value: int
    notes: tuple[str, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class CodesSpec:
    """A table of numbers with names; ``columns`` are its titles."""

    key: str
    columns: tuple[str, ...]
    codes: tuple[CodeSpec, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class ValueSpec:
    """What one field holds, in the words of the document."""

    name: str
    value: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class ValuesSpec:
    """A table that says which values the fields of some layout have."""

    key: str
    values: tuple[ValueSpec, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """One member of a JSON object: ``type`` is object, array, string, number or boolean."""

    name: str
    type: str
    description: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class JsonSpec:
    """A table of the members of a JSON object."""

    key: str
    members: tuple[MemberSpec, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class TruthSpec:
    """A table of zeros, ones and dashes, such as which state follows which; no layout, kept as it stands."""

    key: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    source: Source = field(compare=False)


TableSpec = LayoutSpec | CodesSpec | ValuesSpec | JsonSpec | TruthSpec
Kind = TypeVar("Kind", LayoutSpec, CodesSpec, ValuesSpec, JsonSpec, TruthSpec)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One numbered statement: ``level`` of ``LEVELS``, ``side`` of ``SIDES``; ``key`` is the section where it stands.

    ``section`` and ``quote`` anchor it in the published text; ``erratum`` is the entry of errata.toml that it follows.
    """

    id: str
    level: str
    side: str
    text: str
    key: str
    section: str
    quote: str
    erratum: str
    source: Source = field(compare=False)

    def as_dict(self) -> dict[str, str | int]:
        """The requirement for programs; ``section`` is where it stands, ``anchor`` that of the published text."""
        facts = {"id": self.id, "level": self.level, "side": self.side, "section": self.key, "text": self.text}
        anchor = {"anchor": self.section, "quote": self.quote, "erratum": self.erratum}
        return {**facts, **anchor, "file": self.source.file, "line": self.source.line}


@dataclass(frozen=True, slots=True)
class Prose:
    """One paragraph outside the tables, its words without markup on one line.

    ``marked`` are those that are set apart as literals or emphasised, ``lines`` how many lines of the document it takes.
    """

    key: str
    text: str
    marked: tuple[str, ...]
    lines: int
    source: Source


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its key, the titles above it and its own, and the line of its own title."""

    key: str
    titles: tuple[str, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Document:
    """All that was read from one file.

    ``problems`` are tables and rows that could not be modelled, ``remarks`` faults of the markup that harm no table.
    ``sections`` are all sections from top to bottom, ``lines`` the text itself.
    """

    file: str
    title: str
    version: str
    tables: tuple[TableSpec, ...]
    requirements: tuple[Requirement, ...]
    prose: tuple[Prose, ...] = field(default=(), compare=False)
    problems: tuple[Problem, ...] = field(default=(), compare=False)
    remarks: tuple[Problem, ...] = field(default=(), compare=False)
    sections: tuple[Section, ...] = field(default=(), compare=False)
    lines: tuple[str, ...] = field(default=(), compare=False)

    def prose_of(self, key: str) -> list[Prose]:
        """The paragraphs of the section that a key names, or in which a table with this key stands."""
        return [prose for prose in self.prose if prose.key == without_ordinal(key)]

    def place(self, prose: Prose, words: str) -> Source:
        """The line of a paragraph that holds ``words``; its first one where they are broken over two."""
        first = prose.source.line
        lines = range(first, min(first + prose.lines, len(self.lines) + 1))
        return Source(self.file, next((line for line in lines if words in self.lines[line - 1]), first))

    def of(self, kind: type[Kind]) -> Mapping[str, Kind]:
        """The tables of one kind by key, in the order of the document."""
        return {table.key: table for table in self.tables if isinstance(table, kind)}
