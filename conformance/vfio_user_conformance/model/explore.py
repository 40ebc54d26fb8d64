"""A whole run: sequences until a budget is used up, every finding once and made short, and what became of each rule."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis import strategies as st
from hypothesis.errors import Flaky

from vfio_user_conformance.driver import Bench
from vfio_user_conformance.model import client_draws, device_draws
from vfio_user_conformance.model.again import again
from vfio_user_conformance.model.catalogue import RULES, SUBJECTS, name_of, script_of
from vfio_user_conformance.model.machine import Lost, Machine, obstacle
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.shorten import shortest
from vfio_user_conformance.model.trial import Found, Key, Trial
from vfio_user_conformance.shield import noted
from vfio_user_conformance.verdict import FINDINGS, Explored, Known, Outcome, Result
from vfio_user_conformance.words import plural
from vfio_user_proto.errors import TargetError

# Seconds that making one finding short may take, and that a reply may take meanwhile.
SHORTENING, HASTE = 20.0, 1.0
# From its tenth sequence on hypothesis would try variations of earlier ones; it is asked for a few new ones at a time.
_FRESH = 9
_SETTINGS = hypothesis.settings(
    database=None,
    deadline=None,
    max_examples=_FRESH,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    verbosity=Verbosity.quiet,
)
_DRAWS = (*client_draws.DRAWS, *device_draws.DRAWS)


class _Over(BaseException):
    """The budget is used up; no Exception, so that it ends hypothesis as an interrupt does."""


@dataclass
class Run:
    """Exploring a target with chance from ``seed``: ``steps`` moves at most, ``seconds`` at most, None for no such limit.

    ``known`` are findings that are passed over. With ``wanted`` the run ends when that rule was found broken, and makes nothing
    else short. Where the target is lost on the way, or an interrupt comes, ``cut_short`` says so. ``moves`` counts the moves of
    each name, ``turns`` how often each rule was tried, ``interrupts`` are the signals that came.
    """

    bench: Bench
    seed: int
    steps: int | None = None
    seconds: float | None = None
    known: Collection[Known] = ()
    wanted: str = ""
    cut_short: str = ""
    moves: Counter[str] = field(default_factory=Counter)
    turns: Counter[str] = field(default_factory=Counter)
    interrupts: Collection[int] = ()
    _rounds: int = 0
    _new: Found | None = None
    _found: dict[Key, Result] = field(default_factory=dict)
    _end: float = math.inf

    def run(self) -> list[Result]:
        """What became of every rule. Raises TargetError where there is no target at all."""
        self._end = math.inf if self.seconds is None else time.monotonic() + self.seconds
        with noted() as self.interrupts:
            self._run()
        return list(self._results())

    def _run(self) -> None:
        """Explore until the budget is used up, the target is lost, or an interrupt comes."""
        try:
            self.bench.survey()
            with _without_files():
                while not self._over():
                    self._explore()
        except Lost as lost:
            if not self.turns:
                raise TargetError(str(lost)) from None
            self.cut_short = f"the target was lost ({lost})"
        except KeyboardInterrupt:
            self.cut_short = f"stopped after {plural(self.moves.total(), 'move')}"
        finally:
            self.bench.target.close()

    @property
    def explored(self) -> Explored:
        """What was done, and what could have been tried and was not."""
        missed = [
            ident for ident, rule in RULES.items() if not self.turns[ident] and obstacle(rule, self.bench) is None
        ]
        return Explored(self.moves, tuple(missed))

    def _over(self) -> bool:
        """Whether the budget is used up. An interrupt that was lost on the way comes here."""
        if self.interrupts:
            raise KeyboardInterrupt
        if any(key.ident == self.wanted for key in self._found):
            return True
        return time.monotonic() >= self._end or (self.steps is not None and self.moves.total() >= self.steps)

    def _explore(self) -> None:
        """Do what chance draws until the budget is used up or something new is found, and make that short."""
        self._rounds += 1
        tried = self.turns.copy()  # as it is now: what may be drawn must not change while hypothesis is at work

        @hypothesis.seed(self.seed * 1000 + self._rounds)
        @_SETTINGS
        @hypothesis.given(st.data())
        def sequence(data: st.DataObject) -> None:
            Machine(self._begin, self._step).run(data, _DRAWS, SUBJECTS, tried)

        # Hypothesis may find the end that it is brought to inconsistent, and say so in place of what brought it there.
        with contextlib.suppress(_Over, Found, Flaky):
            sequence()
        if self._new is not None:
            self._keep(self._new)
            if self.wanted in ("", self._new.key.ident):
                self._keep(self._shortened(self._new))
            self._new = None

    def _begin(self) -> Trial:
        if self._over():
            raise _Over
        return Trial(self.bench, self._tell, self.turns)

    def _step(self, move: Move) -> None:
        if self._over():
            raise _Over
        self.moves[name_of(move)] += 1

    def _tell(self, found: Found) -> bool:
        """Whether a finding ends its sequence: a new one does."""
        if found.key in self._found or self._is_told(found.result):
            return False
        if found.key.outcome in FINDINGS and not any(each.covers(*found.key) for each in self.known):
            self._new = found
            return True
        self._keep(found)
        return False

    def _is_told(self, result: Result) -> bool:
        """Whether it is a crash, at the same place, that was found already, wherever that was."""
        return result.outcome is Outcome.CRASH and any(
            each.outcome is Outcome.CRASH and each.reason == result.reason for each in self._found.values()
        )

    def _shortened(self, found: Found) -> Found:
        """The same finding by a short sequence, done last with all patience; ``found`` itself where it does not come again."""
        end = min(self._end, time.monotonic() + SHORTENING)
        usual = self.bench.timing
        hasty = replace(self.bench, timing=replace(usual, reply=min(usual.reply or HASTE, HASTE)))
        short = shortest(
            found,
            lambda moves: again(hasty, moves, found.key),
            lambda: bool(self.interrupts) or time.monotonic() >= end,
        )
        confirmed = again(self.bench, short.moves, found.key) or again(self.bench, found.moves, found.key)
        if confirmed is not None:
            return confirmed
        reason = f"{found.result.reason}; not seen again on a fresh target"
        return Found(replace(found.result, reason=reason), found.moves)

    def _keep(self, found: Found) -> None:
        steps = tuple(map(str, found.moves))
        self._found[found.key] = replace(
            found.result, script=script_of(found.moves), steps=steps, stimulus="; then ".join(steps)
        )

    def _results(self) -> Iterator[Result]:
        for ident, rule in RULES.items():
            own = rule.judged_by
            mine = [result for key, result in self._found.items() if key.ident == ident]
            blank = Result(ident, own.ident, own.section, own.level, Outcome.PASS, "", expected=rule.says)
            if mine:
                yield max(mine, key=lambda each: _GRAVITY.index(each.outcome))
            elif self.turns[ident] and any(each.matches(ident) for each in self.known):
                yield replace(
                    blank, outcome=Outcome.NOT_APPLICABLE, reason="what is known of it was not met in this run"
                )
            elif self.turns[ident]:
                outcome = Outcome.INFO if own.level == "info" else Outcome.PASS
                yield replace(blank, outcome=outcome, stimulus=plural(self.turns[ident], "time"))
            else:
                outcome, reason = obstacle(rule, self.bench) or (Outcome.NOT_APPLICABLE, "this run did not come to it")
                yield replace(blank, outcome=outcome, reason=reason)


_GRAVITY = (Outcome.INFO, Outcome.DEVIATION, Outcome.FAIL, Outcome.DESYNC, Outcome.HANG, Outcome.CRASH)


@contextlib.contextmanager
def _without_files() -> Iterator[None]:
    """What hypothesis writes goes where it is removed again."""
    with TemporaryDirectory(prefix="vfio-user-") as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(None)
