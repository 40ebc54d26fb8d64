"""One client of a server: its connection, its memory and eventfds, and the device that it uses."""

import errno
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vfio_user_proto import straight, unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.channel import Channel
from vfio_user_proto.connection import Connection
from vfio_user_proto.device import Device
from vfio_user_proto.errors import EncodeError, RemoteProtocolError
from vfio_user_proto.events import CommandReceived, Event, Outgoing, ReplyReceived
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.loop import READABLE, Loop, Watch
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.messages import Command, DmaReadReply, DmaReadRequest, DmaWriteReply, DmaWriteRequest
from vfio_user_proto.model import Record
from vfio_user_proto.responder import OFFER, Responder
from vfio_user_proto.states import Role, State

_log: Final = logging.getLogger(__name__)
_VERSION: Final = int(Command.VERSION)
# So many commands of a client, and bytes of them, may wait while its device waits for a DMA reply.
BACKLOG: Final = 4096
BACKLOG_BYTES: Final = 8 << 20

# (bytes, descriptors, the command they answer, None for a command of ours) -> what to send instead. The bytes are b""
# where a command wants no reply; None sends nothing.
Filter = Callable[[bytes, tuple[int, ...], CommandReceived | None], tuple[bytes, tuple[int, ...]] | None]


@dataclass(frozen=True, slots=True)
class Options:
    """How a server serves: what it offers, who answers, what changes its messages, how long a DMA reply may take.

    ``responder``, ``outgoing``, ``connection`` and ``stream`` are the seams at which a server can be made wrong on purpose.
    """

    offer: Capabilities = OFFER
    responder: type[Responder] = Responder
    outgoing: Filter | None = None
    connection: Callable[[Role], Connection] = Connection
    stream: Callable[[socket.socket], unix.Stream] = unix.Stream
    dma_timeout: float = 5.0

    @property
    def plain(self) -> bool:
        """Whether no seam is used: nobody then wants to see, or change, what lies between a command and its reply."""
        seams = (self.responder, self.outgoing, self.connection, self.stream)
        return seams == (Responder, None, Connection, unix.Stream)


class Session:
    """One client. It is the ``Host`` of its device, and the ``Transfer`` of its memory.

    ``run`` serves the client to its end and belongs into a thread of its own: a client that owes its device a DMA reply keeps
    nobody else waiting. Apart from ``stop``, ``close`` and ``over`` nothing here is for other threads.

    What a device raises that is no OSError is a mistake in its code: it is logged with its traceback. A command is answered
    with EIO then and the session goes on; a mistake that no command led to ends the session.
    """

    def __init__(self, stream: unix.Stream, device: Device, options: Options) -> None:
        self.device: Final = device
        self.over = False  # nothing is left of the client
        self.limit = 0
        self._options = options
        self._device_watch = Watch()  # apart from the loop, which leaves it alone while the device waits
        self._loop = Loop()
        self._loop.watch(self._device_watch.fileno(), READABLE, self._kicked)
        self._memory = DmaMap(self)
        self._irqs = Interrupts(device.description.irqs)
        self._responder = options.responder(device, self._memory, self._irqs, options.offer, self._make_twin)
        self._connection = options.connection(Role.SERVER)
        self._main = Channel(self._loop, stream, self._connection, self._took)
        self._twin: Channel | None = None
        self._twin_of_client: unix.Stream | None = None
        self._waiting: deque[CommandReceived] = deque()
        self._waiting_bytes = 0
        self._busy = False
        self._replies: dict[int, ReplyReceived | None] = {}

    def run(self) -> None:
        """Serve the client until it leaves, breaks a rule, or ``stop`` is called."""
        try:
            self.device.attach(self)
            while not (self._main.closed or self._loop.stopped):
                self._loop.turn()
        except Exception:  # code of the device's author, who is not to lose the server by it
            _log.exception("the session failed, its client is dropped")
        finally:
            self._end()

    def stop(self) -> None:
        """Make ``run`` end; may be called by another thread."""
        self._loop.stop()

    def close(self) -> None:
        """Give back everything; ``run`` has ended, or never began."""
        if not self.over:
            self._end()
        self._device_watch.close()
        self._loop.close()

    # What a device may ask for.

    def read(self, address: int, count: int) -> bytes:
        """Client memory, by IOVA (``device.Memory``)."""
        return self._memory.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        """Client memory, by IOVA (``device.Memory``)."""
        self._memory.write(address, data)

    def trigger(self, index: int, vector: int) -> None:
        """Raise an interrupt (``device.Interrupts``)."""
        self._irqs.trigger(index, vector)

    def level(self, index: int, vector: int, asserted: bool) -> None:
        """Hold an interrupt asserted or let it go (``device.Interrupts``)."""
        self._irqs.level(index, vector, asserted)

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Watch a descriptor of the device's (``device.Host``)."""
        self._device_watch.watch(fd, READABLE, lambda _events: ready())

    def unwatch(self, fd: int) -> None:
        """Watch it no longer (``device.Host``)."""
        self._device_watch.forget(fd)

    def dma_read(self, address: int, count: int) -> bytes:
        """One VFIO_USER_DMA_READ (``memory.Transfer``)."""
        reply = self._ask(Command.DMA_READ, DmaReadRequest(address=address, count=count))
        if not isinstance(reply, DmaReadReply) or (reply.address, reply.count) != (address, count):
            raise OSError(errno.EIO, "the client answered something else")
        return reply.data

    def dma_write(self, address: int, data: bytes) -> None:
        """One VFIO_USER_DMA_WRITE (``memory.Transfer``); the 12-byte reply of the document's table is accepted."""
        reply = self._ask(Command.DMA_WRITE, DmaWriteRequest(address=address, data=data))
        if isinstance(reply, DmaWriteReply) and (reply.address, reply.count) != (address, len(data)):
            raise OSError(errno.EIO, "the client answered something else")

    def post(self, command: Command, request: Record) -> None:
        """Send a command of ours whose reply nobody waits for."""
        channel = self._twin or self._main
        if not channel.closed:
            self._send(channel, channel.connection.command(command, request).data, (), None)

    # What comes from the client.

    def _took(self, event: Event) -> None:
        if isinstance(event, CommandReceived):
            if self._busy:
                self._postpone(event)
                return
            self._obey(event)
            if self._waiting:
                self._catch_up()
        elif isinstance(event, ReplyReceived):
            unix.close_all(event.fds)
            message_id = event.message.header.message_id
            if message_id in self._replies:
                self._replies[message_id] = event

    def _straight(self, message: bytes) -> bool:
        """Answer a small region access (``straight``); says whether it was one."""
        if self._busy:
            return False
        self._busy = True
        try:
            reply = straight.answer(self._responder, message)
        except Exception as problem:
            reply = straight.refusal(message, _errno(problem, wire.decode(message).name))
        finally:
            self._busy = False
        if reply is None:
            return False
        if reply and not self._main.closed:
            self._main.send(reply)
        if self._waiting:
            self._catch_up()
        return True

    def _kicked(self, _events: int) -> None:
        """Descriptors of the device's are ready."""
        self._device_watch.turn(time.monotonic())
        self._catch_up()

    def _postpone(self, event: CommandReceived) -> None:
        self._waiting.append(event)
        self._waiting_bytes += event.message.header.message_size
        if len(self._waiting) > BACKLOG or self._waiting_bytes > BACKLOG_BYTES:
            raise RemoteProtocolError("too many commands came while a DMA reply was due")

    def _took_on_twin(self, event: Event) -> None:
        if isinstance(event, CommandReceived) and self._twin is not None:
            unix.close_all(event.fds)
            refusal = self._twin.connection.error(event, errno.EOPNOTSUPP)
            if refusal is not None:
                self._send(self._twin, refusal.data, (), event)
        else:
            self._took(event)

    def _obey(self, event: CommandReceived) -> None:
        """Do one command and send its reply."""
        fds = list(event.fds)
        refused = 0
        self._busy = True
        try:
            payload, sending = self._responder.respond(event, fds)
        except Exception as problem:
            refused = _errno(problem, event.message.name)
        finally:
            self._busy = False
            if fds:
                unix.close_all(fds)
        if self._main.closed:
            return
        answer = self._connection
        try:
            reply = answer.error(event, refused) if refused else answer.reply(event, payload, fds=sending)
        except EncodeError as problem:  # the device is described by numbers that have no room
            reply = answer.error(event, _errno(problem, event.message.name))
        if self._options.outgoing is not None:
            whole = reply or Outgoing(())  # b"" where the command wants no reply
            self._send(self._main, whole.data, whole.fds, event)
        elif reply is not None:
            parts, passed, _ = reply
            self._main.send(parts[0], passed)
            for part in parts[1:]:
                self._main.send(part)
        if event.message.header.command == _VERSION:
            self._greeted()

    def _catch_up(self) -> None:
        """Do what arrived while the device was busy, no faster than the client takes the replies."""
        while self._waiting and not (self._busy or self._main.closed or self._loop.stopped):
            if self._main.full:
                self._busy = True
                self._loop.turn()
                self._busy = False
                continue
            event = self._waiting.popleft()
            self._waiting_bytes -= event.message.header.message_size
            self._obey(event)

    def _greeted(self) -> None:
        """VERSION was answered: nothing more where it was refused."""
        if self._twin_of_client is not None:
            self._twin_of_client.close()
            self._twin_of_client = None
        if self._connection.state is State.READY:
            agreed, peer = self._responder.agreed, self._responder.peer
            self._connection.limit = max(wire.DEFAULT_LIMIT, agreed.max_data_xfer_size + 4096)
            self.limit = min(agreed.max_data_xfer_size, peer.max_data_xfer_size)
            if self._options.plain:
                self._main.straight = self._straight
        else:
            self._main.finish()

    def _send(self, channel: Channel, data: bytes, fds: tuple[int, ...], answers: CommandReceived | None) -> None:
        if self._options.outgoing is not None:
            instead = self._options.outgoing(data, fds, answers)
            if instead is None or not instead[0]:
                return
            data, fds = instead
        channel.send(data, fds)

    def _make_twin(self) -> int:
        """Make the socket pair of twin-socket mode; returns the client's end, which is closed when it was sent."""
        ours, theirs = unix.pair()
        self._twin_of_client = theirs
        self._twin = Channel(self._loop, ours, self._connection.twin(), self._took_on_twin)
        return theirs.fileno()

    def _ask(self, command: Command, request: Record) -> Record | None:
        """Send a command of ours and wait for its reply, while the client's commands queue up.

        Raises OSError: the client's errno, ETIMEDOUT, ECONNRESET, ECANCELED.
        """
        channel = self._twin or self._main
        if channel.closed:
            raise OSError(errno.ECONNRESET, "the client is gone")
        asked = channel.connection.command(command, request)
        deadline = time.monotonic() + self._options.dma_timeout
        busy, self._busy = self._busy, True
        self._loop.forget(self._device_watch.fileno())
        self._replies[asked.message_id] = None
        self._send(channel, asked.data, (), None)
        try:
            while (reply := self._replies[asked.message_id]) is None:
                self._wait(channel, deadline)
        finally:
            del self._replies[asked.message_id]
            self._loop.watch(self._device_watch.fileno(), READABLE, self._kicked)
            self._busy = busy
        if reply.message.is_error:
            raise OSError(reply.message.header.error or errno.EIO, "the client refused")
        if reply.problem is not None and command != Command.DMA_WRITE:
            raise OSError(errno.EIO, "the client's reply is malformed")
        return reply.message.payload

    def _wait(self, channel: Channel, deadline: float) -> None:
        channel.flush()
        if channel.closed or self._main.closed:
            raise OSError(errno.ECONNRESET, "the client is gone")
        if self._loop.stopped:
            raise OSError(errno.ECANCELED, "the server ends")
        if time.monotonic() >= deadline:
            raise OSError(errno.ETIMEDOUT, "the client does not answer")
        self._loop.turn(deadline)

    def _end(self) -> None:
        """Give back everything that came from the client; the device keeps its state (Client Disconnection)."""
        self._main.close()
        if self._twin is not None:
            self._twin.close()
        if self._twin_of_client is not None:
            self._twin_of_client.close()
        for event in self._waiting:
            unix.close_all(event.fds)
        self._memory.clear()
        self._irqs.clear()
        self.over = True
        try:
            self.device.detach()
        except Exception:  # code of the device's author
            _log.exception("the device failed when its client left")


def _errno(problem: Exception, what: str) -> int:
    """What to refuse with. What is no OSError is a mistake in the device: its author is told, and does not lose the client."""
    if isinstance(problem, OSError):
        return problem.errno or errno.EIO
    _log.error("the device failed at %s", what, exc_info=problem)
    return errno.EIO
