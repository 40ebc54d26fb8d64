"""``vfio-user spec``: what it prints, its exit statuses, and what it leaves behind."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SHARED
from spec_text import layout, needs_shared, own, section

from vfio_user_proto.cli import main
from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.diff import RULES

pytestmark = pytest.mark.usefixtures("read_once")
GOOD = section(
    "Records", section("Pair", layout(("a", "0", "4"), ("b", "4", "4")), "*a* and *b* are numbers.", mark="-")
)
GAP = GOOD.replace("b     4 ", "b     8 ")
BROKEN = GOOD.replace("b     4       4", "b     four    4")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what generating reads and writes."""
    shutil.copytree(project.ROOT / "spec", tmp_path / "spec")
    for name in (project.REQUIREMENTS, *(origin.path for origin in project.ORIGINS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project.ROOT / name, tmp_path / name)
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
    message = "error: b at offset 8 leaves a gap: the fields above end at 4 [gap]"
    assert capsys.readouterr().out == f"{gap}:11:1: {message}\n"
    assert main(["spec", "check", str(tmp_path / "none.rst"), gap]) == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert err == f"vfio-user: {tmp_path / 'none.rst'}: cannot be read: No such file or directory\n"


def test_check_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json has the same for programs, and a clean document has none of it."""
    good, gap = text_file(tmp_path, "good.rst", GOOD), text_file(tmp_path, "gap.rst", GAP)

    assert main(["spec", "check", gap, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [
        {
            "file": gap,
            "line": 11,
            "column": 1,
            "level": "error",
            "message": "b at offset 8 leaves a gap: the fields above end at 4",
            "rule": "gap",
        }
    ]
    assert main(["spec", "check", good, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_write_into_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A document with a table that cannot be modelled is not touched, nor is any other that was named."""
    own = text_file(tmp_path, "vfio-user.rst", (project.ROOT / project.PROTOCOL.document).read_text())
    broken = text_file(tmp_path, "broken.rst", BROKEN)

    assert main(["spec", "tables", "--write", own, broken]) == 2
    assert capsys.readouterr() == ("", f"{broken}:11: error: Offset 'four' is not a number [table]\n")


def test_generate_and_tables_are_clean() -> None:
    """What is committed is what would be generated."""
    assert main(["spec", "generate", "--check"]) == 0
    assert main(["spec", "tables", "--check"]) == 0


def test_generate(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--check names the file and the first line that differs; without it the file is written, once."""
    module, due = checkout / project.PROTOCOL.path, (project.ROOT / project.PROTOCOL.path).read_text()
    module.write_text(due.replace("DMA_MAP = 2", "DMA_MAP = 3"))
    line = due.splitlines().index('    DMA_MAP = 2, "client -> server"') + 1

    assert main(["spec", "generate", "--check", "--root", str(checkout)]) == 1
    there, would = "'DMA_MAP = 3, \"client -> server\"'", "'DMA_MAP = 2, \"client -> server\"'"
    assert capsys.readouterr().out == f"{project.PROTOCOL.path}:{line}: is {there}, would be generated as {would}\n"
    assert main(["spec", "generate", "--root", str(checkout)]) == 0
    assert capsys.readouterr().out == f"wrote {project.PROTOCOL.path}\n"
    assert module.read_text() == due
    assert main(["spec", "generate", "--root", str(checkout)]) == 0
    assert capsys.readouterr().out == ""


def test_generate_from_an_unsound_document(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All problems are printed, nothing is written, the status is 2."""
    document = checkout / project.PROTOCOL.document
    document.write_text(
        document.read_text()
        .replace("| argsz   | 0 ", "| argsz   | x ")
        .replace("| Message size   | 4 ", "| Message size   | 5 ")
    )
    before = (checkout / project.PROTOCOL.path).read_text()

    assert main(["spec", "generate", "--root", str(checkout)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Message size at offset 5 leaves a gap" in err
    assert "Offset 'x' is not a number" in err
    assert all(line.startswith(f"{project.PROTOCOL.document}:") for line in err.splitlines())
    assert (checkout / project.PROTOCOL.path).read_text() == before


def test_generate_with_a_wrong_overlay(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An entry that fits nothing is one sentence with its line."""
    overlay = checkout / project.PROTOCOL.overlay
    overlay.write_text(overlay.read_text() + '\n[[measures]]\nreason = "x"\nfield = "size_t"\n')
    line = overlay.read_text().count("\n") - 2

    assert main(["spec", "generate", "--root", str(checkout)]) == 2
    assert capsys.readouterr().err == f"vfio-user: {project.PROTOCOL.overlay}:{line}: no record has a field size_t\n"


def test_outside_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no document to generate from, that is said."""
    assert main(["spec", "generate", "--root", str(tmp_path)]) == 2
    assert f"there is no {project.PROTOCOL.document} in {tmp_path}" in capsys.readouterr().err


def test_tables(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is stale, missing or nobody's is found by --check and mended without."""
    folder = checkout / project.TABLES / "kvm"
    (folder / "calls.rst").write_text("Calls\n")
    (folder / "kvm-run.rst").unlink()
    (folder / "gone.rst").write_text("Gone\n")

    assert main(["spec", "tables", "--check", "--root", str(checkout)]) == 1
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "spec/tables/kvm/calls.rst",
        "spec/tables/kvm/kvm-run.rst",
        "spec/tables/kvm/gone.rst",
    ]
    assert main(["spec", "tables", "--root", str(checkout)]) == 0
    assert (
        capsys.readouterr().out
        == "wrote spec/tables/kvm/calls.rst\nwrote spec/tables/kvm/kvm-run.rst\nremoved spec/tables/kvm/gone.rst\n"
    )
    assert main(["spec", "tables", "--check", "--root", str(checkout)]) == 0


def test_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1 with a line per difference, its verdicts and its rule, then the reasons; 0 and nothing without a difference."""
    old = text_file(tmp_path, "old.rst", GOOD)
    new = text_file(tmp_path, "new.rst", GOOD.replace("a     0       4", "a     0       2"))

    assert main(["spec", "diff", old, old]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["spec", "diff", old, new]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{old}:10: Pair: a: resized from 4 bytes to 2 bytes [request breaking, reply breaking: field-resized]",
        "",
        f"field-resized: {RULES['field-resized'].why}",
        "",
        "1 difference; requests: 1 breaking, 0 compatible; replies: 1 breaking, 0 compatible",
    ]


def test_diff_with_errata(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of errata, beside one of the documents or named, says what accounts for a difference, and what nothing does."""
    (tmp_path / "ours").mkdir()
    old = text_file(tmp_path / "ours", "old.rst", GOOD)
    new = text_file(tmp_path, "new.rst", GAP.replace("a     0       4", "a     0       2"))
    errata = '[[erratum]]\nid = "size-of-a"\ndiff = ["Pair: a: size"]\n'

    text_file(tmp_path / "ours", "errata.toml", errata)
    named = text_file(tmp_path, "named.toml", errata)
    for arguments in ((old, new), (new, old), (new, new.replace("new", "copy"), "--errata", named)):
        text_file(tmp_path, "copy.rst", GOOD)
        assert main(["spec", "diff", *arguments]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.rpartition("[")[2] for line in lines[:2]] == ["erratum size-of-a]", "unexplained]"]


def test_diff_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the same for programs, and never takes a document for the file to write."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", GAP)

    assert main(["spec", "diff", old, new, "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert main(["spec", "diff", "--json", old, new]) == 1
    assert json.loads(capsys.readouterr().out) == printed
    assert Path(old).read_text() == GOOD
    assert printed["changes"] == [
        {
            "table": "Pair",
            "subject": "b",
            "aspect": "offset",
            "old": "4",
            "new": "8",
            "text": "b: moved from 4 to 8",
            "request": "breaking",
            "reply": "breaking",
            "rule": "field-moved",
            "why": RULES["field-moved"].why,
            "file": old,
            "line": 11,
            "erratum": None,
        }
    ]
    assert printed["rules"]["field-moved"] == RULES["field-moved"]._asdict()


def test_diff_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--markdown writes a page with a table per table, and the reasons at its end."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", GAP)

    assert main(["spec", "diff", old, new, "--markdown"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "# From old.rst to new.rst",
        "",
        "1 difference; requests: 1 breaking, 0 compatible; replies: 1 breaking, 0 compatible.",
        "",
        "## Pair",
        "",
        "| Change | Requests | Replies | Rule |",
        "| --- | --- | --- | --- |",
        "| b: moved from 4 to 8 | breaking | breaking | field-moved |",
        "",
        "## Rules",
        "",
        f"- **field-moved**: {RULES['field-moved'].why}",
    ]


def test_diff_of_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 where a document cannot be used, with all that is wrong in it."""
    old, new = text_file(tmp_path, "old.rst", GOOD), text_file(tmp_path, "new.rst", BROKEN)

    assert main(["spec", "diff", old, new]) == 2
    assert capsys.readouterr().err == f"{new}:11: error: Offset 'four' is not a number [table]\n"
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


@needs_shared
def test_requirements_against(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where every anchor stands, 1 with a line per rotten one, where the quote has gone if it is still there."""
    path = str(SHARED / "upstream" / "vfio-user-2024-04-26.rst")

    assert main(["spec", "requirements", "--against", path]) == 0
    assert capsys.readouterr().out == ""
    published = (
        Path(path)
        .read_text()
        .replace("is echoed in the command's reply", "comes back")
        .replace("\nSocket\n", "\nPlug\n")
    )
    assert main(["spec", "requirements", "--against", text_file(tmp_path, "new.rst", published)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^spec/vfio-user.rst:\d+:\d+: error: ", "", line) for line in lines] == [
        f"socket.one-session: {tmp_path}/new.rst has no section 'Socket'; line 206 does, in 'Plug' [anchor]",
        f"socket.no-stall: {tmp_path}/new.rst has no section 'Socket'; line 218 does, in 'Plug' [anchor]",
        f'header.echo: the section in {tmp_path}/new.rst:394 does not say "is echoed in the command\'s reply" [anchor]',
    ]
    assert main(["spec", "requirements", "--against", str(tmp_path / "new.rst"), "--json"]) == 1
    assert [each["rule"] for each in json.loads(capsys.readouterr().out)["rotten"]] == ["anchor"] * 3


@needs_shared
def test_requirements_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    """Each sentence that says must, should, may or required, with what covers it."""
    path = str(SHARED / "upstream" / "vfio-user-2024-04-26.rst")

    assert main(["spec", "requirements", "--against", path, "--coverage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(f"{path}:454: header.error-reply-empty: ")]
    assert [line for line in lines if line.startswith(f"{path}:488: -: ")]
    assert main(["spec", "requirements", "--against", path, "--coverage", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["sentences"]) == len(lines)
    assert main(["spec", "requirements", "--coverage"]) == 2
    assert capsys.readouterr().err == "vfio-user: --coverage goes with --against\n"


def test_requirements_of_another_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Any document can be asked."""
    path = text_file(
        tmp_path, "x.rst", f"{GOOD}\n.. requirement:: x.y\n   :level: must\n   :side: both\n\n   It is so.\n"
    )

    assert main(["spec", "requirements", path]) == 0
    assert capsys.readouterr().out == f"x.y  must    both    Pair  ({path}:17)\n"


def test_docutils_is_not_imported_for_other_commands() -> None:
    """Neither the library nor the parser of the command line needs docutils."""
    code = "import sys, vfio_user_proto.messages, vfio_user_proto.cli.spec; sys.exit('docutils' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
