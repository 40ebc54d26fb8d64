"""Between clients and a server: passes bytes and descriptors on unchanged, and tells what it passed, message by message."""

import os
import socket
import stat
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from vfio_user_proto import capabilities, unix, wire
from vfio_user_proto.errors import DecodeError, DescriptorError, RemoteProtocolError, TransportError
from vfio_user_proto.loop import GONE, READABLE, WRITABLE, Loop
from vfio_user_proto.messages import VersionRequest
from vfio_user_proto.spare import NO_ROOM, Spare

# Bytes of the largest message that is collected; what claims to be larger is passed as it comes.
LARGEST: Final = 64 << 20
# More than this many bytes due to one end: then the other one is not read.
_DUE_BOUND: Final = 1 << 22
# So many reads of one end at a time; then the others have their turn.
_BURST: Final = 16
_CHUNK: Final = 1 << 16


class Passed(NamedTuple):
    """What was passed on: one message, or bytes that are none; ``sender`` is "client" or "server".

    ``fds`` says of each descriptor what it was; ``socket`` numbers the sockets, that of twin-socket mode has its own;
    ``seconds`` is time.monotonic().
    """

    sender: str
    data: bytes
    fds: tuple[Mapping[str, Any], ...]
    socket: int
    seconds: float


class Proxy:
    """Serves clients with connections to a server, which ``connect`` makes.

    ``passed`` gets all that goes by, in its order. ``told`` gets a sentence when a connection cannot be made or breaks, or a
    client is turned away because there is no descriptor left for it; the other connections go on. Everything is for the
    thread that calls ``run``, except ``stop``.
    """

    def __init__(
        self, connect: Callable[[], unix.Stream], passed: Callable[[Passed], None], told: Callable[[str], None]
    ) -> None:
        self.loop: Final = Loop()
        self.passed: Final = passed
        self.told: Final = told
        self._connect = connect
        self._listeners: list[socket.socket] = []
        self._links: list[_Link] = []
        self._spare = Spare()
        self._sockets = 0
        self.turned_away = 0  # clients that could not be connected to the server
        self._left = 0  # clients that have gone, those that were turned away among them

    def listen(self, sock: socket.socket) -> None:
        """Accept clients on a listening socket, which stays the caller's."""
        sock.setblocking(False)
        self._listeners.append(sock)
        self.loop.watch(sock.fileno(), READABLE, lambda _events: self._accept(sock))

    def run(self, *, once: bool = False) -> None:
        """Pass on until ``stop`` is called; with ``once`` until a client has left.

        Raises TransportError where a listener cannot be used, and what ``passed`` raises.
        """
        while not self.loop.stopped and not (once and self._left):
            self.loop.turn()
            for link in [link for link in self._links if link.over]:
                link.close()
                self._links.remove(link)
                self._left += not link.twin

    def stop(self) -> None:
        """Make ``run`` return; may be called by a signal handler or another thread."""
        self.loop.stop()

    def close(self) -> None:
        """Drop every connection, and give back all descriptors."""
        for link in self._links:
            link.close()
        for listener in self._listeners:
            self.loop.forget(listener.fileno())
        self._spare.close()
        self.loop.close()

    def join(self, client: unix.Stream, server: unix.Stream, *, twin: bool = False) -> None:
        """Pass on between two sockets, which are the proxy's from here on."""
        self._links.append(_Link(self, client, server, self._sockets, twin))
        self._sockets += 1

    def _accept(self, listener: socket.socket) -> None:
        try:
            client = unix.Stream(listener.accept()[0])
        except BlockingIOError:
            return
        except OSError as problem:
            if problem.errno not in NO_ROOM:
                raise TransportError(f"no client can be accepted: {problem.strerror}") from None
            if self._spare.turn_away(listener):
                self._turned_away(str(problem.strerror))
            return
        try:
            server = self._connect()
        except TransportError as problem:
            self._turned_away(str(problem))
            client.close()
        else:
            self.join(client, server)

    def _turned_away(self, why: str) -> None:
        self.told(f"a client was turned away: {why}")
        self.turned_away += 1
        self._left += 1


class _Link:
    """Two sockets that are joined; ``number`` is ``Passed.socket``, ``twin`` whether it is one of twin-socket mode."""

    def __init__(self, proxy: Proxy, client: unix.Stream, server: unix.Stream, number: int, twin: bool) -> None:
        self.proxy, self.number, self.twin = proxy, number, twin
        self.client, self.server = _End(self, client, "client"), _End(self, server, "server")
        self.client.other, self.server.other = self.server, self.client
        self.over = False

    def passes(self, sender: str, data: bytes, fds: list[int]) -> None:
        """Tell what goes by. The socket of twin-socket mode is exchanged for one of ours, and joined with it."""
        about = tuple(map(_described, fds))
        self.proxy.passed(Passed(sender, data, about, self.number, time.monotonic()))
        index = _twin_index(data) if sender == "server" and fds else None
        if index is not None and index < len(fds) and about[index]["kind"] == "socket":
            try:
                ours, theirs = unix.pair()
            except OSError as problem:
                self.proxy.told(f"what goes over the twin socket is not seen: {problem.strerror}")
                return
            server = unix.Stream(socket.socket(fileno=fds[index]))
            fds[index] = theirs.socket.detach()
            self.proxy.join(ours, server, twin=True)

    def settle(self) -> None:
        """Find out whether it is over: nobody sends any more, or somebody is gone, and what was sent has arrived."""
        ends = (self.client, self.server)
        done = all(end.silent and not end.queue for end in ends)
        self.over = self.over or done or any(end.silent and end.gone and not end.other.queue for end in ends)

    def give_up(self, why: str) -> None:
        """What was sent cannot be passed on as it was: the end for both sides."""
        if not self.over:
            self.over = True
            self.proxy.told(f"socket {self.number} is closed: {why}")

    def close(self) -> None:
        """Close both sockets; what was not sent is dropped."""
        self.over = True
        self.client.close()
        self.server.close()


class _End:
    """One socket: what comes from it, by messages, and what is still to go to it."""

    other: "_End"

    def __init__(self, link: _Link, stream: unix.Stream, sender: str) -> None:
        self.queue: deque[tuple[memoryview, list[int]]] = deque()
        self.silent = False  # it sends nothing more
        self.gone = False  # it takes nothing more, either
        self._link, self._stream, self._sender = link, stream, sender
        self._due = 0
        self._missing = wire.HEADER_SIZE  # bytes to the end of the header, or of the message
        self._framed = True  # the sizes that it sends could be believed so far
        self._pieces: list[tuple[bytearray, list[int]]] = []  # of the message, cut where descriptors came
        self._waiting_for = READABLE
        stream.socket.setblocking(False)
        link.proxy.loop.watch(stream.fileno(), READABLE, self._ready)

    def put(self, data: bytes | bytearray, fds: list[int]) -> None:
        """Send, as soon as there is room. The descriptors are ours."""
        if self.gone or self._link.over:
            unix.close_all(fds)
            return
        self.queue.append((memoryview(data), fds))
        self._due += len(data)
        self._push()

    def close(self) -> None:
        if self._stream.fileno() >= 0:
            self._link.proxy.loop.forget(self._stream.fileno())
            self._stream.close()
        self._drop()
        for _, fds in self._pieces:
            unix.close_all(fds)
        self._pieces.clear()

    def _ready(self, events: int) -> None:
        try:
            if events & WRITABLE:
                self._push()
            if events & (READABLE | GONE) and not self.silent:
                self._read()
        except (RemoteProtocolError, TransportError) as problem:
            self._link.give_up(str(problem))
        if events & GONE and self.silent:
            self._lose()
        self._watch()
        self.other._watch()
        self._link.settle()

    def _push(self) -> None:
        while self.queue:
            data, fds = self.queue[0]
            try:
                sent = self._stream.write(data, fds, wait=False)
            except DescriptorError as problem:
                self._link.give_up(str(problem))
                return
            except TransportError:  # what it sent before can still be read
                self._lose()
                return
            if not sent:
                break
            unix.close_all(fds)
            self._due -= sent
            if sent < len(data):
                self.queue[0] = data[sent:], []
            else:
                self.queue.popleft()
        if not self.queue and self.other.silent:
            self._hang_up()

    def _read(self) -> None:
        for _ in range(_BURST):
            if self._link.over:
                return
            got = self._stream.read(self._missing if self._framed else _CHUNK, wait=False)
            if got is None:
                return
            if not got[0]:
                self._fall_silent()
                return
            self._take(*got)

    def _take(self, data: bytes, fds: list[int]) -> None:
        """Collect what was read until the message is whole; what is no message is passed on as it comes."""
        if fds or not self._pieces:
            self._pieces.append((bytearray(data), fds))
        else:
            self._pieces[-1][0].extend(data)
        self._missing -= len(data)
        if not self._framed:
            self._pass()
        elif not self._missing:
            have = sum(len(piece) for piece, _ in self._pieces)
            if have == wire.HEADER_SIZE:
                size = wire.decode_header(b"".join(piece for piece, _ in self._pieces)).message_size
                self._framed = wire.HEADER_SIZE <= size <= LARGEST
                self._missing = size - have
            if not (self._framed and self._missing):
                self._pass()

    def _pass(self) -> None:
        """Pass on what was collected: descriptors with the part with which they came."""
        fds = [fd for _, fds in self._pieces for fd in fds]
        self._link.passes(self._sender, b"".join(piece for piece, _ in self._pieces), fds)
        pieces, self._pieces, self._missing = self._pieces, [], wire.HEADER_SIZE
        for piece, its in pieces:
            count = len(its)
            self.other.put(piece, fds[:count])
            del fds[:count]

    def _fall_silent(self) -> None:
        """Nothing more comes: pass on the beginning of a message that has no end, and then that it is the end."""
        self.silent = True
        if self._pieces:
            self._pass()
        if not self.other.queue:
            self.other._hang_up()

    def _hang_up(self) -> None:
        """Tell this end that nothing more comes for it."""
        try:
            self._stream.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()

    def _lose(self) -> None:
        """It takes nothing more."""
        self.gone = True
        self._drop()

    def _drop(self) -> None:
        for _, fds in self.queue:
            unix.close_all(fds)
        self.queue.clear()
        self._due = 0

    def _watch(self) -> None:
        """Have the loop say what concerns us; of a socket that is gone and silent it would say so for ever."""
        fd = self._stream.fileno()
        if fd < 0:
            return
        if self.gone and self.silent:
            self._link.proxy.loop.forget(fd)
            self._waiting_for = 0
            return
        reading = not self.silent and self.other._due <= _DUE_BOUND
        wanted = (READABLE if reading else 0) | (WRITABLE if self.queue else 0)
        if wanted != self._waiting_for:
            self._waiting_for = wanted
            self._link.proxy.loop.change(fd, wanted)


def _twin_index(data: bytes) -> int | None:
    """Which descriptor of this message is the socket of twin-socket mode, if it is a reply to VERSION that brings one."""
    try:
        message = wire.decode(data)
        if not message.is_reply or not isinstance(message.payload, VersionRequest):
            return None
        peer = capabilities.parse(message.payload.version_data)
    except DecodeError:
        return None
    return peer.twin_socket_fd_index if peer.twin_socket else None


def _described(fd: int) -> dict[str, Any]:
    """What a descriptor is, as a capture says it."""
    about: dict[str, Any] = {"kind": unix.kind_of(fd)}
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        about["size"] = status.st_size
    return about
