"""A whole run: the cases through pytest, in this process or in several."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vfio_user_conformance import cases, parallel
from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.plugin import Suite
from vfio_user_conformance.verdict import Report, Result

# Our own items, our own report: of pytest we want collecting and running, and nothing of the user's settings.
_WITHOUT = ("terminal", "cacheprovider", "python", "doctest", "unittest", "junitxml", "logging", "faulthandler")
_ENVIRONMENT = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": None, "PYTEST_PLUGINS": None}


def run(bench: Bench, chosen: list[Case], workers: int = 1, *, strict: bool = False) -> Report:
    """Ask the target what it is and run the cases; the report has the results in the order of the catalogue.

    With several ``workers`` each starts a target of its own. Raises TargetError where there is no target at all.
    """
    started = time.monotonic()
    try:
        bench.survey()
        for each in bench.facts.misfits():
            print(f"vfio-user: the profile does not fit: {each}", file=sys.stderr)
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
        bench.close()
    cut_short = f"the target was lost ({bench.unreachable})" if bench.unreachable else ""
    if len(results) < len(chosen):
        cut_short = f"stopped after {len(results)} of {len(chosen)} cases"
    seconds = time.monotonic() - started
    return Report(bench.target.name, bench.facts.profile.name, strict, tuple(results), seconds, cut_short)


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
    arguments += [word for name in _WITHOUT for word in ("-p", f"no:{name}")]
    with contextlib.suppress(KeyboardInterrupt):
        with _environment():
            status = pytest.main([*arguments, folder], plugins=[suite])
        if status is not pytest.ExitCode.INTERRUPTED:
            suite.finish()


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
