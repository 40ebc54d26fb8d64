"""The observer: a server's engine that shows every message, both ways, to the checks."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from vfio_user_conformance.verdict import Result
from vfio_user_conformance.witness.check import Check, Tally
from vfio_user_conformance.witness.seen import Known, Seen, decoded
from vfio_user_conformance.words import plural
from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.events import CommandReceived, Outgoing
from vfio_user_proto.model import Record
from vfio_user_proto.states import Role
from vfio_user_proto.unix import kind_of

# So many messages before a finding are kept with it.
_BEFORE: Final = 24
# Seconds that a client has for a reply to a command of ours. QEMU 11.1 gives up on its own commands after 5.
PATIENCE: Final = 3.0


class Witness:
    """Judges one run, of one connection or several after each other.

    ``found`` names the checks that found something, in the order in which they did. ``watchers`` get every message. A client
    has ``patience`` seconds for a reply, as long as the server waits for one.
    """

    def __init__(self, checks: Sequence[Check], patience: float = PATIENCE) -> None:
        self.tallies: Final = [Tally(check) for check in checks]
        self.found: list[str] = []
        self.connections = self.messages = 0
        self.watchers: list[Callable[[Seen], None]] = []
        self.patience: Final = patience
        self._begin()

    def connection(self, role: Role) -> Connection:
        """The engine of a new connection (``session.Options.connection``)."""
        self.connections += 1
        self._begin()
        return _Watched(role, self, "main")

    def results(self, stderr: str = "") -> list[Result]:
        """One result per check; ``stderr`` is what the client printed."""
        return [tally.result(stderr) for tally in self.tallies]

    @property
    def seen(self) -> str:
        """How much came, in words."""
        return f"{plural(self.messages, 'message')} on {plural(self.connections, 'connection')}"

    @property
    def recent(self) -> tuple[dict[str, Any], ...]:
        """The last messages of the last connection, both ways, as results carry them."""
        return tuple(each.as_dict() for each in self._recent)

    def end(self) -> None:
        """The client has left. Commands of ours to which it owed a reply for less than ``patience`` seconds do not count."""
        due = self._time() - self.patience
        for line, asked in self._known.asked.items():
            self._known.asked[line] = [each for each in asked if each.t <= due]
        self._judge(None, ((tally, tally.check.at_end(self._known)) for tally in self.tallies))

    # What the engines tell.

    def came(self, line: str, data: bytes, fds: Sequence[int], late: int, *, whole: bool) -> None:
        """A message of the client's, or what there is of one that cannot be whole."""
        kinds = tuple({"kind": kind_of(fd)} for fd in fds)
        now = decoded(line, "client", self._time(), data, fds=kinds, late=late, whole=whole)
        if now.is_reply:
            now = replace(now, answers=self._known.answered_by(now))
        self.messages += 1
        self._keep(now)
        self._judge(now, ((tally, tally.check.judge(now, self._known)) for tally in self.tallies))
        self._known.took(now)

    def asked(self, line: str, sent: Outgoing) -> None:
        """A command of ours goes out."""
        now = decoded(line, "server", self._time(), sent.data)
        self._known.asks(now)
        self._keep(now)

    def replied(
        self, line: str, to: CommandReceived, sent: Outgoing | None, payload: Record | None, refused: bool
    ) -> None:
        """We have carried out or refused a command; nothing goes out where no reply was wanted."""
        self._known.replied(to.message.payload, to.message.header.command, payload, refused=refused)
        if sent is not None:
            kinds = tuple({"kind": kind_of(fd)} for fd in sent.fds)
            now = decoded(line, "server", self._time(), sent.data, fds=kinds)
            self._known.answers(now, self.patience)
            self._keep(now)

    def _begin(self) -> None:
        self._known = Known()
        self._recent: deque[Seen] = deque(maxlen=_BEFORE)
        self._began = time.monotonic()

    def _time(self) -> float:
        return time.monotonic() - self._began

    def _keep(self, now: Seen) -> None:
        self._recent.append(now)
        for watcher in self.watchers:
            watcher(now)

    def _judge(self, now: Seen | None, said: Iterable[tuple[Tally, str | None]]) -> None:
        for tally, verdict in said:
            if verdict is None:
                continue
            tally.judged += 1
            if verdict:
                tally.wrong += 1
            if verdict and tally.wrong == 1:
                tally.reason, tally.first = verdict, now
                tally.messages = self.recent
                self.found.append(tally.check.ident)


class _Watched(Connection):
    """The engine of a server whose messages are all shown to a witness: what came in before it is judged by the engine."""

    by_message = False

    def __init__(self, role: Role, witness: Witness, line: str, **settings: Any) -> None:
        super().__init__(role, **settings)
        self._witness, self._line = witness, line
        self._came, self._with, self._late = b"", list[int](), 0

    def twin(self) -> Connection:
        other = _Watched(self.role, self._witness, "twin", limit=self.limit, max_fds=self.max_fds)
        other.state = super().twin().state
        return other

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self._late += len(fds) if self._came else 0
        self._came += data
        self._with += fds
        size = wire.decode_header(self._came).message_size if len(self._came) >= wire.HEADER_SIZE else 0
        if data and size == len(self._came):
            self._show(whole=True)
        try:
            super().receive(data, fds)
        except RemoteProtocolError:
            if self._came:
                self._show(whole=False)
            raise

    def command(
        self, command: int, payload: Record | None = None, *, fds: Sequence[int] = (), no_reply: bool = False
    ) -> Outgoing:
        sent = super().command(command, payload, fds=fds, no_reply=no_reply)
        self._witness.asked(self._line, sent)
        return sent

    def reply(self, to: CommandReceived, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Outgoing | None:
        sent = super().reply(to, payload, fds=fds)
        self._witness.replied(self._line, to, sent, payload, False)
        return sent

    def error(self, to: CommandReceived, errno: int) -> Outgoing | None:
        sent = super().error(to, errno)
        self._witness.replied(self._line, to, sent, None, True)
        return sent

    def _show(self, *, whole: bool) -> None:
        came, passed, late = self._came, tuple(self._with), self._late
        self._came, self._with, self._late = b"", [], 0
        self._witness.came(self._line, came, passed, late, whole=whole)
