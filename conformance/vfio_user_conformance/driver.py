"""Runs cases against a target, and confirms what ruined it."""

from dataclasses import dataclass, field, replace

from vfio_user_conformance.case import Case
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import OutOfStep, Received, Seen, Timing
from vfio_user_conformance.scene import Scene
from vfio_user_conformance.session import Gone, NoSession, Session, Unanswered
from vfio_user_conformance.shield import shielded
from vfio_user_conformance.survey import survey
from vfio_user_conformance.target import Target
from vfio_user_conformance.trial import SURVIVAL, Trial, inapplicable, result_of
from vfio_user_conformance.verdict import SPOILED, Outcome, Result
from vfio_user_conformance.words import listed
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import VersionRequest

# So many hangs in a row, and no further case of that section is tried; none at all where nothing is answered any more.
_PATIENCE = 8
# So many times in a row a target did not close when we said that we send no more: it does not look at that.
_DEAF = 3


@dataclass
class Bench:
    """A target and the conditions that its cases run under; ``unreachable`` tells why it can no longer be reached.

    ``scenes`` are what ``attempt`` leaves for ``settle``, the oldest first. ``dead`` is a target whose crash was told, and
    that nobody starts again. Where a program does not start beside another (``crowded``), no scene is kept: its case is one of
    ``again``, to be run from the beginning. ``mortal`` tells of what a target dies after any session, even one that only asked
    what it is; ``mourned`` whether a case has told that.
    """

    target: Target
    facts: Facts = field(default_factory=Facts)
    allow: frozenset[str] = frozenset()
    timing: Timing = field(default_factory=Timing)
    unreachable: str = ""
    scenes: list[Scene] = field(default_factory=list)
    again: list[Case] = field(default_factory=list)
    crowded: bool = False
    dead: bool = False
    mortal: str = ""
    mourned: bool = False
    _hangs: int = 0
    _given_up: set[str] = field(default_factory=set)
    _hopeless: bool = False
    _deaf: int = 0

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
            session.leave()
            session.close()
            end = self.target.done()
            self.mortal = "" if end is None else end.cause

    def _greeted(self, session: Session) -> Seen:
        try:
            seen = session.greet()
        except Unanswered:
            raise TargetError(f"{self.target.name}: no answer to VERSION within {self.timing.reply:g} s") from None
        if not session.negotiated:
            raise NoSession(f"negotiation: {seen}")
        return seen

    def run(self, case: Case) -> Result:
        """Run one case to its end; what ruined a target that earlier cases had used is confirmed on a fresh one."""
        fresh = self._ready(case)
        return fresh if isinstance(fresh, Result) else self._counted(self._judged(case, fresh))

    def attempt(self, case: Case) -> Result | None:
        """Run one case without waiting long for what does not come: then a scene is left, and None returned.

        Where there is only one program for all cases it is waited for.
        """
        fresh = self._ready(case)
        if isinstance(fresh, Result):
            return fresh
        if self.crowded or not self.target.disposable or self.timing.reply is None:
            return self._counted(self._judged(case, fresh))
        trial = Trial(case, self.target, self.facts, replace(self.timing, hasty=True))
        try:
            result = self._reached(trial)
            if (left := trial.left(result, self.timing)) is not None:
                with shielded():
                    self.scenes.append(Scene(case, result, trial.session, self.target.set_aside(), left))
                return None
            result = self._ended(result, trial.session, self.target)
        except BaseException:
            trial.session.close()
            raise
        if result.outcome in SPOILED:
            self.target.discard()
        return self._counted(result)

    def settle(self) -> Result:
        """What became of the oldest scene when it has had all of its time; where anything changed the case is run again."""
        scene = self.scenes[0]
        if scene.changed():
            self._leave(scene)
            return self.run(scene.case)
        result = self._counted(self._ended(scene.told(), scene.session, scene.target))
        self._leave(scene)
        return result

    def close(self) -> None:
        """Stop every program; what was not settled is given up."""
        while self.scenes:
            self._leave(self.scenes[0])
        self.target.close()

    def _leave(self, scene: Scene) -> None:
        scene.close()
        self.scenes.remove(scene)

    def _ready(self, case: Case) -> Result | bool:
        """The result of a case that cannot be run; else whether it is the first to use the program, which runs now."""
        blocked = case.hazards - self.allow
        if blocked:
            return result_of(case, Outcome.REFUSED_SAFETY, f"needs --allow {','.join(sorted(blocked))}")
        if self._hopeless:
            return result_of(case, Outcome.NOT_REACHED, self.unreachable)
        if _section(case.ident) in self._given_up:
            return result_of(case, Outcome.NOT_REACHED, f"{_PATIENCE} cases of its section in a row got no answer")
        if (result := inapplicable(case, self.facts)) is not None:  # nothing is started for it
            return result
        try:
            return self._renewed()
        except TargetError as error:
            self.unreachable = str(error)
            return result_of(case, Outcome.NOT_REACHED, str(error))

    def _renewed(self) -> bool:
        """As the target's ``renew``, if need be without another program beside it. Raises TargetError."""
        try:
            return self.target.renew()
        except TargetError:
            if not self.scenes:
                raise
        self.crowded = True
        while self.scenes:
            self.again.append(self.scenes[0].case)
            self._leave(self.scenes[0])
        return self.target.renew()

    def _judged(self, case: Case, fresh: bool) -> Result:
        result = self._try(case)
        if result.outcome is Outcome.NOT_REACHED and not fresh and self._replaced():
            result = self._try(case)
        if result.outcome not in SPOILED:
            return result
        if not self.target.discard():
            self.dead = result.outcome is Outcome.CRASH
        elif not fresh:
            result = replace(result, reason=f"{result.reason}; alone on a fresh target: {self._alone(case, result)}")
        return result

    def _counted(self, result: Result) -> Result:
        """The result; of many hangs in a row the last one ends the section, or the run."""
        self._hangs = self._hangs + 1 if result.outcome is Outcome.HANG else 0
        if self._hangs >= _PATIENCE:
            self._hangs = 0
            self._given_up.add(_section(result.ident))
            if not self._answers():
                self._hopeless, self.unreachable = True, f"{_PATIENCE} cases in a row got no answer"
        return result

    def _answers(self) -> bool:
        """Whether the target, afresh where that can be had, answers a query that nothing went before."""
        session = Session(self.target, self.facts, self.timing)
        try:
            self.target.renew()
            session.connect()
            session.greet()
            if session.negotiated:
                session.prove_in_step()
            return session.negotiated
        except (TargetError, OutOfStep, Unanswered, Gone):
            return False
        finally:
            session.close()
            self.target.done()

    def _replaced(self) -> bool:
        """Whether the program had ended by its own decision, as those do that serve one client, and a fresh one runs now."""
        if self.target.ended(self.timing.patience) is None or not self.target.discard():
            return False
        try:
            self.target.renew()
        except TargetError as error:
            self.unreachable = str(error)
            return False
        self.unreachable = ""
        return True

    def _alone(self, case: Case, before: Result) -> str:
        """What becomes of a case that ruined its target when it is run once more, on one that nobody has used."""
        try:
            self.target.renew()
        except TargetError as error:
            return str(error)
        result = self._try(case)
        if result.outcome in SPOILED:
            self.target.discard()
        return "again" if result.outcome is before.outcome else f"{result.outcome} ({result.reason})"

    def _try(self, case: Case) -> Result:
        """One trial with all patience."""
        trial = Trial(case, self.target, self.facts, self.timing)
        try:
            return self._ended(self._reached(trial), trial.session, self.target)
        finally:
            trial.session.close()

    def _reached(self, trial: Trial) -> Result:
        """The result of a trial; where nobody could be reached, a crash that was told once is told no more."""
        result = trial.run()
        if trial.unreachable and (result.outcome is not Outcome.CRASH or self.dead):
            self.unreachable = trial.unreachable
            return result_of(trial.case, Outcome.NOT_REACHED, trial.unreachable)
        return result

    def _ended(self, result: Result, session: Session, target: Target) -> Result:
        """The result when all is over: a target that dies a moment later, or when it is stopped, has died of the case."""
        if result.outcome is Outcome.HANG and (doing := target.activity()):
            result = replace(result, reason=f"{result.reason}; the program {doing}")
        if result.outcome in SPOILED or self.unreachable:
            return result
        if self._deaf < _DEAF:
            self._deaf = 0 if session.leave() else self._deaf + 1
        session.close()
        end = target.done()
        if end is None or (end.is_like(self.mortal) and self.mourned):
            return result
        how = f"{end.how}, soon afterwards"
        if end.is_like(self.mortal):
            how, self.mourned = f"{end.how} when it is left or stopped, after every session; told only here", True
        reason = listed([*([result.reason] if result.reason else []), how])
        return replace(result, outcome=Outcome.CRASH, reason=reason, broken=SURVIVAL, stderr=target.stderr())


def _section(ident: str) -> str:
    return ident.partition("/")[0]
