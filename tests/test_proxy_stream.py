# The proxy and its streams: bytes and descriptors pass unchanged and are told by messages; and an end that leaves.
import itertools
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from proxying import INFO, MAP, Ends
from serving import eventfds, gone, read_exactly, room_for, same

from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, VersionRequest
from vfio_user_proto.proxy import LARGEST

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def ends(no_leak: None, tmp_path: Path) -> Iterator[Ends]:
    with Ends(tmp_path) as running:
        yield running


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
