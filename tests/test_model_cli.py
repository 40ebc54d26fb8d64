# `vfio-user conformance model` as a user runs it: on the reference server, right and wrong, and what replay makes of a finding.
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from commands import VFIO_USER, vfio_user

from vfio_user_conformance.model.catalogue import RULES

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "report.schema.json"
FAULT = "mig-state-always-running"
# One process of the reference server with small messages.
SERVE = shlex.join([*VFIO_USER, "serve", "--max-data-xfer-size", "512"]) + " --socket-path {socket}"
SMALL = ("--spawn", SERVE, "--respawn", "never")


def conformance(*words: str) -> tuple[int, str]:
    done = vfio_user("conformance", *words, timeout=240)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def script(folder: Path) -> Any:
    head = json.loads((folder / "model.state-told.jsonl").read_text().splitlines()[0])
    assert head["seed"] == 1
    return head["script"]


@pytest.mark.parametrize("mode", [(), ("--respawn", "death"), ("--respawn", "never")])
def test_the_reference_server_breaks_no_rule(mode: tuple[str, ...], tmp_path: Path) -> None:
    """Neither a fresh one for each sequence nor one for all of them."""
    jsonschema = pytest.importorskip("jsonschema")
    report = tmp_path / "report.json"
    status, text = conformance("model", "--strict", "--seed", "3", "--steps", "250", "--json", str(report), *mode)
    assert (status, text.splitlines()[-1]) == (0, "conforming")
    content = json.loads(report.read_text())
    assert content["seed"] == 3
    assert [each["id"] for each in content["results"]] == list(RULES)
    assert {each["outcome"] for each in content["results"]} == {"pass", "not-applicable"}
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(content)
    assert sum(content["explored"]["moves"].values()) == 250
    unreached = [each["id"] for each in content["results"] if each["reason"] == "this run did not come to it"]
    assert content["explored"]["never_reached"] == unreached


def test_small_transfers_come_to_everything_that_a_correct_server_can_be_brought_to() -> None:
    """It never comes to be in ERROR, which two rules are about."""
    status, text = conformance("model", "--seed", "6", "--steps", "800", "--profile", "builtin", *SMALL)
    assert status == 0
    told = next(line for line in text.splitlines() if line.startswith("moves tried: ask "))
    assert told.endswith("; never reached: model/state-from-error, model/reset-recovers")


def test_a_fault_is_found_by_a_short_sequence_that_replay_does_again(tmp_path: Path) -> None:
    """The same seed finds it by the same sequence; replay tells a server that still has it from one that has not."""
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        arguments = ("--seed", "1", "--steps", "300", "--fault", FAULT, "--evidence", str(folder))
        status, text = conformance("model", *arguments)
        assert status == 1
        assert "fail model/state-told" in text
        assert "            get the migration state" in text
        found.append(script(folder))
    assert found[0] == found[1]
    assert len(found[0]) <= 3
    evidence = str(tmp_path / "one" / "model.state-told.jsonl")
    status, text = conformance("replay", evidence, "--fault", FAULT)
    assert (status, "still fail" in text) == (1, True)
    status, text = conformance("replay", evidence)
    assert (status, "fixed" in text) == (0, True)


def test_a_known_finding_is_passed_over_and_reported_as_known(tmp_path: Path) -> None:
    known = tmp_path / "known.toml"
    known.write_text('[[known]]\ncase = "model/state-told"\nclass = "fail"\nreason = "It always says RUNNING."\n')
    arguments = ("--seed", "1", "--steps", "300", "--fault", FAULT, "--profile", "builtin", "--known", str(known))
    status, text = conformance("model", *arguments)
    assert (status, text.splitlines()[-1]) == (0, "conforming; 1 known")


def test_what_is_not_allowed_is_not_done(tmp_path: Path) -> None:
    report, profile = tmp_path / "report.json", tmp_path / "careful.toml"
    profile.write_text('name = "careful"\n')
    status, _ = conformance("model", "--seed", "1", "--steps", "300", "--profile", str(profile), "--json", str(report))
    outcomes = {each["id"]: each["outcome"] for each in json.loads(report.read_text())["results"]}
    assert status == 0
    assert outcomes["model/reset"] == outcomes["model/irq-raise"] == outcomes["model/state"] == "refused-safety"
    assert outcomes["model/write"] == "not-applicable"
    assert outcomes["model/map"] == "pass"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("--seed", "-1"), 2, "--seed"),
        (("--steps", "0"), 2, "--steps"),
        (("--time", "0"), 2, "--time"),
        (("--fault", "no-such"), 2, "no fault 'no-such'"),
        (("--socket", "/nonexistent/socket"), 3, "/nonexistent/socket"),
        (("--spawn", "false {socket}"), 3, "false"),
    ],
)
def test_wrong_use_and_no_target_have_their_status(arguments: tuple[str, ...], status: int, sentence: str) -> None:
    found, text = conformance("model", *arguments)
    assert (found, sentence in text) == (status, True)


def test_time_that_is_over_at_once_is_no_success() -> None:
    status, text = conformance("model", "--seed", "1", "--time", "0.001")
    assert (status, text.splitlines()[-1]) == (4, "no verdict: nothing was run")


@pytest.mark.parametrize("rule", ["unmap-mismatch", "log-start", "log-scope", "state-unsupported"])
def test_a_rule_finds_the_faults_that_it_names(rule: str) -> None:
    """From one seed, within the moves of the proof; `vfio-user conformance prove model` does all rules."""
    _, text = conformance("prove", "--json", f"model/{rule}")
    proofs = json.loads(text)
    assert [proof["fault"] for proof in proofs] == list(RULES[f"model/{rule}"].catches)
    assert [proof for proof in proofs if not proof["holds"]] == []
