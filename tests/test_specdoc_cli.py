"""``vfio-user spec``: what it prints, its exit statuses, and what it leaves behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from spec_text import layout, own, section

from vfio_user_proto.cli import main
from vfio_user_proto.specdoc import project

GOOD = section("VFIO_USER_X", section("Request", layout(("a", "0", "4"), ("b", "4", "4")), mark="-"))
GAP = GOOD.replace("b     4 ", "b     8 ")
BROKEN = GOOD.replace("b     4       4", "b     four    4")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what generating reads and writes."""
    shutil.copytree(project.ROOT / "spec", tmp_path / "spec")
    (tmp_path / "vfio_user_proto").mkdir()
    shutil.copy(project.ROOT / project.MODULE, tmp_path / project.MODULE)
    return tmp_path


def text_file(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and silence for a sound document, 1 with a line per problem, 2 where one cannot be read; others still are."""
    good, gap = text_file(tmp_path, "good.rst", GOOD), text_file(tmp_path, "gap.rst", GAP)

    assert main(["spec", "check", good]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["spec", "check", gap, good]) == 1
    assert capsys.readouterr().out == f"{gap}:11: b at offset 8 leaves a gap: the fields above end at 4\n"
    assert main(["spec", "check", str(tmp_path / "none.rst"), gap]) == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == f"vfio-user: {tmp_path / 'none.rst'}: cannot be read: No such file or directory\n"


def test_generate_and_tables_are_clean() -> None:
    """What is committed is what would be generated."""
    assert main(["spec", "generate", "--check"]) == 0
    assert main(["spec", "tables", "--check"]) == 0


def test_generate(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check names the file and the first line that differs; without it the file is written, once."""
    module, due = checkout / project.MODULE, (project.ROOT / project.MODULE).read_text()
    module.write_text(due.replace("DMA_MAP = 2", "DMA_MAP = 3"))
    line = due.splitlines().index('    DMA_MAP = 2, "client -> server"') + 1

    assert main(["spec", "generate", "--check", "--root", str(checkout)]) == 1
    there, would = "'DMA_MAP = 3, \"client -> server\"'", "'DMA_MAP = 2, \"client -> server\"'"
    assert capsys.readouterr().out == f"{project.MODULE}:{line}: is {there}, would be generated as {would}\n"
    assert main(["spec", "generate", "--root", str(checkout)]) == 0
    assert capsys.readouterr().out == f"wrote {project.MODULE}\n"
    assert module.read_text() == due
    assert main(["spec", "generate", "--root", str(checkout)]) == 0
    assert capsys.readouterr().out == ""


def test_generate_from_an_unsound_document(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All problems are printed, nothing is written, the status is 2."""
    document = checkout / project.DOCUMENT
    document.write_text(
        document.read_text()
        .replace("| argsz   | 0 ", "| argsz   | x ")
        .replace("| Message size   | 4 ", "| Message size   | 5 ")
    )
    before = (checkout / project.MODULE).read_text()

    assert main(["spec", "generate", "--root", str(checkout)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Message size at offset 5 leaves a gap" in err
    assert "Offset 'x' is not a number" in err
    assert all(line.startswith(f"{project.DOCUMENT}:") for line in err.splitlines())
    assert (checkout / project.MODULE).read_text() == before


def test_generate_with_a_wrong_overlay(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An entry that fits nothing is one sentence with its line."""
    overlay = checkout / project.OVERLAY
    overlay.write_text(overlay.read_text() + '\n[[measures]]\nreason = "x"\nfield = "size_t"\n')
    line = overlay.read_text().count("\n") - 2

    assert main(["spec", "generate", "--root", str(checkout)]) == 2
    assert capsys.readouterr().err == f"vfio-user: {project.OVERLAY}:{line}: no record has a field size_t\n"


def test_outside_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no document to generate from, that is said."""
    assert main(["spec", "generate", "--root", str(tmp_path)]) == 2
    assert f"there is no {project.DOCUMENT} in {tmp_path}" in capsys.readouterr().err


def test_tables(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is stale, missing or nobody's is found by --check and mended without."""
    folder = checkout / project.TABLES
    (folder / "header.rst").write_text("Header\n")
    (folder / "commands.rst").unlink()
    (folder / "gone.rst").write_text("Gone\n")

    assert main(["spec", "tables", "--check", "--root", str(checkout)]) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "spec/tables/commands.rst",
        "spec/tables/header.rst",
        "spec/tables/gone.rst",
    ]
    assert main(["spec", "tables", "--root", str(checkout)]) == 0
    assert (
        capsys.readouterr().out
        == "wrote spec/tables/commands.rst\nwrote spec/tables/header.rst\nremoved spec/tables/gone.rst\n"
    )
    assert main(["spec", "tables", "--check", "--root", str(checkout)]) == 0


def test_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 with a line per difference, 0 without one; a file of errata beside a document says what accounts for it."""
    old, new = (
        text_file(tmp_path, "old.rst", GOOD),
        text_file(tmp_path, "new.rst", GOOD.replace("a     0       4", "a     0       2")),
    )
    change = f"{old}:10: VFIO_USER_X / Request: a: resized from 4 bytes to 2 bytes"

    assert main(["spec", "diff", old, old]) == 0
    assert main(["spec", "diff", old, new]) == 1
    assert capsys.readouterr().out == f"{change}\n"
    errata = text_file(
        tmp_path, "errata.toml", '[[erratum]]\nid = "size-of-a"\ndiff = ["VFIO_USER_X / Request: a: size"]\n'
    )
    assert main(["spec", "diff", old, new]) == 1
    assert capsys.readouterr().out == f"{change} [erratum size-of-a]\n"
    text_file(tmp_path, "none.toml", "")
    assert main(["spec", "diff", old, new, "--errata", errata]) == 1
    assert capsys.readouterr().out == f"{change} [erratum size-of-a]\n"


def test_diff_without_erratum(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What no erratum accounts for is marked."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", GAP)
    text_file(tmp_path, "errata.toml", '[[erratum]]\nid = "x"\n')

    assert main(["spec", "diff", old, new]) == 1
    assert capsys.readouterr().out == f"{old}:11: VFIO_USER_X / Request: b: moved from 4 to 8 [unexplained]\n"


def test_diff_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json writes the same for programs, to standard output or a file."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", GAP)

    assert main(["spec", "diff", old, new, "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert main(["spec", "diff", old, new, "--json", str(tmp_path / "diff.json")]) == 1
    assert json.loads((tmp_path / "diff.json").read_text()) == printed
    assert printed["changes"] == [
        {
            "table": "VFIO_USER_X / Request",
            "subject": "b",
            "aspect": "offset",
            "old": "4",
            "new": "8",
            "text": "VFIO_USER_X / Request: b: moved from 4 to 8",
            "file": old,
            "line": 11,
            "erratum": None,
        }
    ]
    assert main(["spec", "diff", old, new, "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_diff_of_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 where a document cannot be used, with all that is wrong in it."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", BROKEN)

    assert main(["spec", "diff", old, new]) == 2
    assert capsys.readouterr().err == f"{new}:11: Offset 'four' is not a number\n"
    assert main(["spec", "diff", old, str(tmp_path / "none.rst")]) == 2
    assert main(["spec", "diff", old, old, "--errata", str(tmp_path / "none.toml")]) == 2


def test_requirements(capsys: pytest.CaptureFixture[str]) -> None:
    """Each requirement is one line; --json has all of it."""
    requirements = own().requirements

    assert main(["spec", "requirements"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(requirements)
    assert lines[0].split()[:3] == [requirements[0].id, requirements[0].level, requirements[0].side]
    assert main(["spec", "requirements", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["requirements"] == [each.as_dict() for each in requirements]


def test_requirements_of_another_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any document can be asked."""
    path = text_file(
        tmp_path, "x.rst", f"{GOOD}\n.. requirement:: x.y\n   :level: must\n   :side: both\n\n   It is so.\n"
    )

    assert main(["spec", "requirements", path]) == 0
    assert capsys.readouterr().out == f"x.y  must    both    VFIO_USER_X / Request  ({path}:16)\n"


def test_docutils_is_not_imported_for_other_commands() -> None:
    """Neither the library nor the parser of the command line needs docutils."""
    code = "import sys, vfio_user_proto.messages, vfio_user_proto.cli.spec; sys.exit('docutils' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
