"""What a connection tells its user: commands and replies that came in whole, and the end."""

from typing import NamedTuple

from vfio_user_proto.errors import DecodeError
from vfio_user_proto.wire import Message


class CommandReceived(NamedTuple):
    """A command of the peer's. ``fds`` now belong to whoever takes the event.

    ``problem`` is set where the payload does not decode; the stream is in step all the same, and ``message`` then has no
    payload but all its bytes as ``trailing``.
    """

    message: Message
    fds: tuple[int, ...] = ()
    problem: DecodeError | None = None


class ReplyReceived(NamedTuple):
    """A reply to a command of ours; ``problem`` as in ``CommandReceived``."""

    message: Message
    fds: tuple[int, ...] = ()
    problem: DecodeError | None = None


class Closed(NamedTuple):
    """The peer closed the connection between two messages."""


Event = CommandReceived | ReplyReceived | Closed


class Outgoing(NamedTuple):
    """A message to send, in one piece or two, the descriptors that go with its first byte, and the id to wait for."""

    parts: tuple[bytes, ...]
    fds: tuple[int, ...] = ()
    message_id: int = 0

    @property
    def data(self) -> bytes:
        """The whole message."""
        return b"".join(self.parts)
