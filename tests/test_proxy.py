"""The proxy: bytes and descriptors pass unchanged, and what goes by is told; so is an end that leaves."""

import itertools
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_server import ONE_SOCKET, Crowded
from serving import Serving, eventfds, gone, memfd, read_exactly, room_for, same

from vfio_user_proto import unix, wire
from vfio_user_proto.client import OFFER, Client
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import TransportError, UsageError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest, IrqSetFlags, VersionRequest
from vfio_user_proto.proxy import LARGEST, Passed, Proxy

pytestmark = pytest.mark.usefixtures("no_leak")


class Between:
    """A proxy in a thread, before the server at ``path`` or any other."""

    def __init__(self, folder: Path, connect: Any) -> None:
        self.passed: list[Passed] = []
        self.told: list[str] = []
        self.proxy = Proxy(connect, self.passed.append, self.told.append)
        self.path = folder / "proxy"
        self.listener = unix.listen(self.path)
        self.proxy.listen(self.listener)
        self.thread = threading.Thread(target=self.proxy.run)

    def __enter__(self) -> "Between":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.proxy.close()
        self.listener.close()


@pytest.fixture
def between(no_leak: None, tmp_path: Path) -> Iterator[Between]:
    """A proxy before the reference server."""
    with Serving() as serving, Between(tmp_path, lambda: unix.connect(serving.path)) as running:
        yield running


class Ends:
    """A proxy whose client and server are both in the test's hands."""

    def __init__(self, folder: Path) -> None:
        server, self.server = unix.pair()
        self.between = Between(folder, lambda: server)
        self.client = unix.Stream(socket.socket(socket.AF_UNIX))

    def __enter__(self) -> "Ends":
        self.between.__enter__()
        self.client.socket.connect(str(self.between.path))
        for end in (self.client, self.server):
            end.set_timeout(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()
        self.between.__exit__()

    @property
    def passed(self) -> list[tuple[str, bytes]]:
        return [(each.sender, each.data) for each in self.between.passed]


@pytest.fixture
def ends(no_leak: None, tmp_path: Path) -> Iterator[Ends]:
    with Ends(tmp_path) as running:
        yield running


INFO = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=7)
MAP = craft(Command.DMA_MAP, DmaMapRequest(address=0x1000, size=0x1000))


# A whole session


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


def test_descriptors_for_which_there_is_no_room_end_one_connection(ends: Ends) -> None:
    """The kernel drops them on the way to the proxy: what they came with cannot be passed on as it was."""
    ends.client.write(INFO)
    assert read_exactly(ends.server, len(INFO)) == INFO
    with eventfds(1) as fds, room_for(0):
        ends.client.write(MAP, fds)
        for end in (ends.client, ends.server):
            assert end.read(1) == (b"", [])
    assert ends.between.told == ["socket 0 is closed: descriptors were cut off in transit (MSG_CTRUNC)"]
    assert ends.passed == [("client", INFO)]


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


def test_a_listener_that_gives_no_client_ends_it() -> None:
    proxy = Proxy(lambda: unix.pair()[0], lambda _: None, print)
    with socket.socket(socket.AF_UNIX) as sock:
        proxy.listen(sock)
        with pytest.raises(TransportError, match="no client can be accepted: Invalid argument"):
            proxy.run()
        proxy.close()


# Bytes


def test_a_message_is_passed_when_it_is_whole_however_it_was_cut(ends: Ends) -> None:
    for at in range(len(INFO)):
        ends.client.write(INFO[at : at + 1])
    assert ends.server.read(100) == (INFO, [])
    assert ends.passed == [("client", INFO)]


def test_messages_in_one_write_are_told_apart(ends: Ends) -> None:
    bare = craft(Command.DEVICE_RESET)
    ends.server.write(INFO + bare + INFO)

    assert read_exactly(ends.client, 2 * len(INFO) + 16) == INFO + bare + INFO
    assert ends.passed == [("server", INFO), ("server", bare), ("server", INFO)]


def test_a_message_that_does_not_decode_is_passed_like_any_other(ends: Ends) -> None:
    wrong = craft(99, b"what", flags=0xFFFFFFFF, error=77)
    ends.client.write(wrong)

    assert ends.server.read(100) == (wrong, [])
    assert ends.passed == [("client", wrong)]


@pytest.mark.parametrize("size", [0, 15, LARGEST + 1, 0xFFFFFFFF])
def test_a_size_that_cannot_be_makes_the_rest_a_stream_of_bytes(ends: Ends, size: int) -> None:
    """It is passed as it comes, not when a message is whole."""
    for data in (craft(1, b"", message_size=size), b"ab", b"c" * 100):
        ends.client.write(data)
        assert read_exactly(ends.server, len(data)) == data
    ends.server.write(INFO)
    assert read_exactly(ends.client, len(INFO)) == INFO
    assert b"".join(data for sender, data in ends.passed if sender == "client").endswith(b"ab" + b"c" * 100)


def test_descriptors_go_with_the_part_with_which_they_came(ends: Ends) -> None:
    """The header or the payload."""
    with eventfds(2) as [one, two]:
        ends.client.write(MAP[:20], [one, one])
        ends.client.write(MAP[20:], [two])
        for size, sent in ((16, [one, one]), (len(MAP) - 16, [two])):
            data, fds = ends.server.read(size) or (b"", [])
            assert (len(data), len(fds)) == (size, len(sent))
            assert all(same(a, b) for a, b in zip(fds, sent, strict=True))
            unix.close_all(fds)
    [passed] = ends.between.passed
    assert [fd["kind"] for fd in passed.fds] == ["eventfd"] * 3


def test_a_client_that_does_not_read_is_waited_for(ends: Ends) -> None:
    """Much more than sockets hold goes to it; the server is not read beyond a bound; nothing is lost."""
    message = craft(Command.REGION_READ, bytes(1 << 20), kind=1)
    count = 12

    def send() -> None:
        for _ in range(count):
            left = memoryview(message)
            while left:
                left = left[ends.server.write(left) :]

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(0.3)
    assert sender.is_alive()
    assert len(ends.passed) < count
    assert all(read_exactly(ends.client, len(message)) == message for _ in range(count))
    sender.join(10)


def test_the_socket_of_twin_mode_is_joined_with_one_of_the_proxys(ends: Ends) -> None:
    version = VersionRequest(version_data=b'{"capabilities":{"twin_socket":{"supported":true,"fd_index":1}}}\0')
    ours, theirs = unix.pair()
    with eventfds(1) as [event]:
        ends.server.write(craft(Command.VERSION, version, kind=1), [event, theirs.fileno()])
        theirs.close()
        _, fds = ends.client.read(1000) or (b"", [])
        assert same(fds[0], event)
        os.close(fds[0])
    twin = unix.Stream(socket.socket(fileno=fds[1]))
    for one, other in itertools.permutations((ours, twin)):
        one.write(INFO)
        assert read_exactly(other, len(INFO)) == INFO
    ours.close()
    assert twin.read(1) == (b"", [])
    twin.close()
    assert [each.socket for each in ends.between.passed] == [0, 1, 1]


def test_a_twin_socket_of_which_the_server_holds_both_ends_does_not_stop_the_proxy(ends: Ends) -> None:
    """Its flags and options are the server's to change."""
    version = VersionRequest(version_data=b'{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}\0')
    ours, theirs = unix.pair()
    ends.server.write(craft(Command.VERSION, version, kind=1), [theirs.fileno()])
    _, [fd] = ends.client.read(1000) or (b"", [])
    theirs.socket.setblocking(True)
    theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    ours.write(b"x")
    ends.client.write(INFO)
    assert read_exactly(ends.server, len(INFO)) == INFO
    unix.close_all([fd])
    ours.close()
    theirs.close()


def test_without_a_descriptor_to_spare_the_twin_socket_is_passed_as_it_is(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = VersionRequest(version_data=b'{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}\0')
    ours, theirs = unix.pair()
    monkeypatch.setattr(unix, "pair", lambda: os.open("/", os.O_RDONLY | os.O_CREAT | os.O_EXCL))
    ends.server.write(craft(Command.VERSION, version, kind=1), [theirs.fileno()])
    _, [fd] = ends.client.read(1000) or (b"", [])
    assert same(fd, theirs.fileno())
    assert ends.between.told[0].startswith("what goes over the twin socket is not seen: ")
    unix.close_all([fd])
    ours.close()
    theirs.close()


@pytest.mark.parametrize("seed", range(5))
def test_any_bytes_arrive_as_they_were_sent_with_all_their_descriptors(ends: Ends, seed: int) -> None:
    """Right messages, wrong ones and no messages, cut anywhere."""
    random = Random(seed)
    sent, count = b"", 0
    with eventfds(1) as [event]:
        for _ in range(60):
            data = random.choice(
                (INFO, MAP, random.randbytes(random.randrange(1, 40)), craft(9, b"x", message_size=20))
            )
            fds = [event] * random.randrange(3)
            ends.client.write(data, fds)
            sent, count = sent + data, count + len(fds)
        ends.client.socket.shutdown(socket.SHUT_WR)
        came, came_with = b"", 0
        while got := ends.server.read(random.randrange(1, 100)):
            if not got[0]:
                break
            came, came_with = came + got[0], came_with + len(got[1])
            unix.close_all(got[1])
    assert (came, came_with) == (sent, count)
    assert b"".join(data for _, data in ends.passed) == sent


# The end


@pytest.mark.parametrize("leaver", ["client", "server"])
def test_an_end_that_leaves_inside_a_message_is_told_after_its_last_byte(ends: Ends, leaver: str) -> None:
    one, other = (ends.client, ends.server) if leaver == "client" else (ends.server, ends.client)
    with eventfds(1) as [event]:
        one.write(MAP[:20], [event])
    one.close()

    data, fds = other.read(100) or (b"", [])
    unix.close_all(fds)
    assert (data, len(fds)) == (MAP[:20], 1)
    assert other.read(1) == (b"", [])
    assert ends.passed == [(leaver, MAP[:20])]


def test_an_end_that_only_stops_sending_still_hears(ends: Ends) -> None:
    ends.client.write(INFO)
    ends.client.socket.shutdown(socket.SHUT_WR)
    assert read_exactly(ends.server, len(INFO)) == INFO
    assert ends.server.read(1) == (b"", [])
    ends.server.write(INFO)
    assert read_exactly(ends.client, len(INFO)) == INFO


def test_an_end_that_stops_sending_is_told_after_all_that_was_due(ends: Ends) -> None:
    """More than the sockets hold waits for the other end, which begins to read only then."""
    message = craft(Command.REGION_READ, bytes(3 << 20), kind=1)
    left = memoryview(message)
    while left:
        left = left[ends.server.write(left) :]
    ends.server.socket.shutdown(socket.SHUT_WR)
    assert read_exactly(ends.client, len(message)) == message
    assert ends.client.read(1) == (b"", [])


def test_what_was_said_last_arrives_though_its_sender_is_gone(ends: Ends) -> None:
    """And then the other end is dropped, whose words would go nowhere."""
    ends.client.write(INFO)
    ends.server.write(INFO)
    ends.server.close()
    assert read_exactly(ends.client, len(INFO)) == INFO
    assert ends.client.read(1) == (b"", [])
    assert gone(ends.client.fileno())


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
