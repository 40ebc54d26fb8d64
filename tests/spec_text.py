"""Documents for tests: made of rows, the project's own, and the published ones."""

from functools import cache

import pytest
from conftest import SHARED

from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.reader import read
from vfio_user_proto.specdoc.specs import Document

REVISIONS = ("2021-01-20", "2021-09-08", "2024-04-26")
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs ../shared, which only the project's own workplace has"
)


@cache
def own() -> Document:
    """The document that everything is generated from."""
    return project.document()


@cache
def published(revision: str) -> Document:
    """A published document, unchanged."""
    return read(str(SHARED / "upstream" / f"vfio-user-{revision}.rst"))


def simple(*rows: tuple[str, ...]) -> str:
    """A simple table; the first row is that of the titles."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    border = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([border, lines[0], border, *lines[1:], border, ""])


def layout(*rows: tuple[str, ...]) -> str:
    """A table of fields: name, offset, size."""
    return simple(("Name", "Offset", "Size"), *rows)


def section(title: str, *parts: str, mark: str = "=") -> str:
    """A section with what stands in it."""
    return "\n".join([title, mark * len(title), "", *parts, ""])
