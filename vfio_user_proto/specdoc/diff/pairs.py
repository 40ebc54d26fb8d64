"""Which table and which row of one document is which of another, although titles, places and names have changed."""

import difflib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol, TypeVar

from vfio_user_proto.specdoc.keys import fold, ordinal_of, titles_of
from vfio_user_proto.specdoc.names import own_titles
from vfio_user_proto.specdoc.specs import CodesSpec, JsonSpec, LayoutSpec, TableSpec, TruthSpec, ValuesSpec


class Named(Protocol):
    """A row, whatever else it has."""

    @property
    def name(self) -> str: ...


Table = TypeVar("Table", bound=TableSpec)
Row = TypeVar("Row", bound=Named)
RESERVED = re.compile(r"(?:reserved|pad|padding|unused)\d*", re.IGNORECASE)
ALIKE = 0.75  # from 0 to 1: two names of which one is taken for the other's new form


def tables(olds: Sequence[Table], news: Sequence[Table]) -> Iterator[tuple[Table | None, Table | None]]:
    """Old tables with their new ones, None where there is none: by section, or else by title, or else by content."""
    left = list(news)
    found: dict[int, Table] = {}
    for alike in (_section, _title, _content):
        there = _only(left, alike)
        mine = _only([table for table in olds if id(table) not in found], alike)
        for mark in mine.keys() & there.keys():
            found[id(mine[mark])] = there[mark]
            left.remove(there[mark])
    yield from ((table, found.get(id(table))) for table in olds)
    yield from ((None, table) for table in left)


def _only(those: Sequence[Table], mark: Callable[[TableSpec], Hashable]) -> dict[Hashable, Table]:
    """Tables by their mark, without those that share theirs."""
    marks = [mark(table) for table in those]
    return {one: table for one, table in zip(marks, those, strict=True) if marks.count(one) == 1}


def _section(table: TableSpec) -> Hashable:
    return type(table), fold(table.key)


def _title(table: TableSpec) -> Hashable:
    return type(table), fold("/".join(own_titles(table.key))), ordinal_of(table.key)


def _content(table: TableSpec) -> Hashable:
    """What the rows say, and of which command."""
    rows: list[tuple[str, object]]
    match table:
        case LayoutSpec():
            rows = [(each.name, (each.offset, each.size)) for each in table.fields]
        case CodesSpec():
            rows = [(each.name, each.value) for each in table.codes]
        case ValuesSpec():
            rows = [(each.name, fold(each.value)) for each in table.values]
        case JsonSpec():
            rows = [(each.name, each.type) for each in table.members]
        case TruthSpec():
            rows = [("".join(row), 0) for row in table.rows]
    return type(table), fold(titles_of(table.key)[0]), tuple((fold(name), fact) for name, fact in rows)


def rows(
    olds: Sequence[Row],
    news: Sequence[Row],
    same_place: Callable[[Row, Row], bool] = lambda old, new: False,
    *,
    lone: bool = False,
) -> list[tuple[Row | None, Row | None]]:
    """Old rows with their new ones, then new rows that have no old one.

    Rows are the same by name; or else where ``same_place`` says so; or else, with ``lone``, where each is the only one
    without a partner between two that have one. What is reserved becomes nothing else, and nothing else becomes reserved.
    """
    partner: dict[int, int] = {}
    names = [fold(row.name) for row in news]
    for at, row in enumerate(olds):
        if fold(row.name) in names:
            partner[at] = names.index(fold(row.name))
    for at, row in enumerate(olds):
        free = [to for to, new in enumerate(news) if to not in partner.values() and _may_be(row, new)]
        if at not in partner and (to := next((to for to in free if same_place(row, news[to])), None)) is not None:
            partner[at] = to
    partner |= _lone(olds, news, partner) if lone else {}
    pairs: list[tuple[Row | None, Row | None]] = [
        (row, news[partner[at]] if at in partner else None) for at, row in enumerate(olds)
    ]
    return pairs + [(None, row) for to, row in enumerate(news) if to not in partner.values()]


def _lone(olds: Sequence[Row], news: Sequence[Row], partner: Mapping[int, int]) -> dict[int, int]:
    """Rows that stand alone between two pairs, on both sides."""
    found: dict[int, int] = {}
    marks = [(-1, -1), *sorted(partner.items()), (len(olds), len(news))]
    for (old_from, new_from), (old_to, new_to) in pairwise(marks):
        mine = [at for at in range(old_from + 1, old_to) if not RESERVED.fullmatch(olds[at].name)]
        there = [to for to in range(new_from + 1, new_to) if not RESERVED.fullmatch(news[to].name)]
        if len(mine) == len(there) == 1 and there[0] not in partner.values():
            found[mine[0]] = there[0]
    return found


def _may_be(old: Row, new: Row) -> bool:
    return bool(RESERVED.fullmatch(old.name)) == bool(RESERVED.fullmatch(new.name))


def alike(old: str, new: str) -> bool:
    """Whether two names look like forms of one."""
    return difflib.SequenceMatcher(None, fold(old), fold(new)).ratio() >= ALIKE
