"""Faults of No_reply: it holds for some commands only, or changes what it should not."""

from collections.abc import Sequence
from typing import Any

from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.events import CommandReceived, Outgoing
from vfio_user_proto.faults.kit import NO_REPLY, Fault, respond
from vfio_user_proto.messages import Command, HeaderFlags, MessageType
from vfio_user_proto.model import Record
from vfio_user_proto.responder import NOTHING, Answer, Responder

_KNOWN = frozenset(int(each) for each in Command)


def _flags(event: CommandReceived) -> int:
    return int(event.message.header.flags)


class _Answering(Connection):
    """Answers commands that want no reply, where ``speaks`` says so of the command, its payload in reply, and a refusal."""

    def reply(self, to: CommandReceived, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Outgoing | None:
        if _flags(to) & NO_REPLY and self.speaks(to, payload, refused=False):
            return _spoken(to, payload, fds, MessageType.REPLY, 0)
        return super().reply(to, payload, fds=fds)

    def error(self, to: CommandReceived, errno: int) -> Outgoing | None:
        if _flags(to) & NO_REPLY and self.speaks(to, None, refused=True):
            return _spoken(to, None, (), MessageType.REPLY | HeaderFlags.ERROR, errno)
        return super().error(to, errno)

    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        raise NotImplementedError


def _spoken(to: CommandReceived, payload: Record | None, fds: Sequence[int], flags: int, errno: int) -> Outgoing:
    header = to.message.header
    data = craft(header.command, payload, message_id=header.message_id, flags=flags, error=errno)
    return Outgoing((data,), tuple(fds), header.message_id)


class _SuccessAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return not refused


class _QueryAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return payload is not None


class _FailureAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return refused and to.message.header.command in _KNOWN


class _UnknownAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return refused and to.message.header.command not in _KNOWN


class _ShortAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return to.problem is not None


class _ReadRefusalAnswered(_Answering):
    def speaks(self, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return refused and to.message.header.command == Command.REGION_READ


def _answering(command: Command) -> type[Connection]:
    """Does not know that No_reply holds for this command too when it succeeds."""

    def speaks(self: Any, to: CommandReceived, payload: Record | None, *, refused: bool) -> bool:
        return not refused and to.message.header.command == command

    return type("Faulty", (_Answering,), {"speaks": speaks})


def _deferred(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Keeps the refusal of what wants no reply for the next command."""
    if (late := self.__dict__.pop("late_error", None)) is not None:
        raise late
    try:
        return Responder.respond(self, event, fds)
    except OSError as refusal:
        if _flags(event) & NO_REPLY:
            self.late_error = refusal
        raise


def _not_done(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return NOTHING if _flags(event) & NO_REPLY else Responder.respond(self, event, fds)


def _done_late(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    late = self.__dict__.setdefault("late", [])
    if _flags(event) & NO_REPLY:
        late.append(event)
        return NOTHING
    answer = Responder.respond(self, event, fds)
    while late:
        Responder.respond(self, late.pop(0), [])
    return answer


_NO_REPLY = {
    "unmap": Command.DMA_UNMAP,
    "region-info": Command.DEVICE_GET_REGION_INFO,
    "io-fds": Command.DEVICE_GET_REGION_IO_FDS,
    "irq-info": Command.DEVICE_GET_IRQ_INFO,
    "set-irqs": Command.DEVICE_SET_IRQS,
    "region-read": Command.REGION_READ,
    "write-multi": Command.REGION_WRITE_MULTI,
    "reset": Command.DEVICE_RESET,
    "feature": Command.DEVICE_FEATURE,
}


FAULTS: tuple[Fault, ...] = (
    Fault(
        "no-reply-success-answered",
        "No_reply holds for failures only (rust-vmm/vfio#141).",
        connection=_SuccessAnswered,
    ),
    Fault("no-reply-failure-answered", "No_reply holds for successes only.", connection=_FailureAnswered),
    Fault("no-reply-query-answered", "No_reply does not hold for replies with a payload.", connection=_QueryAnswered),
    Fault("no-reply-unknown-answered", "No_reply does not hold for unknown commands.", connection=_UnknownAnswered),
    *(
        Fault(f"no-reply-{what}-answered", "No_reply does not hold for this command.", connection=_answering(command))
        for what, command in _NO_REPLY.items()
    ),
    Fault("no-reply-region-read-refused-answered", "A refused read is told of.", connection=_ReadRefusalAnswered),
    Fault("no-reply-short-payload-answered", "No_reply holds for what can be read.", connection=_ShortAnswered),
    Fault(
        "no-reply-error-deferred", "What went wrong unheard is told with the next reply.", responder=respond(_deferred)
    ),
    Fault("no-reply-not-carried-out", "Nobody waits for it, so it is not done.", responder=respond(_not_done)),
    Fault(
        "no-reply-write-late",
        "What nobody waits for is done after what somebody waits for.",
        responder=respond(_done_late),
    ),
)
