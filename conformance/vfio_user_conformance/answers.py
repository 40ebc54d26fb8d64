"""How the target's commands for client memory are answered: right, or wrong in one way; and what these commands must be."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from errno import EFAULT, EINVAL

from vfio_user_conformance.acting import Operation
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Problem
from vfio_user_conformance.memory import Pages
from vfio_user_conformance.peer import Peer, Received, type_of
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import command_name, listed, shown
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import (
    Command,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteReply,
    DmaWriteRequest,
    HeaderFlags,
    MessageType,
)
from vfio_user_proto.model import Record


@dataclass(frozen=True)
class Answer:
    """How a command for client memory is answered: right, unless told otherwise.

    ``error`` refuses it. ``message_id``, ``address`` and ``count`` are added to the fields of the reply, ``cut`` bytes are
    missing at its end and ``extra`` follow, both counted in its size; ``lost`` bytes are missing from the data and from the
    count; ``command`` is named in place of its own. ``narrow`` gives a count of 4 bytes. The reply is sent in pieces that end
    at ``cuts``. ``twice`` sends it twice, ``stray`` sends one with another id before it, and ``asides`` are commands of ours
    that go first.
    """

    error: int | None = None
    message_id: int = 0
    address: int = 0
    count: int = 0
    lost: int = 0
    cut: int = 0
    extra: bytes = b""
    command: int | None = None
    kind: int = MessageType.REPLY
    narrow: bool = False
    cuts: tuple[int, ...] = ()
    twice: bool = False
    stray: bool = False
    asides: tuple[Send, ...] = ()

    def give(self, session: Session, peer: Peer, seen: Received, payload: Record) -> None:
        """Answer ``seen``, to which ``payload`` is the right answer."""
        for message in self.asides:
            session.aside(message)
        header = seen.message.header
        if isinstance(payload, DmaReadReply) and self.lost:
            payload = payload.replace(data=payload.data[: -self.lost], count=payload.count - self.lost)
        assert isinstance(payload, (DmaReadReply, DmaWriteReply))
        body = wire.encode_record(
            payload.replace(address=payload.address + self.address, count=payload.count + self.count)
        )
        body = (body[:12] if self.narrow else body)[: len(body) - self.cut] + self.extra
        flags = self.kind
        if self.error is not None:
            body, flags = self.extra, flags | HeaderFlags.ERROR
        command = header.command if self.command is None else self.command
        message_id = (header.message_id + self.message_id) & 0xFFFF
        reply = craft(command, body, message_id=message_id, flags=flags, error=self.error or 0)
        stray = craft(command, body, message_id=message_id ^ 0x4000, flags=flags)
        peer.send([*([stray] if self.stray else []), reply, *([reply] if self.twice else [])], cuts=self.cuts)

    def __str__(self) -> str:
        odd = {name: value for name, value in vars(self).items() if value != getattr(RIGHT, name)}
        asides = f" after {listed(odd.pop('asides'), ' and ')}" if "asides" in odd else ""
        words = [_SWITCHES[name] for name in _SWITCHES if odd.pop(name, False)]
        words += [_CHANGES[name].format(shown(value)) for name, value in odd.items()]
        return f"answer it{' with ' if words else ''}{', '.join(words)}{asides}"


RIGHT = Answer()
# What an answer's fields are in words.
_SWITCHES: Mapping[str, str] = {
    "narrow": "a count of 4 bytes",
    "twice": "the same reply twice",
    "stray": "a reply of another id before it",
}
_CHANGES: Mapping[str, str] = {
    "error": "error {}",
    "message_id": "an id that is off by {}",
    "address": "an address that is off by {}",
    "count": "a count that is off by {}",
    "lost": "{} bytes fewer than asked for",
    "cut": "{} bytes missing at its end",
    "extra": "{} more behind it",
    "command": "command {}",
    "kind": "type {}",
    "cuts": "cuts {}",
}


@dataclass(frozen=True)
class Serve:
    """From here on, answer the target's commands for the memory that is at these addresses.

    ``answer`` is given to the command number ``only``, from 1 on, or to each; the others are answered right.
    """

    ranges: tuple[tuple[int, Pages], ...]
    answer: Answer = RIGHT
    only: int = 0

    def perform(self, session: Session) -> None:
        session.answer = self._answer

    def _answer(self, session: Session, peer: Peer, seen: Received) -> None:
        if seen.message.header.flags & HeaderFlags.NO_REPLY:
            return
        answer = self.answer if self.only in (0, len(session.commands)) else RIGHT
        payload = self._payload(session, seen, store=answer.error is None)
        if isinstance(payload, int):
            header = seen.message.header
            flags = MessageType.REPLY | HeaderFlags.ERROR
            peer.send((craft(header.command, message_id=header.message_id, flags=flags, error=payload),))
        else:
            answer.give(session, peer, seen, payload)

    def _payload(self, session: Session, seen: Received, *, store: bool) -> Record | int:
        """The right reply, when what it asks for is done; the errno where that cannot be. Data are kept with ``store``."""
        asked = seen.message.payload
        if not isinstance(asked, (DmaReadRequest, DmaWriteRequest)):
            return EINVAL
        for begin, memory in self.ranges:
            if begin <= asked.address and asked.address + asked.count <= begin + memory.size:
                ours, at = session.handle(memory).ours, asked.address - begin
                if isinstance(asked, DmaReadRequest):
                    return DmaReadReply(address=asked.address, data=os.pread(ours, asked.count, at))
                if store:
                    os.pwrite(ours, asked.data, at)
                return DmaWriteReply(address=asked.address, count=asked.count)
        return EFAULT

    def __str__(self) -> str:
        which = f"command {self.only}" if self.only else "each command"
        odd = "" if self.answer == RIGHT else f": to {which}, {self.answer}"
        return f"serve the memory at {' and '.join(f'{begin:#x}' for begin, _ in self.ranges)} by message{odd}"


@dataclass(frozen=True)
class Commands(AfterCheck):
    """The target asked for memory, and did so right: by commands of this kind that are whole.

    They lie within ``size`` bytes at ``address`` and move at most ``limit`` bytes each.
    """

    operation: Operation
    address: int
    size: int
    limit: int = 1 << 20

    def check(self, session: Session) -> list[Problem]:
        command = Command.DMA_WRITE if self.operation == "write" else Command.DMA_READ
        came = [each.seen for each in session.commands]
        if not came:
            return [Problem(f"no {command_name(command)} came", "dma-map.without-descriptor")]
        found = list[Problem]()
        for seen in came:
            header, asked = seen.message.header, seen.message.payload
            if header.command != command or type_of(seen.message) != MessageType.COMMAND:
                found.append(Problem(f"what came is {seen}", "header.type"))
            elif not isinstance(asked, (DmaReadRequest, DmaWriteRequest)) or seen.message.trailing or seen.problem:
                found.append(Problem(f"the payload of {seen} does not fit its table", "header.message-size"))
            elif not (self.address <= asked.address and asked.address + asked.count <= self.address + self.size):
                found.append(Problem(f"not within the memory: {seen}", "dma-read.mapped"))
            elif asked.count > self.limit:
                found.append(Problem(f"{asked.count} bytes at once, more than {self.limit}", "read-write.limit"))
            if header.error or header.flags & HeaderFlags.ERROR:
                found.append(Problem(f"the command {seen} has an error in its header", "header.error-reserved"))
        return found[:1]

    def __str__(self) -> str:
        return f"commands for the {self.size:#x} bytes at {self.address:#x}, at most {self.limit:#x} bytes each"


@dataclass(frozen=True)
class NoCommands(AfterCheck):
    """The target did not ask for any memory."""

    def check(self, session: Session) -> list[Problem]:
        return [Problem(f"it asked for memory: {session.commands[0].seen}")] if session.commands else []

    def __str__(self) -> str:
        return "no command from the target"


@dataclass(frozen=True)
class Asides(AfterCheck):
    """Every command that was sent while the target waited for its answer was carried out."""

    def check(self, session: Session) -> list[Problem]:
        missing = session.await_asides()
        if missing:
            return [Problem(f"{command_name(missing[0].command)}, sent before the answer, got no reply")]
        refused = [seen for seen in session.asides.values() if seen is not None and seen.message.is_error]
        return [Problem(f"sent before the answer: {refused[0]}", "concurrency.interleaved")] if refused else []

    def __str__(self) -> str:
        return "what was sent before the answers carried out"


@dataclass(frozen=True)
class LeaveUnanswered:
    """Wait until the target asks for client memory, and do not answer."""

    def perform(self, session: Session) -> None:
        session.await_command()

    def __str__(self) -> str:
        return "leave its command for the memory unanswered"


@dataclass(frozen=True)
class TakeTwin:
    """From here on, expect the target's commands on this descriptor too."""

    fd: int

    def perform(self, session: Session) -> None:
        session.take_twin(self.fd)

    def __str__(self) -> str:
        return "listen on the second socket"


@dataclass(frozen=True)
class OnTwin(AfterCheck):
    """The target asked for memory on the second socket, and never on the first."""

    def check(self, session: Session) -> list[Problem]:
        if not session.commands:
            return [Problem("no command for the memory came")]
        wrong = [each.seen for each in session.commands if not each.on_twin]
        return [Problem(f"on the first socket came {wrong[0]}")] if wrong else []

    def __str__(self) -> str:
        return "its commands on the second socket"
