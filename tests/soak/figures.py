# What the soak measures: a row for each attack, and how much of an attack is wanted.
import os
from dataclasses import dataclass

from hostile import Figures

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
