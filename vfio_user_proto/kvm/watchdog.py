"""A deadline for what cannot look at a clock itself, such as a guest in an endless loop."""

import threading
import time
from collections.abc import Callable
from typing import Final


class Watchdog:
    """Calls ``bark``, in a thread of its own, when an armed deadline passes; ``barked`` says so then, for good.

    Arming costs next to nothing: the thread is woken only where it would look too late.
    """

    def __init__(self, bark: Callable[[], None]) -> None:
        self.barked = False
        self._bark: Final = bark
        self._changed: Final = threading.Condition()
        self._deadline: float | None = None
        self._looks_at: float | None = None
        self._over = False
        self._thread: Final = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def arm(self, deadline: float) -> None:
        """Bark when ``time.monotonic`` comes to ``deadline``, in place of any earlier one."""
        with self._changed:
            self._deadline = deadline
            if self._looks_at is None or deadline < self._looks_at:
                self._changed.notify()

    def disarm(self) -> None:
        """Do not bark any more; a bark that has begun is waited for."""
        with self._changed:
            self._deadline = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._over:
                self._looks_at = self._deadline
                self._changed.wait(None if self._looks_at is None else max(0.0, self._looks_at - time.monotonic()))
                if self._deadline is not None and time.monotonic() >= self._deadline:
                    self.barked, self._deadline = True, None
                    self._bark()
