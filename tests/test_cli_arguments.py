"""Every command: mistakes of the command line in one line, help where no command is named, streams that are closed or full."""

import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import vfio_user

from vfio_user_conformance import case
from vfio_user_proto.cli import COMMANDS, main, output

PROGRAM = f"{shlex.quote(sys.executable)} -m vfio_user_proto"
WRONG_SERVER = "conformance server --fault unmap-keeps-descriptor --respawn death --select dma-unmap/released"


def shell(script: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bogus"], "vfio-user: argument COMMAND: invalid choice: 'bogus' (choose from "),
        (["--bogus"], "vfio-user: unknown: --bogus; see vfio-user --help"),
        (["decode", "--bogus", "01"], "vfio-user decode: unknown: --bogus; see vfio-user decode --help"),
        (["info", "here", "--socket", "x"], "vfio-user info: unknown: here; see vfio-user info --help"),
        (["info", "--timeout", "nan"], "vfio-user info: argument --timeout: 'nan' is not a number from 0 to 1000000; see"),
        (["conformance", "serve"], "vfio-user conformance: argument WHAT: invalid choice: 'serve' (choose from "),
        (["conformance", "server", "-j", "0"], "vfio-user conformance server: argument -j/--jobs: '0' is not a whole"),
        (["conformance", "model", "--steps", "x"], "vfio-user conformance model: argument --steps: 'x' is not a whole"),
        (["conformance", "client", "--time-limit", "0"], "vfio-user conformance client: argument --time-limit: '0' is"),
        (["conformance", "client", "--max-msg-fds", "-1"], "vfio-user conformance client: argument --max-msg-fds: '-1' is"),
        (["fuzz", "server", "--time", "-1"], "vfio-user fuzz server: argument --time: '-1' is not a number above 0, up to"),
        (["fuzz", "corpus"], "vfio-user fuzz corpus: the following arguments are required: DIR; see vfio-user"),
        (["spec", "export", "--format", "cobol"], "vfio-user spec export: argument --format: invalid choice: 'cobol' (choose"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_says_where_to_read_on(
    words: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)

    out, err = capfd.readouterr()
    assert end.value.code == 2
    assert err.startswith(told)
    assert (out, err.count("\n"), err.endswith(" --help\n")) == ("", 1, True)


@pytest.mark.parametrize("words", [[], ["spec"], ["conformance"], ["fuzz"], ["bench"]], ids=" ".join)
def test_without_a_command_there_is_help_and_status_2(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(" ".join(["usage: vfio-user", *words]))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_prose(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It has no marks of a docstring in it, and says what each command under it does."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])

    out = capfd.readouterr().out
    assert end.value.code == 0
    assert "``" not in out
    assert out.splitlines()[-1].strip()


@pytest.mark.parametrize(
    ("command", "status"),
    [("spec export --format c", 0), ("--help", 0), ("decode zz", 2), ("decode 0100", 2), (WRONG_SERVER, 1)],
)
@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_nothing_to_the_command(command: str, status: int, closed: str) -> None:
    """The status is that of the same command with its streams at /dev/null, and no message goes to the other stream."""
    done = shell(f"{PROGRAM} {command} {closed}")

    assert done.returncode == status
    assert not ("2>" in closed and "vfio-user: " in done.stdout), done.stdout
    assert not (">&- " in closed and done.stdout)


def test_a_reader_that_goes_does_not_make_a_wrong_server_conform() -> None:
    done = shell(f"set -o pipefail; {PROGRAM} {WRONG_SERVER} | true")

    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_for_findings_that_is_a_file_is_told_as_such(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for words in (["conformance", "server", "--evidence"], ["fuzz", "server", "--evidence"]):
        done = vfio_user(*words, str(file))

        assert (done.returncode, done.stderr) == (2, f"vfio-user: {file}: is no directory\n")


def test_what_the_system_lacks_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "color", lambda: os.open("/dev/null/none", os.O_RDONLY))

    assert main(["decode", "0100"]) == 2
    assert capfd.readouterr().err == "vfio-user: /dev/null/none: Not a directory\n"


def test_an_input_without_end_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)

    assert main(["decode", str(file)]) == 2
    assert capfd.readouterr().err == f"vfio-user: {file}: holds more than 256 MiB; give a part of it\n"


def test_sections_are_what_select_takes(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance", "list", "--sections"]) == 0
    rows = [line.split() for line in capfd.readouterr().out.splitlines()]
    section, cases = next(row for row in rows if row[0] == "dma-unmap")
    assert main(["conformance", "list", section]) == 0
    assert capfd.readouterr().err == f"{cases} cases\n"


def test_a_case_whose_fault_does_not_exist_is_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    one = replace(case.catalogue()["irq-info/reply"], catches=("irq-info-without-acount",))
    monkeypatch.setattr(case, "catalogue", lambda: {one.ident: one})

    assert main(["conformance", "prove", one.ident]) == 2
    told = "vfio-user: irq-info/reply catches irq-info-without-acount, but there is no such fault\n"
    assert capfd.readouterr() == ("", told)


def test_the_line_that_makes_a_run_again_names_its_list_of_known_findings() -> None:
    """Without it, what is known in the profile would be passed over."""
    done = vfio_user(*WRONG_SERVER.split(), "--known", "/dev/null")

    assert done.returncode == 1
    line = "  again     vfio-user conformance server --known /dev/null --fault unmap-keeps-descriptor --select "
    assert line in done.stdout


def test_a_report_that_cannot_be_written_is_not_the_end_of_the_others() -> None:
    """What was found is on the terminal before files are written."""
    done = vfio_user(*WRONG_SERVER.split(), "--html", "/dev/full")

    assert (done.returncode, done.stderr) == (2, "vfio-user: /dev/full: No space left on device\n")
    assert done.stdout.endswith("\nnot conforming: 1 finding\n")


def test_a_profile_that_is_a_file_by_another_name_is_found(tmp_path: Path) -> None:
    """A bare word is one of the suite's; where a file has that name, it is said how to write it."""
    (tmp_path / "mine").touch()
    done = vfio_user("conformance", "server", "--profile", "mine", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("vfio-user: mine: no such profile comes with the suite, but builtin, ")
    assert done.stderr.endswith("; the file of that name is ./mine\n")


def test_a_list_of_known_findings_may_begin_with_a_run(tmp_path: Path) -> None:
    """The file need not be there, and keeps the next run green; that it cannot be made is told before anything runs."""
    list_of_them = ("--known", str(tmp_path / "known.toml"))

    assert vfio_user(*WRONG_SERVER.split(), *list_of_them, "--update-known").returncode == 0
    assert vfio_user(*WRONG_SERVER.split(), *list_of_them).stdout.endswith("\nconforming; 1 known\n")
    nowhere = vfio_user(*WRONG_SERVER.split(), "--known", str(tmp_path / "no" / "known.toml"), "--update-known")
    assert (nowhere.returncode, nowhere.stdout) == (2, "")
