"""Questions and answers: a command with a typed reply, asked in parts where it is large, and checked."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.replies import Reply
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError
from vfio_user_proto.model import Record

R = TypeVar("R", bound=Record)


class HasFileno(Protocol):
    """An ``Fd``, a file, a socket."""

    def fileno(self) -> int: ...


class Exchanging(Protocol):
    """What questions need of a connection after the greeting; ``Exchange`` says what each is."""

    version: tuple[int, int]
    peer: Capabilities

    @property
    def offer(self) -> Capabilities: ...

    @property
    def limit(self) -> int: ...

    @property
    def largest_transfer(self) -> int: ...

    async def call(self, command: int, payload: Record | None = None, *, fds: Sequence[int] = ()) -> Reply: ...


class Asking:
    """Questions over a connection, with what the reply to each must look like. What does not raises RemoteProtocolError."""

    def __init__(self, exchange: Exchanging) -> None:
        self.exchange: Final = exchange

    async def ask(self, command: int, request: Record, answer: type[R]) -> R:
        """Send a command whose reply brings no descriptors; returns its payload."""
        reply = await self.exchange.call(command, request)
        reply.close()
        return payload_of(reply, answer)

    async def do(self, command: int, request: Record | None = None, fds: Sequence[int] = ()) -> None:
        """Send a command whose reply brings nothing."""
        reply = await self.exchange.call(command, request, fds=fds)
        reply.close()
        check_reply(reply)

    async def ask_whole(self, command: int, request: Any, answer: type[R]) -> tuple[Reply, R]:
        """Ask, and once again with more room where the reply says that it needs it; returns reply and payload.

        The reply's descriptors are the caller's. ``request`` and ``answer`` have a field ``argsz``.
        """
        needed = request.argsz
        for _ in range(2):
            request = request.replace(argsz=needed)
            reply = await self.exchange.call(command, request)
            try:
                content: Any = payload_of(reply, answer)
            except RemoteProtocolError:
                reply.close()
                raise
            needed = content.argsz
            if needed <= request.argsz:
                return reply, content
            reply.close()
            if needed > self.exchange.limit - wire.HEADER_SIZE:
                break
        raise RemoteProtocolError(f"{reply.message.name}: {needed} bytes are said to be needed")


def pieces(total: int, largest: int, what: str) -> Iterator[tuple[int, int]]:
    """(start, size) of each part when ``total`` goes in parts of at most ``largest``.

    Raises LocalProtocolError where the server takes none of ``what`` ("bytes", "descriptors") at all.
    """
    if total and largest <= 0:
        raise LocalProtocolError(f"the server takes no {what}")
    for at in range(0, total, max(1, largest)):
        yield at, min(largest, total - at)


def payload_of(reply: Reply, answer: type[R]) -> R:
    """The payload of ``reply``; RemoteProtocolError where it is not just an ``answer``."""
    check_reply(reply)
    payload = reply.message.payload
    if not isinstance(payload, answer):
        raise RemoteProtocolError(f"{reply.message.name}: no {answer.__name__}")
    return payload


def check_reply(reply: Reply) -> None:
    """Raise RemoteProtocolError where the reply does not decode, or has bytes that no table accounts for."""
    if reply.problem is not None:
        raise RemoteProtocolError(str(reply.problem))
    if reply.message.trailing:
        raise RemoteProtocolError(f"{reply.message.name}: {len(reply.message.trailing)} bytes too many")


def check_echo(request: Record, answer: Record, *names: str) -> None:
    """Raise RemoteProtocolError where a field of the answer is not that of the request."""
    for name in names:
        asked, answered = getattr(request, name), getattr(answer, name)
        if asked != answered:
            raise RemoteProtocolError(f"{type(answer).__name__}.{name} is {answered}, {asked} was asked for")


def number_of(fd: int | HasFileno) -> int:
    """The number of a descriptor, however it is given."""
    return fd if isinstance(fd, int) else fd.fileno()
