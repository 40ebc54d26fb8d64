"""The report for people at a terminal: quiet when all is well; the worst first, five lines for all that is wrong in one way.

At the end, where a terminal stands, there is what was broken, in short.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from vfio_user_conformance import coverage
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import SPOILED, Outcome, Report, Result
from vfio_user_conformance.words import plural

_LONGEST = 400
# So many names of cases that are wrong in the same way.
_NAMES = 12
# What has little to do with the requirement that a case is about.
_APART = SPOILED | {Outcome.NOT_REACHED}
_RED, _GREEN, _YELLOW = "31", "32", "33"


def render(
    report: Report,
    *,
    again: str = "vfio-user conformance server",
    replay: str = "vfio-user conformance replay",
    color: bool = False,
) -> str:
    """The report; ``again`` is the command that runs a case once more on the same target, ``replay`` the one for evidence."""
    lines = [report.about, ""]
    alike = defaultdict[tuple[str, str, str], list[Result]](list)
    for result in sorted(report.findings, key=_rank(report.findings)):
        about = "" if result.outcome in _APART else _broken(result)
        alike[result.outcome, about, result.reason].append(result)
    for results in alike.values():
        first = results[0]
        replayed = first.evidence and report.side == "server"
        once_more = again if first.script else f"{again} --select {first.ident}"
        repeat = f"{replay} {shlex.quote(first.evidence)}" if replayed else once_more
        lines += [*_finding(results, "sent" if report.side == "server" else "judged", repeat, color), ""]
    lines += [] if report.strict else _deviations(report.results, color)
    lines += _noted(report.results, color)
    if report.stale:
        lines += [f"{_paint('known findings', _RED, color)} {line}" for line in report.stale] + [""]
    if len(alike) > 1 and any(result.outcome is not Outcome.NOT_REACHED for result in report.findings):
        lines += ["what was not kept, the worst first:", *_summary(report.findings), ""]
    lines += [str(report.explored)] if report.explored else []
    lines += [coverage.totals(coverage.of_run(report.results, report.side)), report.totals, *_left_out(report)]
    lines.append(_paint(report.verdict, _RED if report.status else _GREEN, color))
    return "\n".join(lines) + "\n"


def _finding(results: Sequence[Result], begin: str, repeat: str, color: bool) -> list[str]:
    """The first of several results that are wrong in the same way, and the names of the others.

    ``begin`` says what its stimulus is.
    """
    result = results[0]
    broken = REQUIREMENTS[_broken(result)]
    label = _label(result)
    level = "" if label == broken.level else f" (its own level is {broken.level}, but a {result.outcome} always counts)"
    sent = result.steps or ((_short(result.stimulus),) if result.stimulus else ())
    return [
        f"{_paint(result.outcome, _RED, color)} {result.ident}: {_short(result.reason)}",
        f"  {label:9} {broken.ident}{level}: {coverage.quoted(broken)}",
        *([f"  given     {_short(result.given)}"] if result.given else []),
        *(f"  {'' if number else begin:9} {step}" for number, step in enumerate(sent)),
        f"  expected  {_short(result.expected)}",
        f"  came      {_short(result.came) or 'nothing'}",
        f"  again     {repeat}",
        *([f"  so too    {_names(results[1:])}"] if results[1:] else []),
    ]


def _names(results: Sequence[Result]) -> str:
    left = len(results) - _NAMES
    return ", ".join([*(each.ident for each in results[:_NAMES]), *([f"and {left} more"] if left > 0 else [])])


def _deviations(results: Sequence[Result], color: bool) -> Iterator[str]:
    """What does not count: a line for each way, and behind those about the same requirement its sentence."""
    alike = defaultdict[str, list[Result]](list)
    for result in results:
        if result.outcome is Outcome.DEVIATION and not result.known:
            alike[_broken(result)].append(result)
    for ident, ones in alike.items():
        same = defaultdict[str, list[Result]](list)
        for one in ones:
            same[one.reason].append(one)
        for reason, (first, *others) in same.items():
            yield f"{_paint('deviation', _YELLOW, color)} {first.ident}: {_short(reason)}"
            yield from [f"  so too    {_names(others)}"] if others else []
        yield from (f"  {REQUIREMENTS[ident].level:9} {ident}: {coverage.quoted(REQUIREMENTS[ident])}", "")


def _noted(results: Sequence[Result], color: bool) -> Iterator[str]:
    """What is not as in other servers where the text is silent: a line each."""
    odd = [each for each in results if each.outcome is Outcome.INFO and each.reason and not each.known]
    yield from (f"{_paint('info', _YELLOW, color)} {one.ident}: {_short(one.reason)}" for one in odd)
    yield from ("  the document is silent about this", "") if odd else ()


def _summary(findings: Sequence[Result]) -> Iterator[str]:
    """A line for each requirement: how often it was broken, and in which way."""
    ways = defaultdict[tuple[str, str], Counter[str]](Counter)
    for result in findings:
        if result.outcome is not Outcome.NOT_REACHED:  # which says nothing of what it was to test
            ways[_label(result), _broken(result)][result.outcome] += 1
    for (label, ident), counts in ways.items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        yield f"  {label:9} {ident}: {told}"


def _label(result: Result) -> str:
    """The level of what was broken, or that it does not matter."""
    level = REQUIREMENTS[_broken(result)].level
    return "any level" if level != "must" and result.outcome in SPOILED else level


def _left_out(report: Report) -> list[str]:
    """How to have the cases run that were not allowed."""
    count = report.counts.get(Outcome.REFUSED_SAFETY)
    return [f"{plural(count, 'case')} left out for safety: see --allow and --profile"] if count else []


def _rank(findings: Sequence[Result]) -> Callable[[Result], tuple[int, bool]]:
    """The order of findings: where one requirement was broken in several cases, first the one that tests just that.

    What a target dies of has nothing to do with what was tested, so of that the first is told first.
    """
    places: dict[tuple[Outcome, str], int] = {}
    for number, each in enumerate(findings):
        places.setdefault((each.outcome, _broken(each)), number)
    return lambda result: (
        places[result.outcome, _broken(result)],
        result.outcome not in _APART and _broken(result) != result.requirement,
    )


def _broken(result: Result) -> str:
    return result.broken or result.requirement


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _paint(text: str, code: str, color: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if color else text
