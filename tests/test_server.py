# The server: who gets which device, many clients at once, clients that do not read, running and ending.
import errno
import fcntl
import os
import resource
import select
import shlex
import socket
import threading
from pathlib import Path

import pytest
from commands import VFIO_USER
from serving import ALL, Client, Serving, by_message, eventfds, memfd, open_to, read_exactly, rung, start, status

from vfio_user_proto import launch, unix
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.devices.minimal import MinimalDevice
from vfio_user_proto.errors import TransportError
from vfio_user_proto.events import CommandReceived, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    IrqSetFlags,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.server import Server, _Client
from vfio_user_proto.states import Role

SCRATCH = testdev.SCRATCH
INFO = Command.DEVICE_GET_INFO
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER


def test_device_keeps_its_state_for_the_next_client(serving: Serving) -> None:
    first = serving.client()
    first.write(0, SCRATCH, b"kept")
    first.close()
    assert serving.client().read(0, SCRATCH, 4) == b"kept"


def test_client_that_reconnects_at_once_finds_its_device_free(no_leak: None) -> None:
    """Also where the device is still at what the client asked for last."""
    going_on = threading.Event()

    class Slow(testdev.TestDevice):
        def region_write(self, index: int, offset: int, data: bytes) -> None:
            assert going_on.wait(10)
            super().region_write(index, offset, data)

    with Serving(Slow) as serving:
        first = serving.client()
        first.send(Command.REGION_WRITE, RegionWriteRequest(offset=SCRATCH, data=b"last"))
        first.close()
        second = serving.client(None)
        second.send(Command.VERSION, VersionRequest())
        second.stream.set_timeout(0.1)
        assert second.stream.read(16) is None
        going_on.set()
        second.stream.set_timeout(10)
        assert isinstance(second.event(), ReplyReceived)
        assert second.read(0, SCRATCH, 4) == b"last"
        assert len(serving.devices) == 1


def test_a_device_that_is_stuck_keeps_nobody_else_waiting_for_ever(
    no_leak: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that comes meanwhile gets another device."""
    monkeypatch.setattr("vfio_user_proto.server._HANDOVER", 0.01)
    going_on = threading.Event()

    class Stuck(testdev.TestDevice):
        def region_write(self, index: int, offset: int, data: bytes) -> None:
            assert going_on.wait(20)

    with Serving(Stuck) as serving:
        first = serving.client()
        first.send(Command.REGION_WRITE, RegionWriteRequest(offset=SCRATCH, data=b"last"))
        first.close()
        serving.client().ask(INFO, DeviceGetInfoRequest())
        assert len(serving.devices) == 2
        going_on.set()
        serving.wait_left()


def test_the_spare_descriptor_may_be_taken_by_somebody_else(no_leak: None, tmp_path: Path) -> None:
    """Then nobody can be turned away for a while, which does not end the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = Server(MinimalDevice)

    class Crowded(socket.socket):
        calls = 0

        def accept(self) -> tuple[socket.socket, object]:
            self.calls += 1
            if self.calls < 3:
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                raise OSError(errno.EMFILE, "too many")
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if self.calls == 3:
                raise OSError(errno.EMFILE, "too many")
            server.stop()
            return super().accept()

    listener = Crowded(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    listener.listen()
    server.listen(listener)
    client = Client(unix.connect(tmp_path / "socket"), None)
    try:
        server.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server.close()
    assert client.stream.read(1) == (b"", [])
    client.close()


def test_one_client_too_many_is_turned_away(no_leak: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_user_proto.server.MAX_CLIENTS", 2)
    with Serving() as serving:
        clients = [serving.client(), serving.client()]
        assert not greeted(serving.client(None))
        clients.pop().close()
        serving.wait_left()
        serving.client().ask(INFO, DeviceGetInfoRequest())


def test_what_came_from_a_client_is_dropped_when_it_leaves(serving: Serving) -> None:
    with memfd(4096) as memory, eventfds(1) as (event,):
        first = serving.client()
        first.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=0, size=4096), [memory])
        first.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1), [event])
        first.close()
        serving.wait_left()
        assert open_to(memory) == open_to(event) == 1
        second = serving.client()
        second.set(testdev.RAISE, 2 << 16)
        second.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=0, size=4096))
        assert rung(event) == 0


def test_clients_at_the_same_time_have_a_device_each(serving: Serving) -> None:
    first, second = serving.client(), serving.client()
    first.write(0, SCRATCH, b"one.")
    second.write(0, SCRATCH, b"two.")
    assert (first.read(0, SCRATCH, 4), second.read(0, SCRATCH, 4)) == (b"one.", b"two.")
    first.close()
    serving.wait_left()
    assert serving.client().read(0, SCRATCH, 4) == b"one."
    assert len(serving.devices) == 2


def greeted(client: Client) -> bool:
    """Whether the server lets the client in, or closes the connection."""
    try:
        client.send(Command.VERSION, VersionRequest())
        return isinstance(client.event(), ReplyReceived)
    except TransportError:
        return False


class ClosedMeanwhile(socket.socket):
    """A socket that is closed behind the back of who asks for its number, which is another descriptor's then."""

    def fileno(self) -> int:
        number = super().fileno()
        if number >= 0:
            self.close()
            with open(os.devnull) as other:
                self.other = fcntl.fcntl(other, fcntl.F_DUPFD_CLOEXEC, number)
            assert self.other == number
        return number


def test_a_client_whose_number_is_taken_while_one_looks_is_gone(no_leak: None) -> None:
    """Its device is free: the next client gets that, and no new one."""
    ours, theirs = socket.socketpair()
    ours.close()
    client = _Client(sock := ClosedMeanwhile(fileno=theirs.detach()), session=None, ended=print)  # type: ignore[arg-type]

    assert client.gone()
    os.close(sock.other)


@pytest.mark.parametrize("limit", [30, 31])
def test_server_without_descriptors_left_turns_clients_away_and_recovers(no_leak: None, limit: int) -> None:
    """A client takes two: with one limit there is none left to accept it with, with the other none for its session."""
    serve = shlex.join([*VFIO_USER, "serve", "--device", "minimal", "--socket-path"])
    limited = shlex.join(["sh", "-c", f'ulimit -n {limit}; exec {serve} "$0"', "{socket}"])
    with launch.spawn(limited) as process:
        clients = [Client(process.connect())]
        while greeted(client := Client(process.connect(), None)):
            clients.append(client)
        client.close()
        assert 1 < len(clients) < 20
        clients[0].ask(INFO, DeviceGetInfoRequest())
        clients.pop().close()
        clients.append(Client(process.connect()))
        for client in clients:
            client.ask(INFO, DeviceGetInfoRequest())
            client.close()


def test_others_are_served_while_a_client_owes_a_dma_reply(serving: Serving) -> None:
    silent, working = serving.client(), serving.client()
    by_message(silent)
    guest = by_message(working)
    silent.set(testdev.LENGTH, 16)
    silent.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(silent.event(), CommandReceived)
    for value in range(100):
        working.set(SCRATCH, value)
        assert working.number(SCRATCH) == value
    start(working, 1, 0, 16)
    assert status(working) == (1, 0)
    assert guest.memory[:16] == testdev.pattern(16, 3)


def test_many_clients_that_owe_dma_replies_at_once(serving: Serving) -> None:
    """None waits for another, in whatever order they answer."""
    asked = []
    for client in [serving.client() for _ in range(20)]:
        guest = by_message(client)
        client.set(testdev.LENGTH, 16)
        message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
        event = client.event()
        assert isinstance(event, CommandReceived)
        asked.append((client, message_id, event, guest))
    for client, message_id, event, guest in asked[::2] + asked[::-2]:
        client.respond(event, guest(event))
        client.reply(message_id)
        assert status(client) == (1, 0)


# Clients that do not read


def test_client_that_does_not_read_is_not_read_either(serving: Serving) -> None:
    other, client = serving.client(), serving.client()
    request = craft(9, RegionReadRequest(region=0, count=4096))
    reply = 16 + 16 + 4096
    sending = client.stream.socket
    sending.setblocking(False)
    sent, patience = 0, 0
    poll = select.poll()
    poll.register(sending, select.POLLOUT)
    while poll.poll(200):
        sent += client.stream.write(request[sent % len(request) :])
    # Everything is full: some 1 MiB of replies in the server, the rest as requests in the socket.
    assert 300 < sent // len(request) < 20_000
    other.ask(INFO, DeviceGetInfoRequest())
    assert patience == 0
    sending.setblocking(True)
    client.stream.set_timeout(10)
    client.stream.write(request[sent % len(request) :])
    for _ in range(-(-sent // len(request))):
        assert len(read_exactly(client.stream, reply)) == reply


def test_client_that_leaves_with_replies_due(serving: Serving) -> None:
    client = serving.client()
    request = craft(9, RegionReadRequest(region=0, count=4096))
    client.stream.socket.setblocking(False)
    poll = select.poll()
    poll.register(client.stream.fileno(), select.POLLOUT)
    while poll.poll(50):
        client.stream.write(request)
    client.close()
    serving.wait_left()
    serving.client()


def test_three_hundred_connects_leave_fewer_devices_and_a_server(serving: Serving) -> None:
    for _ in range(300):
        unix.connect(serving.path).close()
    serving.client().ask(INFO, DeviceGetInfoRequest())
    assert len(serving.devices) < 300


# Running


def test_once_ends_with_the_first_client(tmp_path: Path, no_leak: None) -> None:
    server = Server(testdev.TestDevice)
    server.listen(unix.listen(tmp_path / "socket"))
    thread = threading.Thread(target=lambda: server.run(once=True))
    thread.start()
    Client(unix.connect(tmp_path / "socket"), ALL).close()
    thread.join(10)
    assert not thread.is_alive()
    server.close()


def test_connected_socket_is_served_and_its_end_ends_the_server(no_leak: None) -> None:
    ours, theirs = unix.pair()
    server = Server(testdev.TestDevice)
    server.add(theirs.socket)
    thread = threading.Thread(target=server.run)
    thread.start()
    client = Client(ours)
    client.ask(INFO, DeviceGetInfoRequest())
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    server.close()


def test_stop_before_run_is_not_forgotten(no_leak: None) -> None:
    server = Server(testdev.TestDevice)
    ours, theirs = unix.pair()
    server.add(theirs.socket)
    server.stop()
    server.run()
    server.close()
    assert ours.read(1) == (b"", [])
    ours.close()


def test_replies_are_typed_events(serving: Serving) -> None:
    """The plain client of these tests sees what the engine of a client sees."""
    client = serving.client()
    assert client.connection.role is Role.CLIENT
    assert isinstance(client.connection, Connection)
    assert isinstance(client.reply(client.send(INFO, DeviceGetInfoRequest())), ReplyReceived)
