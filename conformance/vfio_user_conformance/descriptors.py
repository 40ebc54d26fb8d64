"""Descriptors to pass, as data; and handles on them that tell what the target does with its copy."""

import fcntl
import os
import select
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vfio_user_proto import eventfds
from vfio_user_proto.errors import UsageError


@dataclass
class Handle:
    """One descriptor of a running case: ``fd`` is the one to send, ``ours`` the one that stays here to watch it.

    ``released`` tells whether nobody but us holds the passed one any more. ``about`` is what evidence says of it.
    """

    fd: int
    ours: int
    about: dict[str, Any]
    released: Callable[[], bool]
    sent: bool = field(default=False)

    def wait_released(self, seconds: float | None) -> bool:
        """Whether the target lets go of it within ``seconds``; None waits for ever."""
        end = None if seconds is None else time.monotonic() + seconds
        idle = select.poll()
        while not self.released():
            if end is not None and time.monotonic() >= end:
                return False
            idle.poll(1)
        return True

    def count(self, seconds: float | None = 0) -> int:
        """How often an eventfd was signalled; one that was not yet is waited for, at most ``seconds``."""
        poll = select.poll()
        poll.register(self.ours, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            return 0
        return eventfds.take(self.ours)

    def lend(self) -> int:
        """The one to send; where that was sent already, another one of the same file."""
        if self.sent:
            self.fd, self.sent = os.dup(self.ours), False
        return self.fd

    def let_go(self) -> None:
        """Close the copy that was sent."""
        if not self.sent:
            self.sent = True
            os.close(self.fd)

    def close(self) -> None:
        self.let_go()
        os.close(self.ours)


class Descriptor(Protocol):
    """A kind of descriptor; ``open`` makes a fresh one."""

    def open(self) -> Handle: ...


@dataclass(frozen=True, eq=False)
class Memfd:
    """Memory in a file of ``size`` bytes.

    A lock on the passed open file is gone when its last descriptor and its last mapping are gone: that is how we see the
    target let go of it.
    """

    size: int = 0x1000
    read_only: bool = False
    seals: int = 0

    def open(self) -> Handle:
        ours = os.memfd_create("vfio-user-conformance", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(ours, self.size)
        if self.seals:
            fcntl.fcntl(ours, fcntl.F_ADD_SEALS, self.seals)
        fd = os.open(f"/proc/self/fd/{ours}", (os.O_RDONLY if self.read_only else os.O_RDWR) | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
        about = {"kind": "memfd", "size": self.size, "seals": self.seals, "read_only": self.read_only}
        return Handle(fd, ours, about, lambda: _lockable(ours))

    def __str__(self) -> str:
        return f"a {'read-only ' if self.read_only else ''}memfd of {self.size:#x} bytes"


@dataclass(frozen=True, eq=False)
class EventFd:
    """An eventfd whose counter begins at ``count``; when it is full, a write to one that is ``blocking`` waits.

    ``name`` tells it from others of the case.
    """

    count: int = 0
    blocking: bool = False
    name: str = ""

    def open(self) -> Handle:
        fd = os.eventfd(0, os.EFD_CLOEXEC | (0 if self.blocking else os.EFD_NONBLOCK))
        if self.count:
            os.eventfd_write(fd, self.count)
        return Handle(fd, os.dup(fd), {"kind": "eventfd", "size": self.count}, lambda: False)

    def __str__(self) -> str:
        return f"eventfd {self.name}" if self.name else "an eventfd"


@dataclass(frozen=True, eq=False)
class LoneEventFd:
    """An eventfd of which we keep no copy: it cannot be counted, but its end is seen.

    An epoll set does not keep the files alive that it watches, and forgets one whose last descriptor was closed.
    """

    def open(self) -> Handle:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        with select.epoll() as watching:
            watching.register(fd, 0)
            ours = os.dup(watching.fileno())
        return Handle(fd, ours, {"kind": "eventfd", "size": 0}, lambda: _watches_nothing(ours))

    def __str__(self) -> str:
        return "an eventfd"


@dataclass(frozen=True, eq=False)
class Pipe:
    """The writing end of a pipe, with ``waiting`` bytes in it; the reading end sees when the last copy is closed."""

    waiting: int = 0

    def open(self) -> Handle:
        ours, fd = os.pipe2(os.O_CLOEXEC)
        os.write(fd, bytes(min(self.waiting, fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))))
        return Handle(fd, ours, {"kind": "pipe", "size": self.waiting}, lambda: _hung_up(ours))

    def __str__(self) -> str:
        return "a pipe"


@dataclass(frozen=True, eq=False)
class Odd:
    """What no command takes: a "socket", a "file" of ``size`` bytes, a "device", a "directory", a "broken pipe".

    Of a socket the other end stays here, and sees when the last copy is closed.
    """

    kind: str
    size: int = 0

    def open(self) -> Handle:
        match self.kind:
            case "socket":
                one, other = socket.socketpair()
                fd, ours = one.detach(), other.detach()
                return Handle(fd, ours, {"kind": self.kind, "size": self.size}, lambda: _hung_up(ours))
            case "file":
                with tempfile.TemporaryFile() as file:
                    file.truncate(self.size)
                    fd = os.dup(file.fileno())
            case "broken pipe":
                reader, fd = os.pipe2(os.O_CLOEXEC)
                os.close(reader)
            case "device":
                fd = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            case _:
                fd = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        return Handle(fd, os.dup(fd), {"kind": self.kind, "size": self.size}, lambda: False)

    def __str__(self) -> str:
        return f"a {self.kind}"


def described(about: Mapping[str, Any]) -> Descriptor:
    """The descriptor that an evidence file describes. Raises UsageError for a kind that cannot be made."""
    kind, size = about.get("kind"), int(about.get("size", 0))
    match kind:
        case "memfd":
            return Memfd(size, bool(about.get("read_only")), int(about.get("seals", 0)))
        case "eventfd":
            return EventFd(size)
        case "pipe":
            return Pipe(size)
        case "socket" | "file" | "device" | "directory" | "broken pipe":
            return Odd(kind, size)
    raise UsageError(f"a descriptor of the kind {kind!r} cannot be made again")


def _lockable(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _watches_nothing(epoll: int) -> bool:
    return "tfd:" not in Path(f"/proc/self/fdinfo/{epoll}").read_text(encoding="ascii")


def _hung_up(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
