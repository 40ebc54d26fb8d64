"""The server under test: a socket that somebody else serves, or a program that is started for it."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from vfio_user_conformance.shield import shielded
from vfio_user_proto import launch, unix
from vfio_user_proto.errors import TargetError, TransportError
from vfio_user_proto.unix import Stream


class Respawn(StrEnum):
    """When a started program gives way to a fresh one: for each case, when it has died or hangs, or never."""

    CASE = "case"
    DEATH = "death"
    NEVER = "never"


class End(NamedTuple):
    """How a program ended; ``crashed`` where that was no decision of its own."""

    how: str
    crashed: bool


class Target(Protocol):
    """What the driver needs of the server under test."""

    name: str

    def renew(self) -> bool:
        """Be ready for the next case; returns whether that will be the first to use the program. Raises TargetError."""

    def done(self) -> End | None:
        """A case is over: stop the program where each case has its own, and say how it ended where that was a crash."""

    def discard(self) -> bool:
        """Stop a program that is no longer of use, without ceremony; returns whether there will be another."""

    def connect(self) -> Stream:
        """A connection. Raises TargetError."""

    def ended(self, seconds: float | None) -> End | None:
        """How the program ended; None where it still runs after ``seconds``, or is not ours."""

    def report(self) -> str:
        """What a sanitizer found in the program, in a line; "" where it found nothing."""

    def stderr(self) -> str:
        """What the program has written to its standard error since it started."""

    def close(self) -> None:
        """Stop the program."""


class Attached:
    """A server that runs already, at the socket ``path``."""

    def __init__(self, path: str) -> None:
        self.name = path

    def renew(self) -> bool:
        return False

    def done(self) -> None:
        return None

    def discard(self) -> bool:
        return False

    def connect(self) -> Stream:
        try:
            return unix.connect(self.name)
        except TransportError as error:
            raise TargetError(str(error)) from None

    def ended(self, seconds: float | None) -> None:
        return None

    def report(self) -> str:
        return ""

    def stderr(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing here is ours."""


# How a program ends that does nothing about the signals that stop it.
_STOPPED = (-signal.SIGTERM, -signal.SIGKILL)


class Started:
    """A program that ``start`` runs."""

    def __init__(self, name: str, start: Callable[[], launch.Process], respawn: Respawn = Respawn.CASE) -> None:
        self.name, self._start, self._respawn = name, start, respawn
        self._process: launch.Process | None = None

    def renew(self) -> bool:
        if self._process is not None:
            return False
        with shielded():
            self._process = self._start()
        return True

    def done(self) -> End | None:
        process = self._running
        if self._respawn is Respawn.CASE:
            self.close()
        status = process.poll()
        if status is not None and self._respawn is Respawn.DEATH:
            self.close()
        crashed = (status or 0) < 0 and status not in _STOPPED
        return End(process.exit_text(), True) if crashed else None

    def discard(self) -> bool:
        if self._respawn is Respawn.NEVER:
            return False
        self._stop(0)
        return True

    def connect(self) -> Stream:
        try:
            return self._running.connect()
        except TransportError as error:
            raise TargetError(str(error)) from None

    def ended(self, seconds: float | None) -> End | None:
        process = self._running
        status = process.poll() if process.wait(3600 if seconds is None else seconds) else None
        return None if status is None else End(process.exit_text(), status < 0 or bool(process.report()))

    def report(self) -> str:
        return self._running.report()

    def stderr(self) -> str:
        return self._running.stderr()

    def close(self) -> None:
        self._stop(5)

    def _stop(self, seconds: float) -> None:
        if self._process is not None:
            with shielded():
                self._process.stop(seconds)
                self._process = None

    @property
    def _running(self) -> launch.Process:
        assert self._process is not None, "renew() comes first"
        return self._process


def spawned(command: str, respawn: Respawn) -> Started:
    """A target that ``command`` starts; {socket} in it stands for the path to listen on."""
    return Started(command, lambda: launch.spawn(command), respawn)


Serve = Callable[[str], int]


def builtin(serve: Serve, name: str = "vfio-user serve", respawn: Respawn = Respawn.CASE) -> Started:
    """The reference server, in a process of its own: ``serve`` serves on the path that it gets, and returns a status.

    The process is forked from this one, which saves the start of an interpreter for each case; only a process without threads
    may do that.
    """

    def start() -> launch.Process:
        process = _Forked(serve)
        try:
            process.wait_ready(10)
        except BaseException:
            process.stop()
            raise
        return process

    return Started(name, start, respawn)


class _Forked(launch.Process):
    """A child that calls a function instead of executing a program."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        super().__init__(["{socket}"])

    def _begin(self, words: Sequence[str], output: int) -> launch.Running:
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            return _Child(pid)
        status = 70
        try:
            os.setsid()
            for standard, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
                os.dup2(source, standard)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            status = self._serve(words[0])
        finally:
            os._exit(status)


class _Child:
    """A forked child, as ``subprocess.Popen`` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
