# Reports: the contract for programs, valid XML, a stream of test points, a comment for a pull request, five lines for people.
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from reports import NASTY, REPORT, RESULTS

from vfio_user_conformance.report import json as plain
from vfio_user_conformance.report import junit, markdown, tap, text
from vfio_user_conformance.verdict import Explored, Outcome, Report, Result

LOST = Report("t", "", False, RESULTS[:1], 0.5, "the target was lost")


def test_json_keeps_the_contract() -> None:
    content = json.loads(plain.render(REPORT))

    assert {"suite", "spec", "target", "summary", "results"} <= content.keys()
    assert content["summary"] == {"pass": 1, "fail": 1, "deviation": 1, "not-applicable": 1, "crash": 1, "error": 1}
    wanted = {"id", "section", "requirement", "level", "outcome", "reason", "duration_s", "evidence"}
    assert all(wanted <= result.keys() for result in content["results"])
    assert content["results"][1]["reason"] == NASTY
    assert (content["status"], content["stale"]) == (1, ["x: no such case"])


def test_junit_counts_what_it_holds() -> None:
    suite = ElementTree.fromstring(junit.render(REPORT)).find("testsuite")

    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 7, "failures": 1, "errors": 2, "skipped": 2}
    for kind, wanted in (("failure", 1), ("error", 2), ("skipped", 2)):
        assert len(suite.findall(f"testcase/{kind}")) == wanted
    assert "header.echo" in (suite.findtext("testcase/failure") or "")


def test_text_has_five_lines_for_each_finding() -> None:
    lines = text.render(REPORT).splitlines()
    first = lines.index(next(line for line in lines if line.startswith("fail dma-map/two")))

    assert [line.split()[0] for line in lines[first + 1 : first + 6]] == ["must", "sent", "expected", "came", "again"]
    assert lines[first + 5].endswith("vfio-user conformance server --select dma-map/two")
    deviation = lines.index("deviation dma-map/four: odd")
    assert lines[deviation + 1].startswith("  should    dma-map.adjacent: A range that only touches ")
    assert not any("three" in line for line in lines)
    assert lines[-2:] == [
        "6 cases in 1.2 s: 1 pass, 1 fail, 1 deviation, 1 not-applicable, 1 crash, 1 error",
        "not conforming: 2 findings, 1 wrong in the list of known findings; 1 known",
    ]


@pytest.mark.parametrize("form", [text, plain, junit, tap])
def test_what_had_to_work_first_is_told(form: Any) -> None:
    """Who reads that a mapping overlaps wants to know with what."""
    result = Result("a/b", "dma-map.overlap", "", "must", Outcome.FAIL, "so", given="VFIO_USER_DMA_MAP of a page")

    assert "VFIO_USER_DMA_MAP of a page" in form.render(Report("t", "", False, (result,), 0.0))


def test_text_is_quiet_when_all_is_well() -> None:
    good = Report("t", "", False, RESULTS[:1], 0.5)

    lines = text.render(good).splitlines()
    assert (lines[1], lines[3:]) == ("", ["1 case in 0.5 s: 1 pass", "conforming"])
    assert re.match(r"\d+ requirements: 1 passed, \d+ not-exercised, ", lines[2])
    assert "\033[32mconforming" in text.render(good, color=True)


def test_text_names_the_evidence_and_cuts_what_is_long() -> None:
    result = Result("a/b", "dma-map.overlap", "", "must", Outcome.FAIL, "x" * 9999, evidence="dir/a.b.jsonl")
    told = text.render(Report("t", "", False, (result,), 0.0))

    assert "vfio-user conformance replay dir/a.b.jsonl" in told
    assert max(map(len, told.splitlines())) < 500


def found(ident: str, outcome: Outcome, reason: str, broken: str = "dma-map.overlap") -> Result:
    return Result(ident, broken, "", "must", outcome, reason, stimulus="a command")


def test_text_tells_the_worst_first_and_what_is_wrong_in_one_way_once() -> None:
    findings = (
        found("dma-map/a", Outcome.FAIL, "EINVAL"),
        found("dma-map/b", Outcome.FAIL, "carried out"),
        found("header/c", Outcome.CRASH, "died", "header.echo"),
        found("dma-map/d", Outcome.FAIL, "EINVAL"),
        found("header/e", Outcome.FAIL, "EINVAL", "header.echo"),
    )
    lines = text.render(Report("t", "", False, findings, 0.0)).splitlines()

    titles = [line for line in lines if line.startswith(("fail ", "crash "))]
    assert titles == [
        "crash header/c: died",
        "fail dma-map/a: EINVAL",
        "fail dma-map/b: carried out",
        "fail header/e: EINVAL",
    ]
    assert lines[lines.index("fail dma-map/a: EINVAL") + 6] == "  so too    dma-map/d"
    start = lines.index("what was not kept, the worst first:")
    assert lines[start + 1 : start + 4] == [
        "  must      header.echo: 1 crash, 1 fail",
        "  must      dma-map.overlap: 3 fail",
        "",
    ]
    assert lines[-1] == "not conforming: 5 findings"


def test_text_tells_deviations_of_one_kind_once() -> None:
    ones = [
        Result(f"a/{name}", "dma-map.adjacent", "", "should", Outcome.DEVIATION, why)
        for name, why in ("xo", "yp", "zo")
    ]
    lines = text.render(Report("t", "", False, tuple(ones), 0.0)).splitlines()

    assert lines[2:5] == ["deviation a/x: o", "  so too    a/z", "deviation a/y: p"]


def test_text_tells_first_the_case_that_tests_just_what_is_wrong() -> None:
    cut = Result("stream/cut", "stream.cut-message", "", "must", Outcome.FAIL, "held", broken="dma-unmap.released")
    own = Result("dma-unmap/released", "dma-unmap.released", "", "must", Outcome.FAIL, "held after the reply")
    lines = text.render(Report("t", "", False, (cut, own), 0.0)).splitlines()

    titles = [line for line in lines if line.startswith("fail ")]
    assert titles == ["fail dma-unmap/released: held after the reply", "fail stream/cut: held"]


def test_text_tells_a_hang_once_whatever_was_tested_and_names_some_of_the_cases() -> None:
    hangs = [found(f"a/{number}", Outcome.HANG, "asleep", "header.echo") for number in range(15)]
    hangs += [found("b/c", Outcome.HANG, "asleep"), found("b/d", Outcome.NOT_REACHED, "8 in a row", "header.echo")]
    hangs += [found("b/e", Outcome.NOT_REACHED, "8 in a row")]
    lines = text.render(Report("t", "", False, tuple(hangs), 0.0)).splitlines()

    assert [line for line in lines if line.startswith(("hang ", "not-reached "))] == [
        "hang a/0: asleep",
        "not-reached b/d: 8 in a row",
    ]
    names = ", ".join(f"a/{number}" for number in range(1, 13))
    assert [line for line in lines if line.startswith("  so too")] == [
        f"  so too    {names}, and 3 more",
        "  so too    b/e",
    ]
    start = lines.index("what was not kept, the worst first:")
    assert lines[start + 1 : start + 4] == [
        "  must      header.echo: 15 hang",
        "  must      dma-map.overlap: 1 hang",
        "",
    ]


def test_text_notes_what_the_document_is_silent_about() -> None:
    usual = Result("a/b", "header.undefined-flags", "", "info", Outcome.INFO, "")
    odd = Result("a/c", "header.undefined-flags", "", "info", Outcome.INFO, "it was carried out, not refused")
    lines = text.render(Report("t", "", False, (usual, odd), 0.0)).splitlines()

    assert lines[2:5] == ["info a/c: it was carried out, not refused", "  the document is silent about this", ""]
    assert lines[-1] == "conforming"


def test_text_counts_rules_and_those_that_chance_did_not_come_to() -> None:
    """They are not-applicable in the other reports, which tell the reason."""
    rules = (
        found("dma-map/a", Outcome.PASS, ""),
        found("dma-map/b", Outcome.NOT_APPLICABLE, "this run did not come to it"),
        found("dma-map/c", Outcome.NOT_APPLICABLE, "no region"),
        found("dma-map/d", Outcome.NOT_APPLICABLE, "this run did not come to it"),
    )
    explored = Explored({}, ("dma-map/b", "dma-map/d"))
    told = Report("t", "", False, rules, 0.0, explored=explored)
    all_missed = replace(told, results=(rules[1], rules[3]))

    assert told.totals == "4 rules in 0.0 s: 1 pass, 1 not-applicable, 2 not come to"
    assert all_missed.totals == "2 rules in 0.0 s: 2 not come to"


@pytest.mark.parametrize("level", ["info", "should"])
def test_text_says_that_a_crash_counts_whatever_the_level(level: str) -> None:
    crash = Result("a/b", "version.minor-equal", "", level, Outcome.CRASH, "died", broken="security.validate")
    told = Report("t", "", False, (crash, found("dma-map/a", Outcome.FAIL, "EINVAL")), 0.0)
    lines = text.render(told).splitlines()

    assert (told.status, told.findings[0]) == (1, crash)
    always = "  any level security.validate (its own level is should, but a crash always counts): No message of "
    assert [line.endswith(" (Security Considerations)") for line in lines if line.startswith(always)] == [True]
    assert "  any level security.validate: 1 crash" in lines
    assert not any(line.startswith("  should") for line in lines)


def test_text_says_how_to_have_more_cases_run() -> None:
    left_out = found("dma-map/a", Outcome.REFUSED_SAFETY, "needs --allow irq")

    told = text.render(Report("t", "", False, (*RESULTS[:1], left_out), 0.0)).splitlines()
    assert told[-2:] == ["1 case left out for safety: see --allow and --profile", "conforming"]


SCHEMAS = Path(__file__).resolve().parents[1] / "docs" / "schemas"


def test_json_is_valid_by_the_published_schema() -> None:
    schema = json.loads((SCHEMAS / "report.schema.json").read_text())
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)

    for report in (REPORT, LOST, Report("t", "", True, (), 0.0, seed=3)):
        jsonschema.Draft202012Validator(schema).validate(json.loads(plain.render(report)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), "x"),
        (("status",), 2),
        (("summary",), {"sad": 1}),
        (("cut_short",), ""),
        (("results", 0, "id"), "no-section"),
        (("results", 0, "outcome"), "sad"),
        (("results", 0, "evidence"), ""),
        (("coverage", "requirements", 0, "state"), "covered"),
    ],
    ids=str,
)
def test_the_schema_refuses_what_a_report_never_holds(path: tuple[str | int, ...], value: object) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content: Any = json.loads(plain.render(REPORT))
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads((SCHEMAS / "report.schema.json").read_text())).validate(content)


def test_junit_is_valid_by_its_schema() -> None:
    xmlschema = pytest.importorskip("xmlschema")
    schema = xmlschema.XMLSchema(str(SCHEMAS / "junit.xsd"))

    for report in (REPORT, LOST, Report("t", "", True, (), 0.0)):
        schema.validate(junit.render(report))
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        schema.validate(junit.render(REPORT).replace('failures="1"', 'failures="one"'))


def test_junit_and_tap_are_red_whenever_the_run_is() -> None:
    """A lost target, a stale entry and a run of nothing have no case that failed."""
    for report in (LOST, Report("t", "", False, RESULTS[:1], 0.0, "", ("x",)), Report("t", "", False, (), 0.0)):
        assert report.status
        assert "<error" in junit.render(report)
        assert "\nnot ok " in tap.render(report)


def points(report: Report) -> list[str]:
    return [line for line in tap.render(report).splitlines() if re.match("(not )?ok ", line)]


def test_tap_has_a_point_for_each_case_and_each_trouble() -> None:
    lines = tap.render(REPORT).splitlines()

    assert lines[:2] == ["TAP version 14", "1..7"]
    assert points(REPORT) == [
        "ok 1 - dma-map/one",
        "not ok 2 - dma-map/two",
        "not ok 3 - dma-map/three # TODO a bug",
        "ok 4 - dma-map/four",
        "ok 5 - dma-map/five # SKIP not-applicable: no region",
        "not ok 6 - dma-map/six",
        "not ok 7 - known findings: x: no such case",
    ]
    assert lines[-1] == "# not conforming: 2 findings, 1 wrong in the list of known findings; 1 known"


def test_tap_writes_details_that_no_text_can_break_out_of() -> None:
    lines = tap.render(REPORT).splitlines()
    start = lines.index("not ok 2 - dma-map/two")
    block = lines[start + 1 : lines.index("  ...", start) + 1]

    assert (block[0], block[1], block[-1]) == ("  ---", '  class: "fail"', "  ...")
    assert json.loads(block[3].removeprefix("  reason: ")) == NASTY
    hashed = Report("t", "", False, RESULTS[:1], 0.0, "", ("a # SKIP \\ b\nc",))
    assert points(hashed)[-1] == "not ok 2 - known findings: a \\# SKIP \\\\ b c"


def test_markdown_has_the_findings_on_top_and_folds_the_rest() -> None:
    told = markdown.render(REPORT)

    assert told.startswith("### ❌ vfio-user conformance: not conforming: 2 findings")
    assert "\n| fail | dma-map/two | header.echo |" in told
    assert "2 known, or of no weight here" in told
    assert told.index("dma-map/two") < told.index("<details>") < told.index("dma-map/three")
    assert markdown.render(Report("t", "", False, RESULTS[:1], 0.0)).startswith("### ✅ ")


def test_markdown_takes_no_text_for_markup() -> None:
    told = markdown.render(REPORT)

    assert "<script" not in told
    assert markdown.text("a|b\n<c> @d `e` [f](g)") == r"a\|b &lt;c&gt; \@d \`e\` \[f\](g)"
    assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize("form", [text, plain, junit, tap, markdown], ids=lambda form: form.__name__)
def test_each_form_says_what_was_run_against_what(form: Any) -> None:
    told = form.render(Report("my-target", "mine", False, RESULTS[:1], 0.5, seed=424242))

    for word in ("vfio-user-conformance 0", "0.9.2", "my-target", "mine", "424242", "pass"):
        assert word in told.replace("\\", "")
