"""AF_UNIX sockets: bytes with the descriptors that travel along, listening, connecting, and what a descriptor is."""

import array
import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
import struct
import termios
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.errors import DescriptorError, RemoteProtocolError, TransportError
from vfio_user_proto.messages import DeviceSetIrqsRequest, DmaMapRequest

# The kernel passes at most 253 descriptors with one message (SCM_MAX_FD): with room for all, none is ever cut off.
MAX_FDS: Final = 253
_ROOM: Final = socket.CMSG_SPACE(MAX_FDS * 4)
_RIGHTS: Final = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
# So many bytes are taken ahead of their use where descriptors may come along: every command that takes any is longer.
FIRST: Final = wire.HEADER_SIZE + min(DmaMapRequest.fixed_size, DeviceSetIrqsRequest.fixed_size) - 1
# ... and so many where none do.
AHEAD: Final = 1 << 14
_PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
_READ: Final = int(socket.MSG_CMSG_CLOEXEC)
_READ_NOW: Final = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
_CUT: Final = int(socket.MSG_CTRUNC)
_NO_FDS: Final[list[int]] = []
_HEADER_SIZE: Final = wire.HEADER_SIZE
_size_at: Final = struct.Struct("=I").unpack_from
_SEND: Final = int(socket.MSG_NOSIGNAL)
_SEND_NOW: Final = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
# Why the kernel does not pass the descriptors of a message, of which it then sends nothing.
_NOT_PASSED: Final = {
    errno.EBADF: "one of the descriptors is closed",
    errno.ENOBUFS: "net.core.optmem_max leaves no room for so many descriptors",
    errno.ETOOMANYREFS: "more descriptors of this user than RLIMIT_NOFILE were sent and not received yet",
}


def process_of(sock: socket.socket) -> int:
    """The process at the other end of a connected socket: the one that listened, or connected, or made the pair."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0])


class Stream:
    """One connected socket, blocking or not as its user sets it. Owns the socket, not the descriptors that it handed out."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.ahead = b""  # what ``look_ahead`` took; empty when ``read`` has handed it out
        self._at = 0  # where in it ``read`` is
        self._fds, self._fds_at = _NO_FDS, 0  # the descriptors that came with it, and where their message begins
        self._recvmsg, self._recv, self._send = sock.recvmsg, sock.recv, sock.send

    def fileno(self) -> int:
        return self.socket.fileno()

    def set_timeout(self, seconds: float | None) -> None:
        """How long one later read or write may block: the kernel's own timeouts, so that a wait costs no extra call."""
        whole = 0.0 if seconds is None else max(seconds, 0.000001)
        value = struct.pack("@ll", int(whole), int(whole % 1 * 1_000_000))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def make_room(self, size: int) -> None:
        """Let so many bytes wait in the kernel until the peer reads them, or as many as the kernel grants."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def look_ahead(self) -> bytes:
        """Between two commands: take what is there for ``message`` and ``read`` to hand out; returns the first ``message``.

        First ``FIRST`` bytes at most, with the descriptors that came along. The kernel ends a read behind bytes that were sent
        with descriptors, so they belong to the last message of which there are any. (Should a command that takes none come
        with descriptors and in one piece with the next command, they go to that.) Then ``AHEAD`` bytes at most, unless the
        kernel says that descriptors come with these: they stay there, to be read message by message.
        """
        if not self.ahead:
            try:
                data, control, flags, _ = self._recvmsg(FIRST, _ROOM, _READ_NOW)
            except OSError:
                return b""  # ``read`` will tell
            if control or flags & _CUT:
                self._fds = _taken(control, flags)
                self.ahead, self._fds_at = data, last_begun(data)
            elif _HEADER_SIZE <= len(data) < FIRST and _size_at(data, 4)[0] == len(data):
                return data
            else:
                self.ahead = data
                if len(data) == FIRST:
                    self._look_further()
        return self.message()

    def _look_further(self) -> None:
        try:
            data, _, flags, _ = self._recvmsg(AHEAD, 0, _PEEK)
        except OSError:
            return
        if data and not flags & _CUT:
            self.ahead += self._recv(len(data))

    def message(self) -> bytes:
        """The next of the messages that ``look_ahead`` took; b"" where it is not there as a whole, or has descriptors."""
        ahead, at = self.ahead, self._at
        if len(ahead) - at < _HEADER_SIZE or (self._fds and at == self._fds_at):
            return b""
        stop = at + _size_at(ahead, at + 4)[0]
        if stop == len(ahead):
            self.ahead, self._at = b"", 0
            return ahead[at:]
        if not at + _HEADER_SIZE <= stop < len(ahead):
            return b""
        self._at = stop
        return ahead[at:stop]

    def read(self, wanted: int, *, wait: bool = True) -> tuple[bytes, list[int]] | None:
        """At most ``wanted`` bytes and the descriptors that came with them, close-on-exec; b"" at the end.

        None where nothing is there within the timeout; without ``wait`` a blocking socket does not block either, nor one that
        came from a peer, whose flags and options the peer can change. Raises RemoteProtocolError where descriptors were cut
        off, and TransportError where the socket fails.
        """
        if self.ahead:
            return self._from_ahead(wanted)
        try:
            data, control, flags, _ = self._recvmsg(wanted, _ROOM, _READ if wait else _READ_NOW)
        except (BlockingIOError, InterruptedError):
            return None
        except ConnectionResetError:
            return b"", []
        except OSError as error:
            raise TransportError(f"reading failed: {error.strerror}") from None
        return data, _taken(control, flags) if control or flags & _CUT else _NO_FDS

    def _from_ahead(self, wanted: int) -> tuple[bytes, list[int]]:
        start, self._at = self._at, self._at + wanted
        data, fds = self.ahead[start : self._at], _NO_FDS
        if self._fds and self._fds_at < self._at:
            fds, self._fds = self._fds, _NO_FDS
        if self._at >= len(self.ahead):
            self.ahead, self._at = b"", 0
        return data, fds

    def write(self, data: bytes | memoryview, fds: Sequence[int] = (), *, wait: bool = True) -> int:
        """Send as much of ``data`` as fits; ``fds`` go with the first byte. Returns how many bytes went, 0 for none now.

        Without ``wait`` a blocking socket does not block either. Raises TransportError where the peer is gone; DescriptorError,
        with nothing sent, where there are more than ``MAX_FDS`` descriptors, or the kernel does not pass these: one is closed
        (EBADF), too many of this user's are on their way (ETOOMANYREFS), or it has no room to look at them (ENOBUFS).
        """
        if fds and len(fds) > MAX_FDS:  # the kernel says EINVAL, or ENOBUFS where there are very many
            raise DescriptorError(f"sending failed: at most {MAX_FDS} descriptors go with one message, not {len(fds)}")
        flags = _SEND if wait else _SEND_NOW
        try:
            if not fds:
                return self._send(data, flags)
            control = [(*_RIGHTS, array.array("i", fds))]
            return self.socket.sendmsg([data], control, flags)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            if fds and error.errno in _NOT_PASSED:
                raise DescriptorError(f"sending failed: {error.strerror} ({_NOT_PASSED[error.errno]})") from None
            raise TransportError(f"sending failed: {error.strerror}") from None

    def unread(self) -> int:
        """How much of what was written the peer has not read yet; 0 when that is nothing, otherwise more than its bytes."""
        left = array.array("i", [0])
        fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, left)
        return left[0]

    def close(self) -> None:
        close_all(self._fds)
        self._fds = _NO_FDS
        self.socket.close()


def _taken(control: Iterable[tuple[int, int, bytes]], flags: int) -> list[int]:
    """The descriptors of one read. Raises RemoteProtocolError where some were cut off; the others are closed then."""
    fds = array.array("i")
    for level, kind, content in control:
        if (level, kind) == _RIGHTS:
            fds.frombytes(content[: len(content) // 4 * 4])
    if flags & _CUT:
        close_all(fds)
        raise RemoteProtocolError("descriptors were cut off in transit (MSG_CTRUNC)")
    return fds.tolist()


def last_begun(data: bytes) -> int:
    """Where the last message begins of which ``data``, which begins with one, has any bytes."""
    at = 0
    while len(data) - at >= _HEADER_SIZE and at + _HEADER_SIZE <= (stop := at + _size_at(data, at + 4)[0]) < len(data):
        at = stop
    return at


def connect(path: str | os.PathLike[str], *, timeout: float | None = None) -> Stream:
    """Connect to a listening socket; one whose queue is full makes this wait, for ``timeout`` seconds at most.

    Raises TransportError with the path and the reason.
    """
    name = os.fspath(path)
    if not name:
        raise TransportError("there is no path to connect to")
    with contextlib.ExitStack() as opened:
        try:
            stream = Stream(opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)))
            stream.set_timeout(timeout)
            stream.socket.connect(name)
        except BlockingIOError:
            raise TransportError(f"{name}: nobody accepts a connection within {timeout:g} s") from None
        except ConnectionRefusedError:
            raise TransportError(
                f"{name}: {'nobody listens there' if Path(name).is_socket() else 'is no socket'}"
            ) from None
        except (OSError, ValueError) as error:
            raise TransportError(f"{name}: {getattr(error, 'strerror', None) or error}") from None
        opened.pop_all()
    if timeout is not None:
        stream.set_timeout(None)
    return stream


def pair() -> tuple[Stream, Stream]:
    """Two streams connected with each other."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Stream(one), Stream(other)


def listen(path: str | os.PathLike[str], backlog: int = 128) -> socket.socket:
    """A listening socket at ``path``, mode 0600.

    A socket file that nobody listens on any more is replaced; a path that another server is using, or that is no socket,
    is left alone: TransportError. Of servers that start at the same time one succeeds.
    """
    name = os.fspath(path)
    if not name:
        raise TransportError("a socket needs a path to listen on")  # the kernel would choose a name
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _claim(name):
            _remove_stale(name)
            before = os.umask(0o177)
            try:
                sock.bind(name)
            finally:
                os.umask(before)
            sock.listen(backlog)
    except OSError as error:
        sock.close()
        if isinstance(error, TransportError):
            raise
        raise TransportError(f"{name}: {error.strerror or error}") from None
    return sock


def _claim(name: str) -> socket.socket:
    """What only one process can have for a path, until it closes it: a name beside the file system, which leaves no file."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(name))).hexdigest()
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0vfio-user-{digest}")
    except OSError:
        claim.close()
        raise TransportError(f"{name}: another server is starting there") from None
    return claim


def _remove_stale(name: str) -> None:
    try:
        mode = os.lstat(name).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise TransportError(f"{name}: exists and is no socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        probe.connect(name)
    except ConnectionRefusedError:
        Path(name).unlink(missing_ok=True)
        return
    except OSError as error:
        raise TransportError(f"{name}: {error.strerror}") from None
    finally:
        probe.close()
    raise TransportError(f"{name}: another server is listening there")


def close_all(fds: Iterable[int]) -> None:
    """Close every descriptor in ``fds``; one that is closed already is no error."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def kind_of(fd: int) -> str:
    """What a descriptor is: "eventfd", "file", "memfd", "socket", "pipe", "device", "directory", "other" or "closed"."""
    try:
        mode = os.fstat(fd).st_mode
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "closed"
    if target == "anon_inode:[eventfd]":
        return "eventfd"
    if stat.S_ISREG(mode):
        return "memfd" if target.startswith("/memfd:") else "file"
    for kind, test in (("socket", stat.S_ISSOCK), ("pipe", stat.S_ISFIFO), ("directory", stat.S_ISDIR)):
        if test(mode):
            return kind
    return "device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "other"
