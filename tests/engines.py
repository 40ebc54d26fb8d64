# Two engines that are connected with each other, and the ways to feed one.
from collections.abc import Callable, Sequence

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived, Event, Outgoing, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.states import Role

Feed = Callable[[Connection, bytes, tuple[int, ...]], None]


def whole(engine: Connection, data: bytes, fds: tuple[int, ...]) -> None:
    """Hand over a message in pieces as large as the engine wants."""
    while data:
        size = engine.wanted
        engine.receive(data[:size], fds)
        data, fds = data[size:], ()


def byte_by_byte(engine: Connection, data: bytes, fds: tuple[int, ...]) -> None:
    for at in range(len(data)):
        engine.receive(data[at : at + 1], fds if at == 0 else ())


class ConnectionPair:
    """A client and a server engine; what one sends is at once received by the other, and both are checked."""

    def __init__(self, feed: Feed = whole, ready: bool = True) -> None:
        self.client, self.server = Connection(Role.CLIENT), Connection(Role.SERVER)
        self.feed = feed
        if ready:
            request = self.command(Role.CLIENT, Command.VERSION, VersionRequest())
            self.reply(request, VersionRequest())

    def of(self, role: Role) -> Connection:
        return self.client if role is Role.CLIENT else self.server

    def command(
        self, sender: Role, command: int, payload: Record | None = None, fds: Sequence[int] = (), no_reply: bool = False
    ) -> CommandReceived:
        outgoing = self.of(sender).command(command, payload, fds=fds, no_reply=no_reply)
        event = self.deliver(sender, outgoing)
        assert isinstance(event, CommandReceived)
        assert (event.message.header.command, event.message.payload, event.fds) == (command, payload, fds)
        assert event.problem is None
        return event

    def reply(self, to: CommandReceived, payload: Record | None = None, fds: tuple[int, ...] = ()) -> ReplyReceived:
        sender = Role.SERVER if to.message.header.command not in (11, 12) else Role.CLIENT
        outgoing = self.of(sender).reply(to, payload, fds=fds)
        assert outgoing is not None
        event = self.deliver(sender, outgoing)
        assert isinstance(event, ReplyReceived)
        assert event.message.header.message_id == to.message.header.message_id
        assert (event.message.payload, event.fds) == (payload, fds)
        return event

    def deliver(self, sender: Role, outgoing: Outgoing) -> Event | None:
        receiver = self.of(sender.peer)
        assert receiver.next_event() is None
        self.feed(receiver, outgoing.data, outgoing.fds)
        event = receiver.next_event()
        assert receiver.next_event() is None
        assert receiver.wanted == wire.HEADER_SIZE
        return event
