"""What a case does to the connection, and what that is to bring about."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.descriptors import Descriptor
from vfio_user_conformance.expect import Expectation
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import HungUp, Seen
from vfio_user_conformance.sending import Send, in_pieces
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import listed, plural


class Step(Protocol):
    """Something that is done to the target; ``str()`` says what."""

    def perform(self, session: Session) -> None: ...


@dataclass(frozen=True)
class Together:
    """Several messages in one write, without descriptors."""

    messages: tuple[Send, ...]
    cuts: tuple[int, ...] = ()

    def perform(self, session: Session) -> None:
        session.send(self.messages, self.cuts)

    def __str__(self) -> str:
        return self.told()

    def told(self, facts: Facts | None = None) -> str:
        """As in ``Send``."""
        return f"in one write{in_pieces(self.cuts)}: {listed(each.told(facts) for each in self.messages)}"


@dataclass(frozen=True)
class Raw:
    """Bytes that are no message."""

    data: bytes
    fds: tuple[Descriptor, ...] = ()

    def perform(self, session: Session) -> None:
        session.send_raw(self.data, self.fds)

    def __str__(self) -> str:
        return f"the bytes {self.data.hex(' ', -4)}" + (f" and {listed(self.fds, ' and ')}" if self.fds else "")


@dataclass(frozen=True)
class Sip:
    """From now on read at most ``count`` bytes at a time."""

    count: int

    def perform(self, session: Session) -> None:
        session.sip(self.count)

    def __str__(self) -> str:
        return f"read {plural(self.count, 'byte')} at a time"


@dataclass(frozen=True)
class HalfClose:
    """Send no more, and go on reading."""

    def perform(self, session: Session) -> None:
        session.half_close()

    def __str__(self) -> str:
        return "close the sending half of the connection"


@dataclass(frozen=True)
class Disconnect:
    """Close the connection."""

    def perform(self, session: Session) -> None:
        session.disconnect()

    def __str__(self) -> str:
        return "close the connection"


@dataclass(frozen=True)
class Reconnect:
    """Close the connection, make a new one, and negotiate."""

    def perform(self, session: Session) -> None:
        session.reconnect()

    def __str__(self) -> str:
        return "close the connection and make a new one"


@dataclass(frozen=True)
class Restart:
    """Stop the program, start a fresh one, and negotiate."""

    def perform(self, session: Session) -> None:
        session.restart()

    def __str__(self) -> str:
        return "start the program afresh"


@dataclass(frozen=True)
class Afresh:
    """A new connection; to a fresh program where the present one has ended."""

    def perform(self, session: Session) -> None:
        session.afresh()

    def __str__(self) -> str:
        return "make a new connection"


@dataclass(frozen=True)
class Exchange:
    """Steps, and what they are to bring about, in order."""

    steps: tuple[Step, ...]
    expect: tuple[Expectation | AfterCheck, ...]


def exchange(
    steps: Step | Sequence[Step], expect: Expectation | AfterCheck | Sequence[Expectation | AfterCheck]
) -> Exchange:
    """An exchange of one or several steps and expectations."""
    return Exchange(_tuple(steps), _tuple(expect))


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


class Script(Protocol):
    """The rare case whose next step depends on the facts or on an answer: it yields exchanges and gets what was seen."""

    def __call__(self, facts: Facts, /) -> Generator[Exchange, Seen, None]: ...


def each(steps: Sequence[Step], expect: Expectation | Sequence[Expectation | AfterCheck]) -> Script:
    """A script that does one step after another, each with what it is to bring about; on a new connection after each loss."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        lost = False
        for step in steps:
            if lost:
                yield Exchange((Afresh(),), ())
            lost = isinstance((yield exchange(step, expect)), HungUp)

    return script
