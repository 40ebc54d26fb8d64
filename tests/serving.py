# A server in a thread of the test's process, and a plain client for it: what the tests of server and devices share.
import contextlib
import errno
import os
import resource
import select
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.connection import Connection
from vfio_user_proto.device import Device
from vfio_user_proto.devices import testdev
from vfio_user_proto.events import Closed, CommandReceived, Event, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DmaMapRequest,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteReply,
    DmaWriteRequest,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.server import Server
from vfio_user_proto.session import Options
from vfio_user_proto.states import Role
from vfio_user_proto.wire import Message

ALL = Capabilities(max_msg_fds=16, write_multiple=True)
TWIN = Capabilities(max_msg_fds=16, write_multiple=True, twin_socket=True)


class Client:
    """A client that takes every step by hand. ``commands`` are those of the server that came while a reply was awaited."""

    def __init__(self, stream: unix.Stream, offer: Capabilities | None = ALL) -> None:
        self.stream = stream
        self.stream.set_timeout(10)
        self.connection = Connection(Role.CLIENT)
        self.commands: list[CommandReceived] = []
        self.answer: Callable[[CommandReceived], Record | int | None] | None = None
        if offer is not None:
            self.version = self.ask(Command.VERSION, VersionRequest(version_data=offer.to_data()))

    def send(self, command: int, payload: Record | None = None, fds: Sequence[int] = (), no_reply: bool = False) -> int:
        outgoing = self.connection.command(command, payload, fds=fds, no_reply=no_reply)
        self.stream.write(outgoing.data, outgoing.fds)
        return outgoing.message_id

    def event(self) -> Event:
        """The next thing that the server says; a command of its is answered by ``answer`` first, where that is set."""
        while (event := self.connection.next_event()) is None:
            got = self.stream.read(self.connection.wanted)
            assert got is not None, "the server says nothing"
            self.connection.receive(*got)
        return event

    def reply(self, message_id: int) -> ReplyReceived:
        while True:
            event = self.event()
            if isinstance(event, CommandReceived):
                self.commands.append(event)
                if self.answer is not None:
                    self.respond(event, self.answer(event))
                continue
            assert isinstance(event, ReplyReceived), "the server closed the connection"
            assert event.problem is None
            assert event.message.header.message_id == message_id
            return event

    def respond(self, event: CommandReceived, payload: Record | int | None) -> None:
        answer = self.connection
        outgoing = answer.error(event, payload) if isinstance(payload, int) else answer.reply(event, payload)
        assert outgoing is not None
        self.stream.write(outgoing.data)

    def ask(self, command: int, payload: Record | None = None, fds: Sequence[int] = ()) -> Any:
        """Send a command that must succeed; returns the payload of the reply, and its descriptors in ``fds``."""
        reply = self.reply(self.send(command, payload, fds))
        assert not reply.message.is_error, errno.errorcode.get(reply.message.header.error)
        assert reply.message.trailing == b""
        self.fds = reply.fds
        return reply.message.payload

    def refused(self, command: int, payload: Record | None = None, fds: Sequence[int] = ()) -> int:
        """Send a command that must be refused, and show that the stream is in step; returns the errno."""
        message = self.reply(self.send(command, payload, fds)).message
        return self._refusal(message)

    def refused_raw(self, data: bytes, fds: Sequence[int] = ()) -> int:
        """The same for bytes that are one whole message."""
        self.stream.write(data, fds)
        head = b""
        while len(head) < 16:
            got = self.stream.read(16 - len(head))
            assert got is not None
            assert got[0], "the server closed the connection"
            head += got[0]
        return self._refusal(wire.decode(head))

    def _refusal(self, message: Message) -> int:
        assert message.is_error, "it was accepted"
        assert message.header.message_size == 16
        assert self.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest()).argsz == 16
        return message.header.error

    def read(self, region: int, offset: int, count: int) -> bytes:
        data: bytes = self.ask(Command.REGION_READ, RegionReadRequest(region=region, offset=offset, count=count)).data
        return data

    def number(self, offset: int, size: int = 4) -> int:
        """A register of BAR0."""
        return int.from_bytes(self.read(0, offset, size), "little")

    def write(self, region: int, offset: int, data: bytes) -> None:
        self.ask(Command.REGION_WRITE, RegionWriteRequest(region=region, offset=offset, data=data))

    def set(self, offset: int, value: int, size: int = 4) -> None:
        """Set a register of BAR0."""
        self.write(0, offset, value.to_bytes(size, "little"))

    def is_closed(self) -> bool:
        """Whether the server closed the connection; waits for what it does next."""
        return isinstance(self.event(), Closed)

    def close(self) -> None:
        self.stream.close()
        unix.close_all(self.connection.close())


class Serving:
    """A running server; ``client`` connects to it."""

    def __init__(self, factory: Callable[[], Device] = testdev.TestDevice, options: Options | None = None) -> None:
        self.devices: list[Device] = []
        self.left = threading.Semaphore(0)

        def make() -> Device:
            device = factory()
            leave = device.detach

            def detach() -> None:
                leave()
                self.left.release()

            device.detach = detach  # type: ignore[method-assign]
            self.devices.append(device)
            return device

        self.server = Server(make, options)
        self.directory = tempfile.TemporaryDirectory(prefix="vfio-user-test-")
        self.path = f"{self.directory.name}/socket"
        self.server.listen(unix.listen(self.path))
        self.thread = threading.Thread(target=self.server.run)
        self.clients: list[Client] = []

    def client(self, offer: Capabilities | None = ALL) -> Client:
        client = Client(unix.connect(self.path), offer)
        self.clients.append(client)
        return client

    def wait_left(self) -> None:
        """Wait until the server has dropped one more client."""
        assert self.left.acquire(timeout=10)

    def __enter__(self) -> "Serving":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()
        self.server.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.server.close()
        self.directory.cleanup()


@contextlib.contextmanager
def eventfds(count: int) -> Iterator[list[int]]:
    """Eventfds that are closed at the end."""
    fds = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(count)]
    try:
        yield fds
    finally:
        unix.close_all(fds)


@contextlib.contextmanager
def memfd(size: int, flags: int = 0) -> Iterator[int]:
    """Anonymous memory that is closed at the end."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | flags)
    os.ftruncate(fd, size)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def room_for(count: int) -> Iterator[None]:
    """Inside, the process can open ``count`` more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        for _ in range(count):
            taken.callback(os.close, os.dup(0))
        limit = os.dup(0)
        os.close(limit)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def rung(fd: int) -> int:
    """How often an eventfd was signalled since the last look."""
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def open_to(fd: int) -> int:
    """How many descriptors of this process stand for the same file or eventfd."""
    here = [int(name) for name in os.listdir("/proc/self/fd")]
    return sum(same(fd, other) for other in here)


def same(one: int, other: int) -> bool:
    """Whether two descriptors stand for the same file or eventfd."""
    try:
        if os.readlink(f"/proc/self/fd/{one}") != os.readlink(f"/proc/self/fd/{other}"):
            return False
        numbers = [Path(f"/proc/self/fdinfo/{fd}").read_text().partition("eventfd-id:")[2] for fd in (one, other)]
    except FileNotFoundError:
        return False
    return numbers[0] == numbers[1]


class Guest:
    """Client memory that is reached by messages; answers the server's commands."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)

    def __call__(self, event: CommandReceived) -> Record | int:
        request = event.message.payload
        if isinstance(request, DmaReadRequest):
            data = bytes(self.memory[request.address : request.address + request.count])
            return DmaReadReply(address=request.address, data=data)
        assert isinstance(request, DmaWriteRequest)
        self.memory[request.address : request.address + request.count] = request.data
        return DmaWriteReply(address=request.address, count=request.count)


def start(client: Client, operation: int, address: int, length: int) -> None:
    """Make the test device move bytes: 1 to the client, 2 from it."""
    client.set(testdev.ADDRESS, address, 8)
    client.set(testdev.LENGTH, length)
    client.set(testdev.GO, operation)


def status(client: Client) -> tuple[int, int]:
    """How the last transfer went: 1 or 2, and the errno."""
    return client.number(testdev.STATUS), client.number(testdev.ERRNO)


def by_message(client: Client, size: int = 1 << 20) -> Guest:
    """Give the server memory without a descriptor."""
    client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=0, size=size))
    client.answer = guest = Guest(size)
    return guest


def gone(fd: int) -> bool:
    """Whether the other end of a pipe is closed everywhere; waits for it."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(10_000))


def read_message(client: Client) -> wire.Message:
    """The next message, past the engine of the client."""
    data = read_exactly(client.stream, 16)
    return wire.decode(data + read_exactly(client.stream, wire.decode_header(data).message_size - 16))


def read_exactly(stream: unix.Stream, count: int) -> bytes:
    """Exactly ``count`` bytes."""
    data = b""
    while len(data) < count:
        got = stream.read(count - len(data))
        assert got is not None, "the server says nothing"
        assert got[0], "the server closed the connection"
        data += got[0]
    return data
