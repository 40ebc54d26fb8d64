"""The requirements of the document against the cases: which are tested, which cannot be, which wait for a case."""

import tomllib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.verdict import EXECUTED, FINDINGS, Result
from vfio_user_conformance.witness.catalogue import CHECKS
from vfio_user_conformance.witness.check import Check


class State(StrEnum):
    """How a requirement stands; the value is what reports write."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_EXERCISED = "not-exercised"
    COVERED = "covered"
    NOT_TESTABLE = "not-testable"
    OTHER_SIDE = "other-side"
    NO_CASE = "no-case"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    State.PASSED: "exercised, and kept by every case",
    State.FAILED: "exercised, and broken",
    State.NOT_EXERCISED: "has cases, of which none came to a verdict on it",
    State.COVERED: "has a case",
    State.NOT_TESTABLE: "cannot be seen over a socket",
    State.OTHER_SIDE: "binds the other side alone",
    State.NO_CASE: "has no case yet",
}


def quoted(requirement: Requirement) -> str:
    """The sentence of a requirement and the section of the published document that it rests on, where that is not silent."""
    return f"{requirement.text} ({requirement.section})" if requirement.section else requirement.text


class Standing(NamedTuple):
    """One requirement, how it stands, the cases that decide it, and why it cannot be tested, or ""."""

    requirement: Requirement
    state: State
    cases: tuple[str, ...] = ()
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The standing for programs."""
        return {
            "id": self.requirement.ident,
            "level": self.requirement.level,
            "side": self.requirement.side,
            "section": self.requirement.section,
            "state": str(self.state),
            "cases": list(self.cases),
            "reason": self.reason or None,
        }


@cache
def untestable() -> Mapping[str, str]:
    """Why each of the requirements in untestable.toml cannot be tested."""
    return tomllib.loads((files("vfio_user_conformance") / "untestable.toml").read_text(encoding="utf-8"))


def of_suite(side: str = "server") -> list[Standing]:
    """Every requirement by all that ``side``, server or client, is judged by: covered, or why not."""
    cases = defaultdict[str, list[str]](list)
    judges: Mapping[str, Case | Check] = catalogue() if side == "server" else CHECKS
    for case in judges.values():
        cases[case.requirement].append(case.ident)
    return [
        Standing(each, State.COVERED, tuple(cases[each.ident])) if each.ident in cases else _without_case(each, side)
        for each in REQUIREMENTS.values()
    ]


def of_run(results: Collection[Result], side: str = "server") -> list[Standing]:
    """Every requirement by what a run that judged ``side`` did with it.

    A case exercises its own requirement, and another one where that turned out to be broken. A known finding is still a breach.
    """
    broken, kept = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for result in results:
        if result.outcome not in EXECUTED:
            continue
        if result.outcome in FINDINGS:
            broken[result.broken or result.requirement].append(result.ident)
        else:
            kept[result.requirement].append(result.ident)
    return [_in_run(each, broken, kept) for each in of_suite(side)]


def _in_run(one: Standing, broken: Mapping[str, list[str]], kept: Mapping[str, list[str]]) -> Standing:
    ident = one.requirement.ident
    if ident in broken:
        return Standing(one.requirement, State.FAILED, tuple(broken[ident]))
    if ident in kept:
        return Standing(one.requirement, State.PASSED, tuple(kept[ident]))
    return one._replace(state=State.NOT_EXERCISED) if one.state is State.COVERED else one


def _without_case(requirement: Requirement, side: str) -> Standing:
    if requirement.side not in (side, "both"):
        return Standing(requirement, State.OTHER_SIDE)
    if reason := untestable().get(requirement.ident):
        return Standing(requirement, State.NOT_TESTABLE, reason=reason)
    return Standing(requirement, State.NO_CASE)


def counts(standings: Iterable[Standing]) -> dict[State, int]:
    """How many requirements stand how, states without any left out."""
    numbers = Counter(each.state for each in standings)
    return {state: numbers[state] for state in State if numbers[state]}


def totals(standings: Collection[Standing]) -> str:
    """The counts in a line."""
    numbers = ", ".join(f"{count} {state}" for state, count in counts(standings).items())
    return f"{len(standings)} requirements: {numbers}"
