"""A text to a docutils tree: no other file is opened, nothing is executed, no text brings a traceback."""

import re
from dataclasses import dataclass

from docutils import frontend, nodes, utils
from docutils.parsers.rst import Parser

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc import requirement
from vfio_user_proto.specdoc.specs import ERROR, WARNING, Problem, Source

ENTITIES = re.compile(r"\.\. include:: <isonum\.txt>\s*")
SEVERE, SUSPECT, TOLD = 3, 2, 1  # levels of docutils: errors, warnings, information
LEFT_OUT = re.compile("directive disabled|access deactivated")  # what a file would add is missing: no mere warning
NUMBERING = re.compile("Enumerated list start value not ordinal-1")  # the one piece of information that is a mistake


@dataclass(frozen=True, slots=True)
class Tree:
    """The parsed document, its lines, and what docutils had to say: errors lose content, warnings do not."""

    file: str
    lines: list[str]
    root: nodes.document
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def parse(text: str, file: str) -> Tree:
    """The tree of ``text``; ``file`` is the name that messages give it. SpecError where it is nested too deeply."""
    # The entity names of <isonum.txt> are part of docutils and harmless; substitutions stay unresolved here anyway.
    lines = ["" if ENTITIES.fullmatch(line) else line for line in text.splitlines()]
    settings = frontend.get_default_settings(Parser)
    settings.file_insertion_enabled = False
    settings.raw_enabled = False
    settings.report_level = settings.halt_level = SEVERE + 2
    root = utils.new_document(file, settings)
    messages: list[nodes.system_message] = []
    root.reporter.attach_observer(messages.append)
    requirement.register()
    try:
        Parser().parse("\n".join(lines), root)
    except RecursionError as error:
        raise SpecError(file, 0, "is nested too deeply to be read") from error
    said = [problem for message in messages if (problem := _problem(file, message))]
    return Tree(
        file,
        lines,
        root,
        tuple(problem for problem in said if problem.level == ERROR),
        tuple(problem for problem in said if problem.level == WARNING),
    )


def line_of(node: nodes.Node | None) -> int:
    """The line of the node, or of the nearest one around it that knows its own; 0 where none does."""
    while node is not None and not node.line:
        node = node.parent
    return (node.line or 0) if node is not None else 0


def _problem(file: str, message: nodes.system_message) -> Problem | None:
    """docutils' message in one line, without the piece of the document that it repeats; None for mere information."""
    words = " ".join(message[0].astext().split()) if len(message) else "unknown markup"
    source = Source(file, message.get("line", 0))
    if message["level"] >= SEVERE or LEFT_OUT.search(words):
        return Problem(source, words, "markup")
    if message["level"] == SUSPECT:
        return Problem(source, words, "markup", WARNING)
    if NUMBERING.search(words):
        return Problem(source, "a list begins here, the one above ends", "numbering", WARNING)
    return None
