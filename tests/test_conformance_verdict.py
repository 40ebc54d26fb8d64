# What a run amounts to: exit status, verdict, and the list of known findings.
from datetime import date

import pytest

from vfio_user_conformance.verdict import Known, Outcome, Report, Result, compare, updated

EVERY = ("a/one", "a/two", "b/one")
TODAY = date(2026, 11, 20)


def result(outcome: Outcome, ident: str = "a/one", known: str = "") -> Result:
    return Result(ident, "dma-map.overlap", "", "must", outcome, "because", known=known)


def report(*outcomes: Outcome, strict: bool = False, cut_short: str = "", stale: tuple[str, ...] = ()) -> Report:
    return Report("target", "", strict, tuple(map(result, outcomes)), 1.0, cut_short, stale)


@pytest.mark.parametrize(
    ("told", "status", "verdict"),
    [
        (report(Outcome.PASS, Outcome.INFO, Outcome.ERRATUM), 0, "conforming"),
        (report(Outcome.PASS, Outcome.DEVIATION), 0, "conforming"),
        (report(Outcome.PASS, Outcome.DEVIATION, strict=True), 1, "not conforming: 1 finding"),
        (report(Outcome.PASS, Outcome.FAIL), 1, "not conforming: 1 finding"),
        (report(Outcome.CRASH, Outcome.HANG, Outcome.DESYNC), 1, "not conforming: 3 findings"),
        (report(Outcome.PASS, Outcome.NOT_REACHED), 1, "not conforming: 1 finding"),
        (report(Outcome.PASS, Outcome.ERROR), 1, "not conforming: 1 finding"),
        (report(Outcome.PASS, stale=("x",)), 1, "not conforming: 1 wrong in the list of known findings"),
        (
            report(Outcome.PASS, Outcome.NOT_REACHED, cut_short="the target was lost"),
            3,
            "no verdict: the target was lost",
        ),
        (report(Outcome.FAIL, Outcome.NOT_REACHED, cut_short="the target was lost"), 1, "not conforming: 2 findings"),
        (report(), 4, "no verdict: nothing was run"),
        (report(Outcome.NOT_APPLICABLE, Outcome.REFUSED_SAFETY), 4, "no verdict: nothing was run"),
    ],
)
def test_nothing_but_cases_that_ran_and_passed_is_a_success(told: Report, status: int, verdict: str) -> None:
    assert (told.status, told.verdict) == (status, verdict)


def test_classes_are_counted_in_a_fixed_order() -> None:
    told = report(Outcome.HANG, Outcome.PASS, Outcome.FAIL, Outcome.PASS)

    assert list(told.counts.items()) == [(Outcome.PASS, 2), (Outcome.FAIL, 1), (Outcome.HANG, 1)]


def test_every_class_has_a_meaning() -> None:
    assert all(outcome.meaning for outcome in Outcome)


def test_a_known_finding_does_not_count() -> None:
    known = [Known("a/*", Outcome.FAIL, "a bug")]
    results, stale = compare([result(Outcome.FAIL, "a/one"), result(Outcome.FAIL, "b/one")], known, EVERY, TODAY)

    assert ([each.known for each in results], stale) == (["a bug", ""], [])
    assert [each.finding(False) for each in results] == [False, True]
    assert Report("t", "", False, (results[0],), 0.0).verdict == "conforming; 1 known"


def test_a_known_finding_of_another_class_counts() -> None:
    results, stale = compare([result(Outcome.CRASH)], [Known("a/one", Outcome.FAIL, "a bug")], EVERY, TODAY)

    assert results[0].finding(False)
    assert stale == ["a/one: known as fail, but ended as crash"]


def test_what_depends_on_chance_may_end_in_several_classes() -> None:
    known = [Known("a/one", Outcome.HANG, "a race", sometimes=frozenset({Outcome.PASS, Outcome.FAIL}))]

    for outcome, expected in ((Outcome.HANG, "a race"), (Outcome.FAIL, "a race"), (Outcome.PASS, "")):
        [one], stale = compare([result(outcome)], known, EVERY, TODAY)
        assert (one.known, [each for each in stale if "a/one" in each]) == (expected, [])
    [one], stale = compare([result(Outcome.CRASH)], known, EVERY, TODAY)
    assert (one.known, stale) == ("", ["a/one: known as hang, but ended as crash"])


def test_an_unexpected_pass_and_an_entry_without_a_case_are_told() -> None:
    known = [Known("a/one", Outcome.FAIL, "fixed"), Known("c/*", Outcome.FAIL, "renamed")]

    assert compare([result(Outcome.PASS)], known, EVERY, TODAY)[1] == [
        "a/one: known as fail, but ended as pass",
        "c/*: no such case",
    ]


def test_an_entry_for_a_case_that_was_not_run_is_left_alone() -> None:
    known = [Known("b/one", Outcome.FAIL, "a bug"), Known("a/one", Outcome.FAIL, "a bug")]

    assert compare([result(Outcome.NOT_APPLICABLE)], known, EVERY, TODAY)[1] == []


def test_the_list_follows_what_was_found() -> None:
    kept = Known("a/two", Outcome.FAIL, "a bug", "link")
    known = [Known("a/one", Outcome.FAIL, "fixed"), kept, Known("b/*", Outcome.HANG, "")]
    results = [result(Outcome.PASS, "a/one"), result(Outcome.FAIL, "a/two"), result(Outcome.DESYNC, "b/one")]

    assert updated(results, known) == [
        kept,
        Known("b/one", Outcome.DESYNC, "not examined yet: because"),
    ]


@pytest.mark.parametrize(("expires", "known"), [(date(2026, 11, 21), True), (date(2026, 11, 20), False)])
def test_what_is_known_until_a_day_counts_from_that_day_on(expires: date, known: bool) -> None:
    entry = Known("a/one", Outcome.FAIL, "a bug", expires=expires)
    results, stale = compare([result(Outcome.FAIL)], [entry], EVERY, TODAY)

    assert bool(results[0].known) is known
    assert stale == ([] if known else ["a/one: expired on 2026-11-20"])


def test_an_update_does_not_prolong_what_has_expired() -> None:
    entry = Known("a/one", Outcome.FAIL, "a bug", expires=date(2020, 1, 1))

    assert updated([result(Outcome.FAIL)], [entry]) == [entry]
    assert updated([result(Outcome.PASS)], [entry]) == []


def test_each_trouble_that_is_no_finding_is_named() -> None:
    assert report(Outcome.PASS).troubles == []
    assert report(Outcome.PASS, stale=("x",), cut_short="lost").troubles == ["known findings: x", "lost"]
    assert report(Outcome.NOT_APPLICABLE).troubles == ["nothing was run"]


def test_a_report_says_what_was_run_against_what() -> None:
    assert report().about.endswith(", protocol 0.9.2, target target, profile none, no seed")
    seeded = Report("t", "mine", False, (), 1.0, seed=7)
    assert seeded.about.endswith(", target t, profile mine, seed 7")
    assert report(Outcome.PASS, Outcome.FAIL).totals == "2 cases in 1.0 s: 1 pass, 1 fail"
