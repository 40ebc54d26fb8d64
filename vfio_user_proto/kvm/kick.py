"""What KVM does for an ioeventfd, done in user space: add 1 to an eventfd, and put a store's value in shared memory."""

import os

from vfio_user_proto import eventfds
from vfio_user_proto.errors import RemoteProtocolError


class Kick:
    """An eventfd to signal, which stays the caller's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def signal(self) -> None:
        """Add 1; as in the kernel that never waits, and a counter that is full stays full."""
        eventfds.signal(self._fd)


class Shadow:
    """``size`` bytes of a file that the server shares, from ``offset`` on: where it looks for the value of a store.

    The file is written, never mapped: its owner may make it shorter at any time. The descriptor stays the caller's.
    """

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd, self._offset, self._end = fd, offset, offset + size

    def store(self, data: bytes) -> None:
        """Put ``data`` there. Raises RemoteProtocolError where the file does not take it."""
        if os.fstat(self._fd).st_size < self._end:
            raise RemoteProtocolError(f"the shadow memory ends before byte {self._end}")
        try:
            os.pwrite(self._fd, data, self._offset)
        except OSError as problem:
            raise RemoteProtocolError(f"the shadow memory cannot be written: {problem.strerror}") from None
