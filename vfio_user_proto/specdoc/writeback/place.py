"""Where tables stand in the text of a document, and where new ones go, with titles for their sections."""

import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from vfio_user_proto.specdoc.keys import SLASH, fold, is_symbol, titles_of
from vfio_user_proto.specdoc.specs import Document, Section, TableSpec
from vfio_user_proto.specdoc.tables import ADORNMENTS, escape, table_lines
from vfio_user_proto.specdoc.writeback.tabletext import BORDER, SEPARATOR

TABLE_LINE = re.compile(r"\s*[+|=]")
ADORNED = re.compile(r"([!-/:-@[-`{-~])\1*\s*")
TARGET = re.compile(r"\.\. _")


class Edit(NamedTuple):
    """Lines to put in place of those from ``begin`` to ``end``, counted from 0."""

    begin: int
    end: int
    lines: Sequence[str]
    does: str


def extent(document: Document, table: TableSpec) -> tuple[int, int]:
    """The first line of a table and the one behind its last, counted from 0."""
    begin = table.source.line - 1
    while begin and TABLE_LINE.match(document.lines[begin - 1]):
        begin -= 1
    if SEPARATOR.fullmatch(document.lines[begin].strip()):
        return begin, begin + len([*takewhile(TABLE_LINE.match, document.lines[begin:])])
    borders = [at for at in range(begin, len(document.lines)) if BORDER.fullmatch(document.lines[at].strip())]
    return begin, borders[2] + 1


class Sections:
    """The sections of a document, and those that are added to it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.there = {fold(section.key): section for section in document.sections}
        self.added: dict[str, tuple[int, int]] = {}  # where each new section goes, and how deep it is

    def with_tables(self, tables: Iterable[TableSpec], order: Sequence[TableSpec]) -> list[Edit]:
        """One edit for each of ``tables``; the neighbours of a table are those of its kind in ``order``."""
        return [
            self._with_table(table, [each for each in order[: order.index(table)] if type(each) is type(table)])
            for table in tables
        ]

    def _with_table(self, table: TableSpec, before: Sequence[TableSpec]) -> Edit:
        path = titles_of(table.key)
        does = f"{self.document.file}: {table.key}: added"
        section = self.there.get(_folded(path))
        if section:
            at = self._inside(section, table)
            apart = [""] if at < len(self.document.lines) and self.document.lines[at].strip() else []
            return Edit(at, at, ["", *table_lines(table), *apart], does)
        known = next(depth for depth in range(len(path), -1, -1) if not depth or self._is_known(path[:depth]))
        at, depth = self._place(path, known, before)
        titles: list[str] = []
        for number, title in enumerate(path[known:]):
            self.added[_folded(path[: known + number + 1])] = at, depth + number
            titles += self._title(title, depth + number)
        apart = [""] if at and self.document.lines[at - 1].strip() else []
        return Edit(at, at, [*apart, *titles, *table_lines(table), ""], does)

    def _is_known(self, path: tuple[str, ...]) -> bool:
        return _folded(path) in self.there or _folded(path) in self.added

    def _place(self, path: tuple[str, ...], known: int, before: Sequence[TableSpec]) -> tuple[int, int]:
        """Before which line a new section goes, and how deep: behind the nearest sibling that the tables before have."""
        parent = _folded(path[:known])
        if parent in self.added:
            at, depth = self.added[parent]
            return at, depth + 1
        for table in reversed(before):
            sibling = titles_of(table.key)[: known + 1]
            if sibling[:known] != path[:known] or len(sibling) <= known:
                continue
            if _folded(sibling) in self.added:
                return self.added[_folded(sibling)]
            if found := self.there.get(_folded(sibling)):
                return self._end(found), len(found.titles)
        above = self.there.get(parent)
        return (self._end(above), len(above.titles) + 1) if above else (len(self.document.lines), 1)

    def _inside(self, section: Section, table: TableSpec) -> int:
        """Below the title of a section, or below the table before in it."""
        alike = [each for each in self.document.tables if type(each) is type(table)]
        before = [each for each in alike if titles_of(each.key) == titles_of(table.key)]
        return extent(self.document, before[-1])[1] if before else section.source.line + 1

    def _end(self, section: Section) -> int:
        """The line of the next section that is no part of this one, or rather of what belongs to its title."""
        after = self.document.sections[self.document.sections.index(section) + 1 :]
        following = next((each for each in after if len(each.titles) <= len(section.titles)), None)
        if following is None:
            return len(self.document.lines)
        at = following.source.line - 1
        if at and ADORNED.fullmatch(self.document.lines[at - 1]):
            at -= 1
        above = at
        while above and (not self.document.lines[above - 1].strip() or TARGET.match(self.document.lines[above - 1])):
            above -= 1
            at = above if TARGET.match(self.document.lines[above]) else at
        return at

    def _title(self, title: str, depth: int) -> list[str]:
        """A title in the manner of the document."""
        literal = any(
            self.document.lines[each.source.line - 1].startswith("``")
            for each in self.document.sections
            if is_symbol(each.titles[-1])
        )
        words = (
            SLASH.join(f"``{one}``" for one in title.split(SLASH)) if literal and is_symbol(title) else escape(title)
        )
        used = {len(each.titles): self.document.lines[each.source.line][:1] for each in self.document.sections}
        dash = used.get(depth) or next(one for one in ADORNMENTS if one not in used.values())
        return [words, dash * len(words), ""]


def _folded(path: tuple[str, ...]) -> str:
    return fold(SLASH.join(path))
