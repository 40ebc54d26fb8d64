"""A serial port in a server, its client, and terminals for it: fixtures for modules that name this one in pytest_plugins."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from serving import Serving, eventfds

from vfio_user_proto import unix
from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import INTX
from vfio_user_proto.devices.serial import SerialDevice
from vfio_user_proto.messages import IrqSetFlags


@pytest.fixture
def listener(no_leak: None, tmp_path: Path) -> Iterator[socket.socket]:
    with unix.listen(tmp_path / "line") as sock:
        yield sock


@pytest.fixture
def serial(listener: socket.socket) -> Iterator[Serving]:
    with Serving(partial(SerialDevice, listener)) as running:
        yield running


@pytest.fixture
def port(serial: Serving) -> Iterator[Client]:
    with Client.connect(serial.path) as client:
        yield client


@pytest.fixture
def fd(port: Client) -> Iterator[int]:
    """The eventfd of the port's interrupt."""
    with eventfds(1) as (fd,):
        port.set_irqs(INTX, IrqSetFlags.ACTION_TRIGGER, eventfds=[fd])
        yield fd


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    """Makes terminals."""
    with contextlib.ExitStack() as opened:

        def make() -> socket.socket:
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(10)
            sock.connect(listener.getsockname())
            return sock

        yield make
