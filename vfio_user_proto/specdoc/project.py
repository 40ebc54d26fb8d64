"""Which document becomes which module, and where the generated files of a checkout lie."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import vfio_user_proto
from vfio_user_proto.errors import UsageError
from vfio_user_proto.specdoc import overlay, reader
from vfio_user_proto.specdoc.check import structure
from vfio_user_proto.specdoc.declare import declare
from vfio_user_proto.specdoc.files import load
from vfio_user_proto.specdoc.fromschema import document_of
from vfio_user_proto.specdoc.python import python
from vfio_user_proto.specdoc.specs import Document, UnsoundDocument
from vfio_user_proto.specdoc.tables import files

ROOT = Path(vfio_user_proto.__file__).parents[1]
DOCUMENT = "spec/vfio-user.rst"
OVERLAY = "spec/overlay/vfio-user.toml"
MODULE = "vfio_user_proto/messages.py"
TABLES = "spec/tables"


def sound(document: Document) -> Document:
    """The document, if everything can be generated from it; else UnsoundDocument."""
    if problems := structure(document):
        raise UnsoundDocument(problems)
    return document


def readable(document: Document) -> Document:
    """The document, if each of its tables could be modelled, sound or not; else UnsoundDocument."""
    if document.problems:
        raise UnsoundDocument(document.problems)
    return document


def document(root: Path = ROOT) -> Document:
    """The protocol's document in the checkout at ``root``, with the name that it has there."""
    if not (root / DOCUMENT).is_file():
        raise UsageError(
            f"there is no {DOCUMENT} in {root}; this command works in a checkout of the project, see --root"
        )
    return reader.read_text(load(str(root / DOCUMENT)), DOCUMENT)


def module_texts(root: Path = ROOT) -> Mapping[Path, str]:
    """What each generated module is to hold; SpecError where the document is not sound or the overlay does not fit."""
    tables = sound(document(root))
    words = overlay.read_text(load(str(root / OVERLAY)), OVERLAY)
    return {root / MODULE: python(declare(tables, words))}


def table_texts(root: Path = ROOT) -> Mapping[Path, str]:
    """What each file of tables is to hold, by the schemas of this program."""
    texts = files(document_of(import_module("vfio_user_proto.messages")), MODULE)
    return {root / TABLES / name: text for name, text in texts.items()}


def stale_tables(root: Path = ROOT) -> list[Path]:
    """Files of tables that no schema leads to any more."""
    return sorted(set((root / TABLES).glob("*.rst")) - set(table_texts(root)))
