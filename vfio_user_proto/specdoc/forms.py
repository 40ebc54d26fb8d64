"""The forms that tables have in these documents, each with a function from its rows to a spec.

A form is known by its titles. A table of no known form is an error, and so is each row that its form cannot take.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from vfio_user_proto.specdoc.grid import Grid, GridRow, Report, RowError
from vfio_user_proto.specdoc.specs import (
    DOTS,
    BitSpec,
    CodeSpec,
    CodesSpec,
    FieldSpec,
    JsonSpec,
    LayoutSpec,
    MemberSpec,
    Source,
    TableSpec,
    TruthSpec,
    ValueSpec,
    ValuesSpec,
)

HEADER_SIZE = 16  # offsets of early revisions count it
NUMBERED = ("value", "command", "feature index", "index", "state", "number")  # titles of a column of numbers
JSON_TYPES = {name: name for name in ("object", "array", "string", "number", "boolean")}
JSON_TYPES["collection of name/value pairs"] = "object"

NUMBER = re.compile(r"0x[0-9a-fA-F]{1,16}|[0-9]{1,20}")
SIZE = re.compile(r"([0-9]{1,9}(?:\s*\+\s*[0-9]{1,9})*)(?: bytes?)?")
VARIABLE = re.compile(r"variable\b\s*(.*)|([0-9]+\s*[+*]\s*\S.*)")
BITS = re.compile(r"([0-9]{1,4})(?:\s*(?:-|to)\s*([0-9]{1,4}))?")

Item = TypeVar("Item")


def model(grid: Grid, key: str, file: str, report: Report) -> TableSpec | None:
    """The spec of a table; what is wrong goes to ``report`` with its line. None where no form fits at all."""
    if not grid.rows:
        report(grid.line, "a table without a row that can be modelled")
        return None
    titles, source = tuple(title.casefold() for title in grid.titles), Source(file, grid.line)

    def rows(take: Callable[[GridRow, Source], Item]) -> tuple[Item, ...]:
        return tuple(_each(grid, file, report, take))

    if titles == ("name", "offset", "size"):
        return _layout(grid, key, source, report)
    if titles == ("name", "type", "description"):
        return JsonSpec(key, rows(_member), source)
    if titles == ("name", "value") and not _holds_numbers_only(grid):
        return ValuesSpec(key, rows(_value), source)
    if titles[0] == "name" and len(titles) > 1 and titles[1] in NUMBERED:
        return CodesSpec(key, grid.titles, rows(lambda row, at: _code(row, grid.titles, at)), source)
    if _is_truth_table(grid):
        return TruthSpec(key, grid.titles, tuple(row.texts for row in grid.rows), source)
    report(grid.line, f"no known form of table: {' | '.join(grid.titles)}")
    return None


def _each(grid: Grid, file: str, report: Report, take: Callable[[GridRow, Source], Item]) -> list[Item]:
    """What ``take`` makes of each row; a row that it refuses is reported."""
    taken = []
    for row in grid.rows:
        try:
            taken.append(take(row, Source(file, row.line)))
        except RowError as error:
            report(row.line, str(error))
    return taken


def _texts(row: GridRow, count: int) -> tuple[str, ...]:
    """The texts of a row of ``count`` cells; only the last ones may be empty, and none holds a table."""
    if len(row.cells) != count:
        raise RowError(f"a row of this table has {count} cells, not {len(row.cells)}")
    if any(cell.table for cell in row.cells):
        raise RowError("a table inside a cell is for the bits of a field, below that field")
    if not row.cells[0].text:
        raise RowError("a row without a name")
    return row.texts


def _number(text: str, title: str) -> int:
    if not NUMBER.fullmatch(text):
        raise RowError(f"{title} {text!r} is not a number" if text else f"the {title.casefold()} is missing")
    return int(text, 16 if text.startswith("0x") else 10)


def _layout(grid: Grid, key: str, source: Source, report: Report) -> LayoutSpec:
    fields: list[FieldSpec] = []
    repeats, base = False, 0

    def take(row: GridRow, at: Source) -> None:
        nonlocal repeats, base
        if repeats:
            raise RowError("a row below the dots, which end the table")
        if row.cells[-1].table:
            fields[-1] = replace(_owner(fields, row), bits=_bits(row.cells[-1].table, at.file, report))
            return
        name, offset_text, size_text = _texts(row, 3)
        if name == DOTS and offset_text in ("", DOTS) and size_text in ("", DOTS):
            repeats = True
            return
        offset = _number(offset_text, "Offset")
        if not fields and offset == HEADER_SIZE:
            base = HEADER_SIZE
        if offset < base:
            raise RowError(f"Offset {offset} lies in the header, which the rows above count")
        fields.append(FieldSpec(name, offset - base, *_size(size_text), (), at))

    _each(grid, source.file, report, take)
    return LayoutSpec(key, tuple(fields), repeats, source, base)


def _owner(fields: list[FieldSpec], row: GridRow) -> FieldSpec:
    """The field above a nested table."""
    if any(cell.text for cell in row.cells):
        raise RowError("a nested table stands in a row of its own, below the field whose bits it names")
    if not fields:
        raise RowError("a nested table stands below the field whose bits it names, and there is none above")
    if fields[-1].bits:
        raise RowError(f"a second table of bits for {fields[-1].name}")
    return fields[-1]


def _size(text: str) -> tuple[int | None, str]:
    """Bytes, None for a variable field, and what else the cell says."""
    if size := SIZE.fullmatch(text):
        return sum(int(part) for part in size[1].split("+")), ""
    if text == DOTS:
        return None, ""
    if variable := VARIABLE.fullmatch(text):
        return None, variable[1] or variable[2] or ""
    raise RowError(f"Size {text!r} is neither a number nor variable" if text else "the size is missing")


def _bits(grid: Grid, file: str, report: Report) -> tuple[BitSpec, ...]:
    if tuple(title.casefold() for title in grid.titles) != ("bit", "definition"):
        report(grid.line, f"a table inside a cell has the columns Bit and Definition, not {' and '.join(grid.titles)}")
        return ()
    return tuple(_each(grid, file, report, _bit))


def _bit(row: GridRow, at: Source) -> BitSpec:
    bits, name = _texts(row, 2)
    span = BITS.fullmatch(bits)
    if not span:
        raise RowError(f"Bit {bits!r} is neither a bit nor a range such as 0-3")
    first, last = int(span[1]), int(span[2] or span[1])
    if first > last:
        raise RowError(f"Bit {bits!r} runs downwards; the lower bit comes first")
    if not name:
        raise RowError(f"bit {bits} has no definition")
    return BitSpec(first, last, name, at)


def _value(row: GridRow, at: Source) -> ValueSpec:
    name, value = _texts(row, 2)
    return ValueSpec(name, value, at)


def _code(row: GridRow, titles: tuple[str, ...], at: Source) -> CodeSpec:
    name, number, *notes = _texts(row, len(titles))
    return CodeSpec(name, _number(number, titles[1]), tuple(notes), at)


def _member(row: GridRow, at: Source) -> MemberSpec:
    name, kind, description = _texts(row, 3)
    if kind not in JSON_TYPES:
        raise RowError(f"Type {kind!r} is no type of JSON")
    return MemberSpec(name.strip('"'), JSON_TYPES[kind], description, at)


def _holds_numbers_only(grid: Grid) -> bool:
    """Whether a table of names and values gives numbers to names; else it says what the fields of a message hold."""
    return all(NUMBER.fullmatch(row.cells[-1].text) for row in grid.rows)


def _is_truth_table(grid: Grid) -> bool:
    """Zeros, ones and dashes, but for the words of the first or the last column."""
    width = len(grid.titles)
    if width < 3 or any(len(row.cells) != width or any(cell.table for cell in row.cells) for row in grid.rows):
        return False
    insides = [row.texts[1:] for row in grid.rows], [row.texts[:-1] for row in grid.rows]
    return any(all(text in ("0", "1", "-") for texts in inside for text in texts) for inside in insides)
