"""The report for people at a terminal: quiet when all is well, five lines per finding."""

from vfio_user_conformance import coverage
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Outcome, Report, Result

_LONGEST = 400
_RED, _GREEN, _YELLOW = "31", "32", "33"


def render(report: Report, *, again: str = "vfio-user conformance server", color: bool = False) -> str:
    """The report; ``again`` is the command that runs a case once more, before its options."""
    lines = [report.about, ""]
    for result in report.findings:
        replayed = result.evidence and report.side == "server"
        once_more = again if result.script else f"{again} --select {result.ident}"
        repeat = f"vfio-user conformance replay {result.evidence}" if replayed else once_more
        lines += [*_finding(result, repeat, color), ""]
    deviations = [one for one in report.results if one.outcome is Outcome.DEVIATION and not one.known]
    if deviations and not report.strict:
        lines += [f"{_paint('deviation', _YELLOW, color)} {one.ident}: {_short(one.reason)}" for one in deviations] + [
            ""
        ]
    if report.stale:
        lines += [f"{_paint('known findings', _RED, color)} {line}" for line in report.stale] + [""]
    lines += [coverage.totals(coverage.of_run(report.results, report.side)), report.totals]
    lines.append(_paint(report.verdict, _RED if report.status else _GREEN, color))
    return "\n".join(lines) + "\n"


def _finding(result: Result, repeat: str, color: bool) -> list[str]:
    broken = REQUIREMENTS[result.broken or result.requirement]
    sent = result.steps or (_short(result.stimulus),)
    return [
        f"{_paint(result.outcome, _RED, color)} {result.ident}: {_short(result.reason)}",
        f"  {broken.level:9} {broken.ident}: {broken.text}",
        *(f"  {'' if number else 'sent':9} {step}" for number, step in enumerate(sent)),
        f"  expected  {_short(result.expected)}",
        f"  came      {_short(result.came) or 'nothing'}",
        f"  again     {repeat}",
    ]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _paint(text: str, code: str, color: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if color else text
