"""What is wrong with a document: small functions over the whole of it, each yields problems with their lines."""

import re
from collections.abc import Callable, Iterable, Iterator

from vfio_user_proto.specdoc.specs import CodesSpec, Document, JsonSpec, LayoutSpec, Problem, Source, ValuesSpec

Lint = Callable[[Document], Iterator[Problem]]
OWN_SYMBOL = re.compile(r"VFIO_USER_[A-Z0-9_]*[A-Z0-9]")


def offsets(document: Document) -> Iterator[Problem]:
    """Each field begins where the one before it ends; nothing stands behind a field of variable size."""
    refused = [problem.source.line for problem in document.problems]
    for layout in document.of(LayoutSpec).values():
        lines = range(layout.source.line, layout.fields[-1].source.line if layout.fields else 0)
        if any(line in lines for line in refused):
            continue  # without the row that could not be modelled there would be a gap
        end: int | None = 0
        for before, field in zip([None, *layout.fields], layout.fields, strict=False):
            if end is None and before:
                yield Problem(field.source, f"{field.name} stands behind {before.name}, whose size is variable")
            elif end is not None and field.offset != end:
                kind = (
                    "overlaps the fields above, which end"
                    if field.offset < end
                    else "leaves a gap: the fields above end"
                )
                yield Problem(field.source, f"{field.name} at offset {field.offset} {kind} at {end}")
            end = None if field.size is None else field.offset + field.size


def bits(document: Document) -> Iterator[Problem]:
    """Bits lie inside their field, and no two share one."""
    for layout in document.of(LayoutSpec).values():
        for field in layout.fields:
            owner: dict[int, str] = {}
            for bit in field.bits:
                if field.size is not None and bit.last >= 8 * field.size:
                    yield Problem(bit.source, f"bit {bit.last} of {field.name} lies outside its {field.size} bytes")
                for number in range(bit.first, min(bit.last, 8 * (field.size or 8)) + 1):
                    if number in owner:
                        yield Problem(bit.source, f"bit {number} of {field.name} is {owner[number]} already")
                        break
                    owner[number] = bit.name


def duplicates(document: Document) -> Iterator[Problem]:
    """No table has two rows of one name, no code table two of one number, no two requirements one id."""
    for layout in document.of(LayoutSpec).values():
        yield from _twice("field", ((field.name, field.source) for field in layout.fields))
        for field in layout.fields:
            yield from _twice("bit", ((bit.name, bit.source) for bit in field.bits))
    for codes in document.of(CodesSpec).values():
        yield from _twice("name", ((code.name, code.source) for code in codes.codes))
        yield from _twice("number", ((str(code.value), code.source) for code in codes.codes))
    for values in document.of(ValuesSpec).values():
        yield from _twice("name", ((value.name, value.source) for value in values.values))
    for table in document.of(JsonSpec).values():
        yield from _twice("member", ((member.name, member.source) for member in table.members))
    yield from _twice("requirement", ((each.id, each.source) for each in document.requirements))


def _twice(kind: str, named: Iterable[tuple[str, Source]]) -> Iterator[Problem]:
    first: dict[str, Source] = {}
    for name, source in named:
        if name.casefold() in first:
            yield Problem(source, f"{kind} {name} stands in line {first[name.casefold()].line} already")
        first.setdefault(name.casefold(), source)


def symbols(document: Document) -> Iterator[Problem]:
    """Each symbol of vfio-user's own, VFIO_USER_…, that the text or a table of values uses is in a code table."""
    known = {code.name for codes in document.of(CodesSpec).values() for code in codes.codes}
    used = [symbol for prose in document.prose for symbol in prose.symbols]
    used += [(value.value, value.source) for table in document.of(ValuesSpec).values() for value in table.values]
    for text, source in used:
        if OWN_SYMBOL.fullmatch(text) and text not in known:
            yield Problem(source, f"undefined symbol {text}")


# What the generator relies on, and what else is worth a look.
STRUCTURE: tuple[Lint, ...] = (offsets, bits, duplicates)
LINTS: tuple[Lint, ...] = (*STRUCTURE, symbols)


def structure(document: Document) -> list[Problem]:
    """What makes a document unfit to generate from: tables that could not be read, or are not sound."""
    return _sorted([*document.problems, *(problem for lint in STRUCTURE for problem in lint(document))])


def check(document: Document) -> list[Problem]:
    """All problems of the document: those met in reading and those that the lints find."""
    return _sorted([*document.problems, *document.remarks, *(problem for lint in LINTS for problem in lint(document))])


def _sorted(problems: list[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: problem.source.line)
