"""The report for browsers: a list with a filter, findings on top, and for each case a page with its messages, each byte marked
by its field."""

from vfio_user_conformance import coverage
from vfio_user_conformance.report.hexview import message
from vfio_user_conformance.report.page import button, clean, page, table
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import FINDINGS, Report, Result
from vfio_user_conformance.words import plural

# Of a longer conversation only so many messages at either end are shown: where something is wrong, and where nothing is.
_SHOWN_WRONG, _SHOWN_RIGHT = 20, 6


def render(report: Report) -> str:
    """The page; its address followed by # and the name of a case is the page of that case."""
    every = "all cases"
    others = (result for result in report.results if not result.finding(report.strict))
    rows = [*report.findings, *sorted(others, key=lambda result: result.outcome not in FINDINGS)]
    buttons = [button("", len(report.results), every)]
    buttons += [button(outcome, count, outcome.meaning) for outcome, count in report.counts.items()]
    troubles = "".join(f'<p class="bad">{clean(line)}</p>\n' for line in report.troubles)
    head = (
        f'<p class="verdict {"bad" if report.status else "ok"}">{clean(report.verdict)}</p>\n{troubles}'
        f'<p class="about">{clean(report.about)}</p>\n<p class="about">{clean(report.totals)}</p>\n{_requirements(report)}'
    )
    return page(
        f"vfio-user conformance of {report.target}",
        head,
        "\n".join(buttons),
        table("cases", ("class", "case", "requirement", "what was wrong, or seen"), map(_row, rows)),
        "\n".join(map(_article, report.results)),
    )


def _row(result: Result) -> str:
    broken = result.broken or result.requirement
    return (
        f'<tr data-case="{clean(result.ident)}" data-outcome="{result.outcome}"><td>{_class(result)}</td>'
        f'<td class="name"><a href="#{clean(result.ident)}">{clean(result.ident)}</a></td>'
        f'<td class="name">{clean(broken)}</td><td><div class="brief">{clean(result.reason or result.came)}</div></td></tr>'
    )


def _class(result: Result) -> str:
    known = " (known)" if result.known else ""
    return (
        f'<span class="class {result.outcome}" title="{clean(result.outcome.meaning)}">{result.outcome}{known}</span>'
    )


def _requirements(report: Report) -> str:
    """The requirements, folded away under their totals."""
    standings = coverage.of_run(report.results, report.side)
    rows = (
        f'<tr><td><span class="class {one.state}" title="{clean(one.state.meaning)}">{one.state}</span></td>'
        f'<td class="name">{one.requirement.ident}</td><td>{one.requirement.level}</td>'
        f"<td>{clean(one.requirement.text)}{_decided(one)}</td></tr>"
        for one in standings
    )
    head = ("state", "requirement", "level", "text, and what decides it")
    return (
        f"<details><summary>{clean(coverage.totals(standings))}</summary>\n"
        f"{table('requirements', head, rows)}</details>"
    )


def _decided(standing: coverage.Standing) -> str:
    """The cases of a requirement, or why there is none."""
    if not standing.cases:
        return f'<br><span class="quiet">{clean(standing.reason)}</span>' if standing.reason else ""
    known = ", ".join(f'<a href="#{ident}">{ident}</a>' for ident in map(clean, standing.cases))
    return f"<br>{known}"


def _article(result: Result) -> str:
    """The page of one case."""
    requirement = REQUIREMENTS[result.broken or result.requirement]
    rows = [
        ("requirement", f"{requirement.ident} ({requirement.level}): {coverage.quoted(requirement)}"),
        ("given", result.given),
        ("sent", result.stimulus),
        ("expected", result.expected),
        ("came", result.came),
        ("reason", result.reason),
        ("known", result.known),
        ("evidence", result.evidence),
    ]
    told = "".join(f"<dt>{name}</dt><dd>{clean(text)}</dd>" for name, text in rows if text)
    stderr = f"<h3>Standard error of the target</h3><pre>{clean(result.stderr)}</pre>" if result.stderr else ""
    ident = clean(result.ident)
    return (
        f'<article id="{ident}"><nav aria-label="cases"><a href="#">all cases</a><a rel="prev" href="#" hidden>previous</a>'
        f'<a rel="next" href="#" hidden>next</a></nav>\n<h2>{_class(result)} {ident}</h2>\n<dl>{told}</dl>\n'
        f"{_conversation(result)}{stderr}</article>"
    )


def _conversation(result: Result) -> str:
    """The messages of a case; a flood of them is cut in the middle."""
    messages = result.messages
    shown = _SHOWN_WRONG if result.outcome in FINDINGS else _SHOWN_RIGHT
    if len(messages) <= 2 * shown:
        return "".join(map(message, messages))
    left_out = f'<p class="quiet">… {plural(len(messages) - 2 * shown, "message")} more</p>'
    return "".join([*map(message, messages[:shown]), left_out, *map(message, messages[-shown:])])
