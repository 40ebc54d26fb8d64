"""One epoll over every descriptor that a thread waits for, each with the function that is called when it is ready."""

import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Final

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
# EPOLLERR and EPOLLHUP come unasked.
GONE: Final = select.EPOLLERR | select.EPOLLHUP

# So many descriptors are called in one turn; for more the kernel's answer takes longer, and the others come next.
_AT_ONCE: Final = 64

Ready = Callable[[int], None]


class Watch:
    """Descriptors that are waited for together. A callback may call ``turn``: that is how a device waits for its client.

    A callback gets the epoll events, and may be called when nothing is ready any more, so it never blocks. A watch has a
    descriptor itself, which can be read while one of its own is ready: another one can watch, or leave, them all at once.
    """

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._ready = self._poll.poll
        self._calls: dict[int, Ready] = {}

    def fileno(self) -> int:
        return self._poll.fileno()

    def watch(self, fd: int, events: int, ready: Ready) -> None:
        """Call ``ready`` with the epoll events when one of ``events`` happens to ``fd``.

        Raises PermissionError for a file, which is always ready.
        """
        self._poll.register(fd, events)
        self._calls[fd] = ready

    def change(self, fd: int, events: int) -> None:
        """From now on wait for ``events`` of a descriptor that is watched already."""
        self._poll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; to be called before it is closed."""
        if self._calls.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def turn(self, deadline: float | None = None) -> None:
        """Wait until something is ready, or ``deadline`` (of ``time.monotonic``) has passed, and call what is due."""
        wait = None if deadline is None else max(0.0, deadline - time.monotonic())
        calls = self._calls
        for fd, events in self._ready(wait, _AT_ONCE):
            if fd in calls:
                calls[fd](events)

    def close(self) -> None:
        """Give back the own descriptor."""
        self._poll.close()


class Loop(Watch):
    """The watch of a thread, which others can wake and stop."""

    def __init__(self) -> None:
        super().__init__()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.stopped = False
        self.watch(self._wake, READABLE, lambda _events: _drain(self._wake))

    def wake(self) -> None:
        """Make ``turn`` return, unless the loop is closed; may be called by a signal handler or another thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def stop(self) -> None:
        """Set ``stopped`` and wake; may be called by a signal handler or another thread."""
        self.stopped = True
        self.wake()

    def close(self) -> None:
        """Give back the own descriptors."""
        super().close()
        wake, self._wake = self._wake, -1
        os.close(wake)


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.eventfd_read(fd)
