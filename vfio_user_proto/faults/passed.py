"""Faults of descriptors that nobody wants: each stays open in one situation."""

import os
import select
from collections.abc import Callable, Sequence
from typing import Any

from vfio_user_proto import unix, wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import NO_REPLY, Fault, Watched, die, hang, method, respond, right
from vfio_user_proto.faults.signals import irqs
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.messages import Command, DeviceSetIrqsRequest, HeaderFlags, MessageType
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.states import State

_KNOWN = frozenset(int(each) for each in Command)
When = Callable[[Any, CommandReceived], Any]


def _kept(when: When, begin: int = 0) -> type[Responder]:
    """Keeps the descriptors from ``begin`` on of messages that ``when`` picks."""

    def responding(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
        if when(self, event):
            for fd in fds[begin:]:
                os.dup(fd)
        return Responder.respond(self, event, fds)

    return respond(responding)


def _command(number: Command) -> When:
    return lambda self, event: event.message.header.command == number


def _refused_irqs(self: Any, event: CommandReceived) -> bool:
    request = event.message.payload
    return isinstance(request, DeviceSetIrqsRequest) and request.index >= self.device.description.num_irqs


def _more_irqs(self: Any, event: CommandReceived) -> bool:
    request = event.message.payload
    return isinstance(request, DeviceSetIrqsRequest) and len(event.fds) > request.count


def _fewer_irqs(self: Any, event: CommandReceived) -> bool:
    request = event.message.payload
    return isinstance(request, DeviceSetIrqsRequest) and len(event.fds) < request.count


class _Forgetful(Responder):
    """Keeps a copy of each eventfd, and closes it only where ``closes`` says so, or with the client."""

    closes: tuple[str, ...] = ()

    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        copies = self.__dict__.setdefault("copies", [])
        what = "replaced" if fds else "disabled" if not request.count else "taken"
        new = [os.dup(fd) for fd in fds]
        try:
            answer = super().device_set_irqs(request, fds)
        except OSError:
            unix.close_all(new)
            raise
        if what in self.closes:
            unix.close_all(copies)
            copies.clear()
        copies += new
        return answer


def _left_open(self: Any) -> None:
    """The client left."""
    for vectors in self._vectors.values():
        for vector in vectors:
            for fd in vector.events.values():
                os.dup(fd)
    Interrupts.clear(self)


def _forgets(what: str) -> type[Responder]:
    others = tuple(each for each in ("replaced", "disabled", "taken") if each != what)
    return type("Faulty", (_Forgetful,), {"closes": others})


class _OfReplies(Connection):
    """Keeps the descriptors of a reply."""

    def _take(self, data: bytes, fds: tuple[int, ...]) -> None:
        if int(wire.decode_header(data).flags & HeaderFlags.TYPE) == MessageType.REPLY:
            for fd in fds:
                os.dup(fd)
        super()._take(data, fds)


class _BeforeVersion(Connection):
    """Keeps the descriptors of what comes before a proposal."""

    def _take(self, data: bytes, fds: tuple[int, ...]) -> None:
        if self.state is State.NEW and wire.decode_header(data).command != Command.VERSION:
            for fd in fds:
                os.dup(fd)
        super()._take(data, fds)


class _OfHeaders(Watched):
    """Keeps the descriptors that come with a part of a header, and loses sight of them when it is whole."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if fds and len(data) < self.wanted and not self.inside:
            for fd in fds:
                os.dup(fd)
        super().receive(data, fds)


class _OfPayloads(Watched):
    """Keeps the descriptors that come with a payload."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if fds and self.inside == "payload":
            for fd in fds:
                os.dup(fd)
        super().receive(data, fds)


class _OfLost(Watched):
    """Keeps the descriptors of a message that was lost."""

    def close(self) -> tuple[int, ...]:
        left = super().close()
        return () if self.inside else left


def _fault(what: str, mistake: str, responder: type[Responder]) -> Fault:
    return Fault(f"descriptor-{what}-kept", mistake, responder=responder)


def _odd(name: str, mistake: str, ready: int, end: Callable[[], Any]) -> Fault:
    """Ends so at an eventfd that is a pipe: one that cannot be written where that is what ``ready`` waits for."""

    def setting(self: Any, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        if fds and unix.kind_of(fds[0]) == "pipe":
            poll = select.poll()
            poll.register(fds[0], select.POLLOUT)
            found = dict(poll.poll(0)).get(fds[0], 0)
            if not found if ready else found & select.POLLERR:
                end()
        return right("device_set_irqs", self, request, fds)

    return Fault(name, mistake, responder=method("device_set_irqs", setting))


def _no_reply(self: Any, event: CommandReceived) -> bool:
    return bool(int(event.message.header.flags) & NO_REPLY)


def _unknown(self: Any, event: CommandReceived) -> bool:
    return event.message.header.command not in _KNOWN


FAULTS: tuple[Fault, ...] = (
    _fault("on-a-query", "Queries come without descriptors.", _kept(_command(Command.DEVICE_GET_REGION_INFO))),
    _fault("on-a-write", "Writes come without descriptors.", _kept(_command(Command.REGION_WRITE))),
    _fault("on-no-reply", "Nothing is to be done after what wants no reply.", _kept(_no_reply)),
    _fault("on-an-unknown-command", "Unknown commands come without descriptors.", _kept(_unknown)),
    Fault("descriptor-on-a-reply-kept", "Replies come without descriptors.", connection=_OfReplies),
    _fault("on-version", "Proposals come without descriptors.", _kept(_command(Command.VERSION))),
    Fault("descriptor-before-version-kept", "Nothing comes before a proposal.", connection=_BeforeVersion),
    _fault("sixty-four", "There is room for 16 descriptors.", _kept(_command(Command.DMA_MAP), 16)),
    _fault("of-a-refused-interrupt", "Eventfds are owned before the request is checked.", _kept(_refused_irqs)),
    _fault("of-a-replaced-interrupt", "An eventfd that gives way stays open.", _forgets("replaced")),
    _fault("of-an-interrupt-taken-away", "An eventfd that is taken away stays open.", _forgets("taken")),
    _fault("of-disabled-interrupts", "Eventfds stay open when a type is disabled.", _forgets("disabled")),
    _fault("more-eventfds-than-interrupts", "There are as many eventfds as interrupts.", _kept(_more_irqs, 1)),
    _fault("fewer-eventfds-than-interrupts", "There are as many eventfds as interrupts.", _kept(_fewer_irqs)),
    irqs("descriptor-of-a-lost-client-kept", "Eventfds outlive their client.", clear=_left_open),
    _odd("eventfd-broken-pipe-crash", "Nobody closes the other end (libvfio-user efd091b).", 0, die),
    _odd("eventfd-full-pipe-hangs", "There is room for a signal (libvfio-user efd091b).", select.POLLOUT, hang),
    Fault("cut-header-keeps-descriptor", "Descriptors of a cut header are forgotten.", connection=_OfHeaders),
    Fault("late-descriptor-kept", "Descriptors come with the first byte.", connection=_OfPayloads),
    Fault(
        "lost-message-keeps-descriptor",
        "Descriptors of a message that is lost are forgotten (libvfio-user efd091b).",
        connection=_OfLost,
    ),
)
