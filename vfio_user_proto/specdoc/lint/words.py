"""Lints that look at the prose: names that nothing defines, fields that nothing describes, numbers that contradict tables."""

import difflib
import re
from collections.abc import Iterator

from vfio_user_proto.specdoc.commands import commands
from vfio_user_proto.specdoc.forms import HEADER_SIZE
from vfio_user_proto.specdoc.keys import SLASH, fold, titles_of
from vfio_user_proto.specdoc.names import REPLY, REQUEST
from vfio_user_proto.specdoc.specs import (
    WARNING,
    CodesSpec,
    Document,
    JsonSpec,
    LayoutSpec,
    Problem,
    Prose,
    Source,
    ValuesSpec,
)

OWN_SYMBOL = re.compile(r"\b(?:VFIO_USER_[A-Z0-9_]*[A-Z0-9]|vfio_user_[a-z0-9_]*[a-z0-9])\b")
COMBINED = re.compile(r"\bVFIO_USER_[A-Z0-9_]+(?:/(?!VFIO_)[A-Z][A-Z0-9_]*)+")
PLAIN_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
FOREIGN = re.compile(r"(?:vfio|kvm)_")  # names of the kernel's headers
COLUMNS = {"Name", "Offset", "Size", "Bit", "Definition", "Value", "Type", "Description"}
CLOSE = 0.75  # how alike two names are, from 0 to 1, for one to be taken for a slip of the other
VERB = r"(?:is|are|describes?|consists?|contains?|holds?|indicates?|specifies)"
UNFINISHED = re.compile(r"\b(?:FIXME|TODO|XXX|TBD)\b")
ALL_OTHER_FIELDS = re.compile(r"\ball other fields\b")
ARRAY_FORMULA = re.compile(r"\bargsz\s*-\s*(\d+)\)?\s*/\s*count\b")
BITMAP_FORMULA = re.compile(r"\w+\[(?P<element>[^\]]+)\]\s*&\s*\(1\w*\s*<<\s*\((?P<bit>.+?)\s*%\s*(?P<width>\d+)\)\)")

# What the prose says of sizes in bytes, and of what: the layout of the same section, of the reply, or of each section below.
HERE, OF_REPLY, BELOW = "here", "of the reply", "below"
TOTALS = (
    (r"\b(?:this structure is|the record has|the size of this structure,|it is) (\d+)(?: bytes)?\b", HERE),
    (r"\bis (\d+), the size of this structure\b", HERE),
    (r"\bhas the (\d+) bytes of this (?:table|layout)\b", HERE),
    (r"\b(\d+)-byte header\b", HERE),
    (rf"\bmessage size is {HEADER_SIZE} \+ (\d+) bytes\b", HERE),
    (r"\bsize of the reply payload \((\d+) bytes today\)", OF_REPLY),
    (r"\bfull reply payload \((\d+) bytes today\)", HERE),
    (r"\bthis is (\d+) bytes for both\b|\bhas (\d+) bytes in (?:every form|both forms)", BELOW),
)


def symbols(document: Document) -> Iterator[Problem]:
    """Each name of vfio-user's own, VFIO_USER_…, that text or tables use is in a code table, or the title of a section."""
    known = {code.name for codes in document.of(CodesSpec).values() for code in codes.codes}
    structures = {title for section in document.sections for title in section.titles if title.islower()}
    for text, source in _texts(document):
        rest = text
        for found in COMBINED.finditer(text):
            message = f"{found[0]} stands for several names, of which none is written so"
            yield Problem(_place(document, source, found[0]), message, "combined-name", WARNING, found[0])
            rest = rest.replace(found[0], " ")
        for found in OWN_SYMBOL.finditer(rest):
            if found[0] not in known | structures:
                message = f"undefined symbol {found[0]}{_meant(found[0], known)}"
                yield Problem(_place(document, source, found[0]), message, "undefined-symbol", words=found[0])


def _texts(document: Document) -> Iterator[tuple[str, Prose | Source]]:
    """All that can use a name: paragraphs, titles, and the words in tables."""
    for prose in document.prose:
        yield prose.text, prose
    for section in document.sections:
        yield section.titles[-1], section.source
    for values in document.of(ValuesSpec).values():
        for value in values.values:
            yield value.value, value.source
    for table in document.of(JsonSpec).values():
        for member in table.members:
            yield member.description, member.source


def _place(document: Document, source: Prose | Source, words: str) -> Source:
    return document.place(source, words) if isinstance(source, Prose) else source


def _meant(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=CLOSE)
    return f"; is {close[0]} meant?" if close else ""


def names(document: Document) -> Iterator[Problem]:
    """What is set apart as the name of a field is spelt as in its table."""
    spelt = _names(document)
    folded = {name.casefold(): name for name in spelt}
    close = {fold(name): name for name in spelt}
    titles = {title for section in document.sections for title in section.titles} | COLUMNS
    for prose in document.prose:
        for marked in dict.fromkeys(prose.marked):
            name = marked.rpartition(".")[2]
            if name in spelt | titles or any(f"_{name}" in symbol for symbol in spelt):
                continue
            source = document.place(prose, name)
            if name.casefold() in folded:
                message = f"{name} is spelt {folded[name.casefold()]} in its table"
                yield Problem(source, message, "spelling", WARNING, name)
            elif PLAIN_NAME.fullmatch(name) and not FOREIGN.match(marked):
                for meant in difflib.get_close_matches(fold(name), close, n=1, cutoff=CLOSE):
                    message = f"no table has a field {name}; is {close[meant]} meant?"
                    yield Problem(source, message, "unknown-field", WARNING, name)


def _names(document: Document) -> set[str]:
    """The names in all tables."""
    found: set[str] = set()
    for layout in document.of(LayoutSpec).values():
        found |= {field.name for field in layout.fields} | {bit.name for field in layout.fields for bit in field.bits}
    for codes in document.of(CodesSpec).values():
        found |= {code.name for code in codes.codes}
    for values in document.of(ValuesSpec).values():
        found |= {value.name for value in values.values}
    for table in document.of(JsonSpec).values():
        found |= {member.name for member in table.members}
    return found


def undescribed(document: Document) -> Iterator[Problem]:
    """Each field is described in the section of its table: by a sentence that begins with it, or it is set apart."""
    for layout in document.of(LayoutSpec).values():
        prose = document.prose_of(layout.key)
        rest = any(ALL_OTHER_FIELDS.search(each.text) for each in prose)
        marked = {fold(name) for each in prose for name in each.marked}
        others = any(fold(field.name) in marked for field in layout.fields)
        for name, source in _named_rows(layout):
            if fold(name) in marked:
                continue
            beginning = next((each for each in prose if _begins_with(each.text, name)), None)
            if beginning and others:
                message = f"{name} is a plain word here, the names of other fields are set apart"
                yield Problem(document.place(beginning, name), message, "plain-name", WARNING, name)
            elif not beginning and not rest:
                yield Problem(source, f"{name} is described nowhere in its section", "undescribed", WARNING, name)


def _named_rows(layout: LayoutSpec) -> Iterator[tuple[str, Source]]:
    """Fields and bits; what follows a header is none."""
    for field in layout.fields:
        if not field.is_payload:
            yield field.name, field.source
        for bit in field.bits:
            yield bit.name, bit.source


def _begins_with(text: str, name: str) -> bool:
    """Whether a paragraph is about the name: "name is …", "The name is …", "other and name are …"."""
    heads = re.split(r", | and ", re.sub(r"^(?:The|This|These) ", "", text))[:4]
    return any(re.match(rf"{re.escape(name)} {VERB}\b", head, re.IGNORECASE) for head in heads)


def totals(document: Document) -> Iterator[Problem]:
    """What the prose says of the size of a structure is the sum of its fields."""
    for prose in document.prose:
        for pattern, what in TOTALS:
            for found in re.finditer(pattern, prose.text, re.IGNORECASE):
                told = next(group for group in found.groups() if group)
                layouts = _meant_layouts(document, prose.key, what)
                if layouts and all(layout.fixed_size != int(told) for layout in layouts):
                    yield _wrong_total(document, prose, told, layouts[0])
                elif what == BELOW:
                    wrong = [layout for layout in layouts if layout.fixed_size != int(told)]
                    yield from (_wrong_total(document, prose, told, layout) for layout in wrong)


def _wrong_total(document: Document, prose: Prose, told: str, layout: LayoutSpec) -> Problem:
    sum_ = f"its fields make {layout.fixed_size} (table in line {layout.source.line})"
    return Problem(document.place(prose, told), f"{told} bytes by the text, but {sum_}", "total", words=told)


def _meant_layouts(document: Document, key: str, what: str) -> list[LayoutSpec]:
    layouts = document.of(LayoutSpec).values()
    if what == BELOW:
        return [each for each in layouts if each.key.startswith(f"{key}{SLASH}")]
    command = commands(document).get(titles_of(key)[0])
    direction = REPLY if what == OF_REPLY or titles_of(key)[-1] == REPLY else REQUEST
    if command and (what == OF_REPLY or titles_of(key)[-1] in (REQUEST, REPLY)):
        carried = command.carried[direction].layout
        return [carried] if carried else []
    return [each for each in layouts if titles_of(each.key) == titles_of(key)]


def array_formulas(document: Document) -> Iterator[Problem]:
    """The formula for the place of a record takes off ``argsz`` what stands before the records."""
    for prose in document.prose:
        for found in ARRAY_FORMULA.finditer(prose.text):
            layouts = [each for each in document.of(LayoutSpec).values() if titles_of(each.key) == titles_of(prose.key)]
            array = next((field for each in layouts for field in each.fields if field.size is None), None)
            if array and array.offset != int(found[1]):
                message = f"the formula takes {found[1]} bytes off argsz, but {array.name} begins at {array.offset}"
                yield Problem(document.place(prose, found[1]), message, "array-formula", words=found[1])


def bitmap_formulas(document: Document) -> Iterator[Problem]:
    """A formula for a bit takes element n / 64 and bit n % 64 of one and the same n."""
    for prose in document.prose:
        for found in BITMAP_FORMULA.finditer(prose.text):
            element, bit, width = (re.sub(r"\s", "", found[name]) for name in ("element", "bit", "width"))
            if element not in (f"({bit})/{width}", f"{bit}/{width}"):
                message = f"bit {bit} % {width} does not go with element {element}, which is not {bit} / {width}"
                source = document.place(prose, found["element"])
                yield Problem(source, message, "bitmap-formula", words=found["element"])


def unfinished(document: Document) -> Iterator[Problem]:
    """Nothing is left to be written."""
    for prose in document.prose:
        for found in UNFINISHED.finditer(prose.text):
            source = document.place(prose, found[0])
            yield Problem(source, f"a {found[0]} is left in the text", "unfinished", WARNING, found[0])
