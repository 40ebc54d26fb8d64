# "vfio-user" itself and "vfio-user serve": conventions of backend programs, exit statuses, one sentence per mistake.
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import VFIO_USER, vfio_user
from serving import Client

from vfio_user_proto import __version__, unix
from vfio_user_proto.devices import DEVICES
from vfio_user_proto.faults import FAULTS
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, VersionRequest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


@pytest.fixture
def server(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A running "vfio-user serve" that listens on ``path``."""
    with serve("--socket-path", str(path)) as process:
        yield process


class serve:
    """ "vfio-user serve" as a context; it has said that it listens, where it listens on a path."""

    def __init__(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        command = [*VFIO_USER, "serve", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
        if "--socket-path" in arguments:
            assert self.process.stderr is not None
            self.said = self.process.stderr.readline()

    def __enter__(self) -> "subprocess.Popen[str]":
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


def ask(stream: unix.Stream) -> None:
    client = Client(stream)
    assert client.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest()).num_irqs == 5
    client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_status_0_and_removes_the_socket(path: Path, number: signal.Signals) -> None:
    with serve("--socket-path", str(path)) as process:
        ask(unix.connect(path))
        waiting = unix.connect(path)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")
        assert not path.exists()
        waiting.close()


def test_it_says_where_it_listens_and_serves_there(path: Path) -> None:
    one = serve("--socket-path", str(path), "--device", "minimal")
    with one:
        assert one.said == f"listening on {path}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        ask(unix.connect(path))
        ask(unix.connect(path))


def test_it_does_not_daemonize(server: "subprocess.Popen[str]") -> None:
    assert os.getpgid(server.pid) == os.getpgid(0)
    assert server.poll() is None


def test_once_ends_with_its_first_client(path: Path) -> None:
    with serve("--socket-path", str(path), "--once") as process:
        ask(unix.connect(path))
        assert process.wait(20) == 0
        assert not path.exists()


def test_inherited_connected_socket_is_served_to_its_end() -> None:
    ours, theirs = unix.pair()
    with serve("--fd", str(theirs.fileno()), pass_fds=(theirs.fileno(),)) as process:
        theirs.close()
        ask(ours)
        assert process.wait(20) == 0


def test_inherited_listening_socket_is_served_and_left_in_place(path: Path) -> None:
    with unix.listen(path) as listener, serve(f"--fd={listener.fileno()}", pass_fds=(listener.fileno(),)) as process:
        ask(unix.connect(path))
        ask(unix.connect(path))
        process.terminate()
        assert process.wait(20) == 0
        assert path.exists()


def test_limits_and_twin_socket_are_offered_as_told(path: Path) -> None:
    arguments = ["--max-msg-fds", "3", "--max-data-xfer-size", "4096", "--no-twin-socket"]
    with serve("--socket-path", str(path), *arguments):
        client = Client(unix.connect(path))
        assert b'"max_msg_fds": 3, "max_data_xfer_size": 4096' in client.version.version_data
        assert b'"twin_socket": {"supported": false}' in client.version.version_data
        client.close()


def test_path_of_another_server_is_left_alone(server: "subprocess.Popen[str]", path: Path) -> None:
    second = vfio_user("serve", "--socket-path", str(path))
    assert (second.returncode, second.stdout) == (3, "")
    assert second.stderr == f"vfio-user: {path}: another server is listening there\n"
    ask(unix.connect(path))


def test_path_of_a_dead_server_is_taken_over(path: Path) -> None:
    with serve("--socket-path", str(path)) as first:
        first.kill()
        first.wait(20)
        assert path.exists()
    with serve("--socket-path", str(path)):
        ask(unix.connect(path))


def test_path_that_another_server_has_got_meanwhile_is_left_at_the_end(
    server: "subprocess.Popen[str]", path: Path
) -> None:
    path.unlink()
    with serve("--socket-path", str(path)):
        server.terminate()
        assert server.wait(20) == 0
        ask(unix.connect(path))


def test_terminal_of_the_serial_port_connects_to_a_path_of_its_own(path: Path, tmp_path: Path) -> None:
    line = tmp_path / "line"
    with serve("--socket-path", str(path), "--device", "serial", "--terminal", str(line)) as process:
        client = Client(unix.connect(path))
        client.write(0, 0, b"!")
        terminal = unix.connect(line)
        terminal.set_timeout(10)
        assert terminal.read(9) == (b"!", [])
        terminal.close()
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not line.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--socket-path", "/no/such/folder/socket"], 3, "/no/such/folder/socket: No such file or directory"),
        (["--socket-path", "{file}"], 3, "{file}: exists and is no socket"),
        (["--fd", "77"], 2, "--fd 77: Bad file descriptor"),
        (["--fd", "0"], 2, "--fd 0: Socket operation on non-socket"),
        (["--socket-path", "x", "--terminal", "y"], 2, "--terminal is for --device serial"),
        (["--socket-path", "x", "--device", "serial", "--terminal", "{file}"], 3, "{file}: exists and is no socket"),
        (["--socket-path", "x", "--device", "testdv"], 2, "no device 'testdv'; did you mean testdev?"),
        (
            ["--socket-path", "x", "--fault", "qqq"],
            2,
            f"no fault 'qqq'; there are {', '.join(sorted(FAULTS)[:12])} and {len(FAULTS) - 12} more",
        ),
        (["--socket-path", "x", "--device", "qqq"], 2, f"no device 'qqq'; there are {', '.join(sorted(DEVICES))}"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    tmp_path: Path, arguments: list[str], status: int, sentence: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    end = vfio_user("serve", *(word.format(file=file) for word in arguments), cwd=tmp_path)
    assert (end.returncode, end.stdout) == (status, "")
    assert end.stderr == f"vfio-user: {sentence.format(file=file)}\n"


def test_socket_of_another_kind_is_refused() -> None:
    with socket.socket(socket.AF_INET) as sock:
        fd = sock.fileno()
        command = [*VFIO_USER, "serve", "--fd", str(fd)]
        end = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, pass_fds=(fd,))
    assert (end.returncode, end.stderr) == (2, f"vfio-user: --fd {fd}: no UNIX stream socket\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["serve", "--socket-path", "x", "--fd", "3"],
        ["serve", "--fd", "three"],
        ["serve", "--fd=-1"],
        ["serve", "--socket-path", "x", "--max-msg-fds", "-1"],
        ["serve", "--socket-path", "x", "--max-data-xfer-size", "1e9"],
        ["srve"],
    ],
)
def test_wrong_usage_ends_with_status_2_and_no_traceback(arguments: list[str], tmp_path: Path) -> None:
    end = vfio_user(*arguments, cwd=tmp_path)
    assert (end.returncode, end.stdout) == (2, "")
    assert end.stderr.startswith("vfio-user" if arguments else "usage: vfio-user")
    assert "Traceback" not in end.stderr
    assert list(tmp_path.iterdir()) == []


def test_version_and_help() -> None:
    assert vfio_user("--version").stdout == f"vfio-user {__version__}\n"
    assert "serve" in vfio_user("--help").stdout
    assert "--socket-path" in vfio_user("serve", "--help").stdout


def test_help_imports_no_schemas() -> None:
    """The list of sub-commands must be there at once."""
    program = """
import sys
from vfio_user_proto.cli import main
try:
    main(["--help"])
finally:
    print("construct" in sys.modules)
"""
    end = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=20)
    assert end.stdout.endswith("False\n")


@pytest.mark.parametrize("words", ["--help", "--version", "serve --help"])
def test_reader_that_goes_away_is_no_error(words: str) -> None:
    """Nor where its absence shows only when the buffer goes out."""
    script = f"{{ {shlex.join(VFIO_USER)} {words}; echo $? >&2; }} | true"
    end = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert end.stderr == "0\n"


def test_program_closes_cleanly_with_a_client_connected(server: "subprocess.Popen[str]", path: Path) -> None:
    client = Client(unix.connect(path))
    server.terminate()
    assert client.is_closed()
    assert server.wait(20) == 0
    client.close()


def test_stuck_devices_do_not_keep_it_from_ending(path: Path) -> None:
    """However many there are, they get half a second together."""
    with serve("--socket-path", str(path), "--device", "minimal", "--fault", "version-no-reply-hangs") as process:
        clients = [Client(unix.connect(path), None) for _ in range(50)]
        for client in clients:
            client.send(Command.VERSION, VersionRequest(), no_reply=True)
        clients[-1].stream.set_timeout(0.1)
        assert clients[-1].stream.read(1) is None
        process.terminate()
        assert process.wait(20) == 0
        assert not path.exists()
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def __init__(self):\n    {}['line']", "mine.py:6: no device Mine can be made: KeyError: 'line'"),
        (
            "def __init__(self):\n    int('x')",
            "mine.py:6: no device Mine can be made: ValueError: invalid literal .*'x'",
        ),
        (
            "def __init__(self):\n    json.loads('')",
            "mine.py:6: no device Mine can be made: JSONDecodeError: Expecting .*",
        ),
        ("def __init__(self):\n    raise OSError('a\\nb')", "mine.py:6: no device Mine can be made: OSError: a b"),
        ("__init__ = lambda self: exit(3)", "mine.py:5: no device Mine can be made: SystemExit: 3"),
        ("def __init__(self, more): ...", "mine.py:4: no device Mine can be made: TypeError: .* argument: 'more'"),
        ("pass", "mine.py:4: no device Mine can be made: TypeError: Mine has no description"),
    ],
)
def test_a_class_that_makes_no_device_is_said_with_its_place(tmp_path: Path, body: str, told: str) -> None:
    """In the user's own file: the line that was being run, or that of the class, never one of ours or of a library."""
    text = "import json\nfrom vfio_user_proto.device import Device\n\nclass Mine(Device):\n" + textwrap.indent(
        body, "    "
    )
    (tmp_path / "mine.py").write_text(text)
    end = vfio_user("serve", "--socket-path", "x", "--device", "mine.py:Mine", cwd=tmp_path)
    assert (end.returncode, end.stdout) == (2, "")
    assert re.fullmatch(f"vfio-user: {told}\n", end.stderr), end.stderr


def test_unknown_fault_names_the_nearest(tmp_path: Path) -> None:
    end = vfio_user("serve", "--socket-path", str(tmp_path / "x"), "--fault", "version-no-reply-hang")
    assert (end.returncode, end.stderr.count("\n")) == (2, 1)
    assert end.stderr.startswith("vfio-user: no fault 'version-no-reply-hang'; did you mean version-no-reply-hangs")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["decode", "--json", "0100 0d00 10000000 00000000 00000000"],
        ["encode", '{"command": 13}'],
    ],
)
def test_output_that_is_full_is_said(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        end = subprocess.run(
            [*VFIO_USER, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )
    assert (end.returncode, end.stderr) == (2, "vfio-user: standard output: No space left on device\n")
