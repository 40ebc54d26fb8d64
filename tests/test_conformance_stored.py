# Reports that were kept: read again, compared, laid side by side.
import json
from pathlib import Path

import pytest

from vfio_user_conformance.report import json as plain
from vfio_user_conformance.report import matrix
from vfio_user_conformance.stored import Stored, compare, load
from vfio_user_conformance.verdict import Outcome, Report, Result
from vfio_user_proto.errors import UsageError


def stored(folder: Path, *, strict: bool = False, known: str = "", cut_short: str = "", **cases: Outcome) -> Stored:
    """A report with these cases, written and read again; the case named ``known`` is a known finding."""
    results = tuple(
        Result(
            name if "/" in name else f"a/{name}",
            "dma-map.overlap",
            "",
            "must",
            outcome,
            "so",
            known="a bug" if name == known else "",
        )
        for name, outcome in cases.items()
    )
    path = folder / "report.json"
    path.write_text(plain.render(Report("my|target", "mine", strict, results, 1.0, cut_short)))
    return load(path)


def changes(old: Stored, new: Stored) -> str:
    return compare(old, new).text.partition("\n\n")[2]


def test_a_finding_that_was_none_is_newly_failing(tmp_path: Path) -> None:
    old, new = stored(tmp_path, one=Outcome.PASS), stored(tmp_path, one=Outcome.FAIL, two=Outcome.CRASH)

    assert compare(old, new).worse == ("a/one: pass, now fail: so", "a/two: not run before, now crash: so")
    assert compare(new, new).worse == ()
    assert changes(new, new) == "2 cases as before, 0 newly failing, 0 fixed, 0 changed class\n"


def test_each_kind_of_change_is_told_apart(tmp_path: Path) -> None:
    old = stored(tmp_path, one=Outcome.FAIL, two=Outcome.FAIL, three=Outcome.PASS, gone=Outcome.PASS, same=Outcome.PASS)
    new = stored(tmp_path, one=Outcome.PASS, two=Outcome.CRASH, three=Outcome.INFO, new=Outcome.PASS, same=Outcome.PASS)

    assert changes(old, new).splitlines() == [
        "fixed: a/one: fail, now pass",
        "changed class: a/two: fail, now crash",
        "changed class: a/three: pass, now info",
        "1 case only in new: a/new",
        "1 case only in old: a/gone",
        "1 case as before, 0 newly failing, 1 fixed, 2 changed class",
    ]


def test_cases_of_one_report_alone_are_summed_up_by_section(tmp_path: Path) -> None:
    """Two runs with different selections have hundreds of them."""
    whole = {f"a/{number}": Outcome.PASS for number in range(4)} | {"b/1": Outcome.PASS, "b/2": Outcome.FAIL}
    old, new = stored(tmp_path, **whole, **{"c/1": Outcome.PASS}), stored(tmp_path, **{"a/0": Outcome.PASS})

    assert changes(old, new).splitlines() == [
        "6 cases only in old, 1 of them failing: a/* (3 of 4), b/*, c/1",
        "1 case as before, 0 newly failing, 0 fixed, 0 changed class",
    ]
    assert changes(new, old).splitlines() == [
        "newly failing: b/2: not run before, now fail: so",
        "5 cases only in new: a/* (3 of 4), b/1, c/1",
        "1 case as before, 1 newly failing, 0 fixed, 0 changed class",
    ]


def test_known_findings_do_not_count_until_they_are_known_no_longer(tmp_path: Path) -> None:
    known, unknown = stored(tmp_path, known="one", one=Outcome.FAIL), stored(tmp_path, one=Outcome.FAIL)

    assert compare(known, unknown).worse == ("a/one: fail (known), now fail: so",)
    assert compare(unknown, known).fixed == ("a/one: fail, now fail (known)",)


def test_a_deviation_counts_where_the_new_run_was_strict(tmp_path: Path) -> None:
    old = stored(tmp_path, one=Outcome.PASS)

    assert not compare(old, stored(tmp_path, one=Outcome.DEVIATION)).worse
    assert compare(old, stored(tmp_path, strict=True, one=Outcome.DEVIATION)).worse


def test_a_run_that_did_not_end_is_named(tmp_path: Path) -> None:
    old, new = stored(tmp_path, one=Outcome.PASS), stored(tmp_path, cut_short="lost")

    assert "the new run did not come to its end: lost" in changes(old, new)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "this is no JSON"),
        ("[" * 100_000, "this is no JSON"),
        ("[]", "this is no report"),
        ("{}", "this is no report"),
        ('{"suite": 1, "spec": "", "target": "", "summary": {}, "results": []}', "this is no report"),
        ('{"suite": "", "spec": "", "target": "", "summary": {"sad": 1}, "results": []}', "this is no report"),
        ('{"suite": "", "spec": "", "target": "", "summary": {}, "results": [1]}', "this is no report"),
        ('{"suite": "", "spec": "", "target": "", "summary": {}, "results": [{"id": "x"}]}', "this is no report"),
    ],
)
def test_what_is_no_report_is_one_sentence(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)

    with pytest.raises(UsageError, match=f"report.json: {problem}"):
        load(path)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="/nowhere: No such file"):
        load(Path("/nowhere"))


def test_the_contract_alone_is_enough_and_more_is_ignored(tmp_path: Path) -> None:
    """Members that came later are not asked for."""
    path = tmp_path / "report.json"
    result = {"id": "a/b", "outcome": "fail", "reason": "so", "more": 1}
    path.write_text(
        json.dumps({"suite": "s 1", "spec": "1", "target": "t", "summary": {"fail": 1}, "results": [result], "more": 1})
    )

    assert load(path).results["a/b"].finding
    assert load(path).about == "s 1, protocol 1, target t, profile none, no seed"


@pytest.fixture
def laid(tmp_path: Path) -> matrix.Matrix:
    one = stored(tmp_path, same=Outcome.PASS, odd=Outcome.PASS, bug=Outcome.FAIL, known="bug")
    two = stored(tmp_path, same=Outcome.PASS, odd=Outcome.INFO, more=Outcome.PASS, bug=Outcome.FAIL)
    return matrix.Matrix.of([one, two])


def test_the_matrix_has_a_row_per_case_and_a_column_per_target(laid: matrix.Matrix) -> None:
    assert laid.rows == {
        "a/same": ("pass", "pass"),
        "a/odd": ("pass", "info"),
        "a/bug": ("fail (known)", "fail"),
        "a/more": ("-", "pass"),
    }


def test_the_text_leaves_out_what_is_well_and_alike(laid: matrix.Matrix) -> None:
    lines = matrix.as_text(laid).splitlines()

    assert lines[0].startswith("[1] vfio-user-conformance ")
    assert lines[0].endswith("target my|target, profile mine, no seed: conforming; 1 known")
    assert lines[3:] == [
        "       [1]           [2]",
        "a/odd  pass          info",
        "a/bug  fail (known)  fail",
        "",
        "pass  2  2",
        "fail  1  1",
        "info  0  1",
        "",
        "2 cases without a finding and alike in all",
    ]


def test_the_matrix_as_markdown(laid: matrix.Matrix) -> None:
    told = matrix.as_markdown(laid)

    assert r"| case | \[1\] | \[2\] |" in told
    assert "| a/bug | fail (known) | fail |" in told
    assert r"my\|target" in told


def test_the_matrix_as_a_page_has_every_row_and_both_classes_to_filter_by(laid: matrix.Matrix) -> None:
    page = matrix.as_html(laid)

    assert page.count("<tr data-case=") == 4
    assert '<tr data-case="a/odd" data-outcome="pass info">' in page
    assert "http" not in page.replace("http-equiv", "")
