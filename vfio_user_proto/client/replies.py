"""A command that was sent, and the reply that comes for it."""

from collections.abc import Callable
from typing import NamedTuple

from vfio_user_proto.client.fd import Fd
from vfio_user_proto.errors import DecodeError, DescriptorError
from vfio_user_proto.messages import Command
from vfio_user_proto.model import name_of
from vfio_user_proto.wire import Message


class Reply(NamedTuple):
    """A reply with the descriptors that came along, now the caller's; ``problem`` where its payload does not decode."""

    message: Message
    fds: tuple[Fd, ...] = ()
    problem: DecodeError | None = None

    def close(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            fd.close()


class Pending:
    """A command that was sent, and its reply as soon as that is there. ``wake`` is called then, and when none will come.

    ``refusal`` says why it could not be sent after all, while the connection goes on.
    """

    __slots__ = ("abandoned", "command", "message_id", "refusal", "reply", "wake")

    def __init__(self, command: int, message_id: int) -> None:
        self.command, self.message_id = command, message_id
        self.reply: Reply | None = None
        self.refusal: DescriptorError | None = None
        self.abandoned = False
        self.wake: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        """The document's name of the command."""
        return name_of(Command, self.command)
