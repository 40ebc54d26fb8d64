"""What went over a connection, message by message, and what follows from it: what checks look at."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vfio_user_conformance.words import plural, said
from vfio_user_proto import capabilities, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoReply,
    DeviceGetIrqInfoReply,
    DeviceGetRegionInfoReply,
    DmaMapRequest,
    DmaUnmapRequest,
    Header,
    HeaderFlags,
    MessageType,
    VersionRequest,
)
from vfio_user_proto.model import Record

_TYPE = int(HeaderFlags.TYPE)
_NO_HEADER = Header()


@dataclass(frozen=True)
class Seen:
    """One message: ``line`` is "main" or "twin", ``sender`` "client" or "server", ``t`` seconds since the connection began.

    ``fds`` tells of each descriptor what it is; ``late`` of them came with another byte than the first. ``whole`` is false
    where the header is cut or lies about the size so that the rest cannot be told. ``problem`` is set where the payload does
    not decode. ``answers`` is the command that a reply belongs to.
    """

    line: str
    sender: str
    t: float
    data: bytes
    fds: tuple[Mapping[str, Any], ...] = ()
    late: int = 0
    whole: bool = True
    problem: DecodeError | None = None
    header: Header = _NO_HEADER
    payload: Record | None = None
    trailing: bytes = b""
    answers: "Seen | None" = None

    @property
    def is_command(self) -> bool:
        return int(self.header.flags) & _TYPE == MessageType.COMMAND

    @property
    def is_reply(self) -> bool:
        return int(self.header.flags) & _TYPE == MessageType.REPLY

    @property
    def is_error(self) -> bool:
        return bool(self.header.flags & HeaderFlags.ERROR)

    @property
    def body(self) -> bytes:
        """The payload as it came."""
        return self.data[wire.HEADER_SIZE :]

    @property
    def name(self) -> str:
        """For people: "VFIO_USER_DMA_MAP command"."""
        return wire.Message(self.header).name

    @property
    def words(self) -> str:
        """For people: what it is, and what is in it."""
        words = f"{self.name}, id {self.header.message_id:#06x}, {plural(len(self.data), 'byte')}"
        return words if self.payload is None else f"{words}: {said(self.payload.as_dict())}"

    def as_dict(self) -> dict[str, Any]:
        """The message as results carry it."""
        return {"from": self.sender, "t": round(self.t, 6), "fds": list(self.fds), "hex": self.data.hex()}


def decoded(
    line: str, sender: str, t: float, data: bytes, *, fds: tuple[Any, ...] = (), late: int = 0, whole: bool = True
) -> Seen:
    """A message with all that can be told of it."""
    header = wire.decode_header(data[: wire.HEADER_SIZE].ljust(wire.HEADER_SIZE, b"\0"))
    if not whole:
        return Seen(line, sender, t, data, fds, late, whole, None, header)
    try:
        message = wire.decode(data)
    except DecodeError as problem:
        return Seen(line, sender, t, data, fds, late, whole, problem, header)
    return Seen(line, sender, t, data, fds, late, whole, None, header, message.payload, message.trailing)


@dataclass
class Known:
    """What both sides have said so far on one connection.

    ``offered`` and ``agreed`` are the capabilities in the client's VERSION command and in our reply, None before. ``maps``
    holds the mappings that the client has asked for and that were not refused, as (address, size). ``asked`` are our
    commands that have no reply yet, by line; of those that we sent while the client waited for a reply, ``during`` holds that
    command of the client's, and ``stalled`` says that we had to give up waiting before the client did anything.
    """

    messages: int = 0
    offered: Capabilities | None = None
    agreed: Capabilities | None = None
    device: DeviceGetInfoReply | None = None
    regions: dict[int, DeviceGetRegionInfoReply] = field(default_factory=dict)
    irqs: dict[int, DeviceGetIrqInfoReply] = field(default_factory=dict)
    maps: list[tuple[int, int]] = field(default_factory=list)
    asked: dict[str, list[Seen]] = field(default_factory=lambda: {"main": [], "twin": []})
    waiting: list[Seen] = field(default_factory=list)  # the client's commands that will have a reply
    during: list[tuple[Seen, Seen]] = field(default_factory=list)  # (ours, the client's)
    stalled: list[Seen] = field(default_factory=list)

    @property
    def twin(self) -> bool:
        """Whether twin-socket mode is in force."""
        return self.agreed is not None and self.agreed.twin_socket

    def answered_by(self, reply: Seen) -> Seen | None:
        """Our command that has the Message ID and the Command of ``reply``."""
        wanted = (reply.header.message_id, reply.header.command)
        for asked in self.asked[reply.line]:
            if (asked.header.message_id, asked.header.command) == wanted:
                return asked
        return None

    def took(self, now: Seen) -> None:
        """Learn from a message of the client's."""
        self.messages += 1
        if now.is_reply and self.asked[now.line]:
            self.asked[now.line].remove(now.answers or self.asked[now.line][0])
        elif now.is_command:
            if not now.header.flags & HeaderFlags.NO_REPLY:
                self.waiting.append(now)
            if isinstance(now.payload, DmaMapRequest):
                self.maps.append((now.payload.address, now.payload.size))
            elif isinstance(now.payload, DmaUnmapRequest):
                with contextlib.suppress(ValueError):
                    self.maps.remove((now.payload.address, now.payload.size))

    def asks(self, now: Seen) -> None:
        """Learn from a command of ours."""
        self.asked[now.line].append(now)
        if self.waiting:
            self.during.append((now, self.waiting[0]))

    def answers(self, now: Seen, patience: float) -> None:
        """Learn from a reply of ours; one that comes ``patience`` seconds after our own command was held up by that."""
        key = (now.header.message_id, now.header.command)
        for command in self.waiting:
            if (command.header.message_id, command.header.command) == key:
                self.waiting.remove(command)
                over = [ours for ours, theirs in self.during if theirs is command]
                left = [ours for line in self.asked.values() for ours in line]
                self.stalled += [ours for ours in over if ours in left and now.t - ours.t >= patience]
                self.during = [pair for pair in self.during if pair[1] is not command]
                return

    def replied(self, request: Record | None, command: int, reply: Record | None, *, refused: bool) -> None:
        """Learn from what we made of a command, whether a reply went out or not."""
        if refused:
            if isinstance(request, DmaMapRequest):
                with contextlib.suppress(ValueError):
                    self.maps.remove((request.address, request.size))
        elif command == Command.VERSION and isinstance(request, VersionRequest) and isinstance(reply, VersionRequest):
            self.offered = capabilities.parse(request.version_data)
            self.agreed = capabilities.parse(reply.version_data)
        elif isinstance(reply, DeviceGetInfoReply):
            self.device = reply
        elif isinstance(reply, DeviceGetRegionInfoReply):
            self.regions[reply.index] = reply
        elif isinstance(reply, DeviceGetIrqInfoReply):
            self.irqs[reply.index] = reply
