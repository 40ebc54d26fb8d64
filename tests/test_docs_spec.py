"""The pages in docs/spec: every command that they show is run, and prints what they say.

Run as a program, this writes what the commands print into the pages.
"""

import re
import tempfile
from pathlib import Path

import pytest
from conftest import SHARED
from pages import page_as_it_should_be
from spec_text import REVISIONS, needs_shared

from vfio_user_proto.specdoc.diff import RULES
from vfio_user_proto.specdoc.lint import check
from vfio_user_proto.specdoc.project import ROOT
from vfio_user_proto.specdoc.reader import read_text

PAGES = sorted((ROOT / "docs" / "spec").glob("*.md"))


def folder_of(path: Path) -> None:
    """What the pages suppose: the checkout's documents, and copies of the published ones."""
    for name in ("spec", "vfio_user_proto"):
        (path / name).symlink_to(ROOT / name)
    for revision in REVISIONS:
        (path / f"vfio-user-{revision}.rst").symlink_to(SHARED / "upstream" / f"vfio-user-{revision}.rst")


@needs_shared
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages(page: Path, tmp_path: Path) -> None:
    """A page holds the real output of each command that it shows."""
    folder_of(tmp_path)

    assert page_as_it_should_be(page.read_text(), tmp_path) == page.read_text()


def rule_rows() -> list[str]:
    return [f"| `{name}` | {rule.request or '-'} | {rule.reply or '-'} | {rule.why} |" for name, rule in RULES.items()]


def test_rules_of_differences() -> None:
    """The page has the table of rules that the program goes by."""
    lines = (ROOT / "docs/spec/diff.md").read_text().splitlines()

    assert [line for line in lines if line.startswith("| `")] == rule_rows()


def test_rules_of_lints() -> None:
    """The page names every rule that one of the wrong documents breaks, and no other."""
    text = (ROOT / "docs/spec/check.md").read_text()
    named = {
        name
        for line in text.splitlines()
        if line.startswith("| `")
        for name in re.findall("`([a-z-]+)`", line.split("|")[1])
    }
    wrong = (Path(__file__).parent / "specdoc").glob("*.rst")
    broken = {problem.rule for path in wrong for problem in check(read_text(path.read_text(), path.name))}

    assert named == broken


if __name__ == "__main__":
    for each in PAGES:
        with tempfile.TemporaryDirectory() as name:
            folder_of(Path(name))
            each.write_text(page_as_it_should_be(each.read_text(), Path(name)))
