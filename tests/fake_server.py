"""A server in a thread that says whatever a test of the client wants."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

from vfio_user_proto import messages as m
from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import (
    DescriptorError,
    RemoteProtocolError,
    TransportError,
)
from vfio_user_proto.events import Closed, CommandReceived, ReplyReceived
from vfio_user_proto.messages import Command
from vfio_user_proto.model import Record
from vfio_user_proto.states import Role

ONE_SOCKET = replace(OFFER, twin_socket=False)


class Fake:
    """A server in a thread that says what a test wants.

    ``answer`` gets each event after VERSION and returns what to send: a record for a reply, a number for an error reply,
    bytes with or without descriptors as they are, something to call, a list of several of these, None for silence; or it
    raises EndOfSession.
    """

    def __init__(
        self,
        answer: Callable[[Any], Any] = lambda event: None,
        version: Any = None,
        peer: Capabilities = Capabilities(),  # noqa: B008
    ) -> None:
        self.stream, self._theirs = unix.pair()
        self._answer = answer
        self._version = m.VersionRequest(version_data=peer.to_data()) if version is None else version
        self.engine = Connection(Role.SERVER)
        self._thread = threading.Thread(target=self._run)
        self._theirs.set_timeout(10)

    def connect(self, **options: Any) -> Client:
        return Client.connect(self.stream, **{"offer": ONE_SOCKET, "timeout": 10, **options})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while True:
                got = self._theirs.read(self.engine.wanted)
                assert got is not None
                self.engine.receive(*got)
                while (event := self.engine.next_event()) is not None:
                    if isinstance(event, Closed):
                        return
                    try:
                        answer = self._version if self._is_version(event) else self._answer(event)
                    finally:
                        unix.close_all(event.fds)
                    self._send(event, answer)
        except (EndOfSession, TransportError, RemoteProtocolError):
            pass
        finally:
            self._theirs.close()
            unix.close_all(self.engine.close())

    @staticmethod
    def _is_version(event: CommandReceived | ReplyReceived) -> bool:
        return event.message.header.command == Command.VERSION

    def _send(self, event: Any, answer: Any) -> None:
        if isinstance(answer, list):
            for each in answer:
                self._send(event, each)
        elif callable(answer):
            answer()
        elif isinstance(answer, bytes):
            self._theirs.write(answer)
        elif isinstance(answer, tuple):
            self._send_with_fds(event, *answer)
        elif isinstance(answer, int):
            self._put(self.engine.error(event, answer))
        elif isinstance(answer, Record):
            self._put(self.engine.reply(event, answer))

    def _send_with_fds(self, event: Any, answer: Record | bytes | None, fds: Sequence[int]) -> None:
        if isinstance(answer, bytes):
            self._theirs.write(answer, fds)
        else:
            self._put(self.engine.reply(event, answer, fds=fds))

    def _put(self, outgoing: Any) -> None:
        if outgoing is not None:
            self._theirs.write(outgoing.data, outgoing.fds)


class Crowded(unix.Stream):
    """A socket whose user has too many descriptors on their way, while ``on`` is set."""

    on = False

    def write(self, data: bytes | memoryview, fds: Sequence[int] = (), *, wait: bool = True) -> int:
        if fds and self.on:
            raise DescriptorError("sending failed: Too many references")
        return super().write(data, fds, wait=wait)


class EndOfSession(Exception):
    """The fake server leaves."""


def leave(event: object) -> Any:
    raise EndOfSession


def reply_to(event: CommandReceived, body: bytes = b"", **wrong: Any) -> bytes:
    """A reply with any bytes as its payload."""
    header = event.message.header
    return craft(header.command, body, message_id=header.message_id, kind=1, **wrong)
