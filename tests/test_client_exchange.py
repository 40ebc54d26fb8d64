"""Greeting, pipelining, order, deadlines, and the end of a session."""

import errno
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_server import ONE_SOCKET, EndOfSession, Fake, leave, reply_to
from serving import Serving, eventfds

from vfio_user_proto import messages as m
from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client, MemoryMap
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import (
    ErrorReply,
    RemoteProtocolError,
    TransportError,
)
from vfio_user_proto.events import CommandReceived, ReplyReceived
from vfio_user_proto.messages import Command

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(params=[OFFER, ONE_SOCKET], ids=["twin socket", "one socket"])
def client(serving: Serving, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Client.connect(serving.path, offer=request.param, timeout=10) as connected:
        yield connected


# Greeting


def test_version_and_capabilities_are_agreed_on(client: Client) -> None:
    assert client.version == (0, 2)
    assert client.peer.max_msg_fds == 16
    assert client.peer.twin_socket is client.offer.twin_socket
    assert client.largest_transfer == 1048576


def test_a_path_that_nobody_listens_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"nowhere: No such file or directory"):
        Client.connect(tmp_path / "nowhere")


def test_a_full_queue_of_connections_is_waited_for_no_longer_than_the_deadline(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    waiting = []
    with unix.listen(path, backlog=0):
        waiting.append(unix.connect(path))
        with pytest.raises(TransportError, match=r"socket: nobody accepts a connection within 0.05 s"):
            Client.connect(path, timeout=0.05)
        for stream in waiting:
            stream.close()


def test_a_server_that_accepts_and_is_silent_meets_the_deadline(tmp_path: Path) -> None:
    with (
        unix.listen(tmp_path / "socket"),
        pytest.raises(TransportError, match=r"^VFIO_USER_VERSION has no reply within 0.05 s$"),
    ):
        Client.connect(tmp_path / "socket", timeout=0.05)


BAD_GREETINGS = {
    "another major version": (m.VersionRequest(version_major=1), "the server answers version 1.0 to 0.2"),
    "a later minor version": (m.VersionRequest(version_minor=3), "the server answers version 0.3 to 0.2"),
    "no JSON": (m.VersionRequest(version_data=b"{\0"), "VFIO_USER_VERSION reply: version_data at byte 1: not JSON"),
    "a cut payload": (craft(1, b"\0\0\0", kind=1), "VersionRequest.version_minor at byte 18: 2 bytes are due"),
    "a twin socket nobody asked for": (
        m.VersionRequest(version_data=Capabilities(twin_socket=True, twin_socket_fd_index=0).to_data()),
        "the server set up a twin socket that was not offered",
    ),
    "the reply to another command": (craft(2, kind=1), "VFIO_USER_DMA_MAP reply came out of turn"),
    "a size of 4 GiB": (craft(1, kind=1, message_size=0xFFFFFFFF), "the message size is 4294967295"),
    "half a header": ([b"\0\0\1", EndOfSession()], "the peer closed inside a message"),
}


@pytest.mark.parametrize(("greeting", "problem"), BAD_GREETINGS.values(), ids=BAD_GREETINGS)
def test_a_wrong_greeting_is_refused(greeting: Any, problem: str) -> None:
    server = Fake(version=greeting)
    if isinstance(greeting, list):
        server._send = lambda event, answer: (server._theirs.write(b"\0\0\1"), leave(event))  # type: ignore[method-assign]
    with server, pytest.raises(RemoteProtocolError) as caught:
        server.connect()

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("index", "kind", "problem"),
    [
        (None, "socket", "twin_socket.fd_index is None, 1 descriptors came"),
        (1, "socket", "twin_socket.fd_index is 1, 1 descriptors came"),
        (0, "eventfd", "the twin socket is no socket but a eventfd"),
    ],
)
def test_a_twin_socket_that_cannot_be_is_refused(index: int | None, kind: str, problem: str) -> None:
    peer = Capabilities(twin_socket=True, twin_socket_fd_index=index)
    with eventfds(1) as events, socket.socket(socket.AF_UNIX) as sock:
        fd = sock.fileno() if kind == "socket" else events[0]
        greeting = (m.VersionRequest(version_data=peer.to_data()), (fd,))
        with Fake(version=greeting) as server, pytest.raises(RemoteProtocolError) as caught:
            server.connect(offer=OFFER)
    assert str(caught.value) == problem


def test_a_twin_socket_of_which_the_server_holds_both_ends_does_not_stop_the_client() -> None:
    """Its options are the server's to change: a read would wait for more bytes than ever come."""
    peer = Capabilities(twin_socket=True, twin_socket_fd_index=0)
    ours, theirs = unix.pair()
    theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    greeting = (m.VersionRequest(version_data=peer.to_data()), (theirs.fileno(),))
    ended = threading.Timer(10, lambda: ours.socket.shutdown(socket.SHUT_RDWR))
    ended.start()
    with Fake(lambda event: lambda: ours.write(b"x"), greeting) as server:
        client = server.connect(offer=OFFER, timeout=0.2)
        with pytest.raises(TransportError, match=r"^VFIO_USER_DEVICE_RESET has no reply within 0.2 s$"):
            client.reset()
        assert ended.is_alive()
        client.close()
    ended.cancel()
    ours.close()
    theirs.close()


def test_more_descriptors_than_offered_are_refused() -> None:
    offer = replace(ONE_SOCKET, max_msg_fds=1)
    problem = "2 descriptors came with one message, 1 are allowed"
    with (
        eventfds(2) as fds,
        Fake(version=(m.VersionRequest(), fds)) as server,
        pytest.raises(RemoteProtocolError, match=problem),
    ):
        server.connect(offer=offer)


def test_a_refused_version_is_an_error_reply() -> None:
    with Fake(version=errno.EINVAL) as server, pytest.raises(ErrorReply) as caught:
        server.connect()
    assert (caught.value.command, caught.value.errno) == ("VFIO_USER_VERSION", errno.EINVAL)


def test_a_server_that_closes_instead_of_answering_is_told() -> None:
    server = Fake()
    server._version = None
    server._send = lambda event, answer: leave(event)  # type: ignore[method-assign]
    with server, pytest.raises(TransportError) as caught:
        server.connect()
    assert str(caught.value) == "the connection has ended before VFIO_USER_VERSION was done: the server closed it"


# Pipelining, order and deadlines


def test_replies_are_matched_in_any_order() -> None:
    """The server answers in the reverse order."""
    events: list[CommandReceived] = []

    def answer(event: CommandReceived) -> Any:
        events.append(event)
        if len(events) < 3:
            return None
        return [reply_to(each, wire.encode_record(each.message.payload)) for each in reversed(events)]

    with Fake(answer) as server, server.connect() as client:
        pending = [
            client.send(Command.DEVICE_GET_IRQ_INFO, m.DeviceGetIrqInfoRequest(index=index)) for index in range(3)
        ]
        found = [client.wait(each).message.payload for each in pending]
        assert not client._awaited
    assert [each.index for each in found if isinstance(each, m.DeviceGetIrqInfoReply)] == [0, 1, 2]


def test_thousands_of_commands_may_be_sent_before_a_reply_is_read(client: Client) -> None:
    """Neither end blocks the other: the client reads while it cannot send."""
    request = m.RegionReadRequest(region=9, count=4096)
    pending = [client.send(Command.REGION_READ, request) for _ in range(3000)]
    client.region_write(9, 0, b"end")

    assert all(isinstance(client.wait(each).message.payload, m.RegionReadReply) for each in pending)


def test_large_commands_pass_while_large_replies_come(client: Client) -> None:
    """19 MiB of replies are due while 4 MiB are sent."""
    request = m.RegionReadRequest(region=testdev.RAM, count=65536)
    reads = [client.send(Command.REGION_READ, request) for _ in range(300)]
    for _ in range(4):
        client.region_write(testdev.RAM, 0, bytes(1 << 20))

    assert len([client.wait(each) for each in reads]) == 300


def test_a_late_reply_is_dropped_with_its_descriptors() -> None:
    """The deadline of one command does not end the session."""
    late: list[CommandReceived] = []

    def answer(event: CommandReceived) -> Any:
        if event.message.header.command == Command.DEVICE_GET_REGION_INFO:
            late.append(event)
            return None
        return [
            *((reply_to(each, wire.encode_record(m.DeviceGetRegionInfoReply())), fds) for each in late),
            m.DeviceGetInfoReply(num_irqs=1),
        ]

    with eventfds(1) as fds, Fake(answer) as server, server.connect() as client:
        client.timeout = 0.05
        with pytest.raises(TransportError, match=r"^VFIO_USER_DEVICE_GET_REGION_INFO has no reply within 0.05 s$"):
            client.region_info(0)
        client.timeout = 10
        assert client.device_info().num_irqs == 1


def test_the_deadline_can_be_changed_and_switched_off() -> None:
    """None waits for ever, also after a short deadline; a short one holds, also after None."""
    pause = threading.Event()
    patient = [True, True]

    def answer(event: CommandReceived) -> Any:
        if not patient:
            return None
        patient.pop()
        pause.wait(0.2)
        return m.DeviceGetInfoReply(num_irqs=4)

    with Fake(answer) as server, server.connect(timeout=0.1) as client:
        for timeout in (None, 10):
            client.timeout = timeout
            assert client.device_info().num_irqs == 4
        client.timeout = None
        client._arm(None)
        client.timeout = 0.05
        with pytest.raises(TransportError, match=r"within 0.05 s"):
            client.device_info()


def test_a_larger_transfer_than_the_default_is_taken_where_it_was_offered() -> None:
    size = 4 << 20
    large = Capabilities(max_data_xfer_size=size)

    def answer(event: CommandReceived) -> m.RegionReadReply:
        return m.RegionReadReply(data=bytes(size))

    with Fake(answer, peer=large) as server, server.connect(offer=large) as client:
        assert len(client.region_read(0, 0, size)) == size


def test_the_deadline_is_for_the_whole_call() -> None:
    """A server that sends one byte at a time, each soon enough, does not stretch it."""
    fed = threading.Event()

    def answer(event: CommandReceived) -> Any:
        data = reply_to(event, wire.encode_record(m.DeviceGetInfoReply()))
        for at in range(len(data)):
            server._theirs.write(data[at : at + 1])
            if fed.wait(0.05):
                break

    with Fake(answer) as server, server.connect(timeout=0.3) as client:
        with pytest.raises(TransportError, match=r"has no reply within 0.3 s"):
            client.device_info()
        fed.set()


def test_a_server_that_does_not_read_meets_the_deadline() -> None:
    ready = threading.Event()

    def answer(event: CommandReceived) -> Any:
        ready.wait(10)

    with Fake(answer) as server, server.connect(timeout=0.2) as client:
        client.send(Command.DEVICE_RESET)
        with pytest.raises(TransportError, match=r"VFIO_USER_REGION_WRITE cannot be sent within 0.2 s"):
            client.region_write(0, 0, bytes(100 << 20), no_reply=True)
        ready.set()


def test_answers_for_a_server_that_does_not_read_are_bounded() -> None:
    """It asks for 40 MiB before it reads: we stop taking its questions, and go on when it reads."""
    asked, size = 40, 1 << 20
    due: list[int] = []
    answered = 0

    class Watched(MemoryMap):
        def read(self, address: int, count: int) -> bytes:
            due.append(client._main.due)
            return super().read(address, count)

    def answer(event: Any) -> Any:
        nonlocal answered
        if isinstance(event, ReplyReceived):
            answered += 1
            return reply_to(first[0]) if answered == asked else None
        first.append(event)
        request = m.DmaReadRequest(address=0, count=size)
        server.engine._awaited.update({(number, int(Command.DMA_READ)): 1 for number in range(asked)})
        return [craft(Command.DMA_READ, request, message_id=number) for number in range(asked)]

    first: list[CommandReceived] = []
    memory = Watched()
    memory.add(0, bytearray(size))
    with Fake(answer) as server, server.connect(memory=memory) as client:
        server.engine.limit = 2 * size
        client.reset()
    assert len(due) == asked
    assert max(due) < 4 * size


def test_a_reply_that_nobody_waits_for_leaves_no_descriptor() -> None:
    with eventfds(1) as fds:

        def answer(event: CommandReceived) -> Any:
            return m.DeviceGetRegionInfoReply(), fds

        with Fake(answer) as server, server.connect() as client:
            client.send(Command.DEVICE_GET_REGION_INFO, m.DeviceGetRegionInfoRequest())
            with client.region_info(0):
                pass


def test_a_server_that_dies_is_told_once_and_again() -> None:
    with Fake(leave) as server, server.connect() as client:
        with pytest.raises(TransportError, match="before VFIO_USER_DEVICE_RESET was done: the server closed it"):
            client.reset()
        for _ in range(2):
            with pytest.raises(TransportError, match=r"^the connection has ended: the server closed it$"):
                client.device_info()


def test_a_message_that_breaks_the_stream_ends_the_session() -> None:
    with Fake(lambda event: craft(1, message_size=3)) as server, server.connect() as client:
        with pytest.raises(RemoteProtocolError, match="the message size is 3"):
            client.reset()
        with pytest.raises(TransportError, match="the connection has ended: the message size is 3"):
            client.reset()


def test_a_closed_client_says_so(serving: Serving) -> None:
    with Client.connect(serving.path) as client:
        client.close()
        with pytest.raises(TransportError, match="the connection has ended: it was closed"):
            client.device_info()
