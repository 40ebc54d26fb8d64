"""``vfio-user spec export``: standard output or a file, written whole or not at all."""

import argparse
import os
from pathlib import Path

import pytest

from vfio_user_proto.cli import export
from vfio_user_proto.errors import UsageError
from vfio_user_proto.export import FORMATS


def run(*words: str) -> int:
    """The exit status of "export" with these arguments."""
    parser = argparse.ArgumentParser()
    export.register(parser.add_subparsers())
    options = parser.parse_args(["export", *words])
    status: int = options.run(options)
    return status


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_goes_to_standard_output(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Just the text, so that it can be redirected."""
    assert run("--format", form) == 0

    assert capsys.readouterr() == (FORMATS[form](), "")


def test_a_file_is_written_and_left_alone_when_it_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a build does not run again for nothing; what was done is said on standard error."""
    path = tmp_path / "include" / "vfio_user.h"

    assert run("--format", "c", "--output", str(path)) == 0
    os.utime(path, ns=(1, 1))
    assert run("--format", "c", "--output", str(path)) == 0

    assert path.read_text() == FORMATS["c"]()
    assert path.stat().st_mtime_ns == 1
    assert capsys.readouterr() == ("", f"{path}: written\n{path}: unchanged\n")


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """And nothing is left beside it."""
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match="cannot be written: "):
        run("--format", "json", "--output", str(tmp_path / "file" / "protocol.json"))
    with pytest.raises(UsageError, match="cannot be written: "):
        run("--format", "json", "--output", str(tmp_path))

    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_an_unknown_format_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, as for every wrong call."""
    with pytest.raises(SystemExit) as end:
        run("--format", "cobol")

    assert end.value.code == 2
    words = capsys.readouterr().err
    assert [form for form in FORMATS if form not in words] == []
