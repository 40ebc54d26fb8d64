"""What is wrong with a document: small functions over the whole of it, each yields problems with their lines."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from vfio_user_proto.specdoc.lint import messages, tables, words
from vfio_user_proto.specdoc.specs import Document, Problem

Lint = Callable[[Document], Iterator[Problem]]

# What the generator relies on, and what else is worth a look.
STRUCTURE: tuple[Lint, ...] = (tables.offsets, tables.bits, tables.duplicates)
LINTS: tuple[Lint, ...] = (
    *STRUCTURE,
    tables.sizes,
    tables.separators,
    messages.narrower_replies,
    messages.untold_commands,
    messages.message_tables,
    messages.room_for_nothing,
    messages.bits_to_be_zero,
    words.symbols,
    words.names,
    words.undescribed,
    words.totals,
    words.array_formulas,
    words.bitmap_formulas,
    words.unfinished,
)


def structure(document: Document) -> list[Problem]:
    """What makes a document unfit to generate from: tables that could not be read, or are not sound."""
    return placed(document, [*document.problems, *(problem for lint in STRUCTURE for problem in lint(document))])


def check(document: Document) -> list[Problem]:
    """All problems of the document: those met in reading and those that the lints find."""
    found = [problem for lint in LINTS for problem in lint(document)]
    return placed(document, [*document.problems, *document.remarks, *found])


def placed(document: Document, problems: list[Problem]) -> list[Problem]:
    """The problems from top to bottom, each with its column."""
    with_columns = [replace(problem, column=_column(document, problem)) for problem in problems]
    return sorted(with_columns, key=lambda problem: (problem.source.line, problem.column))


def _column(document: Document, problem: Problem) -> int:
    """Where the words at fault begin in their line, or else where the line itself does; 0 where there is no line."""
    if not 0 < problem.source.line <= len(document.lines):
        return 0
    line = document.lines[problem.source.line - 1]
    for sought in (problem.words, problem.words.partition(" ")[0]):
        if sought and (found := re.search(rf"(?<![\w-]){re.escape(sought)}(?![\w-])", line)):
            return found.start() + 1
    return len(line) - len(line.lstrip()) + 1
