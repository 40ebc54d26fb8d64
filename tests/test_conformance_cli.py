# The command line: exit statuses, reports in files, known findings, evidence, and nobody else's pytest settings.
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import VFIO_USER, vfio_user

from vfio_user_proto import launch

FEW = ("--select", "device-info/*", "dma-unmap/released")
WRONG = ("--fault", "unmap-keeps-descriptor")


def run(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    done = vfio_user("conformance", *words, cwd=cwd, timeout=600, **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_reference_server_conforms() -> None:
    """One process serves all cases here; a fresh one for each is in test_faults.py."""
    done = run("server", "--strict", "--respawn", "death")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "conforming"
    assert "fail" not in done.stdout


def test_a_server_that_runs_already_is_attached_to() -> None:
    with launch.builtin() as server:
        server.connect().close()
        done = run(
            "server", "--socket", server.path, "--profile", "builtin", "--select", "header", "dma-unmap", "reset"
        )

    assert done.returncode == 0, done.stdout


def test_a_finding_is_told_and_the_status_is_1(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "junit", "tap", "html", "markdown", "text")}
    options = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    done = run("server", *FEW, *WRONG, *options, "--evidence", str(tmp_path / "evidence"))

    assert done.returncode == 1
    assert done.stdout == files["text"].read_text()
    assert "fail dma-unmap/released: a memfd of 0x1000 bytes is still held after the reply" in done.stdout
    report = json.loads(files["json"].read_text())
    assert report["summary"] == {"pass": 8, "fail": 1, "info": 1}
    [finding] = [result for result in report["results"] if result["outcome"] == "fail"]
    assert finding["evidence"] == str(tmp_path / "evidence" / "dma-unmap.released.jsonl")
    assert ElementTree.parse(files["junit"]).getroot().find("testsuite/testcase/failure") is not None
    assert "<h1>" in files["html"].read_text()
    assert "| fail | dma-unmap/released |" in files["markdown"].read_text()
    assert re.search(r"^not ok \d - dma-unmap/released$", files["tap"].read_text(), re.MULTILINE)


def test_evidence_is_done_again(tmp_path: Path) -> None:
    told = run("server", *FEW, *WRONG, "--evidence", str(tmp_path)).stdout
    file = str(tmp_path / "dma-unmap.released.jsonl")

    again, fixed = run("replay", file, *WRONG), run("replay", file, file)

    assert f"  again     vfio-user conformance replay {' '.join(WRONG)} {file}\n" in told
    assert (again.returncode, "still fail" in again.stdout) == (1, True)
    other = f"by vfio-user serve; it was found in vfio-user serve {' '.join(WRONG)}"
    assert (fixed.returncode, fixed.stdout) == (0, f"{file}: fixed: pass ({other})\n" * 2)


def test_a_file_that_cannot_be_done_again_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    run("server", *FEW, *WRONG, "--evidence", str(tmp_path))
    file, gone = str(tmp_path / "dma-unmap.released.jsonl"), str(tmp_path / "gone")

    wrong, fixed = run("replay", gone, file, *WRONG), run("replay", os.devnull, file, gone)
    lost = run("replay", file, gone, "--socket", "/nowhere/socket")

    assert (wrong.returncode, wrong.stdout.startswith(f"{file}: still fail: ")) == (1, True)
    assert wrong.stderr == f"vfio-user: {gone}: No such file or directory\n"
    assert (fixed.returncode, fixed.stdout.startswith(f"{file}: fixed: pass ")) == (2, True)
    assert [line.split(": ")[1] for line in fixed.stderr.splitlines()] == [os.devnull, gone]
    assert (lost.returncode, lost.stdout) == (3, "")
    assert lost.stderr.startswith(f"vfio-user: {file}: /nowhere/socket: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("server", "--select", "dma-mpa/*"), 2, "no case matches 'dma-mpa/*'; did you mean dma-map?"),
        (("server", "--allow", "fire"), 2, "--allow: 'fire' is none of reset"),
        (("server", "--profile", "no.toml"), 2, "no.toml: No such file"),
        (("server", "--known", "no.toml"), 2, "no.toml: No such file"),
        (("server", "--update-known"), 2, "--update-known needs --known or --profile"),
        (("server", "--fault", "unmap-keeps"), 2, "did you mean unmap-keeps-descriptor?"),
        (("server", "--fault", "map-offset-refused", "--socket", "x"), 2, "--fault is for the built-in server"),
        (("server", "--json", "/nowhere/x", *FEW), 2, "/nowhere/x: /nowhere is no directory"),
        (("server", "--evidence", "/proc/x", *FEW, *WRONG), 2, "/proc/x: "),
        (("server", "--timeout-multiplier", "-1"), 2, "'-1' is not a number from 0"),
        (("server", "-j", "0"), 2, "'0' is not a whole number from 1 to 64"),
        (("server", "--profile", "quux"), 2, "quux: no such profile comes with the suite, but builtin, "),
        (("server", "--spawn", "true"), 2, "{socket} must stand"),
        (("server", "--spawn", "/bin/false {socket}"), 3, "exit status 1"),
        (("server", "--spawn", "/nowhere/prog {socket}"), 3, "No such file"),
        (("server", "--socket", "/nowhere/socket"), 3, "/nowhere/socket: No such file"),
        (("replay", "x", "--fault", "unmap-keeps"), 2, "did you mean unmap-keeps-descriptor?"),
        (("replay", "/nowhere/file"), 2, "/nowhere/file: No such file"),
        (("replay", os.devnull), 2, f"vfio-user: {os.devnull}: this is no evidence, "),
        (("list", "quux"), 2, "no case matches 'quux'"),
        (("list", "--requirements", "header"), 2, "--requirements lists all of them"),
        (("matrix", "/nowhere/x"), 2, "/nowhere/x: No such file"),
        (("matrix", __file__), 2, "this is no JSON"),
        (("diff", __file__, __file__), 2, "this is no JSON"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words: Sequence[str], status: int, sentence: str) -> None:
    done = run(*words)

    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr


def test_nothing_run_is_no_success() -> None:
    command = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --socket-path {{socket}} --device minimal"
    done = run("server", "--spawn", command, "--select", "region-io-fds/types")

    assert (done.returncode, done.stdout.splitlines()[-1]) == (4, "no verdict: nothing was run")


def test_hazards_are_refused_where_nobody_allowed_them() -> None:
    command = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --socket-path {{socket}}"
    one = ("server", "--spawn", command, "--select", "reset/reply")

    assert run(*one).returncode == 4
    assert run(*one, "--allow", "reset").returncode == 0


def test_a_target_that_dies_is_told_from_one_that_is_lost() -> None:
    fault = ("--fault", "reset-then-map-crash", "--select", "reset", "feature")

    assert "1 crash" in run("server", *fault, "--respawn", "death").stdout
    lost = run("server", *fault, "--respawn", "never")
    assert (lost.returncode, "not-reached" in lost.stdout) == (1, True)


def test_known_findings_keep_a_run_green_and_are_kept_true(tmp_path: Path) -> None:
    file = tmp_path / "target.toml"
    file.write_text('name = "mine"\nallow = ["all"]\n')
    options = ("server", *FEW, "--profile", str(file))

    assert run(*options, *WRONG).returncode == 1
    assert "conforming; 1 known" in run(*options, *WRONG, "--update-known").stdout
    assert run(*options, *WRONG).returncode == 0
    fixed = run(*options)
    assert (fixed.returncode, "known as fail, but ended as pass" in fixed.stdout) == (1, True)
    run(*options, "--update-known")
    assert run(*options).returncode == 0


def test_the_catalogue_is_printed_and_is_data() -> None:
    done = run("list", "dma-map/overlap-inside")
    assert done.stdout.splitlines()[0] == "dma-map/overlap-inside  [must, dma-map.overlap]"

    [case] = json.loads(run("list", "--json", "dma-map/overlap-inside").stdout)
    assert case["expected"] == "an error reply with EEXIST"
    assert case["catches"] == ["overlap-inside-accepted"]


def test_the_requirements_are_printed_and_are_data() -> None:
    done = run("list", "--requirements")
    lines = done.stdout.splitlines()
    assert lines[lines.index("dma-map.overlap  [must, server]  covered") + 1].startswith("  dma-map/")
    assert " covered, " in done.stderr

    content = json.loads(run("list", "--requirements", "--json").stdout)
    assert {each["id"]: each["state"] for each in content}["backend.description"] == "not-testable"


def test_reports_are_compared_and_laid_side_by_side(tmp_path: Path) -> None:
    old, new = str(tmp_path / "old.json"), str(tmp_path / "new.json")
    run("server", *FEW, "--json", old)
    run("server", *FEW, *WRONG, "--json", new)

    worse, better = run("diff", old, new), run("diff", new, old)
    assert (worse.returncode, "newly failing: dma-unmap/released: pass, now fail" in worse.stdout) == (1, True)
    assert (better.returncode, "fixed: dma-unmap/released: fail, now pass" in better.stdout) == (0, True)
    page, table = tmp_path / "m.html", tmp_path / "m.md"
    laid = run("matrix", old, new, "--html", str(page), "--markdown", str(table))
    assert laid.returncode == 0
    assert "dma-unmap/released  pass  fail" in laid.stdout
    assert "| dma-unmap/released | pass | fail |" in table.read_text()
    assert 'data-case="dma-unmap/released"' in page.read_text()


def test_what_the_user_has_set_for_pytest_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --bogus\n")
    (tmp_path / "conftest.py").write_text("raise SystemExit('the conftest of the user')\n")
    (tmp_path / "header.py").write_text("raise SystemExit('a file of the user')\n")

    done = run("server", *FEW, cwd=tmp_path, PYTEST_ADDOPTS="--bogus", PYTEST_PLUGINS="no_such_plugin")

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conftest.py", "header.py", "pytest.ini"]


def test_libvfio_user_is_known_in_full() -> None:
    samples = os.environ.get("LIBVFIO_USER_SAMPLES")
    if not samples:
        pytest.skip("LIBVFIO_USER_SAMPLES names no folder with the samples of libvfio-user")
    done = run("server", "--spawn", f"{samples}/gpio-pci-idio-16 {{socket}}", "--profile", "libvfio-user-gpio")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("conforming; ")


def stopping(folder: Path, signal: str) -> list[str]:
    """A run whose target sends it the signal, when it is started for the fourth time: once for the survey, then for cases."""
    starts = folder / "starts"
    script = f"""echo start >> "{starts}"; [ $(wc -l < "{starts}") -lt 4 ] || kill -{signal} $PPID
        exec {shlex.join(VFIO_USER)} serve --socket-path "$0"
        """
    spawn = f"sh -c {shlex.quote(script)} {{socket}}"
    return ["server", "--select", "device-info", "--spawn", spawn, "--json", str(folder / "report")]


@pytest.mark.parametrize("signal", ["INT", "TERM"])
def test_a_run_that_is_stopped_tells_what_it_had(tmp_path: Path, signal: str) -> None:
    done = run(*stopping(tmp_path, signal))

    assert done.returncode == 3
    assert "no verdict: stopped after 2 of" in done.stdout
    assert len(json.loads((tmp_path / "report").read_text())["results"]) == 2


def test_sigterm_stops_a_run_in_the_background_of_a_shell(tmp_path: Path) -> None:
    """There SIGINT is ignored."""
    command = shlex.join([*VFIO_USER, "conformance", *stopping(tmp_path, "TERM")])
    script = f"trap '' INT; exec {command}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, "no verdict: stopped after 2 of" in done.stdout) == (3, True)
