"""Faults beside the connection: programs that go their own ways, and clients that get into each other's."""

import ctypes
import os
import signal
from collections.abc import Sequence
from typing import Any, ClassVar

from vfio_user_proto.connection import Connection
from vfio_user_proto.device import Device
from vfio_user_proto.faults.kit import Fault, Watched, die, method, right
from vfio_user_proto.messages import Command, DeviceState
from vfio_user_proto.responder import Answer, Responder


def _daemonized(self: Any, request: Any, fds: list[int]) -> Answer:
    """Goes on in a child of the process, whose end the child waits for."""
    over, held = os.pipe()
    if os.fork():
        os._exit(0)
    os.close(held)
    os.read(over, 1)
    os.close(over)
    return right("version", self, request, fds)


def _deaf(self: Any, request: Any, fds: list[int]) -> Answer:
    ctypes.CDLL(None).signal(int(signal.SIGTERM), int(signal.SIG_IGN))
    return right("version", self, request, fds)


class _Crowd(Watched):
    """Knows which clients are there."""

    there: ClassVar[list[Connection]] = []

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if data and self not in self.there:
            self.there.append(self)
        if not data and self in self.there:
            self.there.remove(self)
        self.came()
        super().receive(data, fds)

    def came(self) -> None:
        raise NotImplementedError


class _One(_Crowd):
    """Has forgotten the first client when there is a second one."""

    def came(self) -> None:
        if self in self.there and self.there[-1] is not self:
            die()


class _Last(_Crowd):
    """Serves the last client alone."""

    def came(self) -> None:
        if self in self.there and self.there[-1] is not self:
            self._fail("there is another client")


class _Gone(Watched):
    """Dies when a client has negotiated and leaves."""

    messages = 0

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        self.messages += bool(data) and not self.inside
        if not data and self.messages == 1 and not self.inside:
            die()
        super().receive(data, fds)


class _Runs(Responder):
    """Each client finds a device that runs."""

    def __init__(self, device: Device, *rest: Any) -> None:
        super().__init__(device, *rest)
        device.state = DeviceState.RUNNING


def _null(data: bytes, fds: tuple[int, ...], answers: Any) -> tuple[bytes, tuple[int, ...]]:
    """What comes with the reply to VERSION is standard input."""
    version = answers is not None and answers.message.header.command == Command.VERSION
    return data, (0,) * len(fds) if version else fds


def _room_for_one(self: Any, request: Any, fds: list[int]) -> Answer:
    data = request.version_data.replace(b'"max_msg_fds": 0', b'"max_msg_fds": 1')
    return right("version", self, request.replace(version_data=data), fds)


FAULTS: tuple[Fault, ...] = (
    Fault("backend-daemon", "A server is a daemon.", responder=method("version", _daemonized)),
    Fault("backend-sigterm-ignored", "A server that has a client goes on.", responder=method("version", _deaf)),
    Fault("second-client-beside-crash", "There is one client.", connection=_One),
    Fault("second-client-ends-the-first", "The last client counts.", connection=_Last),
    Fault("client-gone-crash", "A client that has negotiated asks for something.", connection=_Gone),
    Fault("migration-state-of-each-client", "The migration state is the client's.", responder=_Runs),
    Fault("twin-socket-no-socket", "Any descriptor will do for the second socket.", outgoing=_null),
    Fault(
        "twin-socket-whatever-max-msg-fds",
        "The second socket is no descriptor that counts.",
        responder=method("version", _room_for_one),
    ),
)
