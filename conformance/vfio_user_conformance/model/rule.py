"""What a sequence is made of: moves, the turns that a move takes, and the rules that judge them."""

from collections.abc import Generator
from dataclasses import dataclass, field, fields
from typing import Any

from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Either, ErrorReply, Expectation, Reply
from vfio_user_conformance.facts import Fact, Facts
from vfio_user_conformance.model.world import World
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.steps import Step

PREFIX = "model/"


@dataclass(frozen=True)
class Rule:
    """One thing that the model expects, and what a report calls it: its ident is that of a case.

    ``says`` is the rule in words. ``needs`` and ``hazards`` are as in ``Case``; ``catches`` names the faults of the reference
    server that a run is to find by this rule.
    """

    name: str
    requirement: str
    says: str
    needs: tuple[Fact, ...] = ()
    hazards: frozenset[str] = field(default=frozenset())
    catches: tuple[str, ...] = ()

    @property
    def ident(self) -> str:
        return PREFIX + self.name

    @property
    def judged_by(self) -> Requirement:
        return REQUIREMENTS[self.requirement]


@dataclass(frozen=True)
class Turn:
    """Steps, what each message is to bring about, and the rule that it is judged by."""

    rule: Rule
    steps: tuple[Step, ...] = ()
    expect: tuple[Expectation | AfterCheck, ...] = ()


# Yields turns, gets what was seen last in each, and returns the world as it is then.
Plan = Generator[Turn, Seen | None, World]


class Move:
    """Something that is done to a target in some world, as data: fields are numbers, truth values and tuples of numbers.

    ``str()`` says what is done.
    """

    def plan(self, world: World, facts: Facts) -> Plan:
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]


def accepted(seen: Seen | None) -> bool:
    """Whether a command was carried out, as far as its reply tells."""
    return isinstance(seen, Received) and not seen.message.is_error


def or_refused(reply: Reply) -> Either:
    """Where a refusal is as good: the model takes note which it was."""
    return Either(reply, ErrorReply())


SILENT_TEXT = or_refused(Reply())
"""Where the text says nothing: done or refused, and the model takes note which."""
