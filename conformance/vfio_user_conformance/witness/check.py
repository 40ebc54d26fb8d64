"""The form of a check, and the tally that each keeps over a run."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_conformance.witness.seen import Known, Seen
from vfio_user_conformance.words import plural
from vfio_user_proto.messages import Command
from vfio_user_proto.model import Record

R = TypeVar("R", bound=Record)

_WRONG = {"must": Outcome.FAIL, "should": Outcome.DEVIATION, "info": Outcome.INFO}
# What a judge says of a message: None where it is none of its business, "" where it is right, or what is wrong with it.
Judge = Callable[[Seen, Known], str | None]


def never(known: Known) -> str | None:
    """Nothing is left to say at the end of a connection."""
    return None


@dataclass(frozen=True)
class Check:
    """One thing that a client's messages are held to.

    ``expects`` says it in words, ``unless`` what had to come for it to be judged. ``judge`` sees every message of the client
    before ``Known`` has learnt from it; ``at_end`` what was known when the connection ended. ``catches`` names the client
    faults that it is there to find.
    """

    ident: str
    requirement: str
    expects: str
    judge: Judge
    unless: str
    catches: tuple[str, ...]
    at_end: Callable[[Known], str | None] = never

    @property
    def judged_by(self) -> Requirement:
        return REQUIREMENTS[self.requirement]

    @property
    def when_wrong(self) -> Outcome:
        """What a breach is worth: the level of the requirement decides."""
        return _WRONG[self.judged_by.level]


def of(record: type[R], judge: Callable[[R, Seen, Known], str | None]) -> Judge:
    """A judge of the commands that carry this record."""

    def judging(now: Seen, known: Known) -> str | None:
        return judge(now.payload, now, known) if now.is_command and isinstance(now.payload, record) else None

    return judging


def none_of(command: Command) -> str:
    """Why a check of one command had nothing to judge."""
    return f"no {command.document_name} came"


@dataclass
class Tally:
    """What one check has made of a run: how many messages it judged, how many were wrong, and the first of those."""

    check: Check
    judged: int = 0
    wrong: int = 0
    reason: str = ""
    first: Seen | None = None
    messages: tuple[dict[str, Any], ...] = field(default=(), repr=False)

    def result(self, stderr: str) -> Result:
        """The check as a case of a report."""
        check = self.check
        outcome, reason = Outcome.PASS, ""
        if self.wrong:
            outcome = check.when_wrong
            reason = self.reason + (f" (and {self.wrong - 1} more)" if self.wrong > 1 else "")
        elif not self.judged:
            outcome, reason = Outcome.NOT_APPLICABLE, f"not exercised: {check.unless}"
        return Result(
            check.ident,
            check.requirement,
            check.judged_by.section,
            check.judged_by.level,
            outcome,
            reason,
            stimulus=f"{plural(self.judged, 'message')} of the client",
            expected=check.expects,
            came="" if self.first is None else self.first.words,
            messages=self.messages,
            stderr=stderr if self.wrong else "",
        )
