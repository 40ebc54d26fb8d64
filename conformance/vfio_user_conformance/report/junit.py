"""The report for CI servers, in the form of JUnit's XML."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as xml

from vfio_user_conformance import coverage
from vfio_user_conformance.about import SPEC, SUITE
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import EXECUTED, Outcome, Report, Result

# What XML cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report) -> str:
    """The report as XML, valid by docs/schemas/junit.xsd: one suite, one test case per case, and one more per trouble.

    What is known or was not run is skipped.
    """
    cases = [_case(result, report.strict) for result in report.results]
    cases += [_trouble(number, text) for number, text in enumerate(report.troubles, 1)]
    suite = xml.Element(
        "testsuite",
        name=SUITE,
        tests=str(len(cases)),
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped=str(sum(case.find("skipped") is not None for case in cases)),
        time=f"{report.seconds:.3f}",
    )
    properties = xml.SubElement(suite, "properties")
    for name, value in (
        ("target", report.target),
        ("profile", report.profile),
        ("suite", SUITE),
        ("spec", SPEC),
        ("seed", "none" if report.seed is None else str(report.seed)),
        ("requirements", coverage.totals(coverage.of_run(report.results, report.side))),
        *((str(outcome), str(count)) for outcome, count in report.counts.items()),
        ("verdict", report.verdict),
    ):
        xml.SubElement(properties, "property", name=name, value=_clean(value))
    suite.extend(cases)
    suites = xml.Element("testsuites")
    suites.append(suite)
    xml.indent(suites)
    return xml.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _case(result: Result, strict: bool) -> xml.Element:
    section, _, name = result.ident.partition("/")
    case = xml.Element("testcase", classname=section, name=name, time=f"{result.duration:.3f}")
    message = _clean(f"{result.outcome}: {result.reason}" if result.reason else str(result.outcome))
    if result.finding(strict):
        kind = "error" if result.outcome is Outcome.ERROR else "failure"
        found = xml.SubElement(case, kind, message=message, type=str(result.outcome))
        found.text = _clean("\n".join(_lines(result)))
    elif result.known:
        xml.SubElement(case, "skipped", message=_clean(f"known: {message}; {result.known}"))
    elif result.outcome not in EXECUTED:
        xml.SubElement(case, "skipped", message=message)
    if result.stderr:
        xml.SubElement(case, "system-err").text = _clean(result.stderr)
    return case


def _lines(result: Result) -> Iterator[str]:
    """What there is to be told of a finding."""
    requirement = REQUIREMENTS[result.broken or result.requirement]
    yield f"requirement: {requirement.ident}: {coverage.quoted(requirement)}"
    if result.given:
        yield f"given: {result.given}"
    yield from (f"sent: {result.stimulus}", f"expected: {result.expected}", f"came: {result.came}")


def _trouble(number: int, text: str) -> xml.Element:
    case = xml.Element("testcase", classname="run", name=f"trouble-{number}", time="0.000")
    xml.SubElement(case, "error", message=_clean(text), type="run")
    return case


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
