"""The program under test: one that somebody else runs, or one that is started whenever there is none."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from vfio_user_proto import launch, unix
from vfio_user_proto.errors import TargetError

# Seconds that a program which has begun to say what it dies of gets for that.
_LAST_WORDS: Final = 5.0


class End(NamedTuple):
    """How a program ended; ``crashed`` where that was no decision of its own."""

    how: str
    crashed: bool

    @property
    def cause(self) -> str:
        """What stands in ``how`` of a report, which a stop may give another exit status; ``how`` where there is none."""
        return self.how.partition(" (")[2].removesuffix(")") or self.how

    def is_like(self, cause: str) -> bool:
        """Whether it is what ``cause`` tells, of which a stop may have cut off the end here or there."""
        return bool(cause) and (cause.startswith(self.cause) or self.cause.startswith(cause))


class Program(Protocol):
    """A server, as far as a test needs to know it; ``ours`` where it is started and stopped here."""

    name: str
    ours: bool

    @property
    def pid(self) -> int:
        """The process that was started; 0 where that was not done here."""

    def terminate(self) -> None:
        """Ask that process to end, and do no more."""

    def start(self) -> bool:
        """Have it running; returns whether it was started for this. Raises TargetError."""

    def connect(self) -> unix.Stream:
        """A connection, for the caller to close. Raises TransportError."""

    def ended(self, seconds: float = 0) -> End | None:
        """How it ended; None where it still runs after ``seconds``, or is not ours."""

    def report(self) -> str:
        """What a sanitizer or a panic said, in a line; "" where there is none."""

    def activity(self) -> str:
        """What it does at this moment, such as "is busy" or "sleeps in futex"; "" where it has ended, or is not ours."""

    def stderr(self) -> str:
        """What it has printed since it started."""

    def set_aside(self) -> "Program":
        """What runs, where it is ours, on its own; the next start here is of another."""

    def stop(self, seconds: float = 5.0) -> None:
        """End it where it is ours; what does nothing about SIGTERM for ``seconds`` is killed."""


class Attached:
    """A server that runs already, at the socket ``name``."""

    ours = False
    pid = 0

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> bool:
        return False

    def connect(self) -> unix.Stream:
        return unix.connect(self.name, timeout=launch.ACCEPTING)

    def ended(self, seconds: float = 0) -> None:
        return None

    def terminate(self) -> None:
        """Nothing here is ours to end."""

    def report(self) -> str:
        return ""

    def activity(self) -> str:
        return ""

    def stderr(self) -> str:
        return ""

    def set_aside(self) -> "Attached":
        return self

    def stop(self, seconds: float = 5.0) -> None:
        """Nothing here is ours to stop."""


class Started:
    """A program that ``start`` runs. What it printed, and how it ended, is told until it is started again."""

    ours = True

    def __init__(self, name: str, start: Callable[[], launch.Process]) -> None:
        self.name, self._start = name, start
        self._process: launch.Process | None = None

    def start(self) -> bool:
        if self._process is not None and not self._process.stopped:
            return False
        self._process = self._start()
        return True

    def connect(self) -> unix.Stream:
        return self._started.connect()

    def ended(self, seconds: float = 0) -> End | None:
        process = self._started
        return End(process.exit_text(), process.crashed()) if process.wait(seconds) else None

    @property
    def pid(self) -> int:
        return self._started.pid

    def terminate(self) -> None:
        self._started.terminate()

    def report(self) -> str:
        process = self._started
        process.wait_report(_LAST_WORDS)
        return process.report()

    def activity(self) -> str:
        return "" if self._process is None else self._process.activity()

    def stderr(self) -> str:
        return self._started.stderr()

    def set_aside(self) -> "Started":
        other = Started(self.name, self._start)
        other._process, self._process = self._process, None
        return other

    def stop(self, seconds: float = 5.0) -> None:
        if self._process is not None:
            self._process.stop(seconds)

    @property
    def _started(self) -> launch.Process:
        if self._process is None:
            raise TargetError(f"{self.name}: not started")
        return self._process


def spawned(command: str, *, timeout: float = 10.0) -> Started:
    """What ``command`` starts within ``timeout`` seconds; {socket} in it stands for the path to listen on."""
    return Started(command, lambda: launch.spawn(command, timeout=timeout))


def builtin(*, timeout: float = 10.0) -> Started:
    """The reference server."""
    return Started("built-in", lambda: launch.builtin(timeout=timeout))
