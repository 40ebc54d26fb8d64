"""Lints that look at one table alone: places and sizes of fields, bits, names and numbers that occur twice."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

from vfio_user_proto.specdoc.specs import (
    WARNING,
    BitSpec,
    CodeSpec,
    CodesSpec,
    Document,
    FieldSpec,
    JsonSpec,
    LayoutSpec,
    MemberSpec,
    Problem,
    Source,
    ValueSpec,
    ValuesSpec,
)

SEPARATOR = re.compile(r"\s*\+(?:[-=]+\+)+\s*")


def offsets(document: Document) -> Iterator[Problem]:
    """Each field begins where the one before it ends; nothing stands behind a field of variable size."""
    refused = [problem.source.line for problem in document.problems]
    for layout in document.of(LayoutSpec).values():
        lines = range(layout.source.line, layout.fields[-1].source.line if layout.fields else 0)
        if any(line in lines for line in refused):
            continue  # without the row that could not be modelled there would be a gap
        end: int | None = 0
        for before, field in pairwise([None, *layout.fields]):
            if field and (problem := _misplaced(layout, before, field, end)):
                yield problem
            end = None if field is None or field.size is None else field.offset + field.size


def _misplaced(layout: LayoutSpec, before: FieldSpec | None, field: FieldSpec, end: int | None) -> Problem | None:
    """What is wrong with the place of a field behind others that end at ``end``, None behind a variable one."""
    place = f"{field.name} at offset {field.offset + layout.base}"
    if end is None:
        message = f"{field.name} stands behind {before.name if before else ''}, whose size is variable"
        return Problem(field.source, message, "behind-variable", words=field.name)
    ends = f"the fields above end at {end + layout.base}"
    if field.offset < end:
        return Problem(field.source, f"{place} lies inside another field: {ends}", "overlap", words=field.name)
    if field.offset > end:
        return Problem(field.source, f"{place} leaves a gap: {ends}", "gap", words=field.name)
    return None


def bits(document: Document) -> Iterator[Problem]:
    """Bits lie inside their field, and no two share one."""
    for layout in document.of(LayoutSpec).values():
        for field in layout.fields:
            owner: dict[int, str] = {}
            for bit in field.bits:
                if field.size is not None and bit.last >= 8 * field.size:
                    message = f"bit {bit.last} of {field.name} lies outside its {field.size} bytes"
                    yield Problem(bit.source, message, "bit-outside", words=bit.name)
                for number in range(bit.first, min(bit.last, 8 * (field.size or 8)) + 1):
                    if number in owner:
                        message = f"bit {number} of {field.name} is {owner[number]} already"
                        yield Problem(bit.source, message, "bit-twice", words=bit.name)
                        break
                    owner[number] = bit.name


def duplicates(document: Document) -> Iterator[Problem]:
    """No table has two rows of one name, no code table two of one number, no two requirements one id."""
    for layout in document.of(LayoutSpec).values():
        yield from _twice("field", _names(layout.fields))
        for field in layout.fields:
            yield from _twice("bit", _names(field.bits))
    for codes in document.of(CodesSpec).values():
        yield from _twice("name", _names(codes.codes))
        yield from _twice("number", ((str(code.value), code.name, code.source) for code in codes.codes))
    for values in document.of(ValuesSpec).values():
        yield from _twice("name", _names(values.values))
    for table in document.of(JsonSpec).values():
        yield from _twice("member", _names(table.members))
    yield from _twice("requirement", ((each.id, each.id, each.source) for each in document.requirements))


def _names(
    rows: Iterable[FieldSpec | BitSpec | CodeSpec | ValueSpec | MemberSpec],
) -> Iterator[tuple[str, str, Source]]:
    return ((row.name, row.name, row.source) for row in rows)


def _twice(kind: str, rows: Iterable[tuple[str, str, Source]]) -> Iterator[Problem]:
    """Rows of which two have the same mark; each is that, the words to point at, and its place."""
    first: dict[str, Source] = {}
    for mark, words, source in rows:
        if mark.casefold() in first:
            message = f"{kind} {mark} stands in line {first[mark.casefold()].line} already"
            yield Problem(source, message, "duplicate", words=words)
        first.setdefault(mark.casefold(), source)


def sizes(document: Document) -> Iterator[Problem]:
    """A field of an odd number of bytes, other than one, is likely to be a slip: 9 for 8."""
    for layout in document.of(LayoutSpec).values():
        for field in layout.fields:
            if field.size and field.size > 1 and field.size % 2:
                message = f"{field.name} has an odd size, {field.size} bytes"
                yield Problem(field.source, message, "odd-size", WARNING, field.name)


def separators(document: Document) -> Iterator[Problem]:
    """Two separators in a row make an empty row in a printed table."""
    for number, (above, line) in enumerate(pairwise(document.lines), 2):
        if above == line and SEPARATOR.fullmatch(line):
            yield Problem(Source(document.file, number), "a second separator: an empty row", "empty-row", WARNING)
