"""A run against a server: mutated sessions, what they bring to light, and that as evidence."""

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, chain
from pathlib import Path
from typing import Final, NamedTuple

from vfio_user_fuzz.conversation import Conversation, Ending, converse
from vfio_user_fuzz.corpus import corpus
from vfio_user_fuzz.minimise import Session, minimise, without
from vfio_user_fuzz.mutations import mutate_session, seeded
from vfio_user_fuzz.sessions import Offer, legal, packets_of, proposal
from vfio_user_fuzz.targets import Target, hold
from vfio_user_proto import __version__, wire
from vfio_user_proto.errors import TargetError, TransportError
from vfio_user_proto.messages import HeaderFlags, MessageType
from vfio_user_proto.trace import EVIDENCE, FORMAT, Capture, Captured, write_capture

# How long a legal session is before it is mutated; most are short, so that a finding is easy to read.
_LENGTHS: Final = (0, 1, 1, 2, 3, 5, 8, 13)
_TYPE: Final = int(HeaderFlags.TYPE)
# The revision of the document whose tables the messages are made from.
SPEC: Final = "0.9.2"
# How often a failing session is tried again to make it smaller; each try at a hang takes all our patience.
_ATTEMPTS: Final = 120
_ATTEMPTS_AT_A_HANG: Final = 40
# A failing session is tried so often on a fresh server: some failures depend on how the bytes happen to arrive.
_CONFIRMATIONS: Final = 4
# Then a silence has to last so much longer: a server, or a machine, that was only busy has answered by then.
_LONGER: Final = 4
# Where it fails only behind sessions that went before, so often it is tried with fewer of them.
_ATTEMPTS_BEHIND: Final = 24
_ATTEMPTS_BEHIND_AT_A_HANG: Final = 6
# A cause that was not seen again is tried so often, each time with the session that showed it then.
_DOUBTS: Final = 3
# A line in a source file alone tells one cause from another; other numbers differ from hit to hit.
_PLACE: Final = re.compile(r"\S+\w:\d+")
_NUMBERS: Final = re.compile(r"0x[0-9a-fA-F]+|\d+")


Key = tuple[str, str, str]


class Kind(StrEnum):
    """What a server did wrong."""

    CRASH = "crash"
    HANG = "hang"
    OUT_OF_STEP = "desync"
    GONE = "gone"


class Symptom(NamedTuple):
    """What was noticed, and after which message."""

    kind: Kind
    text: str
    suspect: str

    @property
    def key(self) -> Key:
        """The same for all hits of one cause, as far as anyone can tell from outside."""
        place = _PLACE.search(self.text)
        return (self.kind, place[0], "") if place else (self.kind, _NUMBERS.sub("N", self.text), self.suspect)

    def __str__(self) -> str:
        return f"{self.kind}: {self.text} ({self.suspect})"


@dataclass
class Finding:
    """One cause: its symptom, the session that shows it, made small, and how often it was hit.

    ``confirmed`` says whether that session shows it again on a fresh server; None where that could not be tried. What was tried
    and not seen again is no finding: somebody may have been slow for once. ``behind`` are the numbers of sessions that have to
    go before; ``connects`` is where in ``traffic`` each of all these begins.
    """

    symptom: Symptom
    number: int
    session: Session
    confirmed: bool | None
    traffic: tuple[Captured, ...]
    stderr: str
    behind: tuple[int, ...] = ()
    connects: tuple[int, ...] = (0,)
    hits: int = 1
    file: Path | None = None


@dataclass
class Report:
    """What came of a run: ``messages`` were sent in ``sessions`` sessions. ``doubts`` were not seen again.

    It took ``seconds`` in all, and ``sending`` of these without confirming findings and making them small.
    """

    target: str
    seed: int
    sessions: int = 0
    messages: int = 0
    seconds: float = 0.0
    sending: float = 0.0
    restarts: int = 0
    findings: list[Finding] = field(default_factory=list)
    doubts: list[Finding] = field(default_factory=list)
    stopped: str = ""

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        rate = self.messages / self.sending if self.sending else 0.0
        lines = [
            f"{self.target}: seed {self.seed}, {self.sessions} sessions, {self.messages} messages in {self.seconds:.1f} s "
            f"({rate:.0f} per second), {self.restarts} restarts, {_findings(len(self.findings))}"
        ]
        for finding in (*self.findings, *self.doubts):
            times = f"{finding.hits} hit{'s' * (finding.hits > 1)}, first in session {finding.number}"
            size = f"{len(finding.session)} message{'s' * (len(finding.session) > 1)}"
            behind = f", behind {len(finding.behind)} other sessions" if finding.behind else ""
            untried = ", not tried again" if finding.confirmed is None else ""
            file = f"; {finding.file}" if finding.file else ""
            doubt = "no finding, because not seen again on a fresh server: " * (finding.confirmed is False)
            lines.append(f"{doubt}{finding.symptom}: {times}; {size}{behind}{untried}{file}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        return lines


def _findings(count: int) -> str:
    return "1 finding" if count == 1 else f"{count or 'no'} findings"


def session_of(seed: int, number: int, offer: Offer) -> Session:
    """The session that a run with ``seed`` sends as its ``number``-th, counted from 0."""
    rng = seeded(seed, number)
    steps = legal(rng, offer, steps=rng.choice(_LENGTHS))
    return mutate_session(rng, packets_of((proposal(offer), *steps)), _SPARE)


# Replies are left out: a server that cannot step over one would see little else.
_SPARE: Final = tuple(
    data
    for data in corpus().values()
    if len(data) < wire.HEADER_SIZE or int(wire.decode_header(data).flags) & _TYPE != MessageType.REPLY
)


@dataclass(frozen=True)
class Run:
    """How a run goes: for ``seconds`` and at most ``steps`` sessions, None for no such limit; evidence goes into ``save``.

    ``patience`` is how many seconds a server may be silent.
    """

    target: Target
    offer: Offer
    seed: int
    seconds: float | None = None
    steps: int | None = None
    save: Path | None = None
    patience: float = 2.0
    note: Callable[[Finding], None] = lambda finding: None

    def run(self) -> Report:
        """Send sessions until a limit is reached. What was done so far is in the report where one of both cannot go on."""
        report = Report(self.target.name, self.seed)
        known: dict[Key, Finding] = {}
        begin = time.monotonic()
        first = 0  # of the sessions that the program had which is running
        try:
            while not self._over(report.sessions, time.monotonic() - begin):
                session = session_of(self.seed, report.sessions, self.offer)
                start, restarts = time.monotonic(), self.target.restarts
                symptom, talk = self._try(session, report.sessions, self.patience)
                first = first if self.target.restarts == restarts else report.sessions
                report.sending += time.monotonic() - start
                report.sessions += 1
                report.messages += sum(message.sender == "client" for message in talk.traffic)
                if symptom is not None:
                    behind = tuple(range(first, report.sessions - 1))
                    self._take(symptom, session, talk, behind, report, known)
        except TargetError as problem:
            report.stopped = str(problem)
        except KeyboardInterrupt:
            report.stopped = "interrupted"
        report.seconds = time.monotonic() - begin
        report.restarts = self.target.restarts
        return report

    def _over(self, sessions: int, seconds: float) -> bool:
        return (self.steps is not None and sessions >= self.steps) or (
            self.seconds is not None and seconds >= self.seconds
        )

    def _try(self, session: Session, number: int, patience: float) -> tuple[Symptom | None, Conversation]:
        """Send one session and look at what it did to the server. Raises TargetError where there is no server."""
        talk = hold(self.target, session, seeded(self.seed, number, "replies"), patience=patience)
        return self._symptom(talk, patience), talk

    def _symptom(self, talk: Conversation, patience: float) -> Symptom | None:
        if talk.ending is Ending.SILENT:
            return Symptom(Kind.HANG, "says nothing more", talk.suspect)
        if failure := self.target.failure():
            return Symptom(Kind.CRASH, failure, talk.suspect)
        if talk.ending is Ending.OUT_OF_STEP:
            return Symptom(Kind.OUT_OF_STEP, talk.problem, talk.suspect)
        problem = self._life(patience)
        return None if problem is None else Symptom(*problem, talk.suspect)

    def _life(self, patience: float) -> tuple[Kind, str] | None:
        """What is wrong with the server now: a new client must be served, or the program have ended by itself."""
        try:
            with contextlib.closing(self.target.connect()) as stream:
                talk = converse(stream, packets_of([proposal(self.offer)]), seeded(), patience=patience)
        except TransportError as problem:
            return self._after_end(f"nobody listens any more: {problem}")
        match talk.ending:
            case Ending.OUT_OF_STEP:
                return Kind.OUT_OF_STEP, f"to a new client {talk.problem}"
            case Ending.SILENT:
                return Kind.HANG, "does not answer a new client"
            case Ending.ANSWERED:
                if wire.decode(talk.traffic[-1].data).is_error:
                    # In step, but in a state that a session left behind; no further session would get anywhere.
                    self.target.close()
                    return None
                failure = self.target.failure()
                return (Kind.CRASH, failure) if failure else None
        return self._after_end("closes a new connection at once")

    def _after_end(self, otherwise: str) -> tuple[Kind, str] | None:
        """What it means that a new client is not served: a failure, an end that is none, or ``otherwise``."""
        if failure := self.target.failure(self.patience):
            return Kind.CRASH, failure
        return None if self.target.ended() else (Kind.GONE, otherwise)

    def _take(
        self,
        symptom: Symptom,
        session: Session,
        talk: Conversation,
        behind: tuple[int, ...],
        report: Report,
        known: dict[Key, Finding],
    ) -> None:
        """Count a known cause once more; confirm a new one, make it small and keep it."""
        finding = Finding(symptom, report.sessions - 1, session, None, talk.traffic, self.target.stderr())
        self.target.close()
        before = known.get(symptom.key)
        if before is None or (before.confirmed is False and before.hits < _DOUBTS):
            with contextlib.suppress(TargetError):  # it is kept untried; the next session says that nobody is there
                self._confirm(finding)
                if finding.confirmed is False and behind:
                    self._confirm_behind(finding, behind)
            before = known.get(finding.symptom.key, before)
        if before is not None and (before.confirmed is not False or finding.confirmed is not True):
            before.hits += 1
            known[symptom.key] = before
            return
        if before is not None:  # the doubt was unfounded
            finding.hits += before.hits
            report.doubts.remove(before)
        hits = {symptom.key, finding.symptom.key, *(key for key, each in known.items() if each is before)}
        known.update(dict.fromkeys(hits, finding))
        if self.save is not None:
            finding.file = self.save / file_name(finding)
            write_capture(finding.file, evidence(finding, self.target.name, self.seed))
        if finding.confirmed is False:
            report.doubts.append(finding)
        else:
            report.findings.append(finding)
            self.note(finding)

    def _confirm(self, finding: Finding) -> None:
        """Try again what was found on a server that did nothing before, and then what is left of it when made small."""
        patience = self.patience * _LONGER
        tries = (self._shown(finding, finding.session, patience, fresh=True) for _ in range(_CONFIRMATIONS))
        shown = next(filter(None, tries), None)
        finding.confirmed = shown is not None
        if shown is None:
            return
        attempts = _ATTEMPTS_AT_A_HANG if finding.symptom.kind is Kind.HANG else _ATTEMPTS
        small = minimise(
            finding.session, lambda each: self._shown(finding, each, self.patience) is not None, attempts=attempts
        )
        shown = self._shown(finding, small, patience, fresh=True) or shown
        finding.symptom, finding.session, finding.traffic, finding.stderr = shown

    def _confirm_behind(self, finding: Finding, behind: tuple[int, ...]) -> None:
        """Try again what the session does not show alone, behind those that the server had before, and then behind fewer."""
        left = _ATTEMPTS_BEHIND_AT_A_HANG if finding.symptom.kind is Kind.HANG else _ATTEMPTS_BEHIND
        shown, progress = self._shown_behind(finding, behind), True
        while shown is not None and progress:
            progress = False
            for fewer in without(behind):
                left -= 1
                if left < 0:
                    break
                if (again := self._shown_behind(finding, fewer)) is not None:
                    behind, shown, progress = fewer, again, True
                    break
        if shown is not None:
            finding.symptom, finding.stderr, finding.behind, finding.confirmed = shown[0], shown[2], behind, True
            finding.connects = (0, *accumulate(map(len, shown[1][:-1])))
            finding.traffic = tuple(chain.from_iterable(shown[1]))

    def _shown_behind(
        self, finding: Finding, behind: tuple[int, ...]
    ) -> tuple[Symptom, list[tuple[Captured, ...]], str] | None:
        """What the session shows on a fresh server behind others, the traffic of each, and what was printed."""
        if not self.target.prepare(fresh=True):
            return None  # it is not ours to start
        traffic = list[tuple[Captured, ...]]()
        for number in behind:
            seen, talk = self._try(session_of(self.seed, number, self.offer), number, self.patience)
            traffic.append(talk.traffic)
            if seen is not None:
                self.target.close()
                return None
        seen, talk = self._try(finding.session, finding.number, self.patience * _LONGER)
        stderr = self.target.stderr()
        self.target.close()
        alike = seen is not None and seen.key[:2] == finding.symptom.key[:2]
        return (seen, [*traffic, talk.traffic], stderr) if seen is not None and alike else None

    def _shown(self, finding: Finding, session: Session, patience: float, *, fresh: bool = False) -> "Shown | None":
        """What a session shows, where that is what was found: on the server as it is, and then on a fresh one."""
        unused = self.target.prepare(fresh=fresh)
        seen, talk = self._try(session, finding.number, patience)
        if seen is None:
            return None
        shown = Shown(seen, session, talk.traffic, self.target.stderr())
        self.target.close()
        if seen.key[:2] != finding.symptom.key[:2]:
            return None
        return shown if unused or fresh else self._shown(finding, session, patience, fresh=True)


class Shown(NamedTuple):
    """A session that shows a symptom, and what it left behind."""

    symptom: Symptom
    session: Session
    traffic: tuple[Captured, ...]
    stderr: str


def file_name(finding: Finding) -> str:
    """A name for the evidence: kind, message, and the session that showed it first."""
    words = re.sub("[^a-z0-9]+", "-", finding.symptom.suspect.removeprefix("VFIO_USER_").lower())
    return f"{'doubtful-' * (finding.confirmed is False)}{finding.symptom.kind}-{words}-{finding.number}.jsonl"


def evidence(finding: Finding, target: str, seed: int) -> Capture:
    """The finding as a file that ``vfio-user conformance replay`` sends again."""
    head = {
        EVIDENCE: FORMAT,
        "case": f"fuzz/{finding.symptom.kind}",
        "outcome": str(finding.symptom.kind),
        "reason": str(finding.symptom),
        "target": target,
        "suite": __version__,
        "spec": SPEC,
        "seed": seed,
        "session": finding.number,
        "confirmed": finding.confirmed,
        "behind": list(finding.behind),
        "connects": list(finding.connects),
        "stderr": finding.stderr,
    }
    return Capture(head, finding.traffic)
