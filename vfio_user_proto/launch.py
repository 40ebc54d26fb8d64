"""Starting the program under test: its socket, its process group, what it printed, and how it ended."""

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self

from vfio_user_proto import activity, obituary, unix
from vfio_user_proto.errors import TargetError, TransportError, UsageError

# Seconds between two attempts to connect: there is no event for "somebody listens now". The end of the process is one.
_INTERVAL: Final = 0.001
# What a socket is called, with its folder, in as many bytes as a path to connect to has: unix(7).
_NAME: Final = "/vfio-user-12345678/socket"
_LONGEST: Final = 107
# Seconds between two looks at whether a sanitizer has ended its report.
_WRITING: Final = 0.01
# Seconds from there to its end; some are told to go on.
_DYING: Final = 0.2
# Seconds that a server which listens gets to accept a connection where others wait for that before.
ACCEPTING: Final = 10.0


class Running(Protocol):
    """What ``Process`` needs of a child, as ``subprocess.Popen`` has it."""

    pid: int

    def wait(self) -> int: ...


class Process:
    """A running server in a process group of its own; ``path`` is its socket, in a private directory.

    Use it in a ``with`` statement, or call ``stop``. Its standard output and error are kept in a file. Raises TargetError
    where it cannot be started.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.command: Final = shlex.join(words)
        self._first: unix.Stream | None = None
        with contextlib.ExitStack() as made:
            try:
                self._output = made.enter_context(tempfile.TemporaryFile())
                self._directory = tempfile.mkdtemp(prefix="vfio-user-", dir=_folder())
                made.callback(shutil.rmtree, self._directory, ignore_errors=True)
                made.callback(self._output.close)  # removing takes a descriptor
                self.path: Final = f"{self._directory}/socket"
                here = [word.replace("{socket}", self.path) for word in words]
                self._process = self._begin(here, self._output.fileno())
                made.callback(self._process.wait)
                made.callback(os.kill, self._process.pid, signal.SIGKILL)
                self._end = os.pidfd_open(self._process.pid)
            except OSError as problem:
                raise TargetError(f"{self.command}: {problem.strerror}") from None
            made.pop_all()
        self.pid: Final = self._process.pid
        self._status: int | None = None
        self._stopped_by = list[int]()  # the signals that it got from us while it ran
        self.stopped = False

    def _begin(self, words: Sequence[str], output: int) -> Running:
        """Start the process as the leader of a session, its output going to ``output``."""
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait_ready(self, timeout: float) -> None:
        """Wait until the socket accepts a connection, which the first ``connect`` returns: some servers serve only one.

        Raises TargetError where the process ends first or ``timeout`` seconds have passed; the process is then stopped.
        """
        deadline = time.monotonic() + timeout
        while self._first is None:
            try:
                self._first = unix.connect(self.path, timeout=max(_INTERVAL, deadline - time.monotonic()))
            except TransportError as problem:
                if self.wait(_INTERVAL):
                    self._fail("ended before it listened")
                if time.monotonic() >= deadline:
                    self._fail(f"did not listen within {timeout:g} s ({problem})")

    def connect(self) -> unix.Stream:
        """A connection to the server; the caller closes it. Raises TransportError."""
        first, self._first = self._first, None
        return first or unix.connect(self.path, timeout=ACCEPTING)

    def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the end of the process; says whether it has ended."""
        if self.stopped:
            return True
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def poll(self) -> int | None:
        """The exit status as ``subprocess`` gives it, negative for a signal; None while the process runs.

        The process is not reaped before ``stop``: until then its number, and that of its group, is nobody else's.
        """
        if not self.stopped:
            end = os.waitid(os.P_PIDFD, self._end, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if end is not None:
                self._status = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        return self._status

    def stderr(self) -> str:
        """What the process printed so far, on standard output and error."""
        if not self.stopped:
            self._printed = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0)
        return self._printed.decode(errors="replace")

    def exit_text(self) -> str:
        """How it ended, in words: "exit status 1", "killed by SIGSEGV", with the first report of a sanitizer or panic."""
        status = self.poll()
        if status is None:
            return "still running"
        try:
            text = f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
        except ValueError:
            text = f"killed by signal {-status}"
        report = self.report()
        return f"{text} ({report})" if report else text

    def report(self) -> str:
        """What a sanitizer, or a panic, has said so far, as ``obituary.report`` has it."""
        return obituary.report(self.stderr())

    def activity(self) -> str:
        """What it does at this moment, as ``activity.of_group`` says it; "" where it has ended."""
        return "" if self.wait(0) else activity.of_group(self.pid)

    def wait_report(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for a sanitizer that has begun a report to end it, and the process with it."""
        end = time.monotonic() + timeout
        while obituary.writing(self.stderr()) and time.monotonic() < end and not self.wait(_WRITING):
            pass
        if obituary.dying(self.stderr()):
            self.wait(_DYING)

    def crashed(self) -> bool:
        """Whether a signal ended it that it did not get from ``stop``, or a sanitizer, or a panic, reported something."""
        status = self.poll() or 0
        return (status < 0 and -status not in self._stopped_by) or bool(self.report())

    def terminate(self) -> None:
        """Ask the process to end, with SIGTERM; it is left to it to do so."""
        self._stopped_by.append(signal.SIGTERM)
        os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout: float = 5.0) -> None:
        """End the whole process group, with SIGTERM and after ``timeout`` seconds SIGKILL; reap it and remove its directory.

        One that is about to say what it dies of is left to say so.
        """
        if self.stopped:
            return
        self.wait_report(timeout)
        if self._first is not None:
            self._first.close()
        for number, seconds in ((signal.SIGTERM, 0), (signal.SIGKILL, timeout)):
            if not self.wait(seconds):
                self._stopped_by.append(number)
                self._signal(number)
        self._signal(signal.SIGKILL)  # the others of its group
        self.wait(timeout)
        self.poll()
        self._process.wait()
        self.stderr()
        self.stopped = True
        os.close(self._end)
        self._output.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return

    def _fail(self, problem: str) -> None:
        if self.wait(0):
            self.stop()
            problem += f"; {self.exit_text()}"
        self.stop()
        last = self.stderr().strip().splitlines()[-5:]
        raise TargetError("\n  ".join([f"{self.command}: {problem}", *last]))


def spawn(command: str, *, timeout: float = 10.0) -> Process:
    """Start ``command``, in which {socket} stands for the path to listen on, and wait until it listens.

    Raises UsageError for a command that cannot be used, TargetError where it does not start, ends early, or does not listen
    within ``timeout`` seconds.
    """
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise UsageError(f"{command!r}: {problem}") from None
    if not any("{socket}" in word for word in words):
        raise UsageError(f"{command!r}: {{socket}} must stand where the command wants the path of its socket")
    return _start(words, timeout)


def builtin(options: Sequence[str] = (), *, timeout: float = 10.0) -> Process:
    """Start the reference server, ``vfio-user serve`` with ``options``, in a process of its own. Raises TargetError."""
    return _start([sys.executable, "-m", "vfio_user_proto", "serve", "--socket-path", "{socket}", *options], timeout)


def _folder() -> str:
    """Where sockets are made: the folder for temporary files, or /tmp where that has too long a name for the path of one."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder + _NAME)) <= _LONGEST else "/tmp"  # noqa: S108 (mkdtemp makes one of its own)


def _start(words: Sequence[str], timeout: float) -> Process:
    process = Process(words)
    try:
        process.wait_ready(timeout)
    except BaseException:
        process.stop()
        raise
    return process
