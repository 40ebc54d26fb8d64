"""The text of a table, row by row: rows that nobody touches keep their characters.

A table grows only where a cell needs more room than its column has; then every line gets the same blanks or dashes.
"""

import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence

from vfio_user_proto.specdoc.specs import DOTS
from vfio_user_proto.specdoc.tables import LONGEST_CELL, escape, grid_lines

SEPARATOR = re.compile(r"\+(?:[-=]+\+)+")
BORDER = re.compile(r"=+(?: +=+)+")


class TableText(ABC):
    """The lines of one table, without their indentation. ``rows`` are the lines of each row, the titles first."""

    rows: list[list[str]]

    @property
    @abstractmethod
    def lines(self) -> list[str]:
        """The table as it stands now."""

    @abstractmethod
    def cell(self, at: int, column: int) -> str:
        """The words of one cell as they are written, markup and all."""

    @abstractmethod
    def delete(self, at: int) -> None:
        """Take a row out."""

    @abstractmethod
    def set_cell(self, at: int, column: int, text: str) -> None:
        """Put other words into one cell; the others of the row keep theirs."""

    @abstractmethod
    def _insert(self, at: int, cells: Sequence[str]) -> None:
        """A new row before row ``at``, its cells written as they are to stand there."""

    def insert(self, at: int, cells: Sequence[str]) -> None:
        """A new row before row ``at``, its words in the manner of those that are there."""
        self._insert(at, [self.in_manner(column, text) for column, text in enumerate(cells)])

    def nested(self, at: int) -> "GridText | None":
        """The table that is row ``at``; None where that is a row of words, or none at all."""
        return None

    def in_manner(self, column: int, text: str) -> str:
        """The words as the other cells of the column would write them: as a literal, or as a hexadecimal number."""
        others = [self.cell(at, column) for at in range(1, len(self.rows)) if not self.nested(at)]
        others = [other for other in others if other not in ("", DOTS)]
        if others and all(other.startswith("``") for other in others):
            return f"``{text}``"
        if text.isdigit() and others and all(other.startswith("0x") for other in others):
            return hex(int(text))
        return text if text == DOTS else escape(text)


def _depth(cells: Sequence[Sequence[str]]) -> int:
    """How many lines a row takes, of which the last ones of some cells are empty."""
    return max(1, *(number for cell in cells for number, line in enumerate(cell, 1) if line))


class GridText(TableText):
    """A grid table; ``separators`` are the lines around its rows."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.separators, self.rows = [lines[0]], []
        row: list[str] = []
        for line in lines[1:]:
            if SEPARATOR.fullmatch(line):
                self.rows.append(row)
                self.separators.append(line)
                row = []
            else:
                row.append(line)
        self.widths = [len(part) for part in lines[0].strip("+").split("+")]

    @property
    def lines(self) -> list[str]:
        found = [self.separators[0]]
        for row, separator in zip(self.rows, self.separators[1:], strict=True):
            found += [*row, separator]
        return found

    def cell(self, at: int, column: int) -> str:
        return " ".join(part for line in self.rows[at] if (part := self._part(line, column)))

    def _part(self, line: str, column: int) -> str:
        begin = 1 + sum(self.widths[:column]) + column
        return line[begin : begin + self.widths[column]].strip()

    def nested(self, at: int) -> "GridText | None":
        inner = [line[self.widths[0] + 3 : -1].rstrip() for line in self.rows[at]] if at < len(self.rows) else []
        return GridText(inner) if inner and all(line[:1] in ("+", "|") for line in inner) else None

    def set_nested(self, at: int, inner: "GridText") -> None:
        """Put another table into a row that has one."""
        self.rows[at] = self._around(inner.lines)

    def insert_nested(self, at: int, titles: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
        """A new row with a table inside it."""
        self._put(at, self._around(grid_lines(titles, rows)))

    def delete(self, at: int) -> None:
        del self.rows[at], self.separators[at + 1]

    def set_cell(self, at: int, column: int, text: str) -> None:
        cells = [[self._part(line, number) for line in self.rows[at]] for number in range(len(self.widths))]
        cells[column] = self._wrapped(self.in_manner(column, text), column)
        self.rows[at] = self._row([cell[: _depth(cells)] for cell in cells])

    def _insert(self, at: int, cells: Sequence[str]) -> None:
        self._put(at, self._row([self._wrapped(text, column) for column, text in enumerate(cells)]))

    def _put(self, at: int, lines: list[str]) -> None:
        self.rows.insert(at, lines)
        self.separators.insert(at + 1, self.separators[-1].replace("=", "-"))

    def _wrapped(self, text: str, column: int) -> list[str]:
        """Lines that fit into the column, which is first widened for a word that does not, and for a name."""
        room = max((len(word) for word in text.split()), default=0)
        whole = column == 0 or all(len(row) <= 1 for at, row in enumerate(self.rows) if not self.nested(at))
        room = max(room, min(len(text), LONGEST_CELL) if whole else 0)
        self._widen(column, room + 2)
        return textwrap.wrap(text, self.widths[column] - 2, break_long_words=False, break_on_hyphens=False) or [""]

    def _row(self, cells: Sequence[Sequence[str]]) -> list[str]:
        texts = [[*cell, *[""] * (_depth(cells) - len(cell))] for cell in cells]
        return [
            "|" + "|".join(f" {text[at]}".ljust(width) for text, width in zip(texts, self.widths, strict=True)) + "|"
            for at in range(_depth(cells))
        ]

    def _around(self, inner: Sequence[str]) -> list[str]:
        """The lines of a row that is a table below the other columns than the first."""
        last = len(self.widths) - 1
        self._widen(last, self.widths[last] + len(inner[0]) + 2 - self._room())
        while inner[0].startswith("+", self.widths[1] - 1):
            self._widen(1, self.widths[1] + 1)  # see tables.grid_lines: no corner right below the end of a column
        return [f"|{' ' * self.widths[0]}| {line.ljust(self._room() - 1)}|" for line in inner]

    def _room(self) -> int:
        """How long a line may be that spans all columns but the first."""
        return sum(self.widths[1:]) + len(self.widths) - 2

    def _widen(self, column: int, width: int) -> None:
        """Make a column wider in every line, if it is not wide enough."""
        more = width - self.widths[column]
        if more <= 0:
            return
        end = 1 + sum(self.widths[: column + 1]) + column
        nested = [bool(column and self.nested(at)) for at in range(len(self.rows))]
        for at, row in enumerate(self.rows):
            self.rows[at] = [
                line[: -1 if nested[at] else end] + " " * more + line[-1 if nested[at] else end :] for line in row
            ]
        self.separators = [line[:end] + line[end - 1] * more + line[end:] for line in self.separators]
        self.widths[column] = width


class SimpleText(TableText):
    """A simple table, whose last column may be longer than its border."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.borders = [line for line in lines if BORDER.fullmatch(line.rstrip())]
        self.rows = [[]]
        inside = 0
        for line in lines:
            if BORDER.fullmatch(line.rstrip()):
                inside += 1
            elif inside == 1:
                self.rows[0].append(line)
            elif line[: self._spans[0][1]].strip():
                self.rows.append([line])
            else:
                self.rows[-1].append(line)

    @property
    def _spans(self) -> list[tuple[int, int]]:
        """Where each column begins and ends."""
        return [found.span() for found in re.finditer("=+", self.borders[0])]

    @property
    def lines(self) -> list[str]:
        body = [line for row in self.rows[1:] for line in row]
        return [self.borders[0], *self.rows[0], self.borders[1], *body, self.borders[2]]

    def cell(self, at: int, column: int) -> str:
        return " ".join(part for line in self.rows[at] if (part := self._part(line, column)))

    def _part(self, line: str, column: int) -> str:
        begin, end = self._spans[column]
        return line[begin:].strip() if column == len(self._spans) - 1 else line[begin:end].strip()

    def delete(self, at: int) -> None:
        del self.rows[at]

    def set_cell(self, at: int, column: int, text: str) -> None:
        cells = [[self._part(line, number) for line in self.rows[at]] for number in range(len(self._spans))]
        cells[column] = [self.in_manner(column, text), *[""] * (len(self.rows[at]) - 1)]
        self._widen(cells[column][0], column)
        self.rows[at] = [self._line([cell[number] for cell in cells]) for number in range(_depth(cells))]

    def _insert(self, at: int, cells: Sequence[str]) -> None:
        for column, text in enumerate(cells):
            self._widen(text, column)
        self.rows.insert(at, [self._line(cells)])

    def _line(self, cells: Sequence[str]) -> str:
        line = ""
        for (begin, _), text in zip(self._spans, cells, strict=True):
            line = line.ljust(begin) + text
        return line.rstrip()

    def _widen(self, text: str, column: int) -> None:
        """Make a column wide enough for a text; the last one needs no room."""
        begin, end = self._spans[column]
        more = len(text) - (end - begin)
        if more <= 0 or column == len(self._spans) - 1:
            return
        self.rows = [
            [line[:end] + " " * more + line[end:] if line[end:] else line for line in row] for row in self.rows
        ]
        self.borders = [line[:end] + "=" * more + line[end:] for line in self.borders]
