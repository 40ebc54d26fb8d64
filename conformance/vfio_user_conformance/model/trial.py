"""One sequence on one target: each move is done, its replies are judged, and the model follows."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.expect import UNANSWERED, Expectation, Problem
from vfio_user_conformance.model.dirty import StopLog
from vfio_user_conformance.model.lifetime import Reset
from vfio_user_conformance.model.migration import SetState
from vfio_user_conformance.model.rule import Move, Rule, Turn
from vfio_user_conformance.model.world import World
from vfio_user_conformance.peer import HungUp, OutOfStep, Received, Seen, Silence
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.session import Gone, NoSession, NotReached, Session, Unanswered
from vfio_user_conformance.verdict import SPOILED, Outcome, Result
from vfio_user_conformance.words import listed
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import DeviceState

_BY_LEVEL = {"must": Outcome.FAIL, "should": Outcome.DEVIATION, "info": Outcome.INFO}
_LEVELS = tuple(_BY_LEVEL)
_SURVIVAL = "security.validate"


class Key(NamedTuple):
    """What makes two findings the same one: the rule, and how it ended."""

    ident: str
    outcome: Outcome


class Found(BaseException):
    """A rule was broken. ``moves`` is the sequence that did it, on a fresh target.

    No Exception, so that it ends hypothesis, which draws the moves, at once.
    """

    def __init__(self, result: Result, moves: Sequence[Move]) -> None:
        self.result, self.moves = result, tuple(moves)
        super().__init__(f"{result.ident}: {result.reason}")

    @property
    def key(self) -> Key:
        return Key(self.result.ident, self.result.outcome)


class Trial:
    """A target in use. ``tell`` gets every finding and returns whether it ends the sequence, by raising it; ``turns`` counts.

    Where a finding is passed over that leaves nobody knowing how things are, the sequence goes on with a fresh target, and
    ``moves`` begins anew. Raises TargetError where there is no target.
    """

    def __init__(self, bench: Bench, tell: Callable[[Found], bool], turns: Counter[str] | None = None) -> None:
        self.bench, self._tell = bench, tell
        self._turns: Counter[str] = Counter() if turns is None else turns
        self.begin()

    # From start to end.

    def begin(self) -> None:
        """A connection to a target whose device runs."""
        self.world, self.moves = World(), list[Move]()
        fresh = self.bench.target.renew()
        self.session = Session(self.bench.target, self.bench.facts, self.bench.timing)
        self._rule: Rule | None = None
        try:
            self.session.connect()
            seen = self.session.greet()
            if not self.session.negotiated:
                raise TargetError(f"{self.bench.target.name}: negotiation: {seen}")
            if not fresh:
                self._calm()
        except TargetError:
            self.session.close()
            raise
        except (OutOfStep, Unanswered, Gone, NoSession) as error:
            self.session.close()
            self.bench.target.discard()
            raise TargetError(f"{self.bench.target.name}: {error or 'the connection was closed'}") from None

    def _calm(self) -> None:
        """Undo what a sequence before this one may have left behind, as far as that is allowed."""
        facts = self.bench.facts
        if "migration" in self.bench.allow and facts.migration:
            self._quietly(SetState(DeviceState.RUNNING))
        if "migration" in self.bench.allow and facts.dma_logging:
            self._quietly(StopLog())
        if "reset" in self.bench.allow:
            self._quietly(Reset())

    def _quietly(self, move: Move) -> None:
        plan = move.plan(World(states=frozenset(DeviceState), logging=None), self.bench.facts)
        for step in next(plan).steps:
            step.perform(self.session)
            self.session.observe()

    def close(self) -> None:
        """The end of the sequence. Raises Found where the target dies of it a moment later."""
        self.session.leave()
        self.session.close()
        target, rule = self.bench.target, self._rule
        if rule is not None and (report := target.report()):
            self._report(rule, Outcome.CRASH, report, _SURVIVAL)
        end = target.done()
        if rule is not None and end is not None:
            self._report(rule, Outcome.CRASH, f"{end.how}, soon afterwards", _SURVIVAL)

    def _again(self) -> None:
        """Go on with a fresh target where that can be had, with another connection where not."""
        self.session.close()
        self.bench.target.discard()
        self.begin()

    # One move.

    def do(self, move: Move) -> None:
        """Do one move. Raises Found."""
        self.moves.append(move)
        plan = move.plan(self.world, self.bench.facts)
        seen: Seen | None = None
        while True:
            try:
                turn = plan.send(seen)
            except StopIteration as end:
                self.world = end.value
                return
            self._turns[turn.rule.ident] += 1
            self._rule = turn.rule
            clear, seen = self._turn(turn)
            if not clear:
                self._again()
                return

    def _turn(self, turn: Turn) -> tuple[bool, Seen | None]:
        """Whether it is clear how things are now, and what was seen last."""
        problems, came = list[Problem](), list[Seen]()
        outcome, text, broken, clear = Outcome.PASS, "", "", False
        try:
            clear = self._exchange(turn, problems, came)
        except OutOfStep as error:
            outcome, text, broken = Outcome.DESYNC, str(error), UNANSWERED
        except Unanswered as error:
            doing = self.bench.target.activity()
            text = f"{error}; the program {doing}" if doing else str(error)
            outcome, broken = Outcome.HANG, UNANSWERED
        except NoSession as error:
            outcome, text, broken = Outcome.FAIL, str(error), "disconnect.survived"
        except NotReached:
            pass  # the device could not be made to act, in a state where the text lets it refuse that
        except TargetError:
            pass  # it serves one client only, and a fresh one is started
        if problems and outcome is Outcome.PASS:
            gravest = _gravest(problems, turn.rule.judged_by)
            outcome, broken = _BY_LEVEL[gravest.level], gravest.ident
        text = "; ".join([*(problem.text for problem in problems), *filter(None, [text])])
        dead = None if clear else self.bench.target.ended(self.bench.timing.patience)
        if dead is not None and dead.crashed:
            outcome, text, broken = Outcome.CRASH, dead.how, _SURVIVAL
        if outcome is not Outcome.PASS:
            words = listed(turn.expect, "; then "), listed(came, "; then ")
            self._report(turn.rule, outcome, text, broken, *words)
        return clear, came[-1] if came else None

    def _exchange(self, turn: Turn, problems: list[Problem], came: list[Seen]) -> bool:
        """Do the steps and judge what comes; returns whether it leaves clear what was done: a refusal leaves all as it was."""
        session, facts, clear = self.session, self.bench.facts, True
        for step in turn.steps:
            try:
                step.perform(session)
            except Gone:
                problems.append(Problem("the connection was closed", UNANSWERED))
                return False
        for expectation in turn.expect:
            if isinstance(expectation, Expectation):
                seen = session.observe(prod=expectation.takes(Silence()))
                came.append(seen)
                reading = expectation.choose(seen, session.asked, facts)
                found = reading.problems(seen, session.asked, facts)
                problems += found
                clear &= not found or (isinstance(seen, Received) and seen.message.is_error)
                if isinstance(seen, HungUp):
                    return False
        if not turn.steps:
            return self._checked(turn, problems) and clear
        try:
            problems += [
                Problem(f"one message more than was due: {each}", UNANSWERED) for each in session.prove_in_step()
            ]
        except Gone:
            problems.append(Problem("the connection was closed afterwards", UNANSWERED))
            return False
        return self._checked(turn, problems) and clear

    def _checked(self, turn: Turn, problems: list[Problem]) -> bool:
        """Look at what brings no message; returns whether all is as it should be."""
        found = [
            problem for check in turn.expect if isinstance(check, AfterCheck) for problem in check.check(self.session)
        ]
        problems += found
        return not found

    def _report(
        self, rule: Rule, outcome: Outcome, reason: str, broken: str, expected: str = "", came: str = ""
    ) -> None:
        """Tell a finding, and raise it where that is wanted."""
        own = rule.judged_by
        result = Result(
            rule.ident,
            own.ident,
            own.section,
            own.level,
            outcome,
            reason,
            duration=time.monotonic() - self.session.started,
            expected=expected or rule.says,
            came=came,
            broken=broken,
            messages=tuple(self.session.log),
            stderr=self.bench.target.stderr(),
        )
        found = Found(result, self.moves)
        if self._tell(found):
            self._rule = None
            if outcome in SPOILED:
                self.bench.target.discard()
            raise found


def _gravest(problems: Sequence[Problem], own: Requirement) -> Requirement:
    """The gravest of the requirements that are broken."""
    broken = [
        own if not each.requirement or (each.missing and own.level == "must") else REQUIREMENTS[each.requirement]
        for each in problems
    ]
    return min(broken, key=lambda each: _LEVELS.index(each.level))
