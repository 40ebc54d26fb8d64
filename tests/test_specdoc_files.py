"""Generated files: written whole or not at all, and only where they differ."""

from pathlib import Path

import pytest

from vfio_user_proto.errors import UsageError
from vfio_user_proto.specdoc.files import first_difference, write


def test_write_only_what_differs(tmp_path: Path) -> None:
    """A file that holds the text already keeps its date; nothing else is left in the folder."""
    path = tmp_path / "new" / "messages.py"

    assert write(path, "a\n")
    before = path.stat().st_mtime_ns
    assert not write(path, "a\n")
    assert path.stat().st_mtime_ns == before
    assert write(path, "b\n")
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("messages.py", "b\n")]


def test_write_fails_clean(tmp_path: Path) -> None:
    """A path that cannot be written is one sentence, and leaves nothing half-written."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError, match="folder cannot be written: Is a directory"):
        write(tmp_path / "folder", "a\n")

    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("there", "due", "found"),
    [
        ("a\nb\n", "a\nb\n", None),
        ("a\nx\n", "a\nb\n", (2, "x", "b")),
        ("a\n", "a\nb\n", (2, "(nothing)", "b")),
        ("a\nb\n", "a\n", (2, "b", "(nothing)")),
        ("a", "a\n", (2, "(another end of the file)", "")),
        (None, "a\n", (1, "(nothing)", "a")),
    ],
)
def test_first_difference(tmp_path: Path, there: str | None, due: str, found: tuple[int, str, str] | None) -> None:
    """The first line that differs is named, also where one text is longer, or the file is missing."""
    path = tmp_path / "x"
    if there is not None:
        path.write_text(there)

    assert first_difference(path, due) == found
