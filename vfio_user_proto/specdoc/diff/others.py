"""Differences of tables that are no layouts: codes, values, JSON members, and which state follows which."""

from collections.abc import Iterable, Iterator, Sequence

from vfio_user_proto.specdoc.diff import pairs
from vfio_user_proto.specdoc.diff.change import Change
from vfio_user_proto.specdoc.keys import fold, titles_of
from vfio_user_proto.specdoc.specs import (
    CodeSpec,
    CodesSpec,
    JsonSpec,
    LayoutSpec,
    TableSpec,
    TruthSpec,
    ValuesSpec,
)

DESCRIPTIONS = ("description", "meaning")  # columns of words


def summary(table: TableSpec) -> str:
    """What a table holds, in a few words: "8 fields, 48 bytes"."""
    match table:
        case LayoutSpec():
            more = " and more" if any(each.size is None for each in table.fields) else ""
            return f"{_count(table.fields, 'field')}, {table.fixed_size} bytes{more}"
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


def codes(
    kind: str,
    old: CodesSpec,
    new: CodesSpec,
    rows: Iterable[tuple[CodeSpec | None, CodeSpec | None]],
    directions: tuple[str, ...],
) -> Iterator[Change]:
    """Differences of numbers and of what else the table has in columns; ``kind`` is command or code."""
    shared = [title for title in old.columns[2:] if title in new.columns and title.casefold() not in DESCRIPTIONS]

    def facts(table: CodesSpec, code: CodeSpec) -> dict[str, str]:
        notes = {title: code.notes[table.columns.index(title) - 2] for title in shared}
        return {"number": str(code.value), **notes}

    def words(table: CodesSpec, code: CodeSpec) -> str:
        return ", ".join(f"{aspect} {text}" for aspect, text in facts(table, code).items())

    def change(code: CodeSpec, aspect: str, was: str, now: str, rule: str) -> Change:
        return Change(old.key, code.name, aspect, was, now, code.source, rule, directions)

    numbers = [{code.value for code in table.codes} for table in (old, new)]
    for was, now in rows:
        if now is None and was is not None:
            rule = "number-reused" if was.value in numbers[1] else f"{kind}-removed"
            yield change(was, "row", words(old, was), "", rule)
        elif was is None and now is not None:
            rule = "number-reused" if now.value in numbers[0] else f"{kind}-added"
            yield change(now, "row", "", words(new, now), rule)
        elif was is not None and now is not None:
            if fold(was.name) != fold(now.name):
                yield change(was, "name", was.name, now.name, f"{kind}-renamed")
            for aspect, text in facts(new, now).items():
                before = facts(old, was)[aspect]
                other = "direction-changed" if kind == "command" else "code-changed"
                if before.casefold() != text.casefold():
                    yield change(was, aspect, before, text, f"{kind}-renumbered" if aspect == "number" else other)


def values(old: ValuesSpec, new: ValuesSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    """Differences of the values that a table gives to fields."""
    for was, now in pairs.rows(old.values, new.values):
        before, after = (each.value if each else "" for each in (was, now))
        if (row := was or now) and before.casefold() != after.casefold():
            aspect = "value" if was and now else "row"
            yield Change(old.key, row.name, aspect, before, after, row.source, "value-changed", directions)


def members(old: JsonSpec, new: JsonSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    """Differences of the members of a JSON object."""
    for was, now in pairs.rows(old.members, new.members):
        before, after = (f"type {each.type}" if each else "" for each in (was, now))
        if was and now and was.type != now.type:
            yield Change(old.key, was.name, "type", was.type, now.type, was.source, "member-changed", directions)
        elif was and not now:
            yield Change(old.key, was.name, "row", before, "", was.source, "member-removed", directions)
        elif now and not was:
            yield Change(old.key, now.name, "row", "", after, now.source, "member-added", directions)


def objects(olds: Iterable[JsonSpec], news: Iterable[JsonSpec]) -> Iterator[tuple[JsonSpec | None, JsonSpec | None]]:
    """Old tables of JSON members with their new ones, by the object that they describe."""
    left = dict(_by_path(news))
    for path, table in _by_path(olds):
        yield table, left.pop(path, None)
    yield from ((None, table) for table in left.values())


def _by_path(tables: Iterable[JsonSpec]) -> Iterator[tuple[tuple[str, str], JsonSpec]]:
    """Each table with its command, and with the path to its object: the first describes the whole text, and each further
    one the next object that a table above it names."""
    waiting: dict[str, list[str]] = {}
    for number, table in enumerate(tables):
        paths = waiting.setdefault(titles_of(table.key)[0], [""])
        path = paths.pop(0) if paths else f"#{number}"
        paths += [f"{path}.{member.name}" for member in table.members if member.type == "object"]
        yield (titles_of(table.key)[0], path), table


def states(old: TruthSpec, new: TruthSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    """A table of zeros and ones is the same, or it is not."""
    before, after = (" / ".join(" ".join(row) for row in (table.columns, *table.rows)) for table in (old, new))
    if before != after:
        yield Change(old.key, "", "contents", before, after, old.source, "states-changed", directions)
