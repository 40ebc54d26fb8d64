# Starting servers: readiness, how they ended, and that nothing of them stays behind.
import errno
import os
import select
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from serving import room_for

from vfio_user_proto import launch
from vfio_user_proto.errors import TargetError, TransportError, UsageError
from vfio_user_proto.program import Attached

# Listens, then does what is given with the listening socket ``s``.
LISTENS = "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); {}"


def python(program: str, *, listens: bool = True) -> str:
    """A command line that runs ``program``, with the socket's path as its argument."""
    return shlex.join([sys.executable, "-c", LISTENS.format(program) if listens else program, "{socket}"])


def exists(pid: int) -> bool:
    """Whether a process runs; one that is dead and not reaped does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_builtin_server_is_ready_and_leaves_nothing(no_leak: None) -> None:
    with launch.builtin(["--device", "minimal"]) as process:
        process.connect().close()
        process.connect().close()
        assert process.poll() is None
        assert process.exit_text() == "still running"
        directory = Path(process.path).parent
        assert directory.stat().st_mode & 0o777 == 0o700
    assert (process.poll(), process.exit_text()) == (0, "exit status 0")
    assert process.stderr() == f"listening on {process.path}\n"
    assert not directory.exists()
    assert not exists(process.pid)
    process.stop()


def test_probe_is_the_first_connection(no_leak: None) -> None:
    """A server that ends after its first client must not lose that one to the probe."""
    with launch.spawn(python("c, _ = s.accept(); c.send(b'hello')")) as process:
        stream = process.connect()
        assert stream.read(5) == (b"hello", [])
        stream.close()
        assert process.wait(10)
        assert process.exit_text() == "exit status 0"


@pytest.mark.parametrize("room", [0, 1, 100])
def test_without_descriptors_nothing_is_left(
    no_leak: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: int
) -> None:
    """Neither a directory nor a process: the last descriptor, which tells of its end, is lacking when it runs already."""
    began: list[launch.Running] = []
    begin = launch.Process._begin

    def recorded(process: launch.Process, words: Sequence[str], output: int) -> launch.Running:
        began.append(begin(process, words, output))
        return began[-1]

    def none_left(_pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(launch.Process, "_begin", recorded)
    monkeypatch.setattr(os, "pidfd_open", none_left)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with room_for(room), pytest.raises(TargetError, match=r"^sleep 1000: Too many open files$"):
        launch.Process(["sleep", "1000"])
    assert len(began) == (room == 100)
    assert not any(exists(each.pid) for each in began)
    assert list(tmp_path.iterdir()) == []


def test_a_server_whose_queue_is_full_is_waited_for_no_longer_than_told(no_leak: None) -> None:
    """Others came first, and it accepts nobody."""
    full = "import os, signal, socket, sys; s, o = socket.socket(1), socket.socket(1); early = sys.argv[1] + '-'; "
    full += "s.bind(early); s.listen(0); o.connect(early); os.rename(early, sys.argv[1]); signal.pause()"
    with pytest.raises(TargetError, match=r"did not listen within 0.5 s \(.*nobody accepts a connection within"):
        launch.spawn(python(full, listens=False), timeout=0.5)


@pytest.mark.parametrize("ours", [True, False])
def test_a_server_that_does_not_accept_is_not_waited_for_for_ever(
    no_leak: None, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    """Be it one that was started here or not."""
    monkeypatch.setattr(launch, "ACCEPTING", 0.01)
    program = "import signal, socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(0); signal.pause()"
    with launch.spawn(python(program, listens=False)) as process, closing(process.connect()):
        server = process if ours else Attached(process.path)
        with pytest.raises(TransportError, match=r"nobody accepts a connection within 0.01 s"):
            server.connect()


def test_output_stays_readable_after_the_end(no_leak: None) -> None:
    first = "import os; print('out', flush=True); os.write(2, b'err\\xff'); "
    with launch.spawn(python(first + LISTENS.format("s.accept(); s.accept()"), listens=False)) as process:
        pass
    assert process.stderr() == "out\nerr\ufffd"


def test_whole_group_ends(no_leak: None) -> None:
    first = "import subprocess; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); "
    with launch.spawn(python(first + LISTENS.format("s.accept(); s.accept()"), listens=False)) as process:
        child = os.pidfd_open(int(process.stderr()))
    poll = select.poll()
    poll.register(child, select.POLLIN)
    assert poll.poll(10_000), "the child of the server still runs"
    os.close(child)


def test_process_that_ignores_sigterm_is_killed(no_leak: None) -> None:
    first = "import signal; signal.signal(15, signal.SIG_IGN); "
    with launch.spawn(python(first + LISTENS.format("s.accept(); s.accept()"), listens=False)) as process:
        process.stop(0.05)
    assert process.exit_text() == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("raise SystemExit(7)", "ended before it listened; exit status 7"),
        ("import os; os.kill(os.getpid(), 11)", "ended before it listened; killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "ended before it listened; killed by signal 40"),
        ("print('no such disk'); raise SystemExit(1)", "exit status 1\n  no such disk"),
        (
            "print('==1==ERROR: AddressSanitizer: heap-use-after-free on address'); raise SystemExit(1)",
            "exit status 1 (AddressSanitizer: heap-use-after-free)",
        ),
        ("print('a.c:3:5: runtime error: shift'); raise SystemExit(1)", "(a.c:3:5: runtime error: shift)"),
        (
            "print(\"thread 'main' panicked at src/main.rs:3:5\"); raise SystemExit(101)",
            "(panicked at src/main.rs:3:5)",
        ),
        (
            "print('prog: ../a.c:3: f: Assertion `b == c\\' failed.'); raise SystemExit(1)",
            "(../a.c:3: f: Assertion `b == c' failed)",
        ),
        (
            "print('Assertion failed: b == c (a.c: f: 3)'); raise SystemExit(1)",
            "(Assertion failed: b == c (a.c: f: 3))",
        ),
    ],
)
def test_process_that_ends_early_is_explained(no_leak: None, program: str, text: str) -> None:
    with pytest.raises(TargetError) as failed:
        launch.spawn(python(program, listens=False))
    assert text in str(failed.value)


def test_process_that_never_listens_is_stopped(no_leak: None) -> None:
    program = "import signal; print(__import__('os').getpid(), flush=True); signal.pause()"
    with pytest.raises(TargetError, match=r"did not listen within 0\.2 s \(.*No such file") as failed:
        launch.spawn(python(program, listens=False), timeout=0.2)
    printed = str(failed.value).splitlines()[1:]
    assert not any(exists(int(line)) for line in printed)


@pytest.mark.parametrize(("length", "there"), [(81, True), (82, False), (200, False)])
def test_a_long_name_of_the_folder_for_temporary_files_leaves_room_for_a_socket(
    no_leak: None, monkeypatch: pytest.MonkeyPatch, length: int, there: bool
) -> None:
    """What counts are bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = os.fsdecode(os.fsencode(f"{short}/ö").ljust(length, b"x"))
        Path(folder).mkdir()
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with launch.spawn(python("s.accept(); s.accept()")) as process:
            process.connect().close()
            assert process.path.startswith(f"{folder}/") == there
        assert not Path(process.path).parent.exists()


def test_program_that_does_not_exist_is_explained(no_leak: None) -> None:
    with pytest.raises(TargetError, match=r"no-such-program.*: No such file or directory"):
        launch.spawn("no-such-program {socket}")


@pytest.mark.parametrize("command", ["server --path", "'unbalanced {socket}", ""])
def test_command_that_cannot_be_used_is_refused(no_leak: None, command: str) -> None:
    with pytest.raises(UsageError):
        launch.spawn(command)


@pytest.mark.parametrize(
    ("on_sigterm", "before", "crashed"),
    [
        ("signal.SIG_DFL", 0, False),
        ("signal.SIG_IGN", 0, False),
        ("signal.SIG_DFL", signal.SIGTERM, True),
        ("signal.SIG_DFL", signal.SIGKILL, True),
        ("lambda *_: os.kill(os.getpid(), signal.SIGSEGV)", 0, True),
    ],
    ids=["our SIGTERM", "our SIGKILL", "another's SIGTERM", "another's SIGKILL", "what it does when it is stopped"],
)
def test_a_signal_that_ends_it_is_a_crash_unless_it_was_ours(
    no_leak: None, on_sigterm: str, before: int, crashed: bool
) -> None:
    first = f"import os, signal; signal.signal(signal.SIGTERM, {on_sigterm}); "
    with launch.spawn(python(first + LISTENS.format("s.accept(); s.accept()"), listens=False)) as process:
        if before:
            os.kill(process.pid, before)
            assert process.wait(10)
        process.stop(0.1)
    assert process.crashed() == crashed


def test_signal_names_the_end(no_leak: None) -> None:
    with launch.spawn(python("s.accept(); s.accept(); s.accept()")) as process:
        os.kill(process.pid, signal.SIGABRT)
        assert process.wait(10)
        assert (process.poll(), process.exit_text()) == (-signal.SIGABRT, "killed by SIGABRT")
