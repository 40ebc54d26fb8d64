"""What chance draws from a seed: the same on every machine, with every version of Python, and wherever this is installed."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

_T = TypeVar("_T")


class Chance:
    """Draws from ``seed``. Of what ``Random`` can do only that is used which stays as it is from version to version."""

    def __init__(self, seed: str) -> None:
        self._next = Random(seed).random  # noqa: S311  # nothing is kept secret by it

    def below(self, end: int) -> int:
        """A number from 0 to ``end`` - 1; each comes as often as any other."""
        return int(self._next() * end)

    def pick(self, among: Sequence[_T]) -> _T:
        """One of several."""
        return among[self.below(len(among))]


# Where a value of a move comes from.
Source = Callable[[Chance], Any]


def just(value: object) -> Source:
    return lambda chance: value


def numbers(least: int, most: int) -> Source:
    return lambda chance: least + chance.below(most - least + 1)


def one_of(*values: object) -> Source:
    """One of ``values``; what is to come more often is there more often."""
    return lambda chance: chance.pick(values)


def several(source: Source, least: int, most: int) -> Source:
    """A list of ``least`` to ``most`` values."""
    return lambda chance: [source(chance) for _ in range(least + chance.below(most - least + 1))]


def together(*sources: Source) -> Source:
    """A tuple with a value of each."""
    return lambda chance: tuple(source(chance) for source in sources)


yes_or_no = one_of(False, True)
