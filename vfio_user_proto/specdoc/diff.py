"""What two documents say differently about the wire: tables and rows added, removed, moved, resized, renamed.

Words are not compared: neither prose nor columns of descriptions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vfio_user_proto.specdoc.keys import fold, ordinal_of
from vfio_user_proto.specdoc.names import own_titles
from vfio_user_proto.specdoc.specs import (
    BitSpec,
    CodeSpec,
    CodesSpec,
    Document,
    FieldSpec,
    JsonSpec,
    Kind,
    LayoutSpec,
    MemberSpec,
    Source,
    TableSpec,
    TruthSpec,
    ValueSpec,
    ValuesSpec,
)

DESCRIPTIONS = ("description", "meaning")
VERBS = {"name": "renamed", "offset": "moved", "size": "resized", "bit": "moved", "number": "renumbered"}

Row = TypeVar("Row", FieldSpec, BitSpec, CodeSpec, ValueSpec, MemberSpec)
Facts = Callable[[Row], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: of a table, or of its row ``subject``. ``aspect`` is what differs: table, row, name, offset, …

    ``old`` or ``new`` is "" where it is not there. ``where`` is its place in the old document, or in the new one where
    only that has it.
    """

    table: str
    subject: str
    aspect: str
    old: str
    new: str
    where: Source

    @property
    def mark(self) -> str:
        """The difference without its direction, as errata.toml lists it: "VFIO_USER_DMA_WRITE / Reply: count: size"."""
        return ": ".join(part for part in (self.table, self.subject, self.aspect) if part)

    def as_dict(self) -> dict[str, str | int]:
        """The difference for programs."""
        facts = {"table": self.table, "subject": self.subject, "aspect": self.aspect, "old": self.old, "new": self.new}
        return {**facts, "text": str(self), "file": self.where.file, "line": self.where.line}

    def __str__(self) -> str:
        what = ": ".join(part for part in (self.table, self.subject) if part)
        if not self.old:
            return f"{what}: added: {self.new}"
        if not self.new:
            return f"{what}: removed: {self.old}"
        return f"{what}: {VERBS.get(self.aspect, f'{self.aspect} changed')} from {self.old} to {self.new}"


def diff(old: Document, new: Document) -> list[Change]:
    """All differences in the order of the old document's tables; tables that only the new one has come last."""
    changes = [
        *_tables(old.of(LayoutSpec), new.of(LayoutSpec), _layout),
        *_tables(old.of(CodesSpec), new.of(CodesSpec), _codes),
        *_tables(old.of(ValuesSpec), new.of(ValuesSpec), _values),
        *_tables(old.of(JsonSpec), new.of(JsonSpec), _json),
        *_tables(old.of(TruthSpec), new.of(TruthSpec), _truth),
    ]
    order = {key: at for at, key in enumerate(dict.fromkeys(table.key for table in (*old.tables, *new.tables)))}
    return sorted(changes, key=lambda change: order[change.table])


def _tables(
    olds: Mapping[str, Kind], news: Mapping[str, Kind], compare: Callable[[Kind, Kind], Iterator[Change]]
) -> Iterator[Change]:
    pairs = _pairs(list(olds), list(news))
    for key, table in olds.items():
        if key in pairs:
            yield from compare(table, news[pairs[key]])
        else:
            yield Change(key, "", "table", _summary(table), "", table.source)
    for key, table in news.items():
        if key not in pairs.values():
            yield Change(key, "", "table", "", _summary(table), table.source)


def _pairs(olds: Sequence[str], news: Sequence[str]) -> dict[str, str]:
    """Which key of the new document each key of the old one is: the same key, or else the only one with that title."""
    pairs: dict[str, str] = {}
    for alike in (fold, _title):
        left = [key for key in olds if key not in pairs]
        right = [key for key in news if key not in pairs.values()]
        for key in left:
            same = [other for other in right if alike(other) == alike(key)]
            if len(same) == 1 and [alike(other) for other in left].count(alike(key)) == 1:
                pairs[key] = same[0]
    return pairs


def _title(key: str) -> str:
    return f"{fold(' / '.join(own_titles(key)))} #{ordinal_of(key)}"


def _summary(table: TableSpec) -> str:
    match table:
        case LayoutSpec():
            size = sum(each.size or 0 for each in table.fields)
            more = " and more" if any(each.size is None for each in table.fields) else ""
            return f"{_count(table.fields, 'field')}, {size} bytes{more}"
        case CodesSpec():
            return _count(table.codes, "code")
        case ValuesSpec():
            return _count(table.values, "value")
        case JsonSpec():
            return _count(table.members, "member")
        case TruthSpec():
            return _count(table.rows, "row")


def _count(rows: Sequence[object], what: str) -> str:
    return f"{len(rows)} {what}{'' if len(rows) == 1 else 's'}"


def _layout(old: LayoutSpec, new: LayoutSpec) -> Iterator[Change]:
    def facts(each: FieldSpec) -> dict[str, str]:
        return {"name": each.name, "offset": str(each.offset), "size": _bytes(each.size)}

    yield from _rows(old.key, "", old.fields, new.fields, facts, ("offset", "size"))
    if old.repeats != new.repeats:
        words = {True: "rows above repeated", False: "none"}
        yield Change(old.key, "", "dots", words[old.repeats], words[new.repeats], old.source)
    news = {fold(each.name): each for each in new.fields}
    for was in old.fields:
        now = news.get(fold(was.name))
        if now is None:
            continue
        if bool(was.bits) != bool(now.bits):
            yield Change(old.key, was.name, "bits", _bit_names(was), _bit_names(now), was.source)
        else:
            yield from _rows(old.key, was.name, was.bits, now.bits, _bit_facts, ("bit",))


def _bytes(size: int | None) -> str:
    if size is None:
        return "variable"
    return "1 byte" if size == 1 else f"{size} bytes"


def _bit_names(field: FieldSpec) -> str:
    return f"bits {', '.join(bit.name for bit in field.bits)}" if field.bits else ""


def _bit_facts(bit: BitSpec) -> dict[str, str]:
    return {"name": bit.name, "bit": f"bit {bit.first}" if bit.first == bit.last else f"bits {bit.first}-{bit.last}"}


def _codes(old: CodesSpec, new: CodesSpec) -> Iterator[Change]:
    shared = [title for title in old.columns[2:] if title in new.columns and title.casefold() not in DESCRIPTIONS]

    def facts(codes: CodesSpec) -> Facts[CodeSpec]:
        return lambda each: {
            "name": each.name,
            "number": str(each.value),
            **{title: each.notes[codes.columns.index(title) - 2] for title in shared},
        }

    # A number that has another name now is another code, not a renamed one: command 15 was once DIRTY_PAGES.
    yield from _rows(old.key, "", old.codes, new.codes, facts(old), (), facts(new))


def _values(old: ValuesSpec, new: ValuesSpec) -> Iterator[Change]:
    yield from _rows(old.key, "", old.values, new.values, lambda each: {"name": each.name, "value": each.value}, ())


def _json(old: JsonSpec, new: JsonSpec) -> Iterator[Change]:
    yield from _rows(old.key, "", old.members, new.members, lambda each: {"name": each.name, "type": each.type}, ())


def _truth(old: TruthSpec, new: TruthSpec) -> Iterator[Change]:
    def contents(table: TruthSpec) -> str:
        return " / ".join(" ".join(row) for row in (table.columns, *table.rows))

    if contents(old) != contents(new):
        yield Change(old.key, "", "contents", contents(old), contents(new), old.source)


def _rows(
    table: str,
    owner: str,
    olds: Sequence[Row],
    news: Sequence[Row],
    facts: Facts[Row],
    identity: tuple[str, ...],
    new_facts: Facts[Row] | None = None,
) -> Iterator[Change]:
    """Differences of rows: the same by name, or renamed where all facts of ``identity`` agree; ``owner`` has bits."""
    new_facts = new_facts or facts
    left = {fold(row.name): row for row in news}
    pairs: list[tuple[Row, Row | None]] = [(row, left.pop(fold(row.name), None)) for row in olds]
    for at, (was, now) in enumerate(pairs):
        if now is None and identity:
            renamed = [name for name, row in left.items() if all(facts(was)[f] == new_facts(row)[f] for f in identity)]
            pairs[at] = (was, left.pop(renamed[0]) if renamed else None)
    for was, now in pairs:
        subject = f"{owner}.{was.name}" if owner else was.name
        before = facts(was)
        if now is None:
            yield Change(table, subject, "row", _words(before), "", was.source)
            continue
        for aspect, after in new_facts(now).items():
            if fold(before[aspect]) != fold(after):
                yield Change(table, subject, aspect, before[aspect], after, was.source)
    for row in left.values():
        yield Change(table, f"{owner}.{row.name}" if owner else row.name, "row", "", _words(new_facts(row)), row.source)


def _words(facts: Mapping[str, str]) -> str:
    """The facts of a row but for its name: "offset 8, size 4 bytes"."""
    return ", ".join(
        text if text.startswith(aspect) else f"{aspect} {text}" for aspect, text in facts.items() if aspect != "name"
    )
