# A target whose other end is a function in a thread: what the tests of the judge talk to.
import socket
import threading
from collections.abc import Callable, Iterable

from vfio_user_conformance.case import Case
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.expect import ErrorReply, Problem
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.profile import HAZARDS, Profile, Scratch
from vfio_user_conformance.sending import Send
from vfio_user_conformance.verdict import Result
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DecodeError, TargetError
from vfio_user_proto.messages import (
    Command,
    DeviceFlags,
    DeviceGetInfoReply,
    DmaMapRequest,
    Header,
    HeaderFlags,
    MessageType,
    VersionRequest,
)
from vfio_user_proto.program import End
from vfio_user_proto.unix import Stream
from vfio_user_proto.wire import Message

QUICK = Timing(reply=0.3, patience=0.02)
INFO = DeviceGetInfoReply(flags=DeviceFlags.PCI, num_regions=9, num_irqs=5)

MAP = Send(DmaMapRequest(address=0x1000, size=0x1000))

# What a server does with one message: the bytes to send, None to close.
Serving = Callable[[Message], bytes | None]


def reply(to: Message, payload: object = None, **odd: int) -> bytes:
    """A right reply, or one with other header fields."""
    values = {"message_id": to.header.message_id, "kind": int(MessageType.REPLY), **odd}
    command = values.pop("command", to.header.command)
    return craft(command, payload, **values)  # type: ignore[arg-type]


def texts(problems: Iterable[Problem]) -> list[str]:
    """What is wrong, in words."""
    return [problem.text for problem in problems]


def refusal(to: Message, errno: int = 22) -> bytes:
    """An error reply."""
    return reply(to, flags=int(MessageType.REPLY | HeaderFlags.ERROR), error=errno)


def plain(message: Message) -> bytes:
    """What a server without any device answers."""
    if message.header.command == Command.VERSION:
        return reply(message, VersionRequest(version_minor=2))
    if message.header.command == Command.DEVICE_GET_INFO:
        return reply(message, INFO)
    return refusal(message)


class Threaded:
    """A target whose connections are served by ``serving``, at most ``connections`` of them."""

    disposable = replaceable = False
    pid = 0

    def __init__(self, serving: Serving = plain, *, connections: int = 100, end: End | None = None) -> None:
        self.name = "a thread"
        self.renewed = 0
        self._serving, self.connections, self._end = serving, connections, end
        self._threads: list[threading.Thread] = []
        self.at_the_end: Callable[[], object] = lambda: None  # what it does when a client has left
        self.doing = ""  # what it is said to be doing
        self.left = threading.Event()  # that is done, and the socket still open

    def renew(self) -> bool:
        self.renewed += 1
        return True

    def connect(self) -> Stream:
        if not self.connections:
            raise TargetError("nobody listens")
        self.connections -= 1
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        thread.start()
        self._threads.append(thread)
        return Stream(ours)

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while header := _exactly(sock, Header.fixed_size):
                size = wire.decode_header(header).message_size
                try:
                    message = wire.decode(header + _exactly(sock, size - Header.fixed_size))
                except DecodeError:
                    return
                answer = self._serving(message)
                if answer is None:
                    return
                try:
                    sock.sendall(answer)
                except BrokenPipeError:
                    return
            self.at_the_end()
            self.left.set()

    def done(self) -> End | None:
        return None

    def discard(self) -> bool:
        return True

    def terminate(self) -> None:
        raise NotImplementedError

    def set_aside(self) -> "Threaded":
        raise NotImplementedError

    def ended(self, seconds: float | None) -> End | None:
        return self._end

    def report(self) -> str:
        return ""

    def activity(self) -> str:
        return self.doing

    def stderr(self) -> str:
        return "what it printed"

    def close(self) -> None:
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        try:
            part = sock.recv(count - len(data))
        except ConnectionResetError:
            return b""
        if not part:
            return b""
        data += part
    return data


def bench(serving: Serving = plain, **more: object) -> Bench:
    """A bench with such a target; everything is allowed, and nothing takes long."""
    target = Threaded(serving, **more)  # type: ignore[arg-type]
    return Bench(target, Facts(profile=Profile(scratch=Scratch(0, 0, 64)), device=INFO), frozenset(HAZARDS), QUICK)


def case(stimulus: object = MAP, expect: object = None, requirement: str = "dma-map.overlap", **more: object) -> Case:
    """A case of one step, which is to be refused unless told otherwise."""
    return Case(ident="x/y", requirement=requirement, stimulus=stimulus, expect=expect or ErrorReply(), **more)  # type: ignore[arg-type]


def run(one: Case, serving: Serving = plain, **more: object) -> Result:
    """What one case comes to, on a target of its own."""
    made = bench(serving, **more)
    try:
        return made.run(one)
    finally:
        made.target.close()


def to_map(answer: bytes | None) -> Serving:
    """Answers DMA_MAP with these bytes, None for closing."""
    return lambda message: answer if message.header.command == Command.DMA_MAP else plain(message)


def answering(change: object) -> Serving:
    """Answers DMA_MAP with what ``change`` makes of the command."""
    return lambda message: change(message) if message.header.command == Command.DMA_MAP else plain(message)  # type: ignore[operator]


class OneSocket(Threaded):
    """A target whose only connection leads to ``theirs``."""

    def connect(self) -> Stream:
        ours, self.theirs = socket.socketpair()
        return Stream(ours)
