"""A run against a server: mutated sessions, what they bring to light, and that as evidence."""

import contextlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from vfio_user_fuzz.conversation import Conversation, Ending, converse
from vfio_user_fuzz.corpus import corpus
from vfio_user_fuzz.minimise import Session, minimise
from vfio_user_fuzz.mutations import mutate_session, seeded
from vfio_user_fuzz.sessions import Offer, legal, packets_of, proposal
from vfio_user_fuzz.targets import Target, hold
from vfio_user_proto import __version__, wire
from vfio_user_proto.errors import TargetError, TransportError
from vfio_user_proto.messages import HeaderFlags, MessageType
from vfio_user_proto.trace import Capture, Captured, write_capture

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

    ``confirmed`` says whether that session alone shows it on a server that did nothing before.
    """

    symptom: Symptom
    number: int
    session: Session
    confirmed: bool
    traffic: tuple[Captured, ...]
    stderr: str
    hits: int = 1
    file: Path | None = None


@dataclass
class Report:
    """What came of a run: ``messages`` were sent in ``sessions`` sessions.

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
    stopped: str = ""

    def lines(self) -> list[str]:
        """The report as a person reads it."""
        rate = self.messages / self.sending if self.sending else 0.0
        lines = [
            f"{self.target}: seed {self.seed}, {self.sessions} sessions, {self.messages} messages in {self.seconds:.1f} s "
            f"({rate:.0f} per second), {self.restarts} restarts, {len(self.findings) or 'no'} findings"
        ]
        for finding in self.findings:
            times = f"{finding.hits} hit{'s' * (finding.hits > 1)}, first in session {finding.number}"
            size = f"{len(finding.session)} message{'s' * (len(finding.session) > 1)}"
            again = "" if finding.confirmed else ", not seen again on a fresh server"
            lines.append(f"{finding.symptom}: {times}; {size}{again}{f'; {finding.file}' if finding.file else ''}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}")
        return lines


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
        """Send sessions until a limit is reached. Work done so far is in the report where the server cannot go on."""
        report = Report(self.target.name, self.seed)
        known: dict[Key, Finding] = {}
        begin = time.monotonic()
        try:
            while not self._over(report.sessions, time.monotonic() - begin):
                session = session_of(self.seed, report.sessions, self.offer)
                start = time.monotonic()
                symptom, talk = self._try(session, report.sessions)
                report.sending += time.monotonic() - start
                report.sessions += 1
                report.messages += sum(message.sender == "client" for message in talk.traffic)
                if symptom is not None:
                    self._take(symptom, session, talk, report, known)
        except TargetError as problem:
            report.stopped = str(problem)
        report.seconds = time.monotonic() - begin
        report.restarts = self.target.restarts
        return report

    def _over(self, sessions: int, seconds: float) -> bool:
        return (self.steps is not None and sessions >= self.steps) or (
            self.seconds is not None and seconds >= self.seconds
        )

    def _try(self, session: Session, number: int) -> tuple[Symptom | None, Conversation]:
        """Send one session and look at what it did to the server. Raises TargetError where there is no server."""
        talk = hold(self.target, session, seeded(self.seed, number, "replies"), patience=self.patience)
        return self._symptom(talk), talk

    def _symptom(self, talk: Conversation) -> Symptom | None:
        if talk.ending is Ending.SILENT:
            return Symptom(Kind.HANG, "says nothing more", talk.suspect)
        if failure := self.target.failure():
            return Symptom(Kind.CRASH, failure, talk.suspect)
        if talk.ending is Ending.OUT_OF_STEP:
            return Symptom(Kind.OUT_OF_STEP, talk.problem, talk.suspect)
        problem = self._life()
        return None if problem is None else Symptom(*problem, talk.suspect)

    def _life(self) -> tuple[Kind, str] | None:
        """What is wrong with the server now: a new client must be served, or the program have ended by itself."""
        try:
            with contextlib.closing(self.target.connect()) as stream:
                talk = converse(stream, packets_of([proposal(self.offer)]), seeded(), patience=self.patience)
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
        self, symptom: Symptom, session: Session, talk: Conversation, report: Report, known: dict[Key, Finding]
    ) -> None:
        """Count a known cause once more; confirm a new one, make it small and keep it."""
        finding = Finding(symptom, report.sessions - 1, session, False, talk.traffic, self.target.stderr())
        self.target.close()
        if symptom.key not in known:
            with contextlib.suppress(TargetError):  # it is kept unconfirmed; the next session says that nobody is there
                self._confirm(finding)
        first = known.setdefault(finding.symptom.key, finding)
        known[symptom.key] = first
        if first is not finding:
            first.hits += 1
            return
        if self.save is not None:
            finding.file = self.save / file_name(finding)
            write_capture(finding.file, evidence(finding, self.target.name, self.seed))
        report.findings.append(finding)
        self.note(finding)

    def _confirm(self, finding: Finding) -> None:
        """Try again what was found on a server that did nothing before, and then what is left of it when made small."""
        first = finding.symptom

        def fails(session: Session, *, fresh: bool = False) -> bool:
            """Whether it does so on the server as the last attempt left it and, where it does, on a fresh one."""
            unused = self.target.prepare(fresh=fresh)
            seen, _ = self._try(session, finding.number)
            if seen is None:
                return False
            self.target.close()
            return seen.key[:2] == first.key[:2] and (unused or fresh or fails(session, fresh=True))

        finding.confirmed = any(fails(finding.session, fresh=True) for _ in range(_CONFIRMATIONS))
        if not finding.confirmed:
            return
        attempts = _ATTEMPTS_AT_A_HANG if first.kind is Kind.HANG else _ATTEMPTS
        session = minimise(finding.session, fails, attempts=attempts)
        self.target.prepare(fresh=True)
        last, talk = self._try(session, finding.number)
        if last is not None:
            finding.symptom, finding.session = last, session
            finding.traffic, finding.stderr = talk.traffic, self.target.stderr()
        self.target.close()


def file_name(finding: Finding) -> str:
    """A name for the evidence: kind, message, and the session that showed it first."""
    words = re.sub("[^a-z0-9]+", "-", finding.symptom.suspect.removeprefix("VFIO_USER_").lower())
    return f"{finding.symptom.kind}-{words}-{finding.number}.jsonl"


def evidence(finding: Finding, target: str, seed: int) -> Capture:
    """The finding as a file that ``vfio-user conformance replay`` sends again."""
    head = {
        "vfio-user-evidence": 1,
        "case": f"fuzz/{finding.symptom.kind}",
        "outcome": str(finding.symptom.kind),
        "reason": str(finding.symptom),
        "target": target,
        "suite": __version__,
        "spec": SPEC,
        "seed": seed,
        "session": finding.number,
        "confirmed": finding.confirmed,
        "stderr": finding.stderr,
    }
    return Capture(head, finding.traffic)
