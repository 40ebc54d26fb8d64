"""What is drawn when: draws bound to the rules that they try, and the machine that lets hypothesis choose among them."""

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from hypothesis import strategies as st

from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.model.rule import Move, Rule
from vfio_user_conformance.model.trial import Trial
from vfio_user_conformance.model.world import World
from vfio_user_conformance.verdict import Outcome
from vfio_user_proto.errors import TargetError

# Draws of one sequence at most.
LENGTH = 40
# How much more often than the others something is drawn that is not seldom, and what tries a rule that was not tried yet.
_OFTEN, _WANTED = 4, 8


class Lost(BaseException):
    """There is no target any more; no Exception, so that hypothesis does not take it for a finding."""


@contextlib.contextmanager
def _noticing() -> Iterator[None]:
    try:
        yield
    except TargetError as error:
        raise Lost(str(error)) from None


def obstacle(rule: Rule, bench: Bench) -> tuple[Outcome, str] | None:
    """Why nothing is done about a rule: a hazard that is not allowed, or something that the target lacks; else None."""
    if blocked := rule.hazards - bench.allow:
        return Outcome.REFUSED_SAFETY, f"needs --allow {','.join(sorted(blocked))}"
    try:
        for need in rule.needs:
            need.read(bench.facts)
    except NotApplicable as missing:
        return Outcome.NOT_APPLICABLE, str(missing)
    return None


Moves = Callable[..., Iterator[Move]]


@dataclass(frozen=True)
class Draw:
    """What may be drawn to try ``rule`` where the model is as ``when`` says: one move or more, and the values that they take.

    ``moves`` goes on when a move was done: the model is then as that move left it.
    """

    moves: Moves
    rule: Rule
    when: Callable[[World], Any]
    seldom: bool
    values: dict[str, st.SearchStrategy[Any]]


class Draws(list[Draw]):
    """Draws of one kind, in the order in which they are added."""

    def add(
        self,
        rule: Rule,
        *,
        when: Callable[[World], Any] = lambda world: True,
        seldom: bool = False,
        **values: st.SearchStrategy[Any],
    ) -> Callable[[Moves], Moves]:
        """A decorator of a function that is drawn: it gets the machine and values, and yields moves."""

        def note(moves: Moves) -> Moves:
            self.append(Draw(moves, rule, when, seldom, values))
            return moves

        return note


class Machine:
    """One sequence. ``begin`` makes the trial that does what is drawn; ``step`` is called before each move."""

    def __init__(self, begin: Callable[[], Trial], step: Callable[[Move], None]) -> None:
        self._step = step
        with _noticing():
            self._trial = begin()

    @property
    def world(self) -> World:
        """What the model knows now."""
        return self._trial.world

    @property
    def facts(self) -> Facts:
        return self._trial.bench.facts

    def can(self, rule: Rule) -> bool:
        """Whether something can be done about a rule."""
        return obstacle(rule, self._trial.bench) is None

    def run(
        self,
        data: st.DataObject,
        draws: Sequence[Draw],
        subjects: Sequence[Collection[Rule]],
        tried: Counter[str],
    ) -> None:
        """Choose two subjects, or all that the target has and that are allowed; then draw until the sequence ends.

        What has not been ``tried`` is drawn more often, so that a long run comes to everything that it can come to.
        """
        there = [{rule for rule in each if self.can(rule)} for each in subjects]
        pairs = [one | other for one, other in combinations(filter(None, there), 2)]
        untried = {each.rule for each in draws if each.when(World()) and not tried[each.rule.ident]}
        try:
            about = data.draw(
                st.sampled_from([set[Rule]().union(*there), *pairs, *(each for each in pairs if each & untried)])
            )
            for _ in range(data.draw(st.integers(0, LENGTH))):
                weighed = [
                    each
                    for each in draws
                    if each.rule in about and each.when(self.world)
                    for _ in range(_weight(each, tried))
                ]
                chosen = data.draw(st.sampled_from(weighed))
                for move in chosen.moves(self, **{name: data.draw(value) for name, value in chosen.values.items()}):
                    self._step(move)
                    with _noticing():
                        self._trial.do(move)
        finally:
            self._trial.close()


def _weight(draw: Draw, tried: Counter[str]) -> int:
    if not tried[draw.rule.ident]:
        return _WANTED
    return 1 if draw.seldom else _OFTEN
