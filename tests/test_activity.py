# What a program that does not answer is doing: told from outside, in words.
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_launch import LISTENS, python

from vfio_user_proto import activity, launch, program

# Says when it is there, and then does one thing for ever.
SAYS = "print('there', flush=True); "
WAITS = "import threading; c, _ = s.accept(); " + SAYS


def doing(process: launch.Process, enough: Callable[[str], bool]) -> str:
    """What it does when it has come to that; what it is about to do is something else for a moment."""
    end = time.monotonic() + 60
    while ("there" not in process.stderr() or not enough(process.activity())) and time.monotonic() < end:
        os.sched_yield()
    return process.activity()


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("c.recv(1)", "sleeps in recvfrom on a socket"),
        ("os.read(os.pipe()[0], 1)", "sleeps in read on a pipe"),
        ("os.eventfd_read(os.eventfd(0))", "sleeps in read on an eventfd"),
        ("import select; select.poll().poll()", "sleeps in poll"),
        ("a = threading.Lock(); a.acquire(); a.acquire()", "sleeps in futex"),
        ("import subprocess; subprocess.run(['sleep', '1000'])", "sleeps in clock_nanosleep"),
    ],
)
@pytest.mark.skipif(not os.access("/proc/self/syscall", os.R_OK), reason="this kernel does not tell the system call")
def test_what_sleeps_tells_where(no_leak: None, does: str, told: str) -> None:
    with launch.spawn(python(WAITS + does)) as process:
        assert doing(process, lambda said: said == told) == told


def test_threads_are_told_together(no_leak: None) -> None:
    reads = "threading.Thread(target=lambda: os.read(os.pipe()[0], 1), daemon=True).start(); c.recv(1)"
    with launch.spawn(python(WAITS + reads)) as process:
        assert doing(process, lambda said: "pipe" in said and "socket" in said)


def test_who_works_or_is_stopped_does_not_sleep(no_leak: None) -> None:
    with launch.spawn(python(SAYS + "exec('while True: pass')")) as process:
        assert doing(process, lambda said: said == "is busy") == "is busy"
        os.kill(process.pid, signal.SIGSTOP)
        assert doing(process, lambda said: said == "is stopped") == "is stopped"


def test_a_shell_that_waits_for_it_says_nothing(no_leak: None, tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(LISTENS.format(WAITS + "c.recv(1)"))
    with launch.spawn(f"sh -c '{sys.executable} {server} $0; true' {{socket}}") as process:
        assert doing(process, lambda said: "recvfrom" in said) == "sleeps in recvfrom on a socket"


def test_nobody_is_asked_who_has_ended_or_is_not_ours(no_leak: None) -> None:
    with launch.spawn(python("s.accept()")) as process:
        assert process.wait(10)
        assert process.activity() == ""
    assert (
        process.activity()
        == program.Attached("x").activity()
        == program.spawned(f"{sys.executable} {{socket}}").activity()
        == ""
    )
    assert activity.of_group(0x7FFFFFFF) == ""
