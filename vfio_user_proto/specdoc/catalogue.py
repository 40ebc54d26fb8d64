"""The requirements of a document to the module in which the conformance suite finds them."""

from vfio_user_proto.specdoc.layout import STEP, Code, Group, Text, lines, quoted
from vfio_user_proto.specdoc.specs import Document, Requirement

HEAD = '''\
# GENERATED from {document} by "vfio-user spec generate"; do not edit.
"""The requirements of the vfio-user document, which cases name and reports quote."""

from collections.abc import Mapping
from typing import NamedTuple


class Requirement(NamedTuple):
    """One requirement: ``level`` is must, should or info, ``side`` is server, client or both.

    ``section`` names the section of the published document that it rests on, "" where that is silent; ``erratum`` the entry
    of spec/errata.toml that it settles, or "".
    """

    ident: str
    level: str
    side: str
    section: str
    text: str
    erratum: str = ""


REQUIREMENTS: Mapping[str, Requirement] = {{
    each.ident: each
    for each in (
'''
TAIL = "    )\n}\n"


def python(document: Document) -> str:
    """The text of the module; the same requirements give the same text."""
    body = [line for each in document.requirements for line in lines(_declaration(each), 2 * STEP, after=",")]
    return HEAD.format(document=document.file) + "\n".join(body) + "\n" + TAIL


def _declaration(each: Requirement) -> Code:
    items: list[Code] = [quoted(word) for word in (each.id, each.level, each.side, each.section)]
    items += [Text(each.text), *([quoted(each.erratum)] if each.erratum else [])]
    return Group("Requirement(", items, ")", exploded=True)
