"""What goes over a socket, as data: bytes, and the descriptors that travel with them."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

from vfio_user_proto.errors import LocalProtocolError

_PATHS: Final = {"device": "/dev/null", "directory": "/"}
KINDS: Final = ("memfd", "eventfd", "pipe", "socket", "file", *_PATHS)


class Descriptor(NamedTuple):
    """A descriptor to be made when it is sent.

    ``size`` is the length of a memfd or file in bytes, the count that an eventfd begins with, or the bytes that already
    wait in a pipe (more than it holds: it is full). ``seals`` are the F_SEAL_* bits of a memfd. A pipe is its writing end,
    with a reader that does not read; a socket has lost its other end; a device is /dev/null, a directory is the root.
    """

    kind: str
    size: int = 0
    seals: int = 0

    def about(self) -> dict[str, str | int]:
        """The descriptor as evidence files describe it."""
        return self._asdict()


class Packet(NamedTuple):
    """One write: bytes, and the descriptors that go with the first of them."""

    data: bytes
    fds: tuple[Descriptor, ...] = ()


def open_descriptor(what: Descriptor, stack: ExitStack) -> int:
    """Make one descriptor; it and what keeps it as it should be are closed with ``stack``.

    Raises LocalProtocolError for a kind that cannot be made.
    """

    def keep(fd: int) -> int:
        stack.callback(os.close, fd)
        return fd

    if what.kind == "memfd":
        fd = keep(os.memfd_create("vfio-user-fuzz", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
        os.ftruncate(fd, what.size)
        if what.seals:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, what.seals)
        return fd
    if what.kind == "eventfd":
        fd = keep(os.eventfd(0, os.EFD_CLOEXEC))
        if what.size:
            os.eventfd_write(fd, what.size)
        return fd
    if what.kind == "pipe":
        reader, writer = os.pipe2(os.O_CLOEXEC)
        keep(reader)
        os.write(keep(writer), bytes(min(what.size, fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ))))
        return writer
    if what.kind == "socket":
        one, other = socket.socketpair()
        other.close()
        return keep(one.detach())
    if what.kind == "file":
        fd, path = tempfile.mkstemp()
        os.unlink(path)
        os.ftruncate(keep(fd), what.size)
        return fd
    if what.kind in _PATHS:
        return keep(os.open(_PATHS[what.kind], os.O_RDONLY | os.O_CLOEXEC))
    raise LocalProtocolError(f"a descriptor of kind {what.kind!r} cannot be made; known are {', '.join(KINDS)}")


@contextmanager
def opened(descriptors: Sequence[Descriptor]) -> Iterator[tuple[int, ...]]:
    """All of ``descriptors``, open for as long as the block runs."""
    with ExitStack() as stack:
        yield tuple(open_descriptor(each, stack) for each in descriptors)


# One of each kind as it should be, and those at which a receiver goes wrong.
ODD_DESCRIPTORS: Final = (
    Descriptor("memfd", 4096),
    Descriptor("memfd", 1 << 20),
    Descriptor("memfd", 0),
    Descriptor("memfd", 4096, fcntl.F_SEAL_WRITE),
    Descriptor("memfd", 4096, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL),
    Descriptor("eventfd"),
    Descriptor("eventfd", (1 << 64) - 2),
    Descriptor("pipe"),
    Descriptor("pipe", 1 << 16),
    Descriptor("socket"),
    Descriptor("file", 4096),
    Descriptor("device"),
    Descriptor("directory"),
)
