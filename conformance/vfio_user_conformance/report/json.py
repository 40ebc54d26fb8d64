"""The report for programs."""

import json
from typing import Any

from vfio_user_conformance import coverage
from vfio_user_conformance.about import SPEC, SUITE
from vfio_user_conformance.verdict import Explored, Report, Result


def render(report: Report) -> str:
    """The report as JSON text: docs/schemas/report.schema.json says what it holds; further members may come."""
    return json.dumps(content(report), indent=1) + "\n"


def content(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    standings = coverage.of_run(report.results, report.side)
    return {
        "suite": SUITE,
        "spec": SPEC,
        "target": report.target,
        "profile": report.profile,
        "strict": report.strict,
        "seed": report.seed,
        "duration_s": round(report.seconds, 3),
        "status": report.status,
        "verdict": report.verdict,
        "summary": {str(outcome): count for outcome, count in report.counts.items()},
        "cut_short": report.cut_short or None,
        "stale": list(report.stale),
        "explored": _explored(report.explored),
        "coverage": {
            "summary": {str(state): count for state, count in coverage.counts(standings).items()},
            "requirements": [standing.as_dict() for standing in standings],
        },
        "results": [_result(result) for result in report.results],
    }


def _explored(explored: Explored | None) -> dict[str, Any] | None:
    if explored is None:
        return None
    return {"moves": dict(explored.moves), "never_reached": list(explored.missed)}


def _result(result: Result) -> dict[str, Any]:
    return {
        "id": result.ident,
        "section": result.section,
        "requirement": result.requirement,
        "level": result.level,
        "outcome": str(result.outcome),
        "reason": result.reason,
        "duration_s": round(result.duration, 6),
        "evidence": result.evidence or None,
        "broken": result.broken or None,
        "known": result.known or None,
        "given": result.given,
        "stimulus": result.stimulus,
        "expected": result.expected,
        "came": result.came,
        "stderr": result.stderr,
    }
