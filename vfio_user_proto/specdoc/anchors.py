"""Whether what requirements are anchored in still stands in a published document, and which of its sentences they cover."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from vfio_user_proto.specdoc.keys import fold, without_ordinal
from vfio_user_proto.specdoc.lint import placed
from vfio_user_proto.specdoc.specs import (
    CodesSpec,
    Document,
    JsonSpec,
    Problem,
    Prose,
    Requirement,
    Source,
    ValuesSpec,
)

NORMATIVE = re.compile(r"\b(?:must|should|may|shall|required?|requires)\b", re.IGNORECASE)
# A new sentence begins behind a full stop, a colon or a semicolon; not behind "e.g." and the like.
BREAK = re.compile(r"(?<!\b[Ee]\.g\.)(?<!\b[Ii]\.e\.)(?<!\betc\.)(?<=[.;:!?])\s+(?=[\w`*])")


class Sentence(NamedTuple):
    """One sentence of a document, or one cell of a table, in the section ``key``."""

    key: str
    text: str
    source: Source


def sentences(document: Document) -> Iterator[Sentence]:
    """All sentences of a document, those in tables too."""
    for prose in document.prose:
        yield from _of_paragraph(document, prose)
    for key, table in document.of(JsonSpec).items():
        for member in table.members:
            for part in BREAK.split(member.description):
                yield Sentence(without_ordinal(key), part, member.source)
    for key, codes in document.of(CodesSpec).items():
        for code in codes.codes:
            yield from (Sentence(without_ordinal(key), note, code.source) for note in code.notes)
    for key, values in document.of(ValuesSpec).items():
        yield from (Sentence(without_ordinal(key), value.value, value.source) for value in values.values)


def _of_paragraph(document: Document, prose: Prose) -> Iterator[Sentence]:
    """The sentences of a paragraph, each with the line where its first words stand."""
    lines = document.lines[prose.source.line - 1 : prose.source.line - 1 + prose.lines]
    plain = [" ".join(re.sub(r"[`*\\]", "", line).split()) for line in lines]
    begins = [len(" ".join([*plain[:at], ""])) for at in range(len(plain))]
    whole, done = " ".join(plain), 0
    for part in BREAK.split(prose.text):
        words = part.split()
        starts = (whole.find(" ".join(words[:count]), done) for count in range(min(len(words), 6), 0, -1))
        done = next((start for start in starts if start >= 0), done)
        line = prose.source.line + max(sum(begin <= done for begin in begins) - 1, 0)
        yield Sentence(prose.key, part, Source(document.file, line))


def rotten(own: Document, published: Document) -> list[Problem]:
    """The requirements of ``own`` whose section or quote is not in ``published``; those without an anchor are left out."""
    spoken: dict[str, str] = {}
    for sentence in sentences(published):
        key = fold(sentence.key)
        spoken[key] = f"{spoken.get(key, '')} {_plain(sentence.text)}"
    titles = {fold(section.key): section for section in published.sections}
    found = []
    for each in own.requirements:
        section = titles.get(fold(each.section))
        if not each.section:
            continue
        if section is None:
            message = f"{each.id}: {published.file} has no section {each.section!r}{_elsewhere(published, each)}"
        elif _plain(each.quote) not in spoken.get(fold(each.section), ""):
            message = (
                f"{each.id}: the section in {section.source} does not say {each.quote!r}{_elsewhere(published, each)}"
            )
        else:
            continue
        found.append(Problem(each.source, message, "anchor", words=each.id))
    return placed(own, found)


def _elsewhere(published: Document, each: Requirement) -> str:
    """Where the quote stands instead."""
    there = next((one for one in sentences(published) if each.quote and _plain(each.quote) in _plain(one.text)), None)
    return f"; line {there.source.line} does, in {there.key!r}" if there else ""


def _plain(text: str) -> str:
    """The words of a text, for comparing."""
    return " ".join(re.findall(r"[\w'/-]+", text.casefold()))


def coverage(own: Document, published: Document) -> list[tuple[Sentence, tuple[str, ...]]]:
    """Each sentence of ``published`` that says must, should, may or required, with the requirements anchored in it."""
    return [
        (sentence, tuple(each.id for each in own.requirements if _is_anchored(each, sentence)))
        for sentence in sentences(published)
        if NORMATIVE.search(sentence.text)
    ]


def _is_anchored(each: Requirement, sentence: Sentence) -> bool:
    return bool(
        each.section and fold(each.section) == fold(sentence.key) and _plain(each.quote) in _plain(sentence.text)
    )
