"""The pages in docs/spec: every command that they show is run, and prints what they say.

Run as a program, this writes what the commands print into the pages.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SHARED
from spec_text import REVISIONS, needs_shared

from vfio_user_proto.specdoc.diff import RULES
from vfio_user_proto.specdoc.lint import check
from vfio_user_proto.specdoc.project import ROOT
from vfio_user_proto.specdoc.reader import read_text

PAGES = sorted((ROOT / "docs" / "spec").glob("*.md"))
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


def folder_of(path: Path) -> None:
    """What the pages suppose: the checkout's documents, and copies of the published ones."""
    for name in ("spec", "vfio_user_proto"):
        (path / name).symlink_to(ROOT / name)
    for revision in REVISIONS:
        (path / f"vfio-user-{revision}.rst").symlink_to(SHARED / "upstream" / f"vfio-user-{revision}.rst")


def run(command: str, folder: Path) -> str:
    """What a command prints, on either stream, in the order of a terminal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode()


def page_as_it_should_be(text: str, folder: Path) -> str:
    """The page with what each of its commands prints; a block of Python is the file that its first line names."""

    def printed(commands: str) -> Iterator[str]:
        for line in commands.splitlines():
            if line.startswith("$ "):
                yield f"{line}\n{run(line[2:], folder)}"

    def filled(block: re.Match[str]) -> str:
        if block[1] == "python":
            (folder / block[2].split()[1]).write_text(block[2])
            return block[0]
        return f"```console\n{''.join(printed(block[2]))}```\n"

    return BLOCK.sub(filled, text)


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
