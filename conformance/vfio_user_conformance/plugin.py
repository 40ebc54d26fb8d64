"""The cases as pytest items; the runner hands this plugin to pytest, which never finds it by itself."""

import importlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from vfio_user_conformance import cases
from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.trial import result_of
from vfio_user_conformance.verdict import EXECUTED, FINDINGS, Outcome, Result

_PROPERTY = "vfio-user-conformance"
# So many cases at a time wait for what does not come; each keeps a program.
_SCENES = 4


class Finding(Exception):
    """The case found something; the result is already with the item."""


class Suite:
    """The plugin: a bench, the cases that were chosen, and ``tell``, which gets the results as they come."""

    def __init__(self, bench: Bench, chosen: list[Case], tell: Callable[[Result], None]) -> None:
        self.bench, self.chosen, self.tell = bench, {case.ident: case for case in chosen}, tell

    def run(self, case: Case) -> Result | None:
        """The result of a case; None where that is told later, when the case has had all of its time."""
        while len(self.bench.scenes) == _SCENES or (self.bench.scenes and self.bench.scenes[0].is_due()):
            self.tell(self.bench.settle())
        return self.bench.attempt(case)

    def finish(self) -> None:
        """Tell what is still to be told."""
        while self.bench.scenes:
            self.tell(self.bench.settle())
        while self.bench.again:
            self.tell(self.bench.run(self.bench.again.pop(0)))

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> "Section | None":
        if file_path.stem not in cases.SECTIONS:
            return None
        return Section.from_parent(parent, path=file_path, suite=self)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Bring the cases into the order of the document; leave out those that were not chosen."""
        order = {ident: place for place, ident in enumerate(catalogue())}
        items[:] = sorted((item for item in items if item.name in self.chosen), key=lambda item: order[item.name])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A case that could not be judged is our error, and its result says so."""
        if isinstance(item, CaseItem) and call.excinfo is not None:
            error = call.excinfo.value
            if not isinstance(error, (Finding, pytest.skip.Exception)):
                self.bench.target.discard()  # nobody knows what was done to it
                item.keep(result_of(item.case, Outcome.ERROR, f"{type(error).__name__}: {error}"))
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        result = dict(report.user_properties).get(_PROPERTY)
        if report.when == "teardown" and isinstance(result, Result):
            self.tell(result)


class Section(pytest.File):
    """One module of cases."""

    def __init__(self, *, suite: Suite, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.suite = suite

    def collect(self) -> Iterator["CaseItem"]:
        for case in importlib.import_module(f"{cases.__name__}.{self.path.stem}").CASES:
            yield CaseItem.from_parent(self, name=case.ident, case=case, suite=self.suite)


class CaseItem(pytest.Item):
    """One case."""

    def __init__(self, *, case: Case, suite: Suite, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.case, self.suite = case, suite

    def runtest(self) -> None:
        result = self.suite.run(self.case)
        if result is None:
            return
        self.keep(result)
        if result.outcome in FINDINGS:
            raise Finding(f"{result.outcome}: {result.reason}")
        if result.outcome not in EXECUTED:
            pytest.skip(result.reason)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """Nobody reads a traceback with its source, which takes longer than the case."""
        return str(excinfo.value)

    def keep(self, result: Result) -> None:
        """Leave the result where every report of this item carries it."""
        self.user_properties.append((_PROPERTY, result))
