# What the soak measures: a row for each attack, the table of them, and how much of an attack is wanted.
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hostile import Figures, Victim, attacked

from vfio_user_proto import launch

# 1 for the whole soak; a part of it for a short one.
SCALE = float(os.environ.get("VFIO_USER_SOAK_SCALE", "1"))


def scaled(count: int) -> int:
    """``count``, or the part of it that is wanted."""
    return max(1, round(count * SCALE))


@dataclass
class Row:
    """One attack, and what the server held before and after; ``growth`` KiB more are allowed."""

    what: str
    growth: int
    before: Figures
    after: Figures
    connects: int = 0
    messages: int = 0
    seconds: float = 0.0
    note: str = ""

    def columns(self) -> tuple[str, ...]:
        """The row for a table with ``HEADINGS``."""
        before, after = self.before, self.after
        return (
            self.what,
            f"{self.connects:,}",
            f"{self.messages:,}",
            f"{self.seconds:.1f}",
            f"{before.rss} -> {after.rss} ({after.rss - before.rss:+}, {self.growth})",
            f"{before.fds} -> {after.fds}",
            f"{before.threads} -> {after.threads}",
            self.note,
        )


HEADINGS = ("", "connects", "messages", "seconds", "RSS in KiB (growth, bound)", "descriptors", "threads", "")


class Soak:
    """The attacks of a run."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    @contextmanager
    def attack(
        self, what: str, *, growth: int, clients: int = 4, device: str = "testdev"
    ) -> Iterator[tuple[Victim, Row]]:
        """A server for one attack, by so many clients at once; what may be left of it is stated."""
        with launch.builtin(["--device", device]) as process:
            victim = Victim(process, clients)
            before = victim.look()
            row = Row(what, growth, before, before)
            self.rows.append(row)
            began = time.monotonic()
            with attacked(victim, growth=growth):
                yield victim, row
                row.seconds = time.monotonic() - began
                victim.leave()
                row.after = victim.look()

    def show(self, terminal: pytest.TerminalReporter) -> None:
        """Print the table."""
        rows = [HEADINGS, *(row.columns() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        terminal.write_line("")
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True))
            terminal.write_line("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())
