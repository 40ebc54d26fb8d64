"""Specs to tables in reStructuredText, one file per command or chapter; reading the files gives the same specs."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from docutils.utils import column_width

from vfio_user_proto.specdoc.keys import ordinal_of, titles_of
from vfio_user_proto.specdoc.specs import (
    DOTS,
    BitSpec,
    CodesSpec,
    Document,
    FieldSpec,
    JsonSpec,
    LayoutSpec,
    TableSpec,
    TruthSpec,
    ValuesSpec,
)

ADORNMENTS = "=-^\"'~+*#"
LONGEST_CELL = 60
LIST_MARK = re.compile(r"\(?(?:\d+|[A-Za-z]|[ivxlcdmIVXLCDM]+|#)[.)](?:\s|$)")

Row = tuple[str, ...] | list[str]  # the texts of its cells, or the lines of a table that stands in it


@dataclass(slots=True)
class _Section:
    tables: list[TableSpec] = field(default_factory=list)
    inner: dict[str, "_Section"] = field(default_factory=dict)


def files(document: Document, origin: str) -> Mapping[str, str]:
    """Name and text of each file; ``origin`` is what they are made from. Above each table stands where it is from."""
    root = _Section()
    for table in document.tables:
        section = root
        for title in titles_of(table.key):
            section = section.inner.setdefault(title, _Section())
        section.tables.append(table)
    texts: dict[str, str] = {}
    for title, section in root.inner.items():
        name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".rst"
        head = f'.. GENERATED from {origin} by "vfio-user spec tables"; do not edit.\n\n'
        texts[name] = texts.get(name, head) + "\n".join(_section_lines(title, section, 0)).rstrip("\n") + "\n"
    return texts


def _section_lines(title: str, section: _Section, depth: int) -> Iterator[str]:
    heading = escape(title)
    yield from (heading, ADORNMENTS[depth] * column_width(heading), "")
    for table in sorted(section.tables, key=lambda each: ordinal_of(each.key)):
        yield from (f"From ``{table.source}``:", "", *table_lines(table), "")
    for inner_title, inner in section.inner.items():
        yield from _section_lines(inner_title, inner, depth + 1)


def table_lines(table: TableSpec) -> list[str]:
    """One table as a grid table."""
    match table:
        case LayoutSpec():
            rows = [row for each in table.fields for row in _field_rows(each)]
            return grid_lines(("Name", "Offset", "Size"), [*rows, (DOTS, "", "")] if table.repeats else rows)
        case CodesSpec():
            return grid_lines(table.columns, [(code.name, str(code.value), *code.notes) for code in table.codes])
        case ValuesSpec():
            return grid_lines(("Name", "Value"), [(each.name, each.value) for each in table.values])
        case JsonSpec():
            members = [(each.name, each.type, each.description) for each in table.members]
            return grid_lines(("Name", "Type", "Description"), members)
        case TruthSpec():
            return grid_lines(table.columns, table.rows)


def _field_rows(spec: FieldSpec) -> Iterator[Row]:
    size = f"variable {spec.note}".strip() if spec.size is None else str(spec.size)
    yield spec.name, str(spec.offset), size
    if spec.bits:
        yield grid_lines(("Bit", "Definition"), [(span(bit), bit.name) for bit in spec.bits])


def span(bit: BitSpec) -> str:
    """The bits as a table writes them: "4", "0-3"."""
    return str(bit.first) if bit.first == bit.last else f"{bit.first}-{bit.last}"


def grid_lines(titles: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """The lines of a grid table. A row that is a table stands below the other columns than the first."""
    cells = [[_wrap(text) for text in row] for row in [tuple(titles), *(row for row in rows if isinstance(row, tuple))]]
    widths = [max(column_width(line) for row in cells for line in row[at]) + 2 for at in range(len(titles))]
    borders = [row[0] for row in rows if isinstance(row, list)]
    while any(border.startswith("+", widths[1] - 1) for border in borders):
        widths[1] += 1  # a corner right below the end of a column would be taken for a corner of that column
    room = max((len(border) + 2 for border in borders), default=0)
    widths[-1] += max(0, room - (sum(widths[1:]) + len(widths) - 2))
    lines = [_border(widths, "-"), *_row_lines(cells[0], widths), _border(widths, "=")]
    for row in rows:
        if isinstance(row, tuple):
            lines += _row_lines([_wrap(text) for text in row], widths)
        else:
            room = sum(widths[1:]) + len(widths) - 2
            lines += [f"|{' ' * widths[0]}| {line.ljust(room - 1)}|" for line in row]
        lines.append(_border(widths, "-"))
    return lines


def _border(widths: Sequence[int], dash: str) -> str:
    return "+" + "+".join(dash * width for width in widths) + "+"


def _row_lines(cells: Sequence[list[str]], widths: Sequence[int]) -> Iterator[str]:
    for at in range(max(len(cell) for cell in cells)):
        texts = [cell[at] if at < len(cell) else "" for cell in cells]
        yield (
            "|"
            + "|".join(
                f" {text}{' ' * (width - 1 - column_width(text))}" for text, width in zip(texts, widths, strict=True)
            )
            + "|"
        )


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(escape(text), LONGEST_CELL, break_long_words=False, break_on_hyphens=False) or [""]


def escape(text: str) -> str:
    """``text`` with a backslash before whatever reStructuredText would take for markup."""
    safe = re.sub(r"([\\*`|])|_(?![A-Za-z0-9])", lambda found: "\\" + found[0], text)
    is_marked = LIST_MARK.match(safe) or (safe and not safe[0].isalnum() and safe[0] not in "<\\" and text != DOTS)
    return "\\" + safe if is_marked else safe
