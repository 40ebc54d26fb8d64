# The requirements against the cases: every one has a place, and a run says what became of it.
import re

import pytest

from vfio_user_conformance.case import catalogue
from vfio_user_conformance.coverage import Standing, State, counts, of_run, of_suite, totals, untestable
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_conformance.witness.catalogue import CHECKS

OVERLAP = "dma-map.overlap"


def result(outcome: Outcome, ident: str = "dma-map/overlap-inside", broken: str = "", known: str = "") -> Result:
    own = catalogue()[ident].judged_by
    return Result(ident, own.ident, own.section, own.level, outcome, "", broken=broken, known=known)


def standing(*results: Result, requirement: str = OVERLAP) -> Standing:
    return next(each for each in of_run(results) if each.requirement.ident == requirement)


def test_every_requirement_has_one_place() -> None:
    assert [each.requirement.ident for each in of_suite()] == list(REQUIREMENTS)
    assert [each.requirement.ident for each in of_run([])] == list(REQUIREMENTS)
    assert counts(of_suite()).keys() <= {State.COVERED, State.NOT_TESTABLE, State.OTHER_SIDE, State.NO_CASE}


def test_every_case_is_found_under_its_requirement() -> None:
    found = {ident: each.requirement.ident for each in of_suite() for ident in each.cases}

    assert found == {ident: case.requirement for ident, case in catalogue().items()}


@pytest.mark.parametrize("ident", untestable())
def test_what_cannot_be_tested_is_a_requirement_for_servers_without_a_case_and_has_a_reason(ident: str) -> None:
    assert REQUIREMENTS[ident].side != "client"
    assert ident not in {case.requirement for case in catalogue().values()}
    assert re.fullmatch(r"[A-Z].{20,}\.", untestable()[ident])


def test_without_a_case_it_says_why() -> None:
    states = {each.requirement.ident: each for each in of_suite()}

    about = "About the installation of the program."
    assert states["backend.description"][1:] == (State.NOT_TESTABLE, (), about)
    assert states["version.first"].state is State.OTHER_SIDE
    assert states[OVERLAP].state is State.COVERED


@pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.INFO, Outcome.ERRATUM])
def test_a_case_that_found_nothing_has_exercised_its_requirement(outcome: Outcome) -> None:
    assert standing(result(outcome))[1:3] == (State.PASSED, ("dma-map/overlap-inside",))


@pytest.mark.parametrize(
    "outcome", [Outcome.NOT_APPLICABLE, Outcome.NOT_REACHED, Outcome.REFUSED_SAFETY, Outcome.ERROR]
)
def test_what_was_not_carried_out_exercises_nothing(outcome: Outcome) -> None:
    assert standing(result(outcome)).state is State.NOT_EXERCISED


def test_one_breach_is_enough_and_known_ones_are_breaches_too() -> None:
    broken = result(Outcome.FAIL, "dma-map/overlap-keeps-the-old", OVERLAP, known="a bug")

    assert standing(result(Outcome.PASS), broken)[1:3] == (State.FAILED, ("dma-map/overlap-keeps-the-old",))


def test_a_breach_of_another_requirement_is_counted_there() -> None:
    crash = result(Outcome.CRASH, broken="security.validate")

    assert standing(crash).state is State.NOT_EXERCISED
    assert standing(crash, requirement="security.validate").cases == ("dma-map/overlap-inside",)


def test_the_totals_are_a_line() -> None:
    told = totals(of_run([result(Outcome.PASS)]))

    assert told.startswith(f"{len(REQUIREMENTS)} requirements: 1 passed, ")
    assert sum(map(int, re.findall(r"(\d+) [a-z]", told.partition(": ")[2]))) == len(REQUIREMENTS)


def test_every_state_has_a_meaning() -> None:
    assert all(state.meaning for state in State)


def test_a_client_is_counted_by_its_own_checks() -> None:
    """What binds servers alone is the other side's here, and a case of the server suite covers nothing."""
    states = {each.requirement.ident: each for each in of_suite("client")}

    assert {ident for each in states.values() for ident in each.cases} == set(CHECKS)
    assert {each.state for each in states.values() if each.requirement.side == "server"} == {State.OTHER_SIDE}
    assert all(each.state is not State.OTHER_SIDE for each in states.values() if each.requirement.side != "server")
    assert states["version.first"].state is State.COVERED
