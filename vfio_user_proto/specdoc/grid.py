"""A docutils table as plain rows of cells, each with its line; what a row cannot say plainly is an error."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from docutils import nodes

from vfio_user_proto.specdoc.parse import Tree, line_of

BLANK_ROW = re.compile(r"\s*\|[\s|]*\|\s*")

Report = Callable[[int, str], None]


class RowError(Exception):
    """A row that cannot be modelled; the text says why."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The words of one cell on one line, or the table inside it."""

    text: str
    line: int
    table: "Grid | None" = None


@dataclass(frozen=True, slots=True)
class GridRow:
    """The cells of one row; a cell over several columns counts once."""

    cells: tuple[Cell, ...]
    line: int

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(cell.text for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid or simple table: its titles and its rows; ``line`` is its first."""

    titles: tuple[str, ...]
    rows: tuple[GridRow, ...]
    line: int


def grid(tree: Tree, table: nodes.table, report: Report) -> Grid | None:
    """The plain form of ``table``, None where the titles have none. Rows that have none go to ``report``."""
    line = line_of(table)
    groups = [group for group in table.children if isinstance(group, nodes.tgroup)]
    parts = [part for group in groups for part in group.children]
    head = [row for part in parts if isinstance(part, nodes.thead) for row in part.children]
    body = [row for part in parts if isinstance(part, nodes.tbody) for row in part.children]
    titles = _row(tree, head[0], line, report) if len(head) == 1 else None
    if titles is None:
        report(line, f"a table needs one row of titles, this one has {len(head)}")
        return None
    rows: list[GridRow] = []
    before = titles.line
    for node in body:
        row = _row(tree, node, before, report)
        if row is None:
            continue
        if any(cell.text or cell.table for cell in row.cells):
            rows.append(row)
            before = row.line
        elif (blank := _blank_row_after(tree, before)) is not None:
            report(blank, "an empty row")
    return Grid(titles.texts, tuple(rows), line)


def _row(tree: Tree, row: nodes.Node, before: int, report: Report) -> GridRow | None:
    """One row; ``before`` is the line of the row above, for want of a better one where all cells are empty."""
    cells = []
    for entry in row.children:
        line = next((part.line for part in entry.children if part.line), before)
        try:
            cells.append(_cell(tree, entry, line, report))
        except RowError as error:
            report(line, str(error))
            return None
    return GridRow(tuple(cells), min((cell.line for cell in cells if cell.line > before), default=before))


def _cell(tree: Tree, entry: nodes.Node, line: int, report: Report) -> Cell:
    parts = [part for part in entry.children if not isinstance(part, nodes.system_message)]
    if isinstance(entry, nodes.entry) and "morerows" in entry:
        raise RowError("a cell over several rows; or has a table inside it a corner right below a corner of this one?")
    if len(parts) == 1 and isinstance(parts[0], nodes.table):
        return Cell("", line, grid(tree, parts[0], report))
    for part in parts:
        if not isinstance(part, nodes.paragraph):
            kind = type(part).__name__.replace("_", " ")
            raise RowError(f"a cell holds a {kind} among its text; only words, or one table, can be modelled")
    return Cell(" ".join(" ".join(part.astext().split()) for part in parts), line)


def _blank_row_after(tree: Tree, line: int) -> int | None:
    """The line of a row of blanks below ``line``; None where the empty row is only a doubled separator."""
    for number in range(line + 1, len(tree.lines) + 1):
        text = tree.lines[number - 1]
        if BLANK_ROW.fullmatch(text):
            return number
        if text.strip(" |+-="):
            break
    return None
