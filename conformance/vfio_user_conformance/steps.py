"""What a case does: messages that are right unless told otherwise, and what happens to the connection."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from vfio_user_conformance.descriptors import Descriptor
from vfio_user_conformance.facts import Facts, resolve
from vfio_user_conformance.peer import HungUp
from vfio_user_conformance.words import command_name, plural, said
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import REQUESTS, Command, MessageType
from vfio_user_proto.model import Record

if TYPE_CHECKING:
    from vfio_user_conformance.expect import AfterCheck, Expectation
    from vfio_user_conformance.peer import Seen
    from vfio_user_conformance.session import Session

# Of more steps than this the first few and the last one are told.
_MANY, _SHOWN = 24, 4

_COMMANDS = {record: command for command, record in REQUESTS.items() if record is not None}


class Step(Protocol):
    """Something that is done to the target; ``str()`` says what."""

    def perform(self, session: "Session") -> None: ...


@dataclass(frozen=True)
class Send:
    """One message: the command of ``payload``, or ``payload`` itself where it has none.

    Everything after ``fds`` is a deviation, as in ``craft``; ``command`` sends the payload under another command, ``body``
    sends bytes in place of a record, and ``cuts`` writes the message in pieces that end at these bytes. With ``late`` the
    descriptors go with the last of the pieces.
    """

    payload: Record | Command
    fds: tuple[Descriptor, ...] = ()
    no_reply: bool = False
    message_id: int | None = None
    command: int | None = None
    body: bytes | None = None
    kind: int = MessageType.COMMAND
    flags: int | None = None
    error: int = 0
    message_size: int | None = None
    extra: bytes = b""
    cut: int = 0
    cuts: tuple[int, ...] = ()
    late: bool = False

    @property
    def number(self) -> int:
        """The command's number on the wire."""
        if self.command is not None:
            return self.command
        return self.payload if isinstance(self.payload, Command) else _COMMANDS[type(self.payload)]

    def build(self, message_id: int, facts: Facts) -> bytes:
        record = self.payload if isinstance(self.payload, Record) else None
        return craft(
            self.number,
            self.body if self.body is not None else resolve(record, facts),
            message_id=message_id,
            kind=self.kind,
            no_reply=self.no_reply,
            flags=self.flags,
            error=self.error,
            message_size=self.message_size,
            extra=self.extra,
            cut=self.cut,
        )

    def perform(self, session: "Session") -> None:
        session.send((self,), self.cuts, late=self.late)

    def __str__(self) -> str:
        return self.told()

    def told(self, facts: Facts | None = None) -> str:
        """What is sent, in words; with ``facts`` as it is for one target. Raises NotApplicable where one is missing."""
        words = command_name(self.number)
        if isinstance(self.payload, Record) and self.body is None:
            given = {name: value for name, value in self.payload.as_dict().items() if _worth_saying(value)}
            given = given if facts is None else {name: resolve(value, facts) for name, value in given.items()}
            words += f" ({said(given)})" if given else ""
        odd = {
            name: getattr(self, name)
            for name in ("message_id", "body", "flags", "error", "message_size", "extra", "cut")
            if getattr(self, name) not in (None, b"", 0)
        }
        words += f" with {said(odd)}" if odd else ""
        words += _cut(self.cuts)
        words += " as a reply" if self.kind == MessageType.REPLY else f" of type {self.kind}" if self.kind else ""
        words += " and No_reply" if self.no_reply else ""
        return words + (
            f" and {listed(self.fds, ' and ')}{' with the last piece' if self.late else ''}" if self.fds else ""
        )


def _worth_saying(value: object) -> bool:
    return bool(value) or not isinstance(value, (int, bytes, tuple)) or hasattr(value, "read")


@dataclass(frozen=True)
class Together:
    """Several messages in one write, without descriptors."""

    messages: tuple[Send, ...]
    cuts: tuple[int, ...] = ()

    def perform(self, session: "Session") -> None:
        session.send(self.messages, self.cuts)

    def __str__(self) -> str:
        return self.told()

    def told(self, facts: Facts | None = None) -> str:
        """As in ``Send``."""
        return f"in one write{_cut(self.cuts)}: {listed(each.told(facts) for each in self.messages)}"


@dataclass(frozen=True)
class Raw:
    """Bytes that are no message."""

    data: bytes
    fds: tuple[Descriptor, ...] = ()

    def perform(self, session: "Session") -> None:
        session.send_raw(self.data, self.fds)

    def __str__(self) -> str:
        return f"the bytes {self.data.hex(' ', -4)}" + (f" and {listed(self.fds, ' and ')}" if self.fds else "")


@dataclass(frozen=True)
class Sip:
    """From now on read at most ``count`` bytes at a time."""

    count: int

    def perform(self, session: "Session") -> None:
        session.sip(self.count)

    def __str__(self) -> str:
        return f"read {plural(self.count, 'byte')} at a time"


@dataclass(frozen=True)
class HalfClose:
    """Send no more, and go on reading."""

    def perform(self, session: "Session") -> None:
        session.half_close()

    def __str__(self) -> str:
        return "close the sending half of the connection"


@dataclass(frozen=True)
class Disconnect:
    """Close the connection."""

    def perform(self, session: "Session") -> None:
        session.disconnect()

    def __str__(self) -> str:
        return "close the connection"


@dataclass(frozen=True)
class Reconnect:
    """Close the connection, make a new one, and negotiate."""

    def perform(self, session: "Session") -> None:
        session.reconnect()

    def __str__(self) -> str:
        return "close the connection and make a new one"


@dataclass(frozen=True)
class Restart:
    """Stop the program, start a fresh one, and negotiate."""

    def perform(self, session: "Session") -> None:
        session.restart()

    def __str__(self) -> str:
        return "start the program afresh"


@dataclass(frozen=True)
class Afresh:
    """A new connection; to a fresh program where the present one has ended."""

    def perform(self, session: "Session") -> None:
        session.afresh()

    def __str__(self) -> str:
        return "make a new connection"


@dataclass(frozen=True)
class Exchange:
    """Steps, and what they are to bring about, in order."""

    steps: tuple[Step, ...]
    expect: "tuple[Expectation | AfterCheck, ...]"


def exchange(
    steps: "Step | Sequence[Step]", expect: "Expectation | AfterCheck | Sequence[Expectation | AfterCheck]"
) -> Exchange:
    """An exchange of one or several steps and expectations."""
    return Exchange(_tuple(steps), _tuple(expect))


def listed(steps: Iterable[object], between: str = "; ") -> str:
    """Steps in words; those that follow each other and are alike are counted, and of many the middle is left out."""
    groups = [(words, len(list(group))) for words, group in groupby(map(str, steps))]
    counted = [words if count == 1 else f"{count} times {words}" for words, count in groups]
    if len(counted) > _MANY:
        left_out = sum(count for _, count in groups[_SHOWN:-1])
        counted = [*counted[:_SHOWN], f"… {left_out} more …", counted[-1]]
    return between.join(counted)


def _cut(cuts: Sequence[int]) -> str:
    """How bytes are written in pieces, in words; "" where they are not."""
    return f" in pieces, cut at byte{'s' * (len(cuts) > 1)} {', '.join(map(str, cuts))}" if cuts else ""


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


class Script(Protocol):
    """The rare case whose next step depends on the facts or on an answer: it yields exchanges and gets what was seen."""

    def __call__(self, facts: Facts, /) -> "Generator[Exchange, Seen, None]": ...


def each(steps: "Sequence[Step]", expect: "Expectation | Sequence[Expectation | AfterCheck]") -> Script:
    """A script that does one step after another, each with what it is to bring about; on a new connection after each loss."""

    def script(facts: Facts) -> "Generator[Exchange, Seen, None]":
        lost = False
        for step in steps:
            if lost:
                yield Exchange((Afresh(),), ())
            lost = isinstance((yield exchange(step, expect)), HungUp)

    return script
