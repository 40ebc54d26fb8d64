"""The server under test, from session to session."""

from collections.abc import Sequence
from contextlib import closing
from random import Random
from typing import Final, Protocol

from vfio_user_fuzz.conversation import Conversation, Ending, converse
from vfio_user_fuzz.packets import Packet
from vfio_user_proto.errors import TargetError, TransportError
from vfio_user_proto.program import Program
from vfio_user_proto.unix import Stream

# A program is started anew after so many connections: what it has printed, and what it leaks, stays bounded.
_CONNECTIONS: Final = 200
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
        raise TargetError(str(refused) if str(refused).startswith(target.name) else f"{target.name}: {refused}")
    return talk


class Reused:
    """A program that serves many sessions; where it is ours, that it ends when a client leaves is no failure."""

    def __init__(self, program: Program) -> None:
        self.name, self._program = program.name, program
        self.restarts = -1 if program.ours else 0
        self._connections = 0

    def prepare(self, *, fresh: bool = False) -> bool:
        if not self._program.ours:
            return False
        if self.restarts >= 0 and (self.ended() or self._connections >= (1 if fresh else _CONNECTIONS)):
            self.close()
        if self._program.start():
            self._connections = 0
            self.restarts += 1
        return self._connections == 0

    def connect(self) -> Stream:
        self._connections += 1
        return self._program.connect()

    def failure(self, seconds: float = 0) -> str:
        end = self._program.ended(seconds)
        return self._program.report() or (end.how if end is not None and end.crashed else "")

    def ended(self, seconds: float = 0) -> bool:
        return self._program.ended(seconds) is not None

    def stderr(self) -> str:
        return self._program.stderr()

    def close(self) -> None:
        self._program.stop(0.5)
