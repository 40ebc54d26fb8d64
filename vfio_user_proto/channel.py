"""A connection on a non-blocking socket: events by callback, messages out through a queue with a bound."""

import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import DescriptorError, RemoteProtocolError, TransportError
from vfio_user_proto.events import Closed, Event
from vfio_user_proto.loop import GONE, READABLE, WRITABLE, Loop
from vfio_user_proto.messages import Command
from vfio_user_proto.unix import Stream, close_all
from vfio_user_proto.wire import HEADER_SIZE

_log: Final = logging.getLogger(__name__)
# More than this many bytes due to a peer that does not read: then we stop reading what it sends.
OUTPUT_BOUND: Final = 1 << 20
_ARRIVES: Final = READABLE | GONE
_VERSION: Final = int(Command.VERSION)
# So much may wait in the kernel, where it grants that (net.core.wmem_max): a reply of 1 MiB goes in one turn, not in six.
_ROOM: Final = 1 << 20
# Small messages are sent together up to this size.
_TOGETHER: Final = 1 << 16


class Channel:
    """One socket in the loop.

    ``took`` gets every command and reply, but for those that ``straight`` takes: it is shown whole messages that came without
    descriptors, as bytes, and says whether it has dealt with them. The channel closes itself when the peer has closed and all
    that was due to it is sent, when the peer breaks a rule or is gone, and when a message cannot be sent: what follows would
    be out of step. In the place of a reply whose descriptors the kernel does not pass goes an error reply with EIO.
    """

    def __init__(self, loop: Loop, stream: Stream, connection: Connection, took: Callable[[Event], None]) -> None:
        self.connection: Final = connection
        self.straight: Callable[[bytes], bool] = _never
        self._loop, self._stream, self._took = loop, stream, took
        self._queue: deque[tuple[bytes | memoryview, tuple[int, ...]]] = deque()
        self._due = 0
        self._holding = False  # replies are gathered
        self._cut = False  # a message came in part
        self._ended = False  # the peer sends nothing more
        self.closed = False
        self._waiting_for = READABLE
        stream.socket.setblocking(False)
        stream.make_room(_ROOM)
        loop.watch(stream.fileno(), READABLE, self._ready)

    @property
    def full(self) -> bool:
        """Whether so much is due to the peer that nothing more of it is read."""
        return self._due > OUTPUT_BOUND

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send a message, or queue it where the socket is full."""
        if self._queue or self._holding:
            self._queue.append((data, fds))
            self._due += len(data)
            return
        try:
            sent = self._write(data, fds)
        except DescriptorError as problem:
            self._refuse(data, problem)
            self.flush()
            return
        if sent < len(data):
            self._queue.append((memoryview(data)[sent:], () if sent else fds))
            self._due += len(data) - sent
            self._wait()

    def flush(self) -> None:
        """Send what is due, as far as the socket takes it."""
        queue = self._queue
        while queue:
            data, fds = queue.popleft()
            if not fds and queue and len(data) < _TOGETHER:
                data = self._gather(data)
            try:
                sent = self._write(data, fds)
            except DescriptorError as problem:
                self._due -= len(data)
                self._refuse(data, problem)
                continue
            self._due -= sent
            if sent < len(data):
                queue.appendleft((memoryview(data)[sent:], () if sent else fds))
                break
        self._wait()

    def finish(self) -> None:
        """Read nothing more, and close as soon as all that is due is sent."""
        self._ended = True
        if self._queue:
            self._wait()
        else:
            self.close()

    def close(self) -> None:
        """End at once: what was not sent is dropped, descriptors that nobody took are closed."""
        if not self.closed:
            self.closed = True
            self._loop.forget(self._stream.fileno())
            self._stream.close()
            self._queue.clear()
            close_all(self.connection.close())

    def _write(self, data: bytes | memoryview, fds: tuple[int, ...]) -> int:
        """How much of ``data`` needs no further care: what the socket took, or all of it where that is the end.

        Raises DescriptorError, with nothing sent.
        """
        try:
            return self._stream.write(data, fds)
        except DescriptorError:
            raise
        except TransportError:
            self.close()
            return len(data)

    def _refuse(self, reply: bytes | memoryview, problem: DescriptorError) -> None:
        """Put an error reply in the place of ``reply``, before all that is due; close where that would not be right.

        That is so for VERSION, which both sides would take for agreed, and for the first piece of a reply in several.
        """
        header = wire.decode_header(bytes(reply[:HEADER_SIZE]))
        _log.error("%s cannot be sent: %s", wire.CURRENT.name(header), problem)
        if header.command == _VERSION or header.message_size != len(reply):
            self.close()
            return
        self._queue.appendleft((wire.refusal(header, errno.EIO), ()))
        self._due += HEADER_SIZE

    def _gather(self, first: bytes | memoryview) -> bytes:
        """Take more of the queue's messages that carry no descriptors, to be sent with ``first``."""
        parts, size = [first], len(first)
        while self._queue and not self._queue[0][1] and size < _TOGETHER:
            parts.append(self._queue.popleft()[0])
            size += len(parts[-1])
        return b"".join(parts)

    def _ready(self, events: int) -> None:
        try:
            if self._queue and events & (WRITABLE | GONE):
                self.flush()
            stopped = self._ended or self.closed or self._due > OUTPUT_BOUND
            if not stopped and (events & _ARRIVES or self._stream.ahead):
                self._read()
            if self._ended and not self._queue:
                self.close()
        except (RemoteProtocolError, TransportError):
            self.close()

    def _read(self) -> None:
        """Take the messages that are there, as far as the stream looks ahead; then others have their turn.

        The reply to the first is sent at once, those to the others together.
        """
        connection, stream = self.connection, self._stream
        between = not self._cut and connection.wanted == HEADER_SIZE
        data = stream.look_ahead() if between and connection.by_message else b""
        try:
            while (data and self.straight(data)) or self._receive(data):
                if not stream.ahead or self._ended or self.closed or self._due > OUTPUT_BOUND:
                    return
                self._holding = True
                data = stream.message() if connection.wanted == HEADER_SIZE else b""
        finally:
            self._holding = False
            if self._queue or self._waiting_for != READABLE:
                self.flush()

    def _receive(self, data: bytes) -> bool:
        """Take a whole message, or read one in pieces; says whether that ended in something to be taken."""
        connection = self.connection
        if data:
            connection.receive(data)
        while (event := connection.next_event()) is None:
            got = self._stream.read(connection.wanted)
            if got is None:
                return False
            connection.receive(*got)
            self._cut = True
        self._cut = False
        if type(event) is Closed:
            self._ended = True
            return False
        self._took(event)
        return True

    def _wait(self) -> None:
        """Tell the loop what we wait for now: of what was read ahead, and is left, the socket tells no more."""
        left = self._queue or self._stream.ahead
        wanted = (WRITABLE if left else 0) | (0 if self._ended or self._due > OUTPUT_BOUND else READABLE)
        if wanted != self._waiting_for and not self.closed:
            self._waiting_for = wanted
            self._loop.change(self._stream.fileno(), wanted)


def _never(_message: bytes) -> bool:
    return False
