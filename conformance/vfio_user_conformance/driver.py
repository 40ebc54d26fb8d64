"""Runs one case against a target and judges what came of it."""

import time
from contextlib import closing
from dataclasses import dataclass, field, replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import UNANSWERED, AfterCheck, Erratum, Expectation, Problem, Reply
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.peer import HungUp, OutOfStep, Received, Seen, Silence, Timing
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.session import Gone, NoSession, NotReached, Session, Unanswered
from vfio_user_conformance.steps import Exchange, Send, exchange, listed
from vfio_user_conformance.survey import survey
from vfio_user_conformance.target import Target
from vfio_user_conformance.verdict import FINDINGS, Outcome, Result
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import VersionRequest

_BY_LEVEL = {"must": Outcome.FAIL, "should": Outcome.DEVIATION, "info": Outcome.INFO}
_LEVELS = tuple(_BY_LEVEL)
# So many hangs in a row, and no further case is tried.
_PATIENCE = 8
_SURVIVAL = "security.validate"
_SPOILED = frozenset({Outcome.CRASH, Outcome.HANG, Outcome.DESYNC})


@dataclass
class Bench:
    """A target and the conditions that its cases run under; ``unreachable`` tells why it can no longer be reached."""

    target: Target
    facts: Facts = field(default_factory=Facts)
    allow: frozenset[str] = frozenset()
    timing: Timing = field(default_factory=Timing)
    unreachable: str = ""
    _hangs: int = 0

    def survey(self) -> None:
        """Ask the target what it is, as far as it answers. Raises TargetError where it cannot be reached, or says nothing."""
        self.target.renew()
        session = Session(self.target, self.facts, self.timing)
        try:
            session.connect()
            seen = self._greeted(session)
            if isinstance(seen, Received) and isinstance(seen.message.payload, VersionRequest):
                self.facts.agree(seen.message.payload)
            self.facts.incomplete = survey(session, self.facts).ended or session.garbled
        except (NoSession, OutOfStep, Unanswered, Gone) as error:
            self.facts.incomplete = str(error) or "the connection was closed"
        finally:
            session.close()
            self.target.done()

    def _greeted(self, session: Session) -> Seen:
        try:
            seen = session.greet()
        except Unanswered:
            raise TargetError(f"{self.target.name}: no answer to VERSION within {self.timing.reply:g} s") from None
        if not session.negotiated:
            raise NoSession(f"negotiation: {seen}")
        return seen

    def run(self, case: Case) -> Result:
        """Run one case; what ruined a target that earlier cases had used is confirmed on a fresh one."""
        blocked = case.hazards - self.allow
        if blocked:
            return result_of(case, Outcome.REFUSED_SAFETY, f"needs --allow {','.join(sorted(blocked))}")
        if self._hangs == _PATIENCE:
            return result_of(case, Outcome.NOT_REACHED, self.unreachable)
        try:
            _read_needs(case, self.facts)
        except NotApplicable as missing:  # nothing is started for it
            over = _lacking(missing, self.facts)
            return result_of(case, over.outcome, over.reason)
        try:
            fresh = self.target.renew()
        except TargetError as error:
            self.unreachable = str(error)
            return result_of(case, Outcome.NOT_REACHED, str(error))
        result = self._try(case)
        if result.outcome in _SPOILED and self.target.discard() and not fresh:
            result = replace(result, reason=f"{result.reason}; alone on a fresh target: {self._alone(case, result)}")
        self._hangs = self._hangs + 1 if result.outcome is Outcome.HANG else 0
        if self._hangs == _PATIENCE:
            self.unreachable = f"{_PATIENCE} cases in a row got no answer"
        return result

    def _alone(self, case: Case, before: Result) -> str:
        """What becomes of a case that ruined its target when it is run once more, on one that nobody has used."""
        try:
            self.target.renew()
        except TargetError as error:
            return str(error)
        result = self._try(case)
        if result.outcome in _SPOILED:
            self.target.discard()
        return "again" if result.outcome is before.outcome else f"{result.outcome} ({result.reason})"

    def _try(self, case: Case) -> Result:
        """One trial; a target that dies of it a moment later has died of it all the same."""
        result = _Trial(case, self).run()
        if result.outcome in _SPOILED or self.unreachable:
            return result
        end = self.target.done()
        if end is None:
            return result
        return replace(result, outcome=Outcome.CRASH, reason=f"{end.how}, soon afterwards", broken=_SURVIVAL)


class _Over(Exception):
    """The case ends here."""

    def __init__(self, outcome: Outcome, reason: str, broken: str = "") -> None:
        self.outcome, self.reason, self.broken = outcome, reason, broken
        super().__init__(reason)


def _read_needs(case: Case, facts: Facts) -> None:
    """Look up every fact that the case needs or sends. Raises NotApplicable where there is none."""
    for need in case.needs:
        need.read(facts)
    for step in (*case.given, *(() if case.script else case.exchange.steps)):
        if isinstance(step, Send):
            step.build(0, facts)


def _lacking(missing: NotApplicable, facts: Facts) -> _Over:
    if facts.incomplete:
        return _Over(Outcome.NOT_REACHED, f"{missing}, but not all was told ({facts.incomplete})")
    return _Over(Outcome.NOT_APPLICABLE, str(missing))


class _Trial:
    """One run of one case."""

    def __init__(self, case: Case, bench: Bench) -> None:
        self.case, self.bench = case, bench
        self.session = Session(bench.target, bench.facts, bench.timing)
        self.problems: list[Problem] = []
        self.seen: list[Seen] = []
        self.note = ""
        self.erratum = False

    def run(self) -> Result:
        started = time.monotonic()
        try:
            over = self._outcome()
        finally:
            self.session.close()
        return replace(
            result_of(self.case, over.outcome, over.reason, over.broken),
            duration=time.monotonic() - started,
            came=listed(self.seen, "; then ") + self.note,
            messages=tuple(self.session.log),
            stderr=self.bench.target.stderr() if over.outcome in FINDINGS else "",
        )

    def _outcome(self) -> _Over:
        """Run the case; whatever ends it becomes an outcome."""
        try:
            self._converse()
            report = self.bench.target.report()
            return _Over(Outcome.CRASH, report, _SURVIVAL) if report else self._verdict()
        except _Over as over:
            return over
        except NotApplicable as missing:
            return _lacking(missing, self.bench.facts)
        except OutOfStep as error:
            return self._or_dead(Outcome.DESYNC, str(error))
        except Unanswered as error:
            return self._or_dead(Outcome.HANG, str(error))
        except NotReached as error:
            return self._or_dead(Outcome.NOT_REACHED, str(error))
        except TargetError as error:
            return self._or_dead(Outcome.NOT_APPLICABLE, f"it serves one connection only ({error})")

    def _converse(self) -> None:
        case, session = self.case, self.session
        try:
            session.connect()
        except TargetError as error:
            self.bench.unreachable = str(error)
            raise _Over(Outcome.NOT_REACHED, str(error)) from None
        if case.greet:
            seen = session.greet()
            if not session.negotiated:
                raise NoSession(f"negotiation: {seen}")
        for step in case.given:
            self._observe(exchange(step, Reply()))
            if self.problems:
                raise _Over(Outcome.NOT_REACHED, f"given {step}: {self.problems[0].text}")
        if case.script is None:
            self._exchange(case.exchange)
            return
        with closing(case.script(self.bench.facts)) as script:
            answer: Seen | None = None
            while not self.problems:
                try:
                    following = script.send(answer) if answer is not None else next(script)
                except StopIteration:
                    return
                answer = self._exchange(following)

    def _exchange(self, exchange: Exchange) -> Seen | None:
        """Do the steps, judge what comes, and prove that the target lives and is in step; returns what came last."""
        self._observe(exchange)
        last = self.seen[-1] if self.seen else None
        if self.session.negotiated and self.case.in_step and not isinstance(last, HungUp):
            self._prove_in_step(exchange)
        else:
            self.note = self._prove_alive()
        for check in exchange.expect:
            if isinstance(check, AfterCheck):
                self.problems += check.check(self.session)
        return last

    def _observe(self, exchange: Exchange) -> None:
        """Do the steps, and judge one answer for each expectation."""
        self.seen.clear()
        for step in exchange.steps:
            step.perform(self.session)
        for expectation in exchange.expect:
            if isinstance(expectation, Expectation):
                facts = self.bench.facts
                seen = self.session.observe(prod=expectation.takes(Silence()))
                self.seen.append(seen)
                reading = expectation.choose(seen, self.session.asked, facts)
                self.problems += reading.problems(seen, self.session.asked, facts)
                self.erratum |= isinstance(reading, Erratum)
                if isinstance(seen, HungUp):
                    return

    def _prove_in_step(self, exchange: Exchange) -> None:
        """A query must be answered next; the connection may be closed where that was one of the accepted answers."""
        try:
            extra = self.session.prove_in_step()
        except Gone:
            self.note = f"; then the connection was closed{self._prove_alive()}"
            if not any(isinstance(each, Expectation) and each.takes(HungUp()) for each in exchange.expect):
                self.problems.append(Problem("the connection was closed afterwards", UNANSWERED))
            return
        self.problems += [Problem(f"one message more than was due: {each}", UNANSWERED) for each in extra]

    def _prove_alive(self) -> str:
        """A new connection must be served, unless the program has ended by its own decision; returns what is to be noted."""
        session, target = self.session, self.bench.target
        session.disconnect()
        try:
            session.connect()
            session.greet()
            if session.negotiated:
                session.prove_in_step()
                return ""
        except (TargetError, Gone, OutOfStep):
            pass
        session.disconnect()
        end = target.ended(self.bench.timing.reply)
        if end is None:
            return "; it serves no new connection"
        if end.crashed:
            raise _Over(Outcome.CRASH, end.how, _SURVIVAL)
        return f"; the program ended ({end.how})"

    def _or_dead(self, outcome: Outcome, reason: str, broken: str = "") -> _Over:
        """The outcome, unless the target is found dead; what was wrong before is told too, and is what was broken first."""
        if self.problems and not broken:
            broken = self._broken_by(self.problems[0]).ident
        end = self.bench.target.ended(self.bench.timing.patience)
        if end is not None and end.crashed:
            outcome, reason, broken = Outcome.CRASH, end.how, _SURVIVAL
        return _Over(outcome, listed([*(problem.text for problem in self.problems), reason]), broken)

    def _verdict(self) -> _Over:
        """What the problems amount to: the gravest of the requirements that they break decides."""
        own = self.case.judged_by
        if not self.problems:
            if own.level == "info":
                return _Over(Outcome.INFO, "")
            return _Over(Outcome.ERRATUM, own.erratum) if self.erratum else _Over(Outcome.PASS, "")
        broken = [self._broken_by(problem) for problem in self.problems]
        gravest = min(broken, key=lambda each: _LEVELS.index(each.level))
        return _Over(_BY_LEVEL[gravest.level], listed(problem.text for problem in self.problems), gravest.ident)

    def _broken_by(self, problem: Problem) -> Requirement:
        """The requirement that a problem breaks; that no reply came at all breaks the case's own, where that is a must."""
        own = self.case.judged_by
        if not problem.requirement or (problem.missing and own.level == "must"):
            return own
        return REQUIREMENTS[problem.requirement]


def result_of(case: Case, outcome: Outcome, reason: str, broken: str = "") -> Result:
    """The result of a case, with nothing that was seen yet."""
    own = case.judged_by
    return Result(
        case.ident,
        own.ident,
        own.section,
        own.level,
        outcome,
        reason,
        stimulus=case.stimulus_text,
        expected=case.expect_text,
        broken=broken,
    )
