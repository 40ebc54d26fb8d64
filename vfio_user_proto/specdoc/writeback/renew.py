"""Renews the tables of a document: finds the text of each, merges what has changed, and adds sections for new tables."""

from typing import NamedTuple

from vfio_user_proto.specdoc.diff import pairs
from vfio_user_proto.specdoc.specs import Document, LayoutSpec, TableSpec, fault
from vfio_user_proto.specdoc.writeback.merge import merge
from vfio_user_proto.specdoc.writeback.place import Edit, Sections, extent
from vfio_user_proto.specdoc.writeback.tabletext import SEPARATOR, GridText, SimpleText, TableText


class Renewed(NamedTuple):
    """The new text of a document, what was done to it, and what no schema has any more, which is left as it is."""

    text: str
    done: tuple[str, ...]
    left: tuple[str, ...]


def renewed(text: str, document: Document, old: Document, new: Document) -> Renewed:
    """``text``, which was read as ``document``, with all in it that differs between the schemas ``old`` and ``new``.

    Raises SpecError where a table has a form that cannot take the change.
    """
    edits: list[Edit] = []
    left: list[str] = []
    missing: list[TableSpec] = []
    for was, now in pairs.tables(old.tables, new.tables):
        if now is None and was is not None:
            left.append(was.key)
        elif was is None and now is not None:
            missing.append(now)
        elif was is not None and now is not None and was != now:
            edits += _changed(document, was, now)
    edits += Sections(document).with_tables([table for table in missing if not _partner(document, table)], new.tables)
    lines = text.split("\n")
    ending = "\r" if lines[0].endswith("\r") else ""
    edits.sort(key=lambda each: each.begin)
    for edit in reversed(edits):
        lines[edit.begin : edit.end] = [line + ending for line in edit.lines]
    return Renewed("\n".join(lines), tuple(edit.does for edit in edits), tuple(left))


def _changed(document: Document, was: TableSpec, now: TableSpec) -> list[Edit]:
    """The table of the document that is ``was`` there, with what ``now`` says differently; none if it says so already."""
    partner = _partner(document, was)
    if partner is None:
        raise fault(now.source, f"{document.file} has no table {was.key!r} to be renewed")
    begin, end = extent(document, partner)
    indent = " " * (len(document.lines[begin]) - len(document.lines[begin].lstrip()))
    raw = [line[len(indent) :].rstrip() for line in document.lines[begin:end]]
    text: TableText = GridText(raw) if SEPARATOR.fullmatch(raw[0]) else SimpleText(raw)
    before = text.lines
    merge(text, was, now, partner.base if isinstance(partner, LayoutSpec) else 0)
    if text.lines == before:
        return []
    kept = {line.rstrip(): line for line in document.lines[begin:end]}  # with the blanks at their ends, if any
    lines = [kept.get(f"{indent}{line}", f"{indent}{line}") for line in text.lines]
    return [Edit(begin, end, lines, f"{document.file}:{begin + 1}: {partner.key}: renewed")]


def _partner(document: Document, table: TableSpec) -> TableSpec | None:
    """The document's own table that is ``table`` in the schemas."""
    alike = [each for each in document.tables if type(each) is type(table)]
    return next((there for mine, there in pairs.tables([table], alike) if mine and there), None)
