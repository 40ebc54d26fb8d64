"""Lints and the reader's refusals: tests/specdoc has one tiny wrong document per message, and the message beside it."""

import re
from pathlib import Path

import pytest
from spec_text import REVISIONS, needs_shared, published

from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.errata import marks
from vfio_user_proto.specdoc.lint import LINTS, check, structure
from vfio_user_proto.specdoc.lint.words import TOTALS
from vfio_user_proto.specdoc.reader import read_text

WRONG = sorted((Path(__file__).parent / "specdoc").glob("*.rst"))


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_document(path: Path) -> None:
    """Each wrong document gives the message in its .err file, with the exact line and column."""
    problems = check(read_text(path.read_text(), path.name))

    assert path.with_suffix(".err").read_text() == "".join(f"{problem}\n" for problem in problems)


def test_every_wrong_document_is_wrong() -> None:
    """No .err file is empty, so that no case here passes for want of a message; and none stands alone."""
    errors = {path for path in WRONG[0].parent.glob("*.err") if path.read_text().strip()}

    assert {path.with_suffix(".err") for path in WRONG} == errors


def test_columns_point_at_words() -> None:
    """Where a message speaks of a name in its line, the column is where that name begins."""
    pointed = 0
    for path in WRONG:
        document = read_text(path.read_text(), path.name)
        for problem in check(document):
            line = document.lines[problem.source.line - 1] if problem.source.line else ""
            if problem.words and problem.words in line:
                assert line[problem.column - 1 :].startswith(problem.words), problem
                pointed += 1

    assert pointed > 20


@pytest.mark.parametrize("origin", project.ORIGINS, ids=lambda origin: origin.name)
def test_own_documents_are_clean(origin: project.Origin) -> None:
    """Nothing is wrong with the documents that everything is generated from."""
    assert check(project.document(origin=origin)) == []


def test_structure_leaves_words_alone() -> None:
    """An undefined symbol is worth a word, but nothing that keeps a document from being generated from."""
    path = next(path for path in WRONG if path.stem == "undefined-symbol")
    read = read_text(path.read_text(), path.name)

    assert len(check(read)) == 1
    assert structure(read) == []


def test_each_lint_finds_something() -> None:
    """Every lint is shown by one of the wrong documents."""
    documents = [read_text(path.read_text(), path.name) for path in WRONG]

    assert [lint.__name__ for lint in LINTS if not any([*lint(each)] for each in documents)] == []


def test_each_total_is_looked_for() -> None:
    """Every way in which prose tells a size occurs, in one of our documents or in a wrong one, and is thus compared."""
    texts = [prose.text for path in WRONG for prose in read_text(path.read_text(), path.name).prose]
    texts += [prose.text for origin in project.ORIGINS for prose in project.document(origin=origin).prose]
    unseen = [pattern for pattern, _ in TOTALS if not any(re.search(pattern, text, re.IGNORECASE) for text in texts)]

    assert unseen == []


@needs_shared
def test_errata_account_for_every_mistake_of_the_published_text() -> None:
    """What is found in the revision of 2024-04-26 is what the errata list, line by line and rule by rule."""
    found = [f"{problem.source.line} {problem.rule}" for problem in check(published("2024-04-26"))]

    assert sorted(found) == sorted(marks(str(project.ROOT / "spec/errata.toml"), "lint"))


@needs_shared
def test_real_mistakes() -> None:
    """Each contradiction that bytes on the wire would show is an error, in the revision that has it."""
    found = {
        revision: {
            f"{problem.source.line} {problem.rule}"
            for problem in check(published(revision))
            if problem.level == "error"
        }
        for revision in REVISIONS
    }

    assert {"427 gap", "1542 total"} <= found["2021-01-20"]
    assert {"1468 narrower-reply"} <= found["2021-09-08"]
    assert "1002 array-formula" not in found["2021-09-08"]  # it was (argsz - 16) then
    assert {"999 array-formula", "1468 narrower-reply", "1841 bitmap-formula"} <= found["2024-04-26"]
