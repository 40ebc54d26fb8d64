"""One run of one case against a target: what is done, and what is made of what came."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import LAYOUTS, UNANSWERED, Erratum, Expectation, Problem, Reply
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.peer import HungUp, OutOfStep, Seen, Silence, Timing
from vfio_user_conformance.requirements import REQUIREMENTS, Requirement
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Gone, NoSession, NotReached, Session, Unanswered
from vfio_user_conformance.steps import Exchange, Step, Together, exchange
from vfio_user_conformance.target import Target
from vfio_user_conformance.verdict import FINDINGS, SPOILED, Outcome, Result
from vfio_user_conformance.words import command_name, listed
from vfio_user_proto.errors import TargetError

_BY_LEVEL = {"must": Outcome.FAIL, "should": Outcome.DEVIATION, "info": Outcome.INFO}
_LEVELS = tuple(_BY_LEVEL)
_ABOUT_LAYOUT = frozenset(LAYOUTS.values()) | {
    "feature.reply-get",
    "dma-logging.report-reply",
    "dma-logging.bitmap-outside",
}
# What a target breaks that dies.
SURVIVAL = "security.validate"


class _Over(Exception):
    """The case ends here."""

    def __init__(self, outcome: Outcome, reason: str, broken: str = "") -> None:
        self.outcome, self.reason, self.broken = outcome, reason, broken
        super().__init__(reason)


def inapplicable(case: Case, facts: Facts) -> Result | None:
    """The result of a case where a fact that it needs or sends is missing; None where all are known."""
    try:
        _read_needs(case, facts)
    except NotApplicable as missing:
        over = _lacking(missing, facts)
        return result_of(case, over.outcome, over.reason)
    return None


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


class Trial:
    """One run of one case; ``unreachable`` tells why the target could not be reached at all."""

    def __init__(self, case: Case, target: Target, facts: Facts, timing: Timing) -> None:
        self.case, self.target, self.facts, self.timing = case, target, facts, timing
        self.session = Session(target, facts, timing)
        self.unreachable = ""
        self.problems: list[Problem] = []
        self.seen: list[Seen] = []
        self.note = ""
        self.erratum = False
        self.lost = False  # the connection was closed where it should not have been

    def run(self) -> Result:
        """The result; the session is left as it is, for the caller to close."""
        started = time.monotonic()
        over = self._outcome()
        return replace(
            result_of(self.case, over.outcome, over.reason, over.broken),
            duration=time.monotonic() - started,
            given=_told(self.case.given, self.facts),
            stimulus=self.case.stimulus_text if self.case.script else _told(self.case.exchange.steps, self.facts),
            came=listed(self.seen, "; then ") + self.note,
            messages=tuple(self.session.log),
            stderr=self.target.stderr() if over.outcome in FINDINGS else "",
        )

    def left(self, result: Result, patient: Timing) -> float | None:
        """Seconds that remain of what a target may take, where we were hasty and it might need them; else None."""
        if result.outcome is Outcome.HANG:
            return (patient.reply or 0) - (self.timing.answer or 0)
        if self.session.held and result.outcome not in SPOILED:
            return (patient.release or 0) - (self.timing.release or 0)
        return None

    def _outcome(self) -> _Over:
        """Run the case; whatever ends it becomes an outcome."""
        try:
            self._converse()
            report = self.target.report()
            return _Over(Outcome.CRASH, report, SURVIVAL) if report else self._verdict()
        except _Over as over:
            return over
        except NotApplicable as missing:
            return _lacking(missing, self.facts)
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
            self.unreachable = str(error)
            over = self._or_dead(Outcome.NOT_REACHED, self.unreachable)
            before = ", before this case began" if over.outcome is Outcome.CRASH else ""
            raise _Over(over.outcome, f"{over.reason}{before}", over.broken) from None
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
        with closing(case.script(self.facts)) as script:
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
        if self.lost:
            return last  # and the descriptors that came on the connection are closed with it
        for check in exchange.expect:
            if isinstance(check, AfterCheck):
                self.problems += check.check(self.session)
        return last

    def _observe(self, exchange: Exchange) -> None:
        """Do the steps, and judge one answer for each expectation."""
        self.seen.clear()
        for step in exchange.steps:
            step.perform(self.session)
        several = self.session.asks_several
        for expectation in exchange.expect:
            if isinstance(expectation, Expectation):
                facts = self.facts
                seen = self.session.observe(prod=expectation.takes(Silence()))
                self.seen.append(seen)
                reading = expectation.choose(seen, self.session.asked, facts)
                found = reading.problems(seen, self.session.asked, facts)
                which = f"{command_name(self.session.asked.command)}: " if several else ""
                self.problems += [each._replace(text=which + each.text) for each in found]
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
                self.lost = True
                self.problems.append(Problem("the connection was closed afterwards", UNANSWERED))
            return
        self.problems += [Problem(f"one message more than was due: {each}", UNANSWERED) for each in extra]

    def _prove_alive(self) -> str:
        """A new connection must be served, unless the program has ended by its own decision; returns what is to be noted."""
        session, target = self.session, self.target
        session.disconnect()
        try:
            session.connect()
            session.greet()
            if session.negotiated:
                session.prove_in_step()
                return ""
        except (TargetError, Gone, OutOfStep, NoSession):
            pass
        session.disconnect()
        end = target.ended(self.timing.reply)
        if end is None:
            return "; it serves no new connection"
        if end.crashed:
            raise _Over(Outcome.CRASH, end.how, SURVIVAL)
        return f"; the program ended ({end.how})"

    def _or_dead(self, outcome: Outcome, reason: str, broken: str = "") -> _Over:
        """The outcome, unless the target is found dead; what was wrong before is told too, and is what was broken first."""
        if self.problems and not broken:
            broken = self._broken_by(self.problems[0]).ident
        end = self.target.ended(self.timing.patience)
        if end is not None and end.crashed:
            outcome, reason, broken = Outcome.CRASH, end.how, SURVIVAL
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
        if problem.missing and own.level == "must":
            return own
        ident = problem.requirement or own.ident
        return REQUIREMENTS[problem.refused if problem.refused and ident in _ABOUT_LAYOUT else ident]


def _told(steps: Sequence[Step], facts: Facts) -> str:
    """Steps in words, with what is known of this target."""
    try:
        return listed((step.told(facts) if isinstance(step, (Send, Together)) else step for step in steps), "; then ")
    except NotApplicable:
        return listed(steps, "; then ")


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
        given=listed(case.given, "; then "),
        stimulus=case.stimulus_text,
        expected=case.expect_text,
        broken=broken,
    )
