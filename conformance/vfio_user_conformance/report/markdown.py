"""The report for a pull request, in the Markdown of the usual forges; and how a table is written in it."""

import re
from collections.abc import Iterable, Sequence
from html import escape

from vfio_user_conformance import coverage
from vfio_user_conformance.verdict import FINDINGS, Report, Result
from vfio_user_conformance.words import one_line

# What a forge would take for markup, or for the mention of somebody.
_MARKUP = re.compile(r"([\\`*_{}\[\]#|~@])")


def render(report: Report) -> str:
    """The verdict, the findings as a table, what is known folded away, the counts and the requirements."""
    sign = "✅" if report.status == 0 else "❌"
    parts = [f"### {sign} vfio-user conformance: {text(report.verdict)}", text(report.about)]
    if report.troubles:
        parts.append("\n".join(f"- {text(line)}" for line in report.troubles))
    if report.findings:
        parts.append(_findings(report.findings))
    deviations = [each for each in report.results if each.outcome in FINDINGS and each not in report.findings]
    if deviations:
        parts.append(_folded(f"{len(deviations)} known, or of no weight here", _findings(deviations)))
    counts = [(str(outcome), str(count), outcome.meaning) for outcome, count in report.counts.items()]
    parts.append(_folded(text(report.totals), table(("class", "cases", "meaning"), counts)))
    standings = coverage.of_run(report.results, report.side)
    states = [(str(state), str(count), state.meaning) for state, count in coverage.counts(standings).items()]
    parts.append(_folded(text(coverage.totals(standings)), table(("state", "requirements", "meaning"), states)))
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what stands in its cells is shown as it is."""
    lines = [head, ["---"] * len(head), *([text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(plain: str) -> str:
    """Text on one line in which nothing is markup."""
    return escape(_MARKUP.sub(r"\\\1", one_line(plain)), quote=False)


def _findings(results: Iterable[Result]) -> str:
    rows = (
        (result.outcome, result.ident, result.broken or result.requirement, result.reason, result.known)
        for result in results
    )
    return table(("class", "case", "requirement", "what is wrong", "known as"), rows)


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"
