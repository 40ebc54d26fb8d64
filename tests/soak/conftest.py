# The soak's server for each attack, and the table of figures with which the run ends.
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from figures import HEADINGS, Row
from hostile import Victim, attacked

from vfio_user_proto import launch

ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


@pytest.fixture
def soaking(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[tuple[Victim, Row]]]:
    """Starts a server for one attack, by so many clients at once, and holds it to what that may leave behind."""

    @contextmanager
    def start(what: str, *, growth: int, clients: int = 4) -> Iterator[tuple[Victim, Row]]:
        with launch.builtin() as process:
            victim = Victim(process, clients)
            before = victim.look()
            row = Row(what, growth, before, before)
            request.config.stash[ROWS].append(row)
            began = time.monotonic()
            with attacked(victim, growth=growth):
                yield victim, row
                row.seconds = time.monotonic() - began
                victim.leave()
                row.after = victim.look()

    return start


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = [row.columns() for row in config.stash[ROWS]]
    if rows:
        terminalreporter.section("soak")
        widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
        for row in (HEADINGS, *rows):
            cells = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
            terminalreporter.write_line("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())
