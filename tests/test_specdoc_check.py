"""Lints and the reader's refusals: tests/specdoc has one tiny wrong document per message, and the message beside it."""

from pathlib import Path

import pytest
from spec_text import needs_shared, own, published

from vfio_user_proto.specdoc.check import LINTS, check, structure
from vfio_user_proto.specdoc.reader import read_text

WRONG = sorted((Path(__file__).parent / "specdoc").glob("*.rst"))


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_wrong_document(path: Path) -> None:
    """Each wrong document gives the message in its .err file, with the exact line."""
    problems = check(read_text(path.read_text(), path.name))

    assert path.with_suffix(".err").read_text() == "".join(f"{problem}\n" for problem in problems)


def test_every_wrong_document_is_wrong() -> None:
    """No .err file is empty, so that no case here passes for want of a message; and none stands alone."""
    errors = {path for path in WRONG[0].parent.glob("*.err") if path.read_text().strip()}

    assert {path.with_suffix(".err") for path in WRONG} == errors


def test_own_document_is_clean() -> None:
    """Nothing is wrong with the document that everything is generated from."""
    assert check(own()) == []


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


@needs_shared
def test_published_documents() -> None:
    """The mistakes of the published tables are found: the gap of 2021-01, symbols that nothing defines."""
    found = {name: [problem.message for problem in check(published(name))] for name in ("2021-01-20", "2024-04-26")}

    assert found["2021-01-20"] == ["version data at offset 6 leaves a gap: the fields above end at 4"]
    assert "undefined symbol VFIO_USER_SET_IRQS" in found["2024-04-26"]
    assert "undefined symbol VFIO_USER_IO_FD_TYPE_IOEVENTFD" in found["2024-04-26"]
