"""A whole run: the cases through pytest, in this process or in several, the known findings, the evidence, the report."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from vfio_user_conformance import cases, parallel
from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.evidence import write
from vfio_user_conformance.plugin import Suite
from vfio_user_conformance.verdict import FINDINGS, Known, Report, Result, compare

# Our own items, our own report: of pytest we want collecting and running, and nothing of the user's settings.
_WITHOUT = ("terminal", "cacheprovider", "python", "doctest", "unittest", "junitxml", "logging", "faulthandler")
_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": None, "PYTEST_PLUGINS": None}


def run(bench: Bench, chosen: list[Case], evidence: Path | None = None, workers: int = 1) -> list[Result]:
    """Ask the target what it is, run the cases, and keep a file per finding in ``evidence``.

    With several ``workers`` each starts a target of its own. Raises TargetError where there is no target at all, UsageError
    where the files cannot be written.
    """
    try:
        bench.survey()
        results: list[Result] = []
        tell = _listener(results, len(chosen))
        if workers == 1:
            _run(bench, chosen, tell)
        else:
            bench.target.close()
            bench.unreachable = parallel.run(_run, bench, chosen, workers, tell)
            order = {ident: place for place, ident in enumerate(catalogue())}
            results.sort(key=lambda result: order[result.ident])
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
    marked, stale = compare(results, known, catalogue(), datetime.now().astimezone().date())
    cut_short = f"the target was lost ({bench.unreachable})" if bench.unreachable else ""
    if len(results) < len(chosen):
        cut_short = f"stopped after {len(results)} of {len(chosen)} cases"
    name = bench.facts.profile.name
    return Report(bench.target.name, name, strict, tuple(marked), seconds, cut_short, tuple(stale))


def _listener(results: list[Result], due: int) -> Callable[[Result], None]:
    """What keeps the results as they come, and shows the progress on a terminal."""

    def tell(result: Result) -> None:
        results.append(result)
        if sys.stderr.isatty():
            end = "" if len(results) < due else "\r\033[K"
            print(f"\r\033[K{len(results)}/{due} {result.ident}{end}", end="", file=sys.stderr, flush=True)

    return tell


def _run(bench: Bench, chosen: list[Case], tell: Callable[[Result], None]) -> None:
    folder = str(Path(cases.__file__).parent)
    suite = Suite(bench, chosen, tell)
    arguments = ["-c", os.devnull, "--rootdir", folder, "--noconftest", "-s"]
    with _environment():
        pytest.main(
            [*arguments, *(word for name in _WITHOUT for word in ("-p", f"no:{name}")), folder], plugins=[suite]
        )


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
