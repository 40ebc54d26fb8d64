# The suite's own proof: the right server passes every case, and each fault is caught by the case that names it.
import importlib
import json
from dataclasses import replace

import pytest
from commands import vfio_user

from vfio_user_conformance import cases
from vfio_user_conformance.case import catalogue
from vfio_user_conformance.cases import SECTIONS
from vfio_user_conformance.proof import First, Proof, gaps
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_proto.faults import FAULTS
from vfio_user_proto.responder import Responder
from vfio_user_proto.session import Options


def test_every_case_has_a_fault_and_every_fault_a_case() -> None:
    assert gaps() == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_the_server_and_says_how(name: str) -> None:
    fault = FAULTS[name]
    assert fault.applied(Options()) != Options()
    assert fault.mistake.endswith(".")


def test_faults_leave_the_right_server_alone() -> None:
    assert Options().responder is Responder


@pytest.mark.parametrize(
    ("outcome", "reason", "holds"),
    [
        (Outcome.FAIL, "it was refused", True),
        (Outcome.CRASH, "killed by SIGSEGV", True),
        (Outcome.CRASH, "TypeError: a mistake of the fault's own", False),
        (Outcome.NOT_REACHED, "given a step", False),
        (Outcome.INFO, "", False),
    ],
)
def test_a_fault_that_stumbles_is_not_caught(outcome: Outcome, reason: str, holds: bool) -> None:
    result = Result("x/y", "header.echo", "Header", "must", outcome, reason)
    assert Proof("a-fault", "", result).holds is holds


def test_the_first_finding_names_its_fault() -> None:
    """The first case of all is the first to find its own fault, whatever comes behind it."""
    done = vfio_user("conformance", "prove", "--first", next(iter(catalogue())))

    assert done.stdout == "1 fault: 1 found first by the case that names them, 0 by their requirement\n"
    assert done.returncode == 0


@pytest.mark.parametrize("requirement", ["header.echo", "header.type"])
def test_a_finding_names_a_mistake_by_its_case_or_its_requirement(requirement: str) -> None:
    own, *others = catalogue().values()
    other = next(case for case in others if case.requirement != own.requirement)
    found = Result(other.ident, other.requirement, "", "must", Outcome.FAIL, "", broken=requirement)

    assert First("a-fault", own, found).named is (requirement == own.requirement)
    assert First("a-fault", other, found).named


def test_what_a_target_died_of_is_named_by_what_was_asked() -> None:
    own, other = list(catalogue().values())[:2]
    died = Result(other.ident, own.requirement, "", "must", Outcome.CRASH, "", broken="security.validate")

    assert First("a-fault", own, died).named
    assert not First("a-fault", own, replace(died, outcome=Outcome.FAIL)).named


@pytest.mark.parametrize("section", SECTIONS)
def test_each_case_catches_its_faults(section: str) -> None:
    idents = [case.ident for case in importlib.import_module(f"{cases.__name__}.{section}").CASES]
    done = vfio_user("conformance", "prove", "--json", *idents, timeout=600)
    proofs = json.loads(done.stdout)
    assert [proof for proof in proofs if not proof["holds"]] == []
    assert any(proof["fault"] for proof in proofs)
    assert done.returncode == 0
