"""Servers under test: one that runs already, or a program that is started whenever it is needed."""

import re
from collections.abc import Callable, Sequence
from contextlib import closing
from random import Random
from typing import Final, Protocol

from vfio_user_fuzz.conversation import Conversation, Ending, converse
from vfio_user_fuzz.packets import Packet
from vfio_user_proto import launch, unix
from vfio_user_proto.errors import TargetError, TransportError
from vfio_user_proto.unix import Stream

# A program is started anew after so many connections: what it has printed, and what it leaks, stays bounded.
_CONNECTIONS: Final = 200
# What tells where in the program it went wrong, from the one that says most to the one that says least.
_CAUSES: Final = (
    re.compile(r"^SUMMARY: (\w+Sanitizer: .*)", re.MULTILINE),
    re.compile(r"^(\S+:\d+:\d+: runtime error: .*)", re.MULTILINE),
    re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.MULTILINE),
)

# A program that has printed this ends soon; what it prints last says most. Seconds to wait for that.
_DYING: Final = "AddressSanitizer"
_LAST_WORDS: Final = 5.0
# Seconds that a program which has closed its only connection may take to end.
_GOING: Final = 0.05


class Target(Protocol):
    """What a run needs of the server; ``restarts`` counts how often it was started, the first time aside."""

    name: str
    restarts: int

    def prepare(self, *, fresh: bool = False) -> bool:
        """Have a server running, where it is ours to start; with ``fresh`` one that nobody has used.

        Returns whether nobody has used it. Raises TargetError.
        """

    def connect(self) -> Stream:
        """A connection to the server as it is, for the caller to close. Raises TransportError."""

    def failure(self, seconds: float = 0) -> str:
        """How the server failed, in a line; "" where it did not, or only ended. Waits at most ``seconds`` for its end."""

    def ended(self, seconds: float = 0) -> bool:
        """Whether the program has ended, after ``seconds`` at most; False where it is not ours."""

    def stderr(self) -> str:
        """What the program printed."""

    def close(self) -> None:
        """Stop the program, where it is ours."""


def hold(target: Target, packets: Sequence[Packet], rng: Random, *, patience: float) -> Conversation:
    """One session, as ``converse`` has it, with a server that is started where it must be.

    A program that serves one client only may still be about to end when the next one comes: the session is then held with its
    successor. Raises TargetError where nobody listens.
    """
    unused = target.prepare()
    refused = None
    try:
        with closing(target.connect()) as stream:
            talk = converse(stream, packets, rng, patience=patience)
    except TransportError as problem:
        refused, talk = problem, Conversation(Ending.CLOSED, "", "no message", ())
    heard = any(message.sender == "server" for message in talk.traffic)
    if not unused and not heard and target.ended(_GOING) and not target.failure():
        return hold(target, packets, rng, patience=patience)
    if refused and not target.failure():
        raise TargetError(f"{target.name}: {refused}")
    return talk


class Attached:
    """A server that somebody else started, at the socket ``name``."""

    def __init__(self, name: str) -> None:
        self.name, self.restarts = name, 0

    def prepare(self, *, fresh: bool = False) -> bool:
        return False

    def connect(self) -> Stream:
        return unix.connect(self.name)

    def failure(self, seconds: float = 0) -> str:
        return ""

    def ended(self, seconds: float = 0) -> bool:
        return False

    def stderr(self) -> str:
        return ""

    def close(self) -> None:
        """Nothing here is ours to stop."""


class Started:
    """A program that ``start`` runs. That it ends when a client leaves is no failure: it is started again."""

    def __init__(self, name: str, start: Callable[[], launch.Process]) -> None:
        self.name, self._start = name, start
        self.restarts = -1
        self._process: launch.Process | None = None
        self._connections = 0

    def prepare(self, *, fresh: bool = False) -> bool:
        if self.ended() or self._connections >= (1 if fresh else _CONNECTIONS):
            self.close()
        if self._process is None:
            self._process = self._start()
            self._connections = 0
            self.restarts += 1
        return self._connections == 0

    def connect(self) -> Stream:
        self._connections += 1
        return self._running.connect()

    def failure(self, seconds: float = 0) -> str:
        process = self._running
        ended = process.wait(seconds)
        report = process.report()
        if _DYING in report:
            ended = process.wait(_LAST_WORDS)
        found = next(filter(None, (cause.search(process.stderr()) for cause in _CAUSES)), None)
        if found:
            return found[1]
        status = process.poll() if ended else None
        return process.exit_text() if status is not None and status < 0 else report

    def ended(self, seconds: float = 0) -> bool:
        return self._process is not None and self._process.wait(seconds) and self._process.poll() is not None

    def stderr(self) -> str:
        return self._running.stderr()

    def close(self) -> None:
        if self._process is not None:
            self._process.stop(0.5)
            self._process = None

    @property
    def _running(self) -> launch.Process:
        if self._process is None:
            raise TargetError(f"{self.name}: not started")
        return self._process


def spawned(command: str, *, timeout: float) -> Started:
    """A target that ``command`` starts within ``timeout`` seconds; {socket} in it stands for the path to listen on."""
    return Started(command, lambda: launch.spawn(command, timeout=timeout))


def builtin(*, timeout: float) -> Started:
    """The reference server."""
    return Started("built-in", lambda: launch.builtin(timeout=timeout))
