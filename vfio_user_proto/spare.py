"""A descriptor kept in reserve, to turn a client away where there is none left for it."""

import contextlib
import errno
import os
import socket
from typing import Final

from vfio_user_proto import unix
from vfio_user_proto.closing import Closing

# What ``accept`` fails with where the process, or the machine, has no descriptor, or no memory for one, left.
NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Spare(Closing):
    """A descriptor that can be done without. Raises OSError where there is none to begin with."""

    def __init__(self) -> None:
        self._fds = _opened()

    def turn_away(self, listener: socket.socket) -> bool:
        """Give the descriptor up for a moment to accept a client, which would wait for ever, and drop it.

        Says whether it was dropped: another thread may have been faster to take what was given up.
        """
        self.close()
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):
                self._fds = _opened()
        return True

    def close(self) -> None:
        """Give the descriptor back."""
        unix.close_all(self._fds)
        self._fds = []


def _opened() -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
