# Faults that take one read for messages: every message of a read is answered, or dropped with its descriptors, at once.
import socket
from collections.abc import Iterator

import pytest
from serving import Serving, eventfds, open_to

from vfio_user_proto import unix, wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.events import Closed, ReplyReceived
from vfio_user_proto.faults import FAULTS
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest
from vfio_user_proto.session import Options
from vfio_user_proto.unix import Stream

pytestmark = pytest.mark.usefixtures("no_leak")

INFO = [craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=number) for number in range(8)]
MAP = craft(Command.DMA_MAP, DmaMapRequest(address=0x1000, size=0x1000), message_id=9)
THREE = b"".join(INFO[1:4])
FIRST, WHOLE, HEADER = "coalesced-dropped", "coalesced-remainder-dropped", "cut-after-header-fails"


@pytest.mark.parametrize(
    ("fault", "sent", "answered", "lives"),
    [
        (FIRST, THREE, [1], True),
        (FIRST, INFO[1] + INFO[2][:4], [1], True),
        (FIRST, INFO[1][:20], [], False),
        (WHOLE, THREE, [1, 2, 3], True),
        (WHOLE, THREE + INFO[4][:5], [1, 2, 3], True),
        (WHOLE, THREE + INFO[4][:20], [1, 2, 3], True),
        (WHOLE, INFO[1][:20], [], False),
        (HEADER, THREE, [1, 2, 3], True),
        (HEADER, THREE + INFO[4][:16], [1, 2, 3], False),
        (HEADER, INFO[1][:16], [], False),
    ],
)
def test_what_one_read_brings_is_answered_at_once(fault: str, sent: bytes, answered: list[int], lives: bool) -> None:
    """A last command tells that nothing else was; where the server waits for the rest, the end of the stream does."""
    with Serving(options=FAULTS[fault].applied(Options())) as serving:
        client = serving.client()
        for number in range(8):
            client.connection._awaited[number, Command.DEVICE_GET_INFO] += 1
        client.stream.write(sent)
        events = [client.event() for _ in answered]
        if lives:
            client.stream.write(INFO[7])
        elif fault != HEADER:
            client.stream.socket.shutdown(socket.SHUT_WR)
        last = client.event()
        ids = [event.message.header.message_id for event in events if isinstance(event, ReplyReceived)]
        assert ids == answered
        assert (
            last == Closed() if not lives else isinstance(last, ReplyReceived) and last.message.header.message_id == 7
        )


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    peer, socket_ = socket.socketpair()
    peer_stream = Stream(peer)
    yield peer_stream, socket_
    peer_stream.close()
    socket_.close()


@pytest.mark.parametrize("fault", [FIRST, WHOLE, HEADER])
def test_descriptors_go_with_the_last_message_of_a_read_or_are_dropped_with_it(
    ends: tuple[Stream, socket.socket], fault: str
) -> None:
    """The kernel ends a read behind what came with descriptors."""
    peer, sock = ends
    stream = FAULTS[fault].stream(sock)
    with eventfds(1) as fds:
        peer.write(INFO[1])
        peer.write(MAP, fds)
        peer.write(INFO[3])
        assert stream.look_ahead() == INFO[1]
        if fault == FIRST:
            assert not stream.ahead
            assert open_to(fds[0]) == 1
        else:
            assert stream.message() == b""
            data, came = stream.read(wire.HEADER_SIZE) or (b"", [])
            assert (data, len(came)) == (MAP[:16], 1)
            unix.close_all(came)
            assert stream.read(1000) == (MAP[16:], [])
        assert stream.look_ahead() == INFO[3]


def test_a_payload_may_come_in_pieces_where_it_begins_with_its_header(ends: tuple[Stream, socket.socket]) -> None:
    peer, sock = ends
    stream = FAULTS[HEADER].stream(sock)
    peer.write(INFO[1][:20])
    assert stream.look_ahead() == b""
    assert stream.read(16) == (INFO[1][:16], [])
    assert stream.read(16) == (INFO[1][16:20], [])
    peer.write(INFO[1][20:])
    assert stream.read(12) == (INFO[1][20:], [])
    peer.write(INFO[1][:16])
    assert stream.look_ahead() == b""
    assert stream.read(16) == (INFO[1][:16], [])
    with pytest.raises(RemoteProtocolError, match="a header alone"):
        stream.read(16)
