"""One message of a case: right unless told otherwise, and what it is in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vfio_user_conformance.descriptors import Descriptor
from vfio_user_conformance.facts import Facts, resolve
from vfio_user_conformance.words import command_name, listed, said
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import REQUESTS, Command, MessageType
from vfio_user_proto.model import Record

_COMMANDS = {record: command for command, record in REQUESTS.items() if record is not None}


class Sender(Protocol):
    """Who writes messages: a session."""

    def send(self, messages: "Sequence[Send]", cuts: Sequence[int] = (), *, late: bool = False) -> None:
        """Send messages in one write, cut at ``cuts``; descriptors go with the first byte, or ``late`` behind the last cut."""


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

    def perform(self, session: "Sender") -> None:
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
        words += in_pieces(self.cuts)
        words += " as a reply" if self.kind == MessageType.REPLY else f" of type {self.kind}" if self.kind else ""
        words += " and No_reply" if self.no_reply else ""
        return words + (
            f" and {listed(self.fds, ' and ')}{' with the last piece' if self.late else ''}" if self.fds else ""
        )


def _worth_saying(value: object) -> bool:
    return bool(value) or not isinstance(value, (int, bytes, tuple)) or hasattr(value, "read")


def in_pieces(cuts: Sequence[int]) -> str:
    """How bytes are written in pieces, in words; "" where they are not."""
    return f" in pieces, cut at byte{'s' * (len(cuts) > 1)} {', '.join(map(str, cuts))}" if cuts else ""
