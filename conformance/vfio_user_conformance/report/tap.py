"""The report as a stream of the Test Anything Protocol, version 14."""

import json

from vfio_user_conformance.coverage import of_run, totals
from vfio_user_conformance.verdict import EXECUTED, Report, Result
from vfio_user_conformance.words import one_line


def render(report: Report) -> str:
    """One point per case, and one more per trouble; what is known is a TODO, what was not run is skipped."""
    lines = ["TAP version 14", f"1..{len(report.results) + len(report.troubles)}"]
    lines += [
        f"# {one_line(text)}" for text in (report.about, report.totals, totals(of_run(report.results, report.side)))
    ]
    for number, result in enumerate(report.results, 1):
        lines += _point(number, result, report.strict)
    for number, trouble in enumerate(report.troubles, len(report.results) + 1):
        lines.append(f"not ok {number} - {_escaped(trouble)}")
    return "\n".join([*lines, f"# {one_line(report.verdict)}"]) + "\n"


def _point(number: int, result: Result, strict: bool) -> list[str]:
    name = f"{number} - {_escaped(result.ident)}"
    if result.known:
        return [f"not ok {name} # TODO {one_line(result.known)}", *_details(result)]
    if result.finding(strict):
        return [f"not ok {name}", *_details(result)]
    if result.outcome not in EXECUTED:
        return [f"ok {name} # SKIP {one_line(f'{result.outcome}: {result.reason}')}"]
    return [f"ok {name}", *(_details(result) if result.reason else [])]


def _details(result: Result) -> list[str]:
    """The diagnostic block: YAML, in which each string is written as JSON writes it."""
    fields = {
        "class": result.outcome,
        "requirement": result.broken or result.requirement,
        "reason": result.reason,
        "given": result.given,
        "sent": result.stimulus,
        "expected": result.expected,
        "came": result.came,
        "evidence": result.evidence,
    }
    return ["  ---", *(f"  {name}: {json.dumps(text)}" for name, text in fields.items() if text), "  ..."]


def _escaped(text: str) -> str:
    """A description: a hash in it would begin a directive."""
    return one_line(text).replace("\\", "\\\\").replace("#", "\\#")
