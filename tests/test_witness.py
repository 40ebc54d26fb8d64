# `vfio-user conformance client`: clients that are started, awaited and built in, exit statuses, reports.
import json
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from commands import VFIO_USER, vfio_user
from hostile import greeting

from vfio_user_proto.client import Client

WALK = "from vfio_user_conformance.witness.walk import walk; from vfio_user_proto import unix; import sys; "
WALK += "walk(unix.connect(sys.argv[1]))"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    done = vfio_user("conformance", "client", *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def python(program: str) -> str:
    """A command that runs a program, whose first argument is the socket."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {{socket}}"


@pytest.mark.parametrize("more", [(), ("--no-twin-socket",), ("--allow", "dma"), ("--max-msg-fds", "1")], ids=" ".join)
def test_the_built_in_client_conforms(more: tuple[str, ...]) -> None:
    done = run("--strict", *more)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "conforming"), done.stdout


def test_a_client_is_started_served_and_judged() -> None:
    done = run("--spawn", python(WALK), "--strict")
    assert done.returncode == 0, done.stdout


def test_a_client_that_connects_twice_is_served_twice() -> None:
    program = f"{WALK}; walk(unix.connect(sys.argv[1]))"
    done = run("--spawn", python(program), "--strict", "--select", "version/first")
    assert done.returncode == 0, done.stdout


def test_a_client_is_awaited(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = [*VFIO_USER, "conformance", "client", "--listen", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as judge:
        assert judge.stderr is not None
        assert judge.stderr.readline() == f"listening on {path}\n".encode()
        with Client.connect(path) as client:
            client.device_info()
        told, _ = judge.communicate(timeout=60)
    assert judge.returncode == 0
    assert b"conforming" in told
    assert not path.exists()


def test_a_finding_is_told_and_the_status_is_1(tmp_path: Path) -> None:
    files = {kind: tmp_path / kind for kind in ("json", "junit", "tap", "html", "markdown", "text")}
    done = run("--fault", "unmap-part", *(word for kind, path in files.items() for word in (f"--{kind}", str(path))))

    assert done.returncode == 1
    assert done.stdout == files["text"].read_text()
    assert "fail dma-unmap/exact: no mapping has address 0x200000 and size 0x1000" in done.stdout
    [finding] = [each for each in json.loads(files["json"].read_text())["results"] if each["outcome"] == "fail"]
    assert (finding["id"], finding["requirement"]) == ("dma-unmap/exact", "dma-unmap.exact")
    assert ElementTree.parse(files["junit"]).getroot().find("testsuite/testcase/failure") is not None
    assert "VFIO_USER_DMA_UNMAP command" in files["html"].read_text()
    assert all("dma-unmap/exact" in path.read_text() for path in files.values() if path != files["junit"])
    schema = json.loads((Path(__file__).parents[1] / "docs" / "schemas" / "report.schema.json").read_text())
    jsonschema.validate(json.loads(files["json"].read_text()), schema)
    assert json.loads(files["json"].read_text())["coverage"]["summary"]["failed"] == 1


def test_a_should_counts_when_strict() -> None:
    assert [run("--fault", "argsz-small", *more).returncode for more in ((), ("--strict",))] == [0, 1]


def test_a_known_finding_keeps_the_run_green_and_is_kept_true(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text('[[known]]\ncase = "dma-unmap/exact"\nclass = "fail"\nreason = "to show it"\n')

    assert run("--fault", "unmap-part", "--profile", str(file)).returncode == 0
    assert "known as fail, but ended as pass" in run("--profile", str(file)).stdout


def test_known_findings_are_written_and_then_hold(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text('name = "wrong on purpose"\n')

    assert run("--fault", "unmap-part", "--profile", str(file), "--update-known").returncode == 0
    assert "dma-unmap/exact" in file.read_text()
    assert run("--fault", "unmap-part", "--profile", str(file)).returncode == 0


def test_evidence_of_a_finding_is_kept_and_can_be_read(tmp_path: Path) -> None:
    run("--fault", "unmap-part", "--evidence", str(tmp_path / "kept"))
    file = tmp_path / "kept" / "dma-unmap.exact.jsonl"
    head = json.loads(file.read_text().splitlines()[0])
    assert (head["case"], head["side"]) == ("dma-unmap/exact", "client")

    decoded = vfio_user("decode", str(file))
    assert decoded.returncode == 0
    assert "VFIO_USER_DMA_UNMAP command" in decoded.stdout
    again = vfio_user("conformance", "replay", str(file))
    assert (again.returncode, again.stdout) == (2, "")
    assert "only the client can do it again" in again.stderr


def test_a_client_that_sends_nothing_gives_no_verdict() -> None:
    for program in ("pass", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"):
        done = run("--spawn", python(program))
        assert (done.returncode, done.stdout.splitlines()[-1]) == (4, "no verdict: nothing was run")


def test_nobody_comes_within_the_time_limit(tmp_path: Path) -> None:
    assert run("--listen", str(tmp_path / "socket"), "--time-limit", "0.1").returncode == 4


def test_a_client_that_stays_is_ended_at_the_time_limit() -> None:
    """It imports little, so as to have sent its VERSION by then also on a slow machine."""
    program = "import signal, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    program += f"s.send(bytes.fromhex('{greeting().hex()}')); signal.pause()"
    done = run("--spawn", python(program).replace(" -c ", " -S -E -c "), "--time-limit", "2")
    assert done.returncode == 0, done.stdout


def test_a_client_that_gives_up_has_its_last_words_told() -> None:
    """They are why so little was seen; what it did send is judged all the same."""
    program = "from vfio_user_proto.client import Client; import sys; c = Client.connect(sys.argv[1]); sys.exit('nine, please')"
    done = run("--spawn", python(program))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "conforming")
    assert done.stderr.endswith(": exit status 1\n  nine, please\n")


def test_a_client_that_crashes_is_found() -> None:
    program = (
        "from vfio_user_proto.client import Client; import signal, sys, resource; c = Client.connect(sys.argv[1]); "
    )
    program += "resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); signal.raise_signal(signal.SIGSEGV)"
    done = run("--spawn", python(program))
    assert (done.returncode, "crash program/survives: killed by SIGSEGV" in done.stdout) == (1, True)
    assert "  came      1 message on 1 connection, then its end" in done.stdout


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--spawn", "/nowhere/client {socket}"), 3, "No such file"),
        (("--spawn", "sh -c 'echo no display >&2; exit 5' {socket}"), 3, "exit status 5\n  no display"),
        (("--spawn", "true"), 2, "{socket} must stand"),
        (("--spawn", "'"), 2, "No closing quotation"),
        (("--listen", "/nowhere/socket"), 3, "/nowhere/socket: No such file"),
        (("--fault", "unmap-prat"), 2, "did you mean unmap-part?"),
        (("--fault", "unmap-part", "--spawn", "x {socket}"), 2, "--fault is for the built-in client"),
        (("--select", "dma-umap/*"), 2, "no check matches 'dma-umap/*'"),
        (("--device", "toaster", "--listen", "x"), 2, "no device 'toaster'"),
        (("--device", "gpio"), 2, "the built-in client is for the device testdev"),
        (("--max-msg-fds", "-1"), 2, "--max-msg-fds"),
        (("--profile", "no.toml"), 2, "no.toml: No such file"),
        (("--json", "/nowhere/x"), 2, "/nowhere/x: /nowhere is no directory"),
        (("--time-limit", "0"), 2, "--time-limit"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(words: tuple[str, ...], status: int, sentence: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout) == (status, "")
    assert sentence in done.stderr


def test_the_checks_are_printed() -> None:
    done = run("--list", "--select", "dma-map")
    assert done.stdout.splitlines()[:2] == [
        "dma-map/offset  [should, dma-map.offset-zero]",
        "  expected  offset is zero where no descriptor comes",
    ]


def test_every_message_is_printed_with_trace() -> None:
    lines = [json.loads(line) for line in run("--trace").stderr.splitlines()]
    assert [line["from"] for line in lines[:2]] == ["client", "server"]
    assert any(line["fds"] for line in lines)


def test_what_was_refused_is_told() -> None:
    program = (
        "import sys; from vfio_user_proto.client import Client; from vfio_user_proto.errors import ErrorReply\n"
        "with Client.connect(sys.argv[1]) as client:\n"
        "    for number in range(7):\n"
        "        try: client.region_read(number + 90, 0, 4)\n"
        "        except ErrorReply: pass\n"
    )
    done = run("--spawn", python(program))

    lines = done.stderr.splitlines()
    assert [
        line.startswith("vfio-user: refused with EINVAL for VFIO_USER_REGION_READ command, id ") for line in lines
    ] == [
        *[True] * 5,
        False,
    ]
    assert "region 90" in lines[0]
    assert lines[5] == "vfio-user: refused were 2 more"


def test_a_client_whose_version_is_refused_gets_no_verdict() -> None:
    """It could do nothing else, so nothing was judged."""
    program = (
        "import sys; from vfio_user_proto import unix; from vfio_user_proto.craft import craft; from vfio_user_proto.messages "
        "import VersionRequest; stream = unix.connect(sys.argv[1]); "
        "stream.write(memoryview(craft(1, VersionRequest(version_minor=1, version_data=b'{}'))), []); stream.read(99)"
    )
    done = run("--spawn", python(program))

    assert done.stdout.splitlines()[-1] == "no verdict: VFIO_USER_VERSION was refused"
    assert done.returncode == 3
