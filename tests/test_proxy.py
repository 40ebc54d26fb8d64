# The proxy: whole sessions go by, and what cannot be connected or passed ends one connection.
import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_server import ONE_SOCKET, Crowded
from proxying import INFO, MAP, Between
from serving import Serving, eventfds, memfd, room_for

from vfio_user_proto import unix, wire
from vfio_user_proto.client import OFFER, Client
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import TransportError, UsageError
from vfio_user_proto.messages import Command, IrqSetFlags
from vfio_user_proto.proxy import Passed, Proxy

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def between(no_leak: None, tmp_path: Path) -> Iterator[Between]:
    """A proxy before the reference server."""
    with Serving() as serving, Between(tmp_path, lambda: unix.connect(serving.path)) as running:
        yield running


@pytest.mark.parametrize("offer", [OFFER, ONE_SOCKET], ids=["twin socket", "one socket"])
def test_a_session_goes_by(between: Between, offer: Any) -> None:
    """With descriptors both ways and commands of the server's, on a socket of their own or not."""
    with Client.connect(between.path, offer=offer) as client, memfd(4096) as fd, eventfds(1) as [event]:
        client.memory.add(0x20000, bytearray(4096))
        client.dma_map(0x10000, 4096, fd)
        client.dma_map(0x20000, 4096)
        for address in (0x10000, 0x20000):
            client.region_write(0, testdev.ADDRESS, struct.pack("<QI", address, 100))
            client.region_write(0, testdev.GO, b"\1\0\0\0")
            assert client.region_read(0, testdev.STATUS, 4) == b"\1\0\0\0"
        assert os.pread(fd, 100, 0) == testdev.pattern(100, 3) == client.memory.read(0x20000, 100)
        client.set_irqs(2, IrqSetFlags.ACTION_TRIGGER, eventfds=[event])
        client.set_irqs(2, IrqSetFlags.ACTION_TRIGGER)
        assert os.eventfd_read(event) == 1
        with client.region_info(2) as region:
            assert region.fd is not None
            assert region.fd.kind == "memfd"
        client.region_write(9, 0, bytes(1 << 20))
        assert client.region_read(9, 0, 1 << 20) == bytes(1 << 20)

    commands = [wire.decode_header(each.data) for each in between.passed]
    assert all(header.message_size == len(each.data) for header, each in zip(commands, between.passed, strict=True))
    dma = [each for each, header in zip(between.passed, commands, strict=True) if header.command == Command.DMA_WRITE]
    assert [(each.sender, each.socket) for each in dma] == [
        ("server", int(offer.twin_socket)),
        ("client", int(offer.twin_socket)),
    ]
    maps = [
        each.fds for each, header in zip(between.passed, commands, strict=True) if header.command == Command.DMA_MAP
    ]
    assert maps == [({"kind": "memfd", "size": 4096},), (), (), ()]
    assert sorted(each.seconds for each in between.passed) == [each.seconds for each in between.passed]


def test_several_clients_at_once(between: Between) -> None:
    with Client.connect(between.path) as one, Client.connect(between.path) as two:
        for client, text in ((one, b"one"), (two, b"two")):
            client.region_write(9, 0, text)
        assert [client.region_read(9, 0, 3) for client in (one, two)] == [b"one", b"two"]


def test_a_server_that_is_not_there_is_told_and_the_client_dropped(tmp_path: Path) -> None:
    with Between(tmp_path, lambda: unix.connect(tmp_path / "nowhere")) as between:
        with pytest.raises(TransportError, match=r"the server closed it|Connection reset|Broken pipe"):
            Client.connect(between.path)
        assert between.told == [f"a client was turned away: {tmp_path}/nowhere: No such file or directory"]


def test_a_client_for_whom_there_is_no_descriptor_is_turned_away_and_the_others_go_on(between: Between) -> None:
    late = [unix.Stream(socket.socket(socket.AF_UNIX)) for _ in range(2)]
    with Client.connect(between.path) as client:
        client.device_info()  # all that came with the greeting is closed
        with room_for(0):
            for each in late:
                each.socket.connect(str(between.path))
                each.set_timeout(10)
                assert each.read(1) == (b"", [])
            client.device_info()
    for each in late:
        each.close()
    assert between.told == ["a client was turned away: Too many open files"] * 2


def test_once_ends_when_the_client_was_turned_away(tmp_path: Path) -> None:
    told: list[str] = []
    proxy = Proxy(lambda: unix.pair()[0], lambda _: None, told.append)
    with unix.listen(tmp_path / "proxy") as listener:
        proxy.listen(listener)
        client = unix.connect(tmp_path / "proxy")
        with room_for(0):
            proxy.run(once=True)
        client.close()
        proxy.close()
    assert proxy.turned_away == 1
    assert told == ["a client was turned away: Too many open files"]


def test_descriptors_that_cannot_be_passed_end_one_connection(no_leak: None, tmp_path: Path) -> None:
    """For both its sides, with one sentence; what was read with them is not passed on without them."""
    server, far = unix.pair()
    first = Crowded(far.socket)
    first.on = True
    with Serving() as serving, eventfds(1) as fds:
        connections = iter((lambda: first, lambda: unix.connect(serving.path)))
        with Between(tmp_path, lambda: next(connections)()) as between:
            client = unix.connect(between.path)
            client.write(MAP + INFO, fds)
            for end in (client, server):
                end.set_timeout(10)
                assert end.read(1) == (b"", [])
                end.close()
            with Client.connect(between.path) as other:
                other.device_info()
    assert between.told == ["socket 0 is closed: sending failed: Too many references"]


def test_who_is_told_may_fail_and_no_descriptor_stays() -> None:
    def full(_: Passed) -> None:
        raise UsageError("the disk is full")

    (client, near), (server, far) = unix.pair(), unix.pair()
    proxy = Proxy(lambda: far, full, print)
    proxy.join(near, far)
    with eventfds(1) as fds:
        client.write(MAP, fds)
    with pytest.raises(UsageError, match="the disk is full"):
        proxy.run()
    proxy.close()
    client.close()
    server.close()


@pytest.mark.parametrize("problem", [errno.ENOBUFS, errno.ENOMEM], ids=errno.errorcode.get)
def test_a_kernel_without_memory_turns_a_client_away_and_does_not_end_it(tmp_path: Path, problem: int) -> None:
    class Short(socket.socket):
        short = True

        def accept(self) -> tuple[socket.socket, Any]:
            if self.short:
                self.short = False
                raise OSError(problem, os.strerror(problem))
            return super().accept()

    told: list[str] = []
    proxy = Proxy(lambda: unix.pair()[0], lambda _: None, told.append)
    with Short(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "proxy"))
        listener.listen()
        proxy.listen(listener)
        client.connect(str(tmp_path / "proxy"))
        proxy.run(once=True)
        assert client.recv(1) == b""
    proxy.close()
    assert told == [f"a client was turned away: {os.strerror(problem)}"]


def test_a_listener_that_gives_no_client_ends_it() -> None:
    proxy = Proxy(lambda: unix.pair()[0], lambda _: None, print)
    with socket.socket(socket.AF_UNIX) as sock:
        proxy.listen(sock)
        with pytest.raises(TransportError, match="no client can be accepted: Invalid argument"):
            proxy.run()
        proxy.close()


def test_once_ends_when_the_client_has_left(tmp_path: Path) -> None:
    with Serving() as serving, unix.listen(tmp_path / "proxy") as listener:
        proxy = Proxy(lambda: unix.connect(serving.path), lambda _: None, print)
        proxy.listen(listener)
        thread = threading.Thread(target=lambda: proxy.run(once=True))
        thread.start()
        with Client.connect(tmp_path / "proxy") as client:
            client.device_info()
        thread.join(10)
        assert not thread.is_alive()
        proxy.close()
