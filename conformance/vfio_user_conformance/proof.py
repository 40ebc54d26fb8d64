"""The suite's own proof: the reference server passes every case in every mode, and each case catches the faults it names."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.catalogue import RULES
from vfio_user_conformance.model.rule import Rule
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.profile import HAZARDS, load
from vfio_user_conformance.reach import Reach, replaced
from vfio_user_conformance.target import Respawn, Serve, builtin
from vfio_user_conformance.verdict import FINDINGS, SPOILED, Outcome, Result
from vfio_user_proto.faults import FAULTS

# A server that hangs on purpose is not waited for as long as one that may be slow.
TIMING = Timing.scaled(0.1)

# How a fault dies that is there to die: one that ends otherwise stumbled, and was caught by accident.
_DEATH = "killed by SIGSEGV"
_CAUGHT = FINDINGS - {Outcome.NOT_REACHED, Outcome.ERROR}

# The function that serves as `vfio-user serve` does with these options.
Serving = Callable[[tuple[str, ...]], Serve]


@dataclass(frozen=True)
class Mode:
    """One way to run the correct server: with these options of ``vfio-user serve``, and a fresh process for what."""

    name: str
    options: tuple[str, ...] = ()
    respawn: Respawn = Respawn.CASE


MODES: tuple[Mode, ...] = (
    Mode("as it is"),
    Mode("no twin socket", ("--no-twin-socket",), Respawn.DEATH),
    Mode("small transfers", ("--max-data-xfer-size", "512"), Respawn.DEATH),
    Mode("one descriptor per message", ("--max-msg-fds", "1"), Respawn.DEATH),
    Mode("one process until it dies", respawn=Respawn.DEATH),
    Mode("one process for all", respawn=Respawn.NEVER),
)


@dataclass(frozen=True)
class Proof:
    """What one case made of one fault; of the correct server in ``mode`` where ``fault`` is ""."""

    fault: str
    mode: str
    result: Result

    @property
    def holds(self) -> bool:
        if self.fault:
            stumbled = self.result.outcome is Outcome.CRASH and _DEATH not in self.result.reason
            return not stumbled and self.result.outcome in _CAUGHT
        return self.result.outcome not in FINDINGS

    def as_dict(self) -> dict[str, Any]:
        """The proof for programs."""
        return {
            "case": self.result.ident,
            "fault": self.fault,
            "mode": self.mode,
            "outcome": str(self.result.outcome),
            "reason": self.result.reason,
            "holds": self.holds,
        }


def bench(serve: Serve, timing: Timing = TIMING, respawn: Respawn = Respawn.CASE) -> Bench:
    """The reference server that ``serve`` runs, ready for cases."""
    made = Bench(builtin(serve, respawn=respawn), Facts(profile=load("builtin")), frozenset(HAZARDS), timing)
    try:
        made.survey()
    except BaseException:
        made.target.close()
        raise
    return made


def unhurried(serve: Serve) -> Bench:
    """``bench`` for a server that is right, which answers whatever it has to, on a busy machine after a while."""
    return bench(serve, Timing(patience=TIMING.patience))


def prove(serving: Serving, cases: list[Case]) -> Iterator[Proof]:
    """Run ``cases`` against the correct server in every mode, then each against the faults that it is there to find."""
    for mode in MODES:
        correct = bench(serving(mode.options), Timing(), mode.respawn)
        try:
            for case in cases:
                yield Proof("", mode.name, _judged(correct, case))
        finally:
            correct.target.close()
    for case in cases:
        for fault in case.catches:
            wrong = bench(serving(("--fault", fault)))
            try:
                yield Proof(fault, "", _judged(wrong, case))
            finally:
                wrong.target.close()


def _judged(bench: Bench, case: Case) -> Result:
    """The result without the conversation: there are thousands of them, and each target is a fork of this process."""
    return replace(bench.run(case), messages=())


@dataclass(frozen=True)
class First:
    """The first finding about a fault when the catalogue is run in its order up to ``case``, the first that names it."""

    fault: str
    case: Case
    result: Result

    @property
    def named(self) -> bool:
        """Whether that finding names the mistake: it is the case's own, or about the case's own requirement.

        What a target dies of breaks its survival, whatever it was about.
        """
        about = self.result.requirement if self.result.outcome in SPOILED else self.result.broken
        return self.result.ident == self.case.ident or self.case.requirement in (about, self.result.broken)


def firsts(serving: Serving, cases: list[Case]) -> Iterator[First]:
    """Which finding comes first, for each fault that ``cases`` name.

    A finding is made again on a process that nobody used, with all the time that a slow one takes. Cases to which the fault
    makes no difference are left out.
    """
    reach = Reach(unhurried, serving(()))
    try:
        for fault in dict.fromkeys(fault for case in cases for fault in case.catches):
            yield _first(fault, serving(("--fault", fault)), reach)
    finally:
        reach.close()


def _first(fault: str, serve: Serve, reach: Reach) -> First:
    case = next(each for each in catalogue().values() if fault in each.catches)
    shared, alone = bench(serve, respawn=Respawn.DEATH), bench(serve, Timing())
    changed = replaced(FAULTS[fault]) if alone.facts == reach.facts else None
    try:
        for each in itertools.takewhile(lambda other: other is not case, catalogue().values()):
            touched = changed is None or changed & reach.of(each)
            if touched and shared.run(each).outcome in _CAUGHT and (found := alone.run(each)).outcome in _CAUGHT:
                return First(fault, case, found)
        return First(fault, case, alone.run(case))
    finally:
        shared.target.close()
        alone.target.close()


def gaps() -> list[str]:
    """Cases without a fault, faults without a case or a rule of the model, and names of faults that do not exist."""
    every = catalogue()
    judges: dict[str, Case | Rule] = {**RULES, **every}
    named = {fault: ident for ident, judge in judges.items() for fault in judge.catches}
    return [
        *(f"case {ident} names no fault" for ident, case in every.items() if not case.catches),
        *(f"{ident} names the unknown fault {fault}" for fault, ident in named.items() if fault not in FAULTS),
        *(f"no case and no rule names the fault {fault}" for fault in FAULTS if fault not in named),
    ]
