"""Which document becomes which module, and where the generated files of a checkout lie."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

import vfio_user_proto
from vfio_user_proto.errors import UsageError
from vfio_user_proto.specdoc import catalogue, overlay, reader, writeback
from vfio_user_proto.specdoc.declare import declare
from vfio_user_proto.specdoc.files import load
from vfio_user_proto.specdoc.fromschema import document_of
from vfio_user_proto.specdoc.lint import structure
from vfio_user_proto.specdoc.python import python
from vfio_user_proto.specdoc.specs import Document, TableSpec, UnsoundDocument
from vfio_user_proto.specdoc.tables import files
from vfio_user_proto.specdoc.writeback import Renewed

ROOT: Final = Path(vfio_user_proto.__file__).parents[1]
TABLES: Final = "spec/tables"
REQUIREMENTS: Final = "conformance/vfio_user_conformance/requirements.py"


class Origin(NamedTuple):
    """One document of the project by its name, and the module that is generated from it."""

    name: str
    module: str

    @property
    def document(self) -> str:
        return f"spec/{self.name}.rst"

    @property
    def overlay(self) -> str:
        return f"spec/overlay/{self.name}.toml"

    @property
    def path(self) -> str:
        return f"{self.module.replace('.', '/')}.py"


PROTOCOL: Final = Origin("vfio-user", "vfio_user_proto.messages")
ORIGINS: Final = (
    PROTOCOL,
    Origin("region-io-fds-rfc", "vfio_user_proto.drafts.region_io_fds_rfc"),
    Origin("ioregionfd", "vfio_user_proto.drafts.ioregionfd"),
    Origin("kvm", "vfio_user_proto.drafts.kvm"),
)


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


def document(root: Path = ROOT, origin: Origin = PROTOCOL) -> Document:
    """A document of the checkout at ``root``, with the name that it has there."""
    path = root / origin.document
    if not path.is_file():
        raise UsageError(
            f"there is no {origin.document} in {root}; this command works in a checkout of the project, see --root"
        )
    return reader.read_text(load(str(path)), origin.document)


def module_texts(root: Path = ROOT) -> Mapping[Path, str]:
    """What each generated module is to hold; SpecError where a document is not sound or an overlay does not fit."""
    texts: dict[Path, str] = {}
    for origin in ORIGINS:
        tables = sound(document(root, origin))
        words = overlay.read_text(load(str(root / origin.overlay)), origin.overlay)
        texts[root / origin.path] = python(declare(tables, words))
        if origin is PROTOCOL:
            texts[root / REQUIREMENTS] = catalogue.python(tables)
    return texts


def table_texts(root: Path = ROOT) -> Mapping[Path, str]:
    """What each file of tables is to hold, by the schemas of this program: one folder per document."""
    return {
        root / TABLES / origin.name / name: text
        for origin in ORIGINS
        for name, text in files(document_of(import_module(origin.module)), origin.path).items()
    }


def stale_tables(root: Path = ROOT) -> list[Path]:
    """Files of tables that no schema leads to any more."""
    return sorted(set((root / TABLES).rglob("*.rst")) - set(table_texts(root)))


def renewed(path: str, prototype: str | None, root: Path = ROOT) -> Renewed:
    """The document at ``path`` with what has changed in the schemas, see ``writeback``.

    With a ``prototype``, a file of declarations, that is what it says differently from the schemas of this program. Without
    one it is what these, in messages.py, say differently from the document of the checkout. SpecError and UsageError where
    one of them cannot be used.
    """
    text = load(path)
    there = readable(reader.read_text(text, path))
    origin = next((each for each in ORIGINS if Path(each.document).name == Path(path).name), PROTOCOL)
    schemas = document_of(_module(origin.module, import_module))
    if prototype:
        old, new = schemas, overlaid(schemas, document_of(_module(prototype, _from_file)))
    else:
        old, new = sound(document(root, origin)), schemas
    found = writeback.renewed(text, there, old, new)
    if found.done:
        readable(reader.read_text(found.text, path))
    return found


def _module(name: str, load_it: Callable[[str], ModuleType]) -> ModuleType:
    """A module of declarations; UsageError where Python or the model does not take it."""
    try:
        return load_it(name)
    except (AttributeError, ImportError, NameError, OSError, SyntaxError, TypeError, ValueError) as error:
        raise UsageError(f"{name} cannot be used as a schema: {type(error).__name__}: {error}") from error


def _from_file(path: str) -> ModuleType:
    """What a Python file declares."""
    spec = spec_from_file_location("prototype", path, loader=SourceFileLoader("prototype", path))
    if spec is None or spec.loader is None:
        raise ImportError("no Python file")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def overlaid(schemas: Document, prototype: Document) -> Document:
    """The tables of ``schemas`` with those of ``prototype`` in their place.

    A new table goes behind the one of its kind that is before it in the prototype, or behind all where there is none.
    """
    tables = list(schemas.tables)
    last: dict[type[TableSpec], int] = {}
    for table in prototype.tables:
        place = next((at for at, each in enumerate(tables) if (type(each), each.key) == (type(table), table.key)), None)
        if place is None:
            place = last.get(type(table), len(tables) - 1) + 1
            tables.insert(place, table)
            last = {kind: at + (at >= place) for kind, at in last.items()}
        else:
            tables[place] = table
        last[type(table)] = place
    return replace(schemas, tables=tuple(tables))
