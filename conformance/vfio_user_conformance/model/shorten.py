"""A sequence that fails made short: moves are left out as long as the same is found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.trial import Found

Attempt = Callable[[Sequence[Move]], Found | None]


def shortest(found: Found, attempt: Attempt, over: Callable[[], bool]) -> Found:
    """What is left of ``found``; ``attempt`` does a sequence and returns the same finding where it comes again.

    Whole halves are left out first, from the beginning on, then ever fewer moves; no more is tried when it is ``over``.
    """
    progress = True
    while progress:
        progress = False
        for moves in (*_shorter(found.moves), *_plainer(found.moves)):
            if over():
                return found
            if (less := attempt(moves)) is not None:
                found, progress = less, True
                break
    return found


def _shorter(moves: Sequence[Move]) -> Iterator[Sequence[Move]]:
    size = len(moves) // 2
    while size:
        for start in range(0, len(moves), size):
            yield (*moves[:start], *moves[start + size :])
        size //= 2


def _plainer(moves: Sequence[Move]) -> Iterator[Sequence[Move]]:
    """With a reply where none was wanted."""
    for number, move in enumerate(moves):
        if getattr(move, "silent", False):
            yield (*moves[:number], replace(move, silent=False), *moves[number + 1 :])  # type: ignore[type-var]
