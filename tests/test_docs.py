"""The pages in docs, and the README: each command that they show is run and prints what they say; links and paths lead on.

Run as a program with the names of pages, this writes into them what it should find there.
"""

import inspect
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from pages import BLOCK, FILE, page_as_it_should_be

from vfio_user_proto.cli import COMMANDS
from vfio_user_proto.client.commands import Commands
from vfio_user_proto.device import Device, Host, Interrupts, Memory

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference" / "README.md"
# The pages about the specification's tools suppose the published documents: test_docs_spec.py.
PAGES = [
    ROOT / "README.md",
    *sorted({*DOCS.rglob("*.md")} - {*(DOCS / "spec").rglob("*.md")} - {*(DOCS / "conformance").rglob("*.md")}),
]
PATH = re.compile(r"`((?:bench|conformance|docs|fuzz|spec|tests|vfio_user_proto)/[^`\s*]*)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]*)#?([^)\s]*)\)")
ROWS = re.compile(r"(?<=^\|---\|---\|\n)(?:\| `.*\n)*", re.MULTILINE)

of_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@of_page
def test_pages(page: Path, tmp_path: Path) -> None:
    """A page holds the real output of each command that it shows."""
    text = page.read_text(encoding="utf-8")

    assert page_as_it_should_be(text, tmp_path) == text


@of_page
def test_files_on_pages_are_used(page: Path) -> None:
    """Every block is run: a file is named by a command that comes after it."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        name = FILE.match(block[2])
        assert block[1] == "console" or name, block[0]
        if name:
            later = "".join(each[2] for each in BLOCK.finditer(text, block.end()) if each[1] == "console")
            assert name[1] in later


@of_page
def test_links_lead_to_something(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path, anchor in LINK.findall(text):
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [title.lower().replace(" ", "-") for title in titles]


@of_page
def test_paths_exist(page: Path) -> None:
    """What a page names as a file or folder of the checkout is there."""
    named = PATH.findall(page.read_text(encoding="utf-8"))

    assert [path for path in named if not (ROOT / path).exists()] == []


def methods(*kinds: type) -> Iterable[str]:
    """A row for each public method: how it is called, and what it does."""
    for kind in kinds:
        for name, method in vars(kind).items():
            if name.startswith("_") or not inspect.isfunction(method):
                continue
            signature = inspect.signature(method)
            names = [
                f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else name
                for name, parameter in signature.parameters.items()
                if name != "self"
            ]
            about = " ".join((inspect.getdoc(method) or "").partition("\n\n")[0].split())
            yield f"| `{name}({', '.join(names)})` | {about} |\n"


def reference_as_it_should_be(text: str) -> str:
    """The page with the tables that the code gives: commands, methods of the client, of the device, of the host."""
    tables = iter(
        "".join(rows)
        for rows in (
            (f"| `vfio-user {name}` | {about} |\n" for name, (_, about) in COMMANDS.items()),
            methods(*reversed(Commands.__mro__[:-2])),
            methods(Device),
            methods(Memory, Interrupts, Host),
        )
    )
    return re.sub(r"(?<=does \|\n\|---\|---\|\n)(?:\| `.*\n)*", lambda _: next(tables), text)


def test_tables_of_the_reference() -> None:
    text = REFERENCE.read_text(encoding="utf-8")

    assert reference_as_it_should_be(text) == text


if __name__ == "__main__":
    for each in map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as name:
            page = page_as_it_should_be(each.read_text(encoding="utf-8"), Path(name))
        each.write_text(reference_as_it_should_be(page) if each.resolve() == REFERENCE else page, encoding="utf-8")
