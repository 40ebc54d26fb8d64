"""Interrupts held back while a program is started or stopped, so that none is left behind; and none of them lost."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_NUMBERS: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Whatever interrupts this process does so at the end of the block; in other threads than the main one nothing does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for each in came:
        signal.raise_signal(each)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """The numbers of the signals that interrupt this process in the block, as they come; they do what they did before, too.

    KeyboardInterrupt is lost where it is raised in what the interpreter calls by itself, such as a callback of its garbage
    collection, as hypothesis has one; the interpreter is silent about that here. In other threads than the main one nothing is
    noted.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: handler for number in _NUMBERS if callable(handler := signal.getsignal(number))}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        before[number](number, frame)

    def lost(what: Any) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            hook(what)

    for number in before:
        signal.signal(number, note)
    hook, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield came
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
