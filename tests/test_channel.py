# A channel: bursts, gathering replies, the bound on what is due, descriptors in the queue, and the ways in which it ends.
import errno
import math
import os
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from serving import eventfds, open_to

from vfio_user_proto import unix, wire
from vfio_user_proto.channel import OUTPUT_BOUND, Channel
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.events import CommandReceived, Event
from vfio_user_proto.loop import READABLE, Loop
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetRegionInfoReply,
    DmaMapRequest,
    RegionReadReply,
    VersionRequest,
)
from vfio_user_proto.states import Role, State

COMMAND = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
MAP = craft(Command.DMA_MAP, DmaMapRequest())
IN_A_TURN = math.ceil((unix.FIRST + unix.AHEAD) / len(COMMAND))


class Ends:
    """A channel with its loop and the peer's end of the socket; answers each command with ``reply``."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.peer, stream = unix.pair()
        connection = Connection(Role.SERVER)
        connection.state = State.READY
        self.taken: list[Event] = []
        self.reply = b""
        self.channel = Channel(self.loop, stream, connection, self.took)
        stream.make_room(1 << 17)  # not the machine's largest

    def took(self, event: Event) -> None:
        self.taken.append(event)
        if self.reply:
            self.channel.send(self.reply)

    def turn(self) -> None:
        """One turn, if anything is ready."""
        self.loop.turn(time.monotonic())

    def close(self) -> None:
        self.channel.close()
        self.peer.close()
        self.loop.close()


@pytest.fixture
def ends(no_leak: None) -> Iterator[Ends]:
    with closing(Ends()) as one:
        yield one


def drain(ends: Ends) -> int:
    """Read what the peer gets now; returns how many bytes."""
    ends.peer.socket.setblocking(False)
    count = 0
    while got := ends.peer.read(1 << 20):
        if not got[0]:
            break
        count += len(got[0])
    return count


def test_all_that_is_there_is_taken_in_one_turn(ends: Ends) -> None:
    ends.peer.write(COMMAND * 100)
    ends.turn()
    assert len(ends.taken) == 100


def test_a_turn_takes_no_more_than_is_read_ahead_so_that_others_have_theirs(ends: Ends) -> None:
    ends.peer.write(COMMAND * (IN_A_TURN + 10))
    ends.turn()
    assert len(ends.taken) == IN_A_TURN
    ends.turn()
    assert len(ends.taken) == IN_A_TURN + 10


def test_message_that_is_cut_by_what_is_read_ahead_is_taken_whole(ends: Ends) -> None:
    reset = craft(Command.DEVICE_RESET)
    ends.peer.write(reset + COMMAND * IN_A_TURN)
    ends.turn()
    assert len(ends.taken) == 1 + math.ceil((unix.FIRST + unix.AHEAD - len(reset)) / len(COMMAND))


def test_payload_that_comes_after_its_header_is_not_taken_for_a_message(ends: Ends) -> None:
    """It is as long as a header, and as one it would make a message with what follows."""
    second = craft(Command.DEVICE_RESET)
    first = craft(Command.DEVICE_GET_INFO, craft(Command.DEVICE_RESET, message_size=16 + len(second)))
    for part in (first[:16], first[16:] + second):
        ends.peer.write(part)
        ends.turn()
    ends.turn()
    assert [event.message.header.command for event in ends.taken if isinstance(event, CommandReceived)] == [
        Command.DEVICE_GET_INFO,
        Command.DEVICE_RESET,
    ]


def test_descriptors_behind_other_messages_go_to_their_own(ends: Ends) -> None:
    """A message without any may stand before, and behind, also in the same piece."""
    with eventfds(2) as fds:
        ends.peer.write(COMMAND)
        ends.peer.write(MAP, fds[:1])
        ends.peer.write(COMMAND * 2)
        ends.peer.write(MAP + COMMAND, fds[1:])
        while len(ends.taken) < 6:
            ends.turn()
        counts = []
        for event in ends.taken:
            assert isinstance(event, CommandReceived)
            counts.append(len(event.fds))
            unix.close_all(event.fds)
        assert counts == [0, 1, 0, 0, 1, 0]


def test_what_was_read_ahead_is_taken_in_its_order_by_a_turn_inside_a_turn(ends: Ends) -> None:
    """A device that waits for its client takes turns; what the client sent before must not be passed by what it sends then."""
    ends.peer.write(b"".join(craft(Command.DEVICE_RESET, message_id=number) for number in range(3)))
    took = ends.took

    def waiting(event: Event) -> None:
        took(event)
        if len(ends.taken) == 1:
            ends.peer.write(craft(Command.DEVICE_RESET, message_id=3))
            while len(ends.taken) < 4:
                ends.turn()

    ends.channel._took = waiting
    ends.turn()
    numbers = [event.message.header.message_id for event in ends.taken if isinstance(event, CommandReceived)]
    assert numbers == [0, 1, 2, 3]


def test_first_reply_is_sent_at_once_and_the_others_together(ends: Ends) -> None:
    sizes: list[int] = []
    write = ends.channel._stream.write

    def noting(data: bytes | memoryview, fds: tuple[int, ...] = ()) -> int:
        sizes.append(len(data))
        return write(data, fds)

    ends.channel._stream.write = noting  # type: ignore[method-assign, assignment]
    ends.reply = b"reply"
    ends.peer.write(COMMAND * 10)
    ends.turn()
    assert sizes == [5, 45]
    assert drain(ends) == 50


def test_nothing_more_is_read_while_too_much_is_due(ends: Ends) -> None:
    ends.reply = bytes(OUTPUT_BOUND // 4)
    ends.peer.write(COMMAND * 50)
    ends.turn()
    seen = len(ends.taken)
    assert 4 < seen < 12
    assert ends.channel.full
    for _ in range(3):
        ends.turn()
    assert len(ends.taken) == seen
    total = 0
    while len(ends.taken) < 50:
        total += drain(ends)
        ends.turn()
    while more := drain(ends):
        total += more
        ends.turn()
    assert total == 50 * len(ends.reply)
    assert not ends.channel.full


def test_what_was_read_ahead_is_not_forgotten_when_all_that_was_due_is_sent_at_once(ends: Ends) -> None:
    """The second reply is too much; the peer takes it all, so that nothing more is waited for from the socket."""
    ends.channel._write = lambda data, fds: len(data)  # type: ignore[method-assign]
    ends.reply = bytes(OUTPUT_BOUND + 1)
    ends.peer.write(COMMAND * 5)
    for _ in range(5):
        ends.turn()
    assert len(ends.taken) == 5
    assert ends.channel._waiting_for == READABLE


def test_messages_with_descriptors_keep_their_own(ends: Ends) -> None:
    with eventfds(1) as fds:
        block = bytes(1 << 20)
        ends.channel.send(block)
        ends.channel.send(b"first")
        ends.channel.send(b"second", tuple(fds))
        ends.channel.send(b"third")
        left = len(block) + 5
        ends.peer.socket.setblocking(False)
        while left:
            got = ends.peer.read(left)
            if got is None:
                ends.turn()
                continue
            assert got[1] == []
            left -= len(got[0])
        ends.turn()
        data, received = ends.peer.read(6) or (b"", [])
        assert (data, len(received)) == (b"second", 1)
        assert open_to(fds[0]) == 2
        os.close(received[0])
        assert ends.peer.read(100) == (b"third", [])


def test_reply_whose_descriptors_are_not_passed_becomes_a_refusal_in_its_turn(ends: Ends) -> None:
    """Sent at once, or out of the queue; and nothing that is due is lost."""
    request = DeviceGetRegionInfoReply()
    one, two = (wire.build(Command.DEVICE_GET_REGION_INFO, request, message_id=id_, flags=1) for id_ in (1, 2))
    block = bytes(1 << 20)
    ends.channel.send(one, (-1,))
    ends.channel.send(block)
    ends.channel.send(two, (-1,))
    ends.channel.send(b"last")
    came = b""
    ends.peer.socket.setblocking(False)
    while not came.endswith(b"last"):
        got = ends.peer.read(1 << 20)
        came += got[0] if got else b""
        ends.turn()
    first, second = (wire.refusal(wire.decode_header(each), errno.EIO) for each in (one, two))
    assert came == first + block + second + b"last"
    assert ends.channel._due == 0


@pytest.mark.parametrize(
    "reply",
    [
        wire.build(Command.VERSION, VersionRequest(), flags=1),
        wire.build(Command.REGION_READ, RegionReadReply(data=b"1"))[:-1],
    ],
    ids=["version", "a piece"],
)
def test_reply_that_cannot_be_refused_and_whose_descriptors_are_not_passed_closes(ends: Ends, reply: bytes) -> None:
    ends.channel.send(reply, (-1,))
    assert ends.channel.closed


def test_end_of_the_peer_closes_after_what_is_due_was_sent(ends: Ends) -> None:
    ends.reply = bytes(1 << 20)
    ends.peer.write(COMMAND)
    ends.peer.socket.shutdown(1)
    ends.turn()
    assert not ends.channel.closed
    total = 0
    while not ends.channel.closed:
        total += drain(ends)
        ends.turn()
    assert total + drain(ends) == 1 << 20


def test_peer_that_vanishes_closes(ends: Ends) -> None:
    ends.reply = bytes(1 << 20)
    ends.peer.write(COMMAND)
    ends.turn()
    ends.peer.close()
    ends.turn()
    assert ends.channel.closed


def test_broken_rule_closes_and_gives_descriptors_back(ends: Ends) -> None:
    with eventfds(1) as fds:
        ends.peer.write(craft(Command.DEVICE_GET_INFO, message_size=3), fds)
        ends.turn()
        assert ends.channel.closed
        assert open_to(fds[0]) == 1


def test_finish_reads_no_more(ends: Ends) -> None:
    ends.peer.write(COMMAND)
    ends.channel.finish()
    assert ends.channel.closed
    assert ends.taken == []


def test_finish_waits_for_what_is_due(ends: Ends) -> None:
    ends.channel.send(bytes(1 << 20))
    ends.channel.finish()
    ends.peer.write(COMMAND)
    total = 0
    while not ends.channel.closed:
        total += drain(ends)
        ends.turn()
    assert (total + drain(ends), ends.taken) == (1 << 20, [])


def test_close_may_come_twice(ends: Ends) -> None:
    ends.channel.close()
    ends.channel.close()
