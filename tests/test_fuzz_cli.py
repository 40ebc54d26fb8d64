"""``vfio-user fuzz`` from outside: what it prints, what it keeps, and its exit statuses."""

import re
import signal
import sys
from pathlib import Path

import pytest
from script_server import script

from vfio_user_fuzz import server
from vfio_user_proto.cli import main
from vfio_user_proto.trace import read_capture


@pytest.mark.usefixtures("no_leak")
def test_the_reference_server_survives(capsys: pytest.CaptureFixture[str]) -> None:
    """Without any target the built-in one is used; seed, sessions, messages and their rate are reported."""
    assert main(["fuzz", "server", "--seed", "3", "--steps", "20"]) == 0

    assert re.fullmatch(
        r"built-in: seed 3, 20 sessions, \d+ messages in \d+\.\d s \(\d+ per second\), 0 restarts, no findings\n",
        capsys.readouterr().out,
    )


def test_a_crash_is_status_1_and_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found stands in a file that holds the session, its descriptors, and what the server printed."""
    command = script(tmp_path, "if command == 16: print('dying', flush=True); os.abort()")

    assert (
        main(["fuzz", "server", "--spawn", command, "--seed", "1", "--steps", "5", "--save", str(tmp_path / "out")])
        == 1
    )

    out = capsys.readouterr().out
    (file,) = (tmp_path / "out").iterdir()
    capture = read_capture(file)
    assert "crash: killed by SIGABRT (VFIO_USER_DEVICE_FEATURE)" in out
    assert str(file) in out
    assert file.name.startswith("crash-device-feature-")
    assert capture.head["stderr"] == "dying\n"
    assert capture.messages[-1].sender == "client"


def test_a_run_that_is_interrupted_tells_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1 where that is a finding, else 3."""
    attempt = server.Run._try
    monkeypatch.setattr(server.Run, "_try", lambda *words: attempt(*words) if words[2] < 6 else signal.raise_signal(2))
    command = script(tmp_path, "if command == 16: os.abort()")

    assert main(["fuzz", "server", "--spawn", command, "--seed", "1", "--time", "60"]) == 1
    assert "6 sessions" in (told := capsys.readouterr().out)
    assert told.endswith("stopped: interrupted\n")
    assert main(["fuzz", "server", "--seed", "1", "--time", "60"]) == 3


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--socket", "/nonexistent/socket"], 3, "vfio-user: /nonexistent/socket: No such file or directory"),
        (["--spawn", "/bin/true"], 2, "{socket} must stand"),
        (["--spawn", "/bin/false {socket}"], 3, "ended before it listened; exit status 1"),
        (["--spawn", "/nonexistent/server {socket}"], 3, "No such file or directory"),
        (["--save", "/dev/null/folder"], 2, "/dev/null/folder: Not a directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    words: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the status that says whose fault it is."""
    assert main(["fuzz", "server", *words]) == status
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--time", "0"],
        ["--time", "inf"],
        ["--steps", "0"],
        ["--steps", "many"],
        ["--seed", "-1"],
        ["--timeout-multiplier", "nan"],
        ["--socket", "a", "--spawn", "b {socket}"],
    ],
)
def test_wrong_options_are_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Refused before anything starts."""
    with pytest.raises(SystemExit) as end:
        main(["fuzz", "server", *words])

    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("; see vfio-user fuzz server --help\n")


def test_a_run_that_sent_nothing_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 4 where the time was over before the first session."""
    assert main(["fuzz", "server", "--time", "1e-9"]) == 4
    assert " 0 sessions" in capsys.readouterr().out


def test_hypothesis_is_not_needed_to_fuzz_a_server() -> None:
    """Nothing on the way to a run imports it."""
    import subprocess

    program = "import sys; import vfio_user_fuzz.server, vfio_user_fuzz.survey; print('hypothesis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
