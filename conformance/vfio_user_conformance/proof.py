"""The suite's own proof: the reference server passes every case, and each fault is caught by the case that names it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.profile import HAZARDS, load
from vfio_user_conformance.target import Serve, builtin
from vfio_user_conformance.verdict import FINDINGS, Outcome, Result
from vfio_user_proto.faults import FAULTS

# A server that hangs on purpose is not waited for as long as one that may be slow.
TIMING = Timing.scaled(0.1)


@dataclass(frozen=True)
class Proof:
    """What one case made of one fault; of the correct server where ``fault`` is ""."""

    fault: str
    result: Result

    @property
    def holds(self) -> bool:
        if self.fault:
            return self.result.outcome in FINDINGS - {Outcome.NOT_REACHED, Outcome.ERROR}
        return self.result.outcome not in FINDINGS

    def as_dict(self) -> dict[str, Any]:
        """The proof for programs."""
        return {
            "case": self.result.ident,
            "fault": self.fault,
            "outcome": str(self.result.outcome),
            "reason": self.result.reason,
            "holds": self.holds,
        }


def bench(serve: Serve, timing: Timing = TIMING) -> Bench:
    """The reference server that ``serve`` runs, ready for cases."""
    made = Bench(builtin(serve), Facts(profile=load("builtin")), frozenset(HAZARDS), timing)
    made.survey()
    return made


def prove(serving: Callable[[str], Serve], cases: list[Case]) -> Iterator[Proof]:
    """Run ``cases`` against the correct server, then each against the faults that it is there to find.

    ``serving`` makes the server with the fault of that name, "" for none.
    """
    correct = bench(serving(""), Timing())
    try:
        for case in cases:
            yield Proof("", correct.run(case))
    finally:
        correct.target.close()
    for case in cases:
        for fault in case.catches:
            wrong = bench(serving(fault))
            try:
                yield Proof(fault, wrong.run(case))
            finally:
                wrong.target.close()


def gaps() -> list[str]:
    """Cases without a fault, faults without a case, and names of faults that do not exist."""
    every = catalogue()
    named = {fault: ident for ident, case in every.items() for fault in case.catches}
    return [
        *(f"case {ident} names no fault" for ident, case in every.items() if not case.catches),
        *(f"case {ident} names the unknown fault {fault}" for fault, ident in named.items() if fault not in FAULTS),
        *(f"no case names the fault {fault}" for fault in FAULTS if fault not in named),
    ]
