"""The client that waits: every method returns when the server has answered."""

import functools
import os
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, Concatenate, ParamSpec, Protocol, Self, TypeVar

from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.asking import Exchanging
from vfio_user_proto.client.commands import Commands, Telling
from vfio_user_proto.client.exchange import Exchange
from vfio_user_proto.client.greeting import OFFER, VERSION, greet
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.client.queries import Queries
from vfio_user_proto.client.replies import Pending, Reply
from vfio_user_proto.closing import Closing
from vfio_user_proto.model import Record

P = ParamSpec("P")
T = TypeVar("T")
Q = TypeVar("Q", bound=Queries)
Q_co = TypeVar("Q_co", bound=Queries, covariant=True)


class Front(Protocol[Q_co]):
    """What the methods of a blocking client need of it: the object whose coroutines they run."""

    @property
    def commands(self) -> Q_co: ...


def _run(answer: Awaitable[T]) -> T:
    """The result of a coroutine that is never suspended, because all that it waits for blocks."""
    try:
        next(answer.__await__())
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("a blocking client does not suspend")


def _blocking(
    method: Callable[Concatenate[Q, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Front[Q], P], T]:
    """``method`` for a client that blocks."""

    @functools.wraps(method)
    def call(client: Front[Q], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _run(method(client.commands, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[Q, P], AsyncIterator[T]],
) -> Callable[Concatenate[Front[Q], P], Iterator[T]]:
    """The same for one that gives several things, one by one."""

    @functools.wraps(method)
    def call(client: Front[Q], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        each = method(client.commands, *args, **kwargs)
        with suppress(StopAsyncIteration):
            while True:
                yield _run(anext(each))

    return call


class QueryCalls:
    """The methods of ``Queries``, which has their documentation; each returns when the server has answered."""

    commands: Queries

    def __init__(self, exchange: Exchanging) -> None:
        self.commands = Queries(exchange)

    device_info = _blocking(Queries.device_info)
    region_info = _blocking(Queries.region_info)
    region_io_fds = _blocking(Queries.region_io_fds)
    irq_info = _blocking(Queries.irq_info)
    region_read = _blocking(Queries.region_read)
    device_feature = _blocking(Queries.device_feature)


class Calls(QueryCalls):
    """Those of ``Commands``, too."""

    commands: Commands

    def __init__(self, exchange: Telling) -> None:
        self.commands = Commands(exchange)

    dma_map = _blocking(Commands.dma_map)
    dma_unmap = _blocking(Commands.dma_unmap)
    set_irqs = _blocking(Commands.set_irqs)
    region_write = _blocking(Commands.region_write)
    write_multi = _blocking(Commands.write_multi)
    reset = _blocking(Commands.reset)
    migration_flags = _blocking(Commands.migration_flags)
    device_state = _blocking(Commands.device_state)
    set_device_state = _blocking(Commands.set_device_state)
    mig_data_read = _blocking(Commands.mig_data_read)
    mig_data_write = _blocking(Commands.mig_data_write)
    read_migration_data = _iterating(Commands.read_migration_data)
    write_migration_data = _blocking(Commands.write_migration_data)
    dma_logging_start = _blocking(Commands.dma_logging_start)
    dma_logging_stop = _blocking(Commands.dma_logging_stop)
    dma_logging_report = _blocking(Commands.dma_logging_report)


class Client(Calls, Exchange, Closing):
    """A connection to one server, used by one thread. Make it with ``connect``; it is closed at the end of a ``with`` block.

    The server's commands are served while a call waits.
    """

    def __init__(
        self, stream: unix.Stream, offer: Capabilities, timeout: float | None, memory: MemoryMap | None
    ) -> None:
        Exchange.__init__(self, stream, offer, timeout, memory)
        Calls.__init__(self, self)
        self._armed = timeout
        stream.set_timeout(timeout)

    @classmethod
    def connect(
        cls,
        target: str | os.PathLike[str] | unix.Stream,
        *,
        offer: Capabilities = OFFER,
        version: tuple[int, int] = VERSION,
        timeout: float | None = 5.0,
        memory: MemoryMap | None = None,
    ) -> Self:
        """Connect to a path, or take over a connected stream, and agree on version and capabilities.

        ``timeout`` is the deadline of every call in seconds, None for none; ``memory`` answers the server's DMA commands. A
        stream belongs to the client from here on. Raises TransportError where nobody listens or answers in time, ErrorReply
        where the version is refused, and RemoteProtocolError where the answer is none.
        """
        stream = target if isinstance(target, unix.Stream) else unix.connect(target, timeout=timeout)
        client = cls(stream, offer, timeout, memory)
        try:
            _run(greet(client, version))
        except BaseException:
            client.close()
            raise
        return client

    def send(
        self, command: int, payload: Record | None = None, *, fds: Sequence[int] = (), no_reply: bool = False
    ) -> Pending:
        """Send a command and do not wait for its reply; with ``no_reply`` there will be none to wait for.

        Where the server does not read, room to send is waited for, and what comes meanwhile is taken. Descriptors stay the
        caller's. Raises EncodeError, LocalProtocolError and DescriptorError, with nothing sent, and TransportError past the
        deadline or when the connection has ended. After a deadline the command is sent all the same as soon as there is room.
        """
        pending = self._start(command, payload, fds, no_reply)
        if self._main.queue:
            self._until(lambda: not self._main.queue, pending, "cannot be sent")
        return pending

    def wait(self, pending: Pending) -> Reply:
        """The reply to ``pending``, which must not say error; its descriptors are the caller's from here on.

        Raises ErrorReply, DescriptorError where it could not be sent, TransportError past the deadline or when the connection
        has ended, RemoteProtocolError.
        """
        if pending.reply is None:
            self._until(lambda: pending.reply is not None, pending, "has no reply")
        return self._result(pending)

    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply:
        return self.wait(self.send(command, payload, fds=fds))

    async def tell(self, command: int, payload: Record | None = None) -> None:
        self.send(command, payload, no_reply=True)

    def _until(self, done: Callable[[], bool], pending: Pending, late: str) -> None:
        """Take what arrives, and send what is due, until ``done``; ``late`` is what to tell when the deadline passes."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        try:
            while not done():
                self._check(pending)
                remaining = None if deadline is None else deadline - time.monotonic()
                if remaining is not None and remaining <= 0:
                    raise self._late(pending, late)
                self._turn(remaining)
            self._check(pending)
        except BaseException:
            self._abandon(pending)
            raise

    def _turn(self, remaining: float | None) -> None:
        """Wait for something to arrive, or for room to send, at most ``remaining`` seconds, and take it."""
        if self._twin is None and not self._main.queue:
            self._arm(remaining)
            self._read(self._main, wait=True)
            return
        poll = select.poll()
        lines = {line.stream.fileno(): line for line in self._lines()}
        for fd, line in lines.items():
            poll.register(fd, (select.POLLOUT if line.queue else 0) | (0 if line.full else select.POLLIN))
        for fd, events in poll.poll(None if remaining is None else remaining * 1000):
            line = lines[fd]
            if events & ~select.POLLOUT and self._hears(line):
                self._read(line)
            self._push(line)

    def _arm(self, remaining: float | None) -> None:
        """Let reads wait for ``remaining`` seconds; a system call only where that is far from what was set."""
        if remaining is None or self._armed is None:
            changed = remaining is not self._armed
        else:
            changed = not 0.9 * self._armed <= remaining <= self._armed
        if changed:
            self._armed = remaining
            self._main.stream.set_timeout(remaining)
