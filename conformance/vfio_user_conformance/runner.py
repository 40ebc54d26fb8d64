"""A whole run: the cases through pytest, the known findings, the evidence, the report."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_user_conformance import cases
from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.evidence import write
from vfio_user_conformance.plugin import Suite
from vfio_user_conformance.verdict import FINDINGS, Known, Report, Result, compare

# Our own items, our own report: of pytest we want collecting and running, and nothing of the user's settings.
_WITHOUT = ("terminal", "cacheprovider", "python", "doctest", "unittest", "junitxml", "logging", "faulthandler")
_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": None, "PYTEST_PLUGINS": None}


def run(bench: Bench, chosen: list[Case], evidence: Path | None = None) -> list[Result]:
    """Ask the target what it is, run the cases, and keep a file per finding in ``evidence``.

    Raises TargetError where there is no target at all, UsageError where the files cannot be written.
    """
    try:
        bench.survey()
        results = _run(bench, chosen)
    finally:
        bench.target.close()
    return results if evidence is None else [_with_evidence(each, bench.target.name, evidence) for each in results]


def sum_up(
    bench: Bench,
    chosen: Sequence[Case],
    results: Sequence[Result],
    known: Sequence[Known] = (),
    *,
    strict: bool = False,
    seconds: float = 0.0,
) -> Report:
    """The report of a run that took ``seconds``, with the known findings marked."""
    marked, stale = compare(results, known, catalogue())
    cut_short = f"the target was lost ({bench.unreachable})" if bench.unreachable else ""
    if len(results) < len(chosen):
        cut_short = f"stopped after {len(results)} of {len(chosen)} cases"
    name = bench.facts.profile.name
    return Report(bench.target.name, name, strict, tuple(marked), seconds, cut_short, tuple(stale))


def _run(bench: Bench, chosen: list[Case]) -> list[Result]:
    folder = str(Path(cases.__file__).parent)
    suite = Suite(bench, chosen)
    arguments = ["-c", os.devnull, "--rootdir", folder, "--noconftest", "-s"]
    with _environment():
        pytest.main(
            [*arguments, *(word for name in _WITHOUT for word in ("-p", f"no:{name}")), folder], plugins=[suite]
        )
    return suite.results


def _with_evidence(result: Result, target: str, folder: Path) -> Result:
    if result.outcome not in FINDINGS:
        return result
    return replace(result, evidence=str(write(result, target, folder)))


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """The environment without what would change pytest."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    try:
        _set(_ENVIRONMENT)
        yield
    finally:
        _set(before)


def _set(values: "dict[str, str | None]") -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
