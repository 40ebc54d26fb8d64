"""Carries the differences between two forms of a table over to the text of a third, row by row and cell by cell.

The text may say something else than the old form, as a published document does: only what differs between the forms changes.
"""

from collections.abc import Sequence
from typing import NamedTuple

from vfio_user_proto.specdoc.diff import pairs
from vfio_user_proto.specdoc.keys import fold
from vfio_user_proto.specdoc.specs import (
    DOTS,
    BitSpec,
    CodesSpec,
    FieldSpec,
    JsonSpec,
    LayoutSpec,
    TableSpec,
    TruthSpec,
    ValuesSpec,
    fault,
)
from vfio_user_proto.specdoc.tables import span
from vfio_user_proto.specdoc.writeback.tabletext import GridText, TableText

BIT_TITLES = ("Bit", "Definition")


class Row(NamedTuple):
    """One row of a table as its cells, with the bits below it; ``name`` is what it is found by."""

    name: str
    cells: tuple[str, ...]
    bits: tuple[BitSpec, ...] = ()


def merge(text: TableText, old: TableSpec, new: TableSpec, base: int) -> None:
    """Change ``text`` as ``new`` differs from ``old``; ``base`` is what its offsets count before the first field."""
    partners = pairs.rows(_named(old, base), _named(new, base), _same_place, lone=isinstance(old, LayoutSpec))
    _merge(text, partners, [row.name for row in _named(new, base)], 0)
    if isinstance(old, LayoutSpec) and isinstance(new, LayoutSpec) and old.repeats != new.repeats:
        dots = _find(text, DOTS, 0)
        if new.repeats and dots is None:
            text.insert(len(text.rows), (DOTS, "", ""))
        elif not new.repeats and dots is not None:
            text.delete(dots)


def _named(table: TableSpec, base: int) -> list[Row]:
    """The rows of a table as they are written."""
    match table:
        case LayoutSpec():
            return [Row(each.name, _field(each, base), each.bits) for each in table.fields]
        case CodesSpec():
            return [Row(each.name, (each.name, str(each.value), *each.notes)) for each in table.codes]
        case ValuesSpec():
            return [Row(each.name, (each.name, each.value)) for each in table.values]
        case JsonSpec():
            return [Row(each.name, (each.name, each.type, each.description)) for each in table.members]
        case TruthSpec():
            return [Row(row[-1], row) for row in table.rows]


def _field(each: FieldSpec, base: int) -> tuple[str, str, str]:
    size = f"variable {each.note}".strip() if each.size is None else str(each.size)
    return each.name, str(each.offset + base), size


def _same_place(old: Row, new: Row) -> bool:
    return old.cells[1:] == new.cells[1:] and pairs.alike(old.name, new.name)


def _merge(text: TableText, partners: Sequence[tuple[Row | None, Row | None]], order: Sequence[str], key: int) -> None:
    """Change rows that are found by their cell in column ``key``; ``order`` has the names of the new form."""
    for old, new in partners:
        at = _find(text, (old or new or Row("", ())).name, key)
        if old and not new and at is not None:
            if text.nested(at + 1):
                text.delete(at + 1)
            text.delete(at)
        elif old and new and at is not None:
            for column, (was, now) in enumerate(zip(old.cells, new.cells, strict=True)):
                if was != now:
                    text.set_cell(at, column, now)
            _merge_bits(text, at, old.bits, new.bits)
    for at_new, name in enumerate(order):
        added = next((new for old, new in partners if new and not old and new.name == name), None)
        if added and _find(text, name, key) is None:
            at = _behind(text, order[:at_new], key)
            text.insert(at, added.cells)
            _merge_bits(text, at, (), added.bits)
    _sort(text, [fold(name) for name in order], key)


def _sort(text: TableText, order: Sequence[str], key: int) -> None:
    """Put the rows that the new form has into its order, each with the bits below it; others keep their places."""
    blocks: list[tuple[str, list[list[str]]]] = []
    for at in range(1, len(text.rows)):
        if text.nested(at):
            blocks[-1][1].append(text.rows[at])
        else:
            blocks.append((fold(text.cell(at, key)), [text.rows[at]]))
    known = iter(sorted((block for block in blocks if block[0] in order), key=lambda block: order.index(block[0])))
    placed = [next(known) if block[0] in order else block for block in blocks]
    text.rows[1:] = [row for _, rows in placed for row in rows]


def _find(text: TableText, name: str, key: int) -> int | None:
    """The row with this name."""
    rows = range(1, len(text.rows))
    return next((at for at in rows if not text.nested(at) and fold(text.cell(at, key)) == fold(name)), None)


def _behind(text: TableText, before: Sequence[str], key: int) -> int:
    """The place behind the last row of those that are to stand before."""
    found = [at for name in before if (at := _find(text, name, key)) is not None]
    if not found:
        return 1
    return found[-1] + (2 if text.nested(found[-1] + 1) else 1)


def _merge_bits(text: TableText, at: int, old: Sequence[BitSpec], new: Sequence[BitSpec]) -> None:
    """Change the table of bits below a row."""
    if tuple(old) == tuple(new):
        return
    olds, news = ([Row(bit.name, (span(bit), bit.name)) for bit in bits] for bits in (old, new))
    inner = text.nested(at + 1)
    if inner and new:
        _merge(inner, pairs.rows(olds, news, _same_bit), [row.name for row in news], 1)
        assert isinstance(text, GridText)
        text.set_nested(at + 1, inner)
    elif inner:
        text.delete(at + 1)
    elif not isinstance(text, GridText):
        raise fault(new[0].source, "a simple table has no room for bits; make it a grid table first")
    else:
        known = [row.name for row in olds]
        text.insert_nested(at + 1, BIT_TITLES, [row.cells for row in news if row.name not in known])


def _same_bit(old: Row, new: Row) -> bool:
    return old.cells[0] == new.cells[0] and pairs.alike(old.name, new.name)
