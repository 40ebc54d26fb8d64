"""What a case can end in, what one run of a case gave, and what a whole run says."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from vfio_user_conformance.about import told
from vfio_user_conformance.words import plural


class Outcome(StrEnum):
    """The classes of outcome; the value is what reports write."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    DEVIATION = "deviation"
    INFO = "info"
    ERRATUM = "erratum"
    NOT_APPLICABLE = "not-applicable"
    NOT_REACHED = "not-reached"
    CRASH = "crash"
    HANG = "hang"
    DESYNC = "desync"
    REFUSED_SAFETY = "refused-safety"
    ERROR = "error"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Outcome.PASS: "as the text says",
    Outcome.FAIL: "a must is broken",
    Outcome.DEVIATION: "a should is not followed",
    Outcome.INFO: "the text is silent; what was seen is noted",
    Outcome.ERRATUM: "an accepted reading of a known contradiction",
    Outcome.NOT_APPLICABLE: "the target does not offer what the case needs",
    Outcome.NOT_REACHED: "a step before the stimulus failed",
    Outcome.CRASH: "the target died",
    Outcome.HANG: "the target no longer answers",
    Outcome.DESYNC: "the stream is out of step",
    Outcome.REFUSED_SAFETY: "needs --allow or a profile",
    Outcome.ERROR: "a mistake of this suite or of this machine",
}

EXECUTED = frozenset(Outcome) - {Outcome.NOT_APPLICABLE, Outcome.NOT_REACHED, Outcome.REFUSED_SAFETY, Outcome.ERROR}
# What no target is of use after; these fail whatever the level of the requirement.
SPOILED = frozenset({Outcome.CRASH, Outcome.HANG, Outcome.DESYNC})
FAILING = SPOILED | {Outcome.FAIL, Outcome.NOT_REACHED, Outcome.ERROR}
FINDINGS = FAILING | {Outcome.DEVIATION}
# What is told first.
_WORST = (
    Outcome.CRASH,
    Outcome.HANG,
    Outcome.DESYNC,
    Outcome.FAIL,
    Outcome.NOT_REACHED,
    Outcome.ERROR,
    Outcome.DEVIATION,
)


@dataclass(frozen=True)
class Result:
    """One case on one target.

    ``given`` had to work first. ``came`` is what was seen. ``broken`` is the requirement that was not met, which may be a
    more general one than the case's own. ``messages`` is the conversation in the form of the capture format; ``known`` the
    reason from the list of known findings, or ""; ``evidence`` the file that holds it all, or "". ``script`` is the
    sequence that a stateful run found, as data, and ``steps`` the same in words.
    """

    ident: str
    requirement: str
    section: str
    level: str
    outcome: Outcome
    reason: str
    duration: float = 0.0
    given: str = ""
    stimulus: str = ""
    expected: str = ""
    came: str = ""
    broken: str = ""
    messages: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    stderr: str = ""
    known: str = ""
    evidence: str = ""
    script: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    steps: tuple[str, ...] = ()

    def finding(self, strict: bool) -> bool:
        """Whether it counts against the target: with ``strict`` a deviation does too. Known findings do not."""
        return not self.known and self.outcome in (FINDINGS if strict else FAILING)


@dataclass(frozen=True)
class Known:
    """A finding that is expected: every case that ``case`` matches ends as ``outcome``; ``reason`` says why.

    Where that depends on chance, ``sometimes`` are the other classes that it may end in. From the day ``expires`` on the
    finding counts again, and the entry itself is wrong.
    """

    case: str
    outcome: Outcome
    reason: str
    link: str = ""
    expires: date | None = None
    sometimes: frozenset[Outcome] = frozenset()

    def matches(self, ident: str) -> bool:
        return fnmatchcase(ident, self.case)

    def covers(self, ident: str, outcome: Outcome) -> bool:
        return self.matches(ident) and outcome in {self.outcome, *self.sometimes}

    def holds(self, today: date) -> bool:
        return self.expires is None or today < self.expires


@dataclass(frozen=True)
class Explored:
    """What a stateful run did: how often each move, by name; ``missed`` are rules that it could have tried and did not."""

    moves: Mapping[str, int]
    missed: tuple[str, ...]

    def __str__(self) -> str:
        done = ", ".join(f"{name} {count}" for name, count in sorted(self.moves.items()))
        return f"moves tried: {done or 'none'}; never reached: {', '.join(self.missed) or 'nothing'}"


@dataclass(frozen=True)
class Report:
    """A whole run, which took ``seconds``.

    ``cut_short`` tells why it did not come to its end, ``stale`` what is wrong with the list of known findings. ``seed`` is
    what chance began from, None where nothing was left to it; ``explored`` tells what a stateful run did. ``side`` is what was
    judged, "server" or "client".
    """

    target: str
    profile: str
    strict: bool
    results: tuple[Result, ...]
    seconds: float
    cut_short: str = ""
    stale: tuple[str, ...] = ()
    seed: int | None = None
    side: str = "server"
    explored: Explored | None = None

    @property
    def about(self) -> str:
        """What was run against what: every report says so."""
        return told(self.target, self.profile, self.seed)

    @property
    def totals(self) -> str:
        """How many cases, or rules of a stateful run, ended how; of rules also how many chance did not come to."""
        counts = {str(outcome): count for outcome, count in self.counts.items()}
        if self.explored is not None and self.explored.missed:
            counts[Outcome.NOT_APPLICABLE] -= len(self.explored.missed)
            counts["not come to"] = len(self.explored.missed)
        told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        what = "case" if self.explored is None else "rule"
        return f"{plural(len(self.results), what)} in {self.seconds:.1f} s{': ' if told else ''}{told}"

    @property
    def troubles(self) -> list[str]:
        """What stands against success and is no finding: reports that know only cases tell each as one more."""
        return [
            *(f"known findings: {line}" for line in self.stale),
            *([self.cut_short] if self.cut_short else []),
            *(["nothing was run"] if self.status == 4 else []),
        ]

    @property
    def findings(self) -> list[Result]:
        """What counts against the target, the worst first."""
        counting = (result for result in self.results if result.finding(self.strict))
        return sorted(counting, key=lambda result: _WORST.index(result.outcome))

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many cases ended in each class, classes without any left out."""
        numbers = Counter(result.outcome for result in self.results)
        return {outcome: numbers[outcome] for outcome in Outcome if numbers[outcome]}

    @property
    def status(self) -> int:
        """The exit status: 0 conforming, 1 not conforming, 3 the run was cut short, 4 nothing was run."""
        lost = {Outcome.NOT_REACHED} if self.cut_short else set()
        if self.stale or any(result.outcome not in lost for result in self.findings):
            return 1
        if self.cut_short:
            return 3
        return 0 if any(result.outcome in EXECUTED for result in self.results) else 4

    @property
    def verdict(self) -> str:
        """The last line of every report."""
        known = sum(1 for result in self.results if result.known)
        also = f"; {known} known" if known else ""
        match self.status:
            case 0:
                return f"conforming{also}"
            case 1:
                wrong = [plural(len(self.findings), "finding")] if self.findings else []
                wrong += [f"{len(self.stale)} wrong in the list of known findings"] if self.stale else []
                return f"not conforming: {', '.join(wrong)}{also}"
            case 3:
                return f"no verdict: {self.cut_short}"
            case _:
                return "no verdict: nothing was run"


def compare(
    results: Sequence[Result], known: Sequence[Known], every: Collection[str], today: date
) -> tuple[list[Result], list[str]]:
    """Mark the results that are known, and say which entries of ``known`` no longer hold.

    An entry must match a case of the catalogue ``every``, and each case that it matches and that was run must have ended in
    its class. What has expired by ``today`` is known no longer.
    """
    marked = list[Result]()
    stale = [f"{one.case}: expired on {one.expires}" for one in known if not one.holds(today)]
    known = [one for one in known if one.holds(today)]
    for result in results:
        entry = next((one for one in known if one.covers(result.ident, result.outcome)), None)
        marked.append(replace(result, known=entry.reason) if entry and result.outcome in FINDINGS else result)
    for one in known:
        if not any(one.matches(ident) for ident in every):
            stale.append(f"{one.case}: no such case")
        stale += [
            f"{result.ident}: known as {one.outcome}, but ended as {result.outcome}"
            for result in marked
            if one.matches(result.ident)
            and not (result.known or one.covers(result.ident, result.outcome))
            and result.outcome in EXECUTED
        ]
    return marked, stale


def updated(results: Sequence[Result], known: Sequence[Known]) -> list[Known]:
    """``known`` as the results would have it: without entries that no longer hold, with one for each new finding."""
    kept = [
        one for one in known if all(one.covers(each.ident, each.outcome) for each in results if one.matches(each.ident))
    ]
    new = [
        Known(each.ident, each.outcome, f"not examined yet: {each.reason}")
        for each in results
        if each.outcome in FINDINGS and not any(one.matches(each.ident) for one in kept)
    ]
    return [*kept, *new]
