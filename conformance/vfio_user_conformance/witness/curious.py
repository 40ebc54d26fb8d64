"""A server that asks by itself: a few bytes of each range that the client announced without a descriptor."""

import contextlib
import os
from collections import deque
from typing import Final

from vfio_user_conformance.witness.seen import Seen
from vfio_user_proto.messages import (
    Command,
    DmaMapFlags,
    DmaMapRequest,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteRequest,
)
from vfio_user_proto.session import Session

_COUNT: Final = 8  # bytes


class Curiosity:
    """Looks at every message (``told``), and when a range was mapped reads its beginning and writes that back.

    Nobody waits for the answers: whether they come, and how they look, is for the checks. ``close`` it when the session has
    ended.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._asked: dict[int, DmaMapRequest] = {}  # by Message ID
        self._writeable: set[int] = set()  # addresses
        self._due: deque[tuple[Command, DmaReadRequest | DmaWriteRequest]] = deque()
        session.watch(self._wake, self._ready)

    def told(self, now: Seen) -> None:
        """Look at a message that comes or is about to go."""
        message_id = now.header.message_id
        if now.sender == "client" and now.is_command and isinstance(now.payload, DmaMapRequest) and not now.fds:
            self._asked[message_id] = now.payload
        elif now.sender == "server" and now.header.command == Command.DMA_MAP and message_id in self._asked:
            request = self._asked.pop(message_id)
            if not now.is_error and request.flags & DmaMapFlags.READABLE:
                if request.flags & DmaMapFlags.WRITEABLE:
                    self._writeable.add(request.address)
                self._later(Command.DMA_READ, DmaReadRequest(address=request.address, count=_COUNT))
        elif (
            now.sender == "client"
            and now.is_reply
            and isinstance(now.payload, DmaReadReply)
            and now.payload.address in self._writeable
        ):
            self._writeable.remove(now.payload.address)
            self._later(Command.DMA_WRITE, DmaWriteRequest(address=now.payload.address, data=now.payload.data))

    def close(self) -> None:
        os.close(self._wake)

    def _later(self, command: Command, request: DmaReadRequest | DmaWriteRequest) -> None:
        self._due.append((command, request))
        os.eventfd_write(self._wake, 1)

    def _ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._due:
            self._session.post(*self._due.popleft())
