"""What must hold when everything is answered, and what is expected by the way."""

from dataclasses import dataclass

from vfio_user_conformance.descriptors import Descriptor, EventFd
from vfio_user_conformance.expect import Expectation, Problem
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Asked, Seen
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import plural


class AfterCheck:
    """What must hold when everything is answered; it brings no message."""

    def check(self, session: Session) -> list[Problem]:
        raise NotImplementedError


@dataclass(frozen=True)
class Released(AfterCheck):
    """Nobody but us holds the descriptor any more; ``at_once`` where that is so before the reply comes."""

    descriptor: Descriptor
    at_once: bool = False

    def check(self, session: Session) -> list[Problem]:
        seconds = 0.0 if self.at_once else session.timing.release
        handle = session.handle(self.descriptor)
        if handle.wait_released(seconds):
            return []
        if not self.at_once:
            session.held.append(handle)
        return [Problem(f"{self.descriptor} is still held{' after the reply' if self.at_once else ''}")]

    def __str__(self) -> str:
        return f"{self.descriptor} let go of{' before the reply' if self.at_once else ''}"


@dataclass(frozen=True)
class Signalled(AfterCheck):
    """The eventfd was signalled just this often."""

    descriptor: EventFd
    times: int = 1

    def check(self, session: Session) -> list[Problem]:
        count = session.handle(self.descriptor).count(session.timing.reply if self.times else 0)
        return [] if count == self.times else [Problem(f"{self.descriptor} was signalled {plural(count, 'time')}")]

    def __str__(self) -> str:
        return f"{self.descriptor} signalled {plural(self.times, 'time')}"


@dataclass(frozen=True)
class _Under(Expectation):
    """An expectation that belongs to another requirement than the case's own."""

    requirement: str
    expected: Expectation

    def takes(self, seen: Seen) -> bool:
        return self.expected.takes(seen)

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return _filed(self.requirement, self.expected.problems(seen, asked, facts))

    def __str__(self) -> str:
        return str(self.expected)


@dataclass(frozen=True)
class _CheckUnder(AfterCheck):
    """A check that belongs to another requirement than the case's own."""

    requirement: str
    expected: AfterCheck

    def check(self, session: Session) -> list[Problem]:
        return _filed(self.requirement, self.expected.check(session))

    def __str__(self) -> str:
        return str(self.expected)


def _filed(requirement: str, problems: list[Problem]) -> list[Problem]:
    return [each if each.requirement else each._replace(requirement=requirement) for each in problems]


def under(requirement: str, *expected: Expectation | AfterCheck) -> tuple[Expectation | AfterCheck, ...]:
    """What is expected by the way: where it is wrong it breaks ``requirement``, not the case's own."""
    return tuple(
        _Under(requirement, each) if isinstance(each, Expectation) else _CheckUnder(requirement, each)
        for each in expected
    )
