"""The server under test, from case to case: when it gives way to a fresh one."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from vfio_user_conformance.shield import shielded
from vfio_user_proto import launch
from vfio_user_proto.errors import TargetError, TransportError, VfioUserError
from vfio_user_proto.program import End, Program, Started
from vfio_user_proto.unix import Stream


class Respawn(StrEnum):
    """When a started program gives way to a fresh one: for each case, when it has died or hangs, or never."""

    CASE = "case"
    DEATH = "death"
    NEVER = "never"


class Target(Protocol):
    """What the driver needs of the server under test."""

    name: str
    disposable: bool
    """Whether each case has a program of its own, which may be set aside while another runs."""

    replaceable: bool
    """Whether there is another program where this one ends."""

    @property
    def pid(self) -> int:
        """The process that was started; 0 where that was not done here."""

    def terminate(self) -> None:
        """Ask that process to end, and do no more."""

    def renew(self) -> bool:
        """Be ready for the next case; returns whether that will be the first to use the program. Raises TargetError."""

    def done(self) -> End | None:
        """A case is over: stop the program where each case has its own, and say how it ended where that was a crash."""

    def discard(self) -> bool:
        """Stop a program that is no longer of use, without ceremony; returns whether there will be another."""

    def set_aside(self) -> "Target":
        """The program that runs, for somebody else to go on with; ``renew`` starts another here."""

    def connect(self) -> Stream:
        """A connection. Raises TargetError."""

    def ended(self, seconds: float | None) -> End | None:
        """How the program ended; None where it still runs after ``seconds``, or is not ours."""

    def report(self) -> str:
        """What a sanitizer found in the program, in a line; "" where it found nothing."""

    def activity(self) -> str:
        """What the program does at this moment, such as "is busy"; "" where it has ended, or is not ours."""

    def stderr(self) -> str:
        """What the program has written to its standard error since it started."""

    def close(self) -> None:
        """Stop the program."""


class Respawned:
    """A program that gives way to a fresh one as ``respawn`` has it, where it is ours."""

    def __init__(self, program: Program, respawn: Respawn = Respawn.CASE) -> None:
        self.name = program.name
        self._program, self._respawn = program, respawn
        self.disposable = program.ours and respawn is Respawn.CASE
        self.replaceable = program.ours and respawn is not Respawn.NEVER

    @property
    def pid(self) -> int:
        return self._program.pid

    def terminate(self) -> None:
        self._program.terminate()

    def renew(self) -> bool:
        with shielded():
            return self._program.start()

    def done(self) -> End | None:
        if self._respawn is Respawn.CASE:
            self.close()
        end = self._program.ended()
        if end is not None and self._respawn is Respawn.DEATH:
            self.close()
        return end if end is not None and end.crashed else None

    def discard(self) -> bool:
        if not self.replaceable:
            return False
        self._stop(0)
        return True

    def set_aside(self) -> "Respawned":
        return Respawned(self._program.set_aside(), self._respawn)

    def connect(self) -> Stream:
        try:
            return self._program.connect()
        except TransportError as error:
            raise TargetError(str(error)) from None

    def ended(self, seconds: float | None) -> End | None:
        return self._program.ended(3600 if seconds is None else seconds)

    def report(self) -> str:
        return self._program.report()

    def activity(self) -> str:
        return self._program.activity()

    def stderr(self) -> str:
        return self._program.stderr()

    def close(self) -> None:
        self._stop(5)

    def _stop(self, seconds: float) -> None:
        with shielded():
            self._program.stop(seconds)


Serve = Callable[[str], int]


def builtin(serve: Serve, name: str = "vfio-user serve", respawn: Respawn = Respawn.CASE) -> Respawned:
    """The reference server, in a process of its own: ``serve`` serves on the path that it gets, and returns a status.

    ``name`` is the command line that does the same, without the path; what is told of its end begins with that.
    The process is forked from this one, which saves the start of an interpreter for each case; only a process without threads
    may do that.
    """

    def start() -> launch.Process:
        process = _Forked(name, serve)
        try:
            process.wait_ready(10)
        except BaseException:
            process.stop()
            raise
        return process

    return Respawned(Started(name, start), respawn)


class _Forked(launch.Process):
    """A child that calls a function instead of executing a program."""

    def __init__(self, name: str, serve: Serve) -> None:
        self._serve = serve
        super().__init__(shlex.split(name))

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
            self._standard = sys.stdout, sys.stderr  # they may own the numbers 1 and 2, which nobody is to close
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
            status = self._serve(self.path)
        except VfioUserError as problem:
            print(f"vfio-user: {problem}", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


class _Child:
    """A forked child, as ``subprocess.Popen`` shows one."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
