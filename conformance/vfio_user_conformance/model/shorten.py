"""A sequence that fails made short: moves are left out as long as the same is found."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.trial import Found

Attempt = Callable[[Sequence[Move]], Found | None]


def shortest(found: Found, attempt: Attempt, over: Callable[[], bool]) -> Found:
    """What is left of ``found``; ``attempt`` does a sequence and returns the same finding where it comes again.

    Halves are left out first, from the beginning on, then ever fewer moves, and single ones until each is needed; last, replies
    are asked for that were not wanted. No more is tried when it is ``over``.
    """
    size = max(len(found.moves) // 2, 1)
    while size:
        start, before = 0, len(found.moves)
        while start < len(found.moves):
            if over():
                return found
            less = attempt((*found.moves[:start], *found.moves[start + size :]))
            found, start = (found, start + size) if less is None else (less, start)
        if size > 1 or len(found.moves) == before:
            size //= 2
    for number, move in enumerate(found.moves):
        if getattr(move, "silent", False) and not over():
            plain = replace(move, silent=False)  # type: ignore[type-var]
            found = attempt((*found.moves[:number], plain, *found.moves[number + 1 :])) or found
    return found
