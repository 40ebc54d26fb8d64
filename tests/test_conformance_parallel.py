# Several cases at a time: the same results in the same order, and nothing left behind when the run is stopped.
import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import VFIO_USER, vfio_user

from vfio_user_conformance.case import catalogue

SERVE = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --socket-path"
FEW = ("--select", "device-info/*", "dma-unmap", "dma-map", "--fault", "unmap-keeps-descriptor")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    done = vfio_user("conformance", "server", *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def results(path: Path) -> list[tuple[str, str]]:
    return [(each["id"], each["outcome"]) for each in json.loads(path.read_text())["results"]]


def test_jobs_give_the_same_results_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    alone = run(*FEW, "--json", str(tmp_path / "1"))
    shared = run(*FEW, "--json", str(tmp_path / "3"), "--jobs", "3", "--evidence", str(tmp_path / "evidence"))

    assert (alone.returncode, shared.returncode) == (1, 1)
    assert results(tmp_path / "1") == results(tmp_path / "3")
    assert (tmp_path / "evidence" / "dma-unmap.released.jsonl").is_file()
    assert shared.stderr == ""


@pytest.mark.parametrize("respawn", ["case", "death", "never"])
def test_each_job_starts_its_own_targets(tmp_path: Path, respawn: str) -> None:
    pids = tmp_path / "pids"
    script = f'echo $$ >> "{pids}"; exec {SERVE} "$0"'
    options = ("--select", "device-info/*", "--respawn", respawn, "--spawn", f"sh -c {shlex.quote(script)} {{socket}}")

    done = run(*options, "--jobs", "2")

    assert done.returncode == 0, done.stdout
    starts = pids.read_text().split()
    assert len(starts) == (3 if respawn != "case" else 1 + len(list(filter(_device_info, catalogue()))))
    assert not any(map(alive, starts))


def _device_info(ident: str) -> bool:
    return ident.startswith("device-info/")


def alive(pid: str) -> bool:
    """Whether a process runs; one that has ended may still be there until its parent, or init, has looked."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param("kill -INT $(ps -o ppid= -p $PPID)", id="interrupted"),
        pytest.param("kill -TERM $(ps -o ppid= -p $PPID)", id="terminated"),
        pytest.param("{ kill -KILL $PPID; exit 1; }", id="a job killed"),
    ],
)
def test_a_run_that_is_stopped_tells_what_it_had_and_leaves_nobody_behind(tmp_path: Path, kill: str) -> None:
    """The fifth target to be started stops the run, or kills the job that started it."""
    pids = tmp_path / "pids"
    script = f"""echo $$ >> "{pids}"
        if [ $(wc -l < "{pids}") -ge 5 ] && mkdir "{tmp_path}/once"; then {kill}; fi
        exec {SERVE} "$0"
        """
    command = f"sh -c {shlex.quote(script)} {{socket}}"

    done = run(
        "--spawn",
        command,
        "--allow",
        "all",
        "--jobs",
        "2",
        "--select",
        "device-info/*",
        "--json",
        str(tmp_path / "report"),
    )

    assert done.returncode == 3, done.stdout
    assert "no verdict: stopped after " in done.stdout
    idents = [ident for ident, _ in results(tmp_path / "report")]
    assert idents == [ident for ident in catalogue() if ident in idents]
    assert not any(map(alive, pids.read_text().split()))


def test_jobs_need_targets_of_their_own() -> None:
    done = run("--socket", "/nowhere", "--jobs", "2")

    assert (done.returncode, done.stdout) == (2, "")
    assert "--jobs needs a target for each" in done.stderr
    assert run("--jobs", "0").returncode == 2


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("plain", [True, False])
def test_progress_and_colour_are_for_terminals(jobs: str, plain: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "NO_COLOR"},
        **({"NO_COLOR": "1"} if plain else {}),
    }
    command = [*VFIO_USER, "conformance", "server", "--select", "device-info/reply", "device-info/pci", "--jobs", jobs]
    done = subprocess.run(command, stdout=theirs, stderr=theirs, timeout=60, env=environment, check=False)
    os.close(theirs)
    told = os.read(ours, 65536).decode()
    os.close(ours)

    assert done.returncode == 0
    assert "1/2 device-info/" in told
    assert "2/2 device-info/" in told
    assert ("\033[32mconforming" in told) is not plain
