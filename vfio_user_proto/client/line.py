"""One socket of a client: its engine, and what is still to be sent over it."""

import os
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from vfio_user_proto import unix
from vfio_user_proto.client.replies import Pending
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import DescriptorError

# So many bytes of answers may wait for a server that does not read; then we stop reading what it asks.
DUE_BOUND: Final = 1 << 22


class Due(NamedTuple):
    """What waits to be sent of a message: of a command of ours, or of an answer to one of the server's.

    ``fds`` are copies, ours; there are none once a first byte went.
    """

    data: memoryview
    fds: tuple[int, ...]
    command: Pending | None


class Line:
    """One socket with its engine, and what is still to be sent over it."""

    def __init__(self, stream: unix.Stream, engine: Connection) -> None:
        self.stream, self.engine = stream, engine
        self.queue: deque[Due] = deque()
        self.due = 0  # bytes of answers
        self.deaf = False  # a send failed: nothing more goes

    @property
    def full(self) -> bool:
        """Whether so many answers are due that nothing more is to be read."""
        return self.due >= DUE_BOUND

    def put(self, data: bytes, fds: Sequence[int] = (), command: Pending | None = None) -> None:
        """Send a message, and keep what the socket does not take now; ``command`` is None for an answer.

        Raises DescriptorError, with nothing of it sent or kept, and TransportError.
        """
        sent = 0 if self.queue else self.stream.write(data, fds, wait=False)
        if sent < len(data):
            self.queue.append(Due(memoryview(data)[sent:], () if sent else _copies(fds), command))
            if command is None:
                self.due += len(data) - sent

    def push(self) -> None:
        """Send what is due, as far as the socket takes it.

        Raises DescriptorError, with nothing sent of what is first in the queue, and TransportError.
        """
        while self.queue:
            first = self.queue[0]
            sent = self.stream.write(first.data, first.fds, wait=False)
            if not sent:
                return
            if first.command is None:
                self.due -= sent
            unix.close_all(first.fds)
            if sent < len(first.data):
                self.queue[0] = Due(first.data[sent:], (), first.command)
            else:
                self.queue.popleft()

    def drop(self) -> None:
        """Forget what was not sent."""
        for each in self.queue:
            unix.close_all(each.fds)
        self.queue.clear()
        self.due = 0

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        self.drop()
        self.stream.close()
        unix.close_all(self.engine.close())


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    """Descriptors of our own for the same files: whoever gave ``fds`` may close them while they wait to be sent."""
    copies: list[int] = []
    try:
        copies.extend(os.dup(fd) for fd in fds)
    except OSError as error:
        unix.close_all(copies)
        raise DescriptorError(f"a descriptor cannot be kept until it is sent: {error.strerror}") from None
    return tuple(copies)
