"""The client on asyncio: the same commands, awaited; those of several tasks are under way together on one connection."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Final

from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.commands import Commands
from vfio_user_proto.client.exchange import Exchange
from vfio_user_proto.client.greeting import OFFER, VERSION, greet
from vfio_user_proto.client.line import Line
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.client.replies import Pending, Reply
from vfio_user_proto.model import Record

# So many reads of one socket at a time; then the other tasks have their turn.
_BURST: Final = 128


@contextlib.asynccontextmanager
async def connect(
    target: str | os.PathLike[str] | unix.Stream,
    *,
    offer: Capabilities = OFFER,
    version: tuple[int, int] = VERSION,
    timeout: float | None = 5.0,
    memory: MemoryMap | None = None,
) -> AsyncIterator["Client"]:
    """Connect to a path, or take over a connected stream, and agree on version and capabilities; closed at the end.

    ``timeout`` is the deadline of every call in seconds, None for none; ``memory`` answers the server's DMA commands. A stream
    belongs to the client from here on. Raises TransportError where nobody listens or answers in time, ErrorReply where the
    version is refused, and RemoteProtocolError where the answer is none.
    """
    client = Client(target if isinstance(target, unix.Stream) else await _open(target, timeout), offer, timeout, memory)
    try:
        await greet(client, version)
        yield client
    finally:
        client.close()


class Client(Exchange, Commands):
    """A connection to one server, used by the tasks of one event loop. ``connect`` makes it.

    The methods are those of ``Commands``. The server's commands are served whenever the loop runs. A call may be cancelled: its
    command is sent whole all the same, its reply is dropped with the descriptors that come along, and the connection goes on.
    """

    def __init__(
        self, stream: unix.Stream, offer: Capabilities, timeout: float | None, memory: MemoryMap | None
    ) -> None:
        Exchange.__init__(self, stream, offer, timeout, memory)
        Commands.__init__(self, self)
        self._loop: Final = asyncio.get_running_loop()
        self._watched: Final[dict[Line, tuple[bool, bool]]] = {}  # what the loop waits for: to read, to write
        self._all_sent: Final = asyncio.Event()
        self._watch(self._main)

    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply:
        pending = self._start(command, payload, fds, no_reply=False)
        arrived = asyncio.Event()
        pending.wake = arrived.set
        try:
            self._update(self._main)
            await self._wait(arrived, pending, "has no reply")
            self._check(pending)
        except BaseException:
            self._abandon(pending)
            raise
        return self._result(pending)

    async def tell(self, command: int, payload: Record | None = None) -> None:
        pending = self._start(command, payload, (), no_reply=True)
        self._update(self._main)
        await self._wait(self._all_sent, pending, "cannot be sent")
        self._check(pending)

    def add_twin(self, stream: unix.Stream) -> None:
        super().add_twin(stream)
        for line in self._lines():
            self._watch(line)

    async def _wait(self, event: asyncio.Event, pending: Pending, late: str) -> None:
        """Wait for ``event``; ``late`` is what to tell of ``pending`` when the deadline passes."""
        try:
            async with asyncio.timeout(self.timeout):
                await event.wait()
        except TimeoutError:
            raise self._late(pending, late) from None

    def _watch(self, line: Line) -> None:
        """Leave the waiting for a socket to the loop."""
        line.stream.socket.setblocking(False)
        self._update(line)

    def _update(self, line: Line) -> None:
        """Have the loop say when there is something to read, and room for what is due; and ``tell`` when nothing is."""
        self._set(line, reading=self._hears(line), writing=bool(line.queue))
        if not self._main.queue:
            self._all_sent.set()
        else:
            self._all_sent.clear()

    def _set(self, line: Line, *, reading: bool, writing: bool) -> None:
        fd = line.stream.fileno()
        was_reading, was_writing = self._watched.get(line, (False, False))
        self._watched[line] = reading, writing
        if reading and not was_reading:
            self._loop.add_reader(fd, self._readable, line)
        elif was_reading and not reading:
            self._loop.remove_reader(fd)
        if writing and not was_writing:
            self._loop.add_writer(fd, self._writable, line)
        elif was_writing and not writing:
            self._loop.remove_writer(fd)

    def _readable(self, line: Line) -> None:
        for _ in range(_BURST):
            if not self._hears(line) or not self._read(line):
                break
        self._update(line)

    def _writable(self, line: Line) -> None:
        self._push(line)
        self._update(line)

    def _end(self, why: str, *, broken: bool = False) -> None:
        super()._end(why, broken=broken)
        for line in self._lines():
            self._update(line)

    def _drop(self, line: Line) -> None:
        self._set(line, reading=False, writing=False)
        super()._drop(line)


async def _open(path: str | os.PathLike[str], timeout: float | None) -> unix.Stream:
    """Connect in a thread, because a server's full queue gives no event that a loop could wait for."""
    lock, opened, cancelled = threading.Lock(), list[unix.Stream](), False

    def connect() -> None:
        stream = unix.connect(path, timeout=timeout)
        with lock:
            stream.close() if cancelled else opened.append(stream)

    try:
        await asyncio.to_thread(connect)
    except asyncio.CancelledError:
        with lock:
            cancelled = True
            for stream in opened:
                stream.close()
        raise
    return opened[0]
