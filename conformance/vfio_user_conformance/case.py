"""What a case is, and the catalogue of all of them."""

import difflib
import fnmatch
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from vfio_user_conformance import cases
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Expectation
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.profile import HAZARDS
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Script, Step, exchange
from vfio_user_conformance.words import listed
from vfio_user_proto.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing that is done to a server, and what it is to make of it.

    ``ident`` is "section/what-is-wrong", for ever. ``requirement`` names a requirement of the document. ``given`` are
    commands that have to succeed first, ``stimulus`` and ``expect`` one thing or several in order; ``expect`` has one entry
    for each message of the stimulus, and may go on with checks. In place of these three, ``script`` yields exchanges for
    the case whose next step depends on an answer; ``stimulus`` and ``expect`` are then words.

    ``needs`` are facts without which the case does not apply, beyond those in its messages. ``hazards`` are what it does to
    the target. ``greet`` is False where the case negotiates by itself, ``in_step`` where nobody can say where the next
    message would begin: then a new connection shows that the target lives. ``catches`` names the faults of the reference server
    that this case is there to find.
    """

    ident: str
    requirement: str
    stimulus: Step | Sequence[Step] | str
    expect: Expectation | AfterCheck | Sequence[Expectation | AfterCheck] | str
    given: tuple[Send, ...] = ()
    script: Script | None = None
    needs: tuple[Fact, ...] = ()
    hazards: frozenset[str] = frozenset()
    greet: bool = True
    in_step: bool = True
    catches: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if self.requirement not in REQUIREMENTS:
            near = difflib.get_close_matches(self.requirement, REQUIREMENTS, 1)
            hint = f"; is it {near[0]}?" if near else ""
            raise ValueError(f"{self.ident}: the document has no requirement {self.requirement}{hint}")
        if wrong := self.hazards - HAZARDS.keys():
            raise ValueError(f"{self.ident}: {', '.join(wrong)} is no hazard")
        if (self.script is not None) != (isinstance(self.stimulus, str) and isinstance(self.expect, str)):
            raise ValueError(f"{self.ident}: a script has words for stimulus and expect, and only a script has")

    @property
    def judged_by(self) -> Requirement:
        return REQUIREMENTS[self.requirement]

    def as_dict(self) -> dict[str, Any]:
        """The case for programs."""
        return {
            "id": self.ident,
            "requirement": self.requirement,
            "level": self.judged_by.level,
            "section": self.judged_by.section,
            "given": [str(step) for step in self.given],
            "stimulus": self.stimulus_text,
            "expected": self.expect_text,
            "needs": [need.name for need in self.needs],
            "hazards": sorted(self.hazards),
            "catches": list(self.catches),
            "note": self.note,
        }

    @property
    def exchange(self) -> Exchange:
        """Stimulus and expectation of a case without a script."""
        assert not isinstance(self.stimulus, str)
        assert not isinstance(self.expect, str)
        return exchange(self.stimulus, self.expect)

    @property
    def stimulus_text(self) -> str:
        return self.stimulus if isinstance(self.stimulus, str) else listed(self.exchange.steps, "; then ")

    @property
    def expect_text(self) -> str:
        if isinstance(self.expect, str):
            return self.expect
        return listed(self.exchange.expect, "; then ") or "the next client to be served"


@cache
def catalogue() -> dict[str, Case]:
    """Every case by its ident, in the order of the document."""
    every: dict[str, Case] = {}
    for name in cases.SECTIONS:
        for case in importlib.import_module(f"{cases.__name__}.{name}").CASES:
            if case.ident in every:
                raise ValueError(f"two cases are called {case.ident}")
            every[case.ident] = case
    return every


def select(patterns: Sequence[str]) -> list[Case]:
    """The cases whose ident, section or requirement one of the patterns matches; all of them without a pattern.

    A pattern is a shell pattern or the beginning of an ident. Raises UsageError with the nearest ident where one matches
    nothing.
    """
    every = catalogue()
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {
            ident
            for ident, case in every.items()
            if fnmatch.fnmatchcase(ident, pattern)
            or fnmatch.fnmatchcase(case.requirement, pattern)
            or ident.startswith(pattern.rstrip("/") + "/")
        }
        if not hits:
            words = [
                *every,
                *{ident.partition("/")[0] for ident in every},
                *{case.requirement for case in every.values()},
            ]
            near = difflib.get_close_matches(pattern, words, 1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"no case matches {pattern!r}{hint}")
        chosen |= hits
    return [case for ident, case in every.items() if not patterns or ident in chosen]
