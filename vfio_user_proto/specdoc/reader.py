"""Reads a document: every table and every requirement, each with its section and its line."""

import re
from collections import Counter
from dataclasses import replace
from html.entities import html5

from docutils import nodes

from vfio_user_proto.specdoc import forms
from vfio_user_proto.specdoc.files import load
from vfio_user_proto.specdoc.grid import grid
from vfio_user_proto.specdoc.keys import numbered, section_key
from vfio_user_proto.specdoc.parse import Tree, line_of, parse
from vfio_user_proto.specdoc.requirement import requirement
from vfio_user_proto.specdoc.specs import (
    LEVELS,
    SIDES,
    WARNING,
    Document,
    Problem,
    Prose,
    Requirement,
    Section,
    Source,
    TableSpec,
)

VERSION = re.compile(r"\b(?:version|revision)_?:?\s+(\d+(?:\.\d+)+)", re.IGNORECASE)
HEAD = 30  # lines in which a document states its version
IDENT = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
TABLE_LIKE = re.compile(r"\s*(?:\+[-=]{2,}.*|={2,}\s+={2,}.*|\|\s.*\s\|\s*)")


def read(path: str) -> Document:
    """The document at ``path``; SpecError where it cannot be read at all, ``problems`` of the result for the rest."""
    return read_text(load(path), path)


def read_text(text: str, file: str) -> Document:
    """The document that ``text`` is; ``file`` is the name that messages give it."""
    return _Reader(parse(text, file)).document()


class _Reader:
    """Walks one tree from top to bottom and collects."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.tables: list[TableSpec] = []
        self.requirements: list[Requirement] = []
        self.prose: list[Prose] = []
        self.sections: list[Section] = []
        self.problems = list(tree.errors)
        self.remarks = list(tree.warnings)
        self.seen: Counter[tuple[type[TableSpec], str]] = Counter()

    def document(self) -> Document:
        self._resolve_substitutions()
        self._find_dangling_references()
        self._find_lost_targets()
        self._walk(self.tree.root, ())
        title = next(self.tree.root.findall(nodes.title), None)
        version = VERSION.search("\n".join(self.tree.lines[:HEAD]))
        if not self.tables and not self.problems:
            self._problem(0, "holds no table", "table")
        return Document(
            self.tree.file,
            " ".join(title.astext().split()) if title else "",
            version[1] if version else "",
            tuple(self.tables),
            tuple(self.requirements),
            tuple(self.prose),
            tuple(sorted(self.problems, key=lambda problem: problem.source.line)),
            tuple(sorted(self.remarks, key=lambda problem: problem.source.line)),
            tuple(self.sections),
            tuple(self.tree.lines),
        )

    def _problem(self, line: int, message: str, rule: str) -> None:
        self.problems.append(Problem(Source(self.tree.file, line), message, rule))

    def _remark(self, line: int, message: str, rule: str, words: str = "") -> None:
        self.remarks.append(Problem(Source(self.tree.file, line), message, rule, WARNING, words))

    def _about_table(self, line: int, message: str) -> None:
        self._problem(line, message, "table")

    def _walk(self, node: nodes.Element, titles: tuple[str, ...]) -> None:
        for child in node.children:
            if isinstance(child, nodes.section):
                inner = (*titles, " ".join(child[0].astext().split()))
                title_line = (child.line or 1) - 1  # docutils has the line of the dashes below
                self.sections.append(Section(section_key(inner), inner, Source(self.tree.file, title_line)))
                self._walk(child, inner)
            elif isinstance(child, nodes.table):
                self._table(child, section_key(titles))
            elif isinstance(child, nodes.paragraph | nodes.line_block):
                self._paragraph(child, section_key(titles))
            elif isinstance(child, nodes.Element) and not isinstance(child, nodes.system_message):
                if isinstance(child, requirement):
                    self._requirement(child, section_key(titles))
                self._walk(child, titles)

    def _table(self, table: nodes.table, key: str) -> None:
        plain = grid(self.tree, table, self._about_table)
        if plain and (spec := forms.model(plain, key, self.tree.file, self._about_table)):
            self.seen[type(spec), key] += 1
            self.tables.append(replace(spec, key=numbered(key, self.seen[type(spec), key])))

    def _paragraph(self, paragraph: nodes.Element, key: str) -> None:
        lines = self._lines_of(paragraph)
        for line, text in lines:
            if TABLE_LIKE.fullmatch(text):
                self._problem(line, "this looks like a table and is none: its lines do not line up", "table")
                return
        marked = tuple(
            node.astext() for node in paragraph.findall(lambda node: isinstance(node, nodes.literal | nodes.emphasis))
        )
        text = " ".join(paragraph.astext().split())
        self.prose.append(Prose(key, text, marked, len(lines), Source(self.tree.file, line_of(paragraph))))

    def _requirement(self, node: requirement, key: str) -> None:
        level, side, line = node.get("level", ""), node.get("side", ""), line_of(node)
        text = " ".join(" ".join(part.astext().split()) for part in node.findall(nodes.paragraph))
        for wrong, message in (
            (
                not IDENT.fullmatch(node["ident"]),
                f"requirement {node['ident']!r}: an id is made of a-z, 0-9, '-' and '.'",
            ),
            (level not in LEVELS, f"requirement {node['ident']}: level is one of {', '.join(LEVELS)}, not {level!r}"),
            (side not in SIDES, f"requirement {node['ident']}: side is one of {', '.join(SIDES)}, not {side!r}"),
            (not text, f"requirement {node['ident']} says nothing"),
        ):
            if wrong:
                self._problem(line, message, "requirement")
        section, quote, erratum = (" ".join(node.get(name, "").split()) for name in ("section", "quote", "erratum"))
        source = Source(self.tree.file, line)
        self.requirements.append(Requirement(node["ident"], level, side, text, key, section, quote, erratum, source))

    def _resolve_substitutions(self) -> None:
        """Put characters for the names of <isonum.txt>, and words for what the document defines itself."""
        defined = self.tree.root.substitution_defs
        for reference in list(self.tree.root.findall(nodes.substitution_reference)):
            name = reference.astext()
            if name in defined:
                words = defined[name].astext()
            elif f"{name};" in html5:
                words = html5[f"{name};"]
            else:
                line = self._line_with(reference, f"|{name}|")
                self._problem(line, f"undefined substitution |{name}|", "reference")
                continue
            reference.replace_self(nodes.Text(words))

    def _find_lost_targets(self) -> None:
        """A target named like a title, in the middle of a section: the title that it was made for is missing."""
        for target in self.tree.root.findall(nodes.target):
            section = target.parent
            if "names" not in target or not isinstance(section, nodes.section) or "refuri" in target:
                continue
            at = section.index(target)
            following = section.children[at + 1 :]
            if at > 1 and following and not isinstance(following[0], nodes.section | nodes.table | nodes.target):
                name = " ".join(target["names"])
                self._remark(line_of(target), f"the target {name!r} is followed by no title", "target")

    def _find_dangling_references(self) -> None:
        for name, references in self.tree.root.refnames.items():
            if name not in self.tree.root.nameids:
                words = references[0].astext()
                line = self._line_with(references[0], words.split()[0])
                self._remark(line, f"undefined reference: {words}", "reference", words.split()[0])

    def _lines_of(self, node: nodes.Element) -> list[tuple[int, str]]:
        """The lines of the document from the node's first to the next blank one, each with its number."""
        found, line = [], line_of(node)
        while line and line <= len(self.tree.lines) and self.tree.lines[line - 1].strip():
            found.append((line, self.tree.lines[line - 1]))
            line += 1
        return found

    def _line_with(self, node: nodes.Element, words: str) -> int:
        """The line at or below the node's first that holds ``words``; its first line where they are broken over two."""
        return next((line for line, text in self._lines_of(node) if words in text), line_of(node))
