"""The engine without I/O: two of them connected, every broken rule, and no descriptor ever lost."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError, VfioUserError
from vfio_user_proto.events import Closed, CommandReceived, Event, Outgoing, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DmaMapRequest,
    DmaReadReply,
    DmaReadRequest,
    HeaderFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.states import Role, State

Feed = Callable[[Connection, bytes, tuple[int, ...]], None]


def whole(engine: Connection, data: bytes, fds: tuple[int, ...]) -> None:
    """Hand over a message in pieces as large as the engine wants."""
    while data:
        size = engine.wanted
        engine.receive(data[:size], fds)
        data, fds = data[size:], ()


def byte_by_byte(engine: Connection, data: bytes, fds: tuple[int, ...]) -> None:
    for at in range(len(data)):
        engine.receive(data[at : at + 1], fds if at == 0 else ())


class ConnectionPair:
    """A client and a server engine; what one sends is at once received by the other, and both are checked."""

    def __init__(self, feed: Feed = whole, ready: bool = True) -> None:
        self.client, self.server = Connection(Role.CLIENT), Connection(Role.SERVER)
        self.feed = feed
        if ready:
            request = self.command(Role.CLIENT, Command.VERSION, VersionRequest())
            self.reply(request, VersionRequest())

    def of(self, role: Role) -> Connection:
        return self.client if role is Role.CLIENT else self.server

    def command(
        self, sender: Role, command: int, payload: Record | None = None, fds: Sequence[int] = (), no_reply: bool = False
    ) -> CommandReceived:
        outgoing = self.of(sender).command(command, payload, fds=fds, no_reply=no_reply)
        event = self.deliver(sender, outgoing)
        assert isinstance(event, CommandReceived)
        assert (event.message.header.command, event.message.payload, event.fds) == (command, payload, fds)
        assert event.problem is None
        return event

    def reply(self, to: CommandReceived, payload: Record | None = None, fds: tuple[int, ...] = ()) -> ReplyReceived:
        sender = Role.SERVER if to.message.header.command not in (11, 12) else Role.CLIENT
        outgoing = self.of(sender).reply(to, payload, fds=fds)
        assert outgoing is not None
        event = self.deliver(sender, outgoing)
        assert isinstance(event, ReplyReceived)
        assert event.message.header.message_id == to.message.header.message_id
        assert (event.message.payload, event.fds) == (payload, fds)
        return event

    def deliver(self, sender: Role, outgoing: Outgoing) -> Event | None:
        receiver = self.of(sender.peer)
        assert receiver.next_event() is None
        self.feed(receiver, outgoing.data, outgoing.fds)
        event = receiver.next_event()
        assert receiver.next_event() is None
        assert receiver.wanted == wire.HEADER_SIZE
        return event


@pytest.fixture(params=[whole, byte_by_byte], ids=["whole", "byte by byte"])
def pair(request: pytest.FixtureRequest) -> ConnectionPair:
    return ConnectionPair(request.param)


def test_a_session(pair: ConnectionPair) -> None:
    """Version, a map with a descriptor, a read that the server answers only after a DMA read of its own, the end."""
    assert (pair.client.state, pair.server.state) == (State.READY, State.READY)
    mapped = pair.command(Role.CLIENT, Command.DMA_MAP, DmaMapRequest(size=4096), fds=(7,))
    pair.reply(mapped)
    read = pair.command(Role.CLIENT, Command.REGION_READ, RegionReadRequest(count=2))
    dma = pair.command(Role.SERVER, Command.DMA_READ, DmaReadRequest(address=0, count=3))
    assert (pair.client.unanswered, pair.server.unanswered) == (1, 1)
    pair.reply(dma, DmaReadReply(address=0, data=b"abc"))
    pair.reply(read, RegionReadReply(data=b"xy"))
    assert (pair.client.unanswered, pair.server.unanswered) == (0, 0)

    pair.server.receive(b"")
    assert pair.server.next_event() == Closed()
    assert pair.server.state is State.CLOSED


def test_replies_may_come_in_any_order_and_ids_are_not_the_same(pair: ConnectionPair) -> None:
    first = pair.command(Role.CLIENT, Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
    second = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    assert first.message.header.message_id != second.message.header.message_id

    pair.reply(second)
    pair.reply(first, DeviceGetInfoReply())
    assert pair.client.unanswered == 0


def test_both_ends_may_use_the_same_id_at_once(pair: ConnectionPair) -> None:
    pair.server._next_id = pair.client._next_id
    reset = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    read = pair.command(Role.SERVER, Command.DMA_READ, DmaReadRequest())

    assert reset.message.header.message_id == read.message.header.message_id
    pair.reply(read, DmaReadReply())
    pair.reply(reset)


def test_an_error_reply_is_the_header_alone(pair: ConnectionPair) -> None:
    request = pair.command(Role.CLIENT, Command.DMA_MAP, DmaMapRequest())
    outgoing = pair.server.error(request, 17)
    assert outgoing is not None
    event = pair.deliver(Role.SERVER, outgoing)

    assert isinstance(event, ReplyReceived)
    assert (len(outgoing.data), event.message.header.error, event.message.is_error) == (16, 17, True)
    assert pair.client.unanswered == 0


def test_no_reply_gets_none(pair: ConnectionPair) -> None:
    request = pair.command(Role.CLIENT, Command.REGION_WRITE, RegionWriteRequest(data=b"1"), no_reply=True)

    assert pair.client.unanswered == 0
    assert pair.server.reply(request) is None
    assert pair.server.error(request, 22) is None


def test_version_is_answered_even_without_a_wish_for_it() -> None:
    pair = ConnectionPair(ready=False)
    request = pair.command(Role.CLIENT, Command.VERSION, VersionRequest(), no_reply=True)
    pair.reply(request, VersionRequest())

    assert (pair.client.state, pair.client.unanswered) == (State.READY, 0)


def test_message_ids_wrap_and_are_counted_when_they_meet() -> None:
    """65536 commands in flight use every id; one more uses an id twice, and both replies are awaited."""
    engine = ConnectionPair().client
    first = engine.command(Command.DEVICE_RESET)
    for _ in range(0xFFFF):
        engine.command(Command.DEVICE_RESET)
    assert engine.command(Command.DEVICE_RESET).message_id == first.message_id
    for _ in range(2):
        engine.receive(craft(Command.DEVICE_RESET, kind=1, message_id=first.message_id))
    with pytest.raises(RemoteProtocolError, match="answers no command"):
        engine.receive(craft(Command.DEVICE_RESET, kind=1, message_id=first.message_id))


def test_an_unknown_command_and_one_that_does_not_decode_are_handed_over(pair: ConnectionPair) -> None:
    """The stream stays in step, so that they can be answered with an error."""
    pair.feed(pair.server, craft(999, b"abc"), (5,))
    pair.feed(pair.server, craft(Command.DMA_MAP, b"abc"), ())
    unknown, broken = pair.server.next_event(), pair.server.next_event()

    assert isinstance(unknown, CommandReceived)
    assert (unknown.message.trailing, unknown.fds, unknown.problem) == (b"abc", (5,), None)
    assert isinstance(broken, CommandReceived)
    assert (broken.message.payload, broken.message.trailing) == (None, b"abc")
    assert str(broken.problem) == (
        "VFIO_USER_DMA_MAP command.DmaMapRequest.argsz at byte 16: 4 bytes are due, 3 are there"
    )
    pair.reply(pair.command(Role.CLIENT, Command.DEVICE_RESET))


READY = {
    "size 0": (craft(13, message_size=0), "the message size is 0; 16 to 1052672 bytes are allowed"),
    "size 15": (craft(13, message_size=15), "the message size is 15"),
    "size of 4 GiB": (craft(13, message_size=0xFFFFFFFF), "the message size is 4294967295"),
    "size above the limit": (craft(13, message_size=wire.DEFAULT_LIMIT + 1), "the message size is 1052673"),
    "type 2": (craft(13, kind=2), "the message has type 2, neither command nor reply"),
    "type 15": (craft(13, kind=15), "the message has type 15"),
    "reply to nothing": (craft(13, kind=1), "VFIO_USER_DEVICE_RESET reply with id 0 answers no command of ours"),
}


@pytest.mark.parametrize("feed", [whole, byte_by_byte])
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("data", "problem"), READY.values(), ids=READY)
def test_a_broken_rule_ends_the_connection(data: bytes, problem: str, role: Role, feed: Feed) -> None:
    engine = ConnectionPair().of(role)
    with pytest.raises(RemoteProtocolError) as caught:
        feed(engine, data, (8, 9))

    assert problem in str(caught.value)
    assert engine.state is State.CLOSED
    assert engine.close() == (8, 9)
    with pytest.raises(LocalProtocolError):
        engine.command(Command.DEVICE_RESET if role is Role.CLIENT else Command.DMA_READ)


def test_a_reply_must_have_the_command_of_its_id(pair: ConnectionPair) -> None:
    request = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    wrong = craft(Command.DMA_MAP, kind=1, message_id=request.message.header.message_id)

    with pytest.raises(RemoteProtocolError, match="VFIO_USER_DMA_MAP reply with id 1 answers no command of ours"):
        pair.feed(pair.client, wrong, ())


def test_a_second_reply_to_one_command_is_a_broken_rule(pair: ConnectionPair) -> None:
    request = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    pair.reply(request)
    again = craft(Command.DEVICE_RESET, kind=1, message_id=request.message.header.message_id)

    with pytest.raises(RemoteProtocolError, match="answers no command of ours"):
        pair.feed(pair.client, again, ())


def test_each_command_is_answered_once(pair: ConnectionPair) -> None:
    """A second answer is our mistake; two commands with one id get an answer each."""
    request = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    pair.reply(request)
    for again in (pair.server.reply, lambda to: pair.server.error(to, 22)):
        with pytest.raises(LocalProtocolError, match="VFIO_USER_DEVICE_RESET command with id 1 has its reply already"):
            again(request)

    for _ in range(2):
        pair.feed(pair.server, craft(Command.DEVICE_RESET, message_id=5), ())
    first, second = pair.server.next_event(), pair.server.next_event()
    assert isinstance(first, CommandReceived)
    assert isinstance(second, CommandReceived)
    assert pair.server.error(first, 22) is not None
    assert pair.server.reply(second) is not None
    with pytest.raises(LocalProtocolError, match="has its reply already"):
        pair.server.reply(first)


@pytest.mark.parametrize(("size", "pieces"), [(4, 1), (1 << 20, 2)])
def test_large_data_is_sent_from_where_it_is(pair: ConnectionPair, size: int, pieces: int) -> None:
    """A message of two pieces is as good as one of one; the second piece is the data itself, not a copy."""
    request = pair.command(Role.CLIENT, Command.REGION_READ, RegionReadRequest(count=size))
    payload = RegionReadReply(data=bytes(size))
    outgoing = pair.server.reply(request, payload)
    assert outgoing is not None
    assert len(outgoing.parts) == pieces
    assert (outgoing.parts[-1] is payload.data) == (pieces == 2)
    assert outgoing.data == wire.build(Command.REGION_READ, payload, message_id=1, flags=1)


def test_command_that_wants_no_reply_may_be_answered_into_the_void(pair: ConnectionPair) -> None:
    request = pair.command(Role.CLIENT, Command.DEVICE_RESET, no_reply=True)

    assert [pair.server.reply(request), pair.server.error(request, 22)] == [None, None]


@pytest.mark.parametrize(("role", "command"), [(Role.CLIENT, Command.DMA_MAP), (Role.SERVER, Command.DMA_READ)])
def test_command_from_the_wrong_end_keeps_the_stream_in_step_and_can_only_be_refused(
    pair: ConnectionPair, role: Role, command: Command
) -> None:
    """requirement commands.wrong-direction"""
    engine = pair.of(role)
    pair.feed(engine, craft(command, DmaMapRequest() if role is Role.CLIENT else DmaReadRequest(), message_id=9), (7,))
    event = engine.next_event()
    assert isinstance(event, CommandReceived)
    assert event.fds == (7,)
    with pytest.raises(LocalProtocolError, match=f"{command.document_name} command is not for the {role.peer.value}"):
        engine.reply(event)

    assert engine.error(event, 95) is not None


def test_a_reply_that_is_called_a_command_is_not_answered(pair: ConnectionPair) -> None:
    """Or else two ends that take each other's refusals for commands refuse for ever."""
    request = pair.command(Role.CLIENT, Command.DEVICE_RESET)
    refused = craft(
        Command.DEVICE_RESET, message_id=request.message.header.message_id, flags=int(HeaderFlags.ERROR), error=95
    )
    with pytest.raises(RemoteProtocolError, match="came where the reply to it is due"):
        pair.feed(pair.client, refused, (7,))
    assert pair.client.close() == (7,)


def test_commands_before_the_version_is_agreed_are_out_of_turn() -> None:
    server, client = Connection(Role.SERVER), Connection(Role.CLIENT)
    with pytest.raises(RemoteProtocolError, match="VFIO_USER_DEVICE_RESET command came out of turn"):
        server.receive(craft(Command.DEVICE_RESET))
    with pytest.raises(LocalProtocolError, match="VFIO_USER_DEVICE_RESET cannot be sent now"):
        client.command(Command.DEVICE_RESET)
    client.command(Command.VERSION, VersionRequest())
    with pytest.raises(LocalProtocolError, match="cannot be sent now"):
        client.command(Command.DEVICE_RESET)
    with pytest.raises(RemoteProtocolError, match="out of turn"):
        whole(client, craft(Command.DMA_READ, DmaReadRequest()), ())


@pytest.mark.parametrize(("role", "command"), [(Role.CLIENT, Command.DMA_READ), (Role.SERVER, Command.DMA_MAP)])
def test_each_end_sends_its_own_commands_only(role: Role, command: Command) -> None:
    engine = ConnectionPair().of(role)
    with pytest.raises(LocalProtocolError, match=f"{command.document_name} is not for the {role.value} to send"):
        engine.command(command)
    assert (engine.unanswered, engine.state) == (0, State.READY)


def test_a_value_that_does_not_fit_is_told_before_anything_changes() -> None:
    engine = ConnectionPair().client
    with pytest.raises(VfioUserError, match=r"DmaMapRequest.size at byte 24"):
        engine.command(Command.DMA_MAP, DmaMapRequest(size=-1))

    assert (engine.unanswered, engine.command(Command.DEVICE_RESET).message_id) == (0, 1)


def test_a_whole_message_may_be_handed_over_at_once() -> None:
    engine = ConnectionPair().server
    engine.state = State.READY
    engine.receive(craft(Command.DEVICE_GET_INFO, bytes(16)))

    event = engine.next_event()
    assert isinstance(event, CommandReceived)
    assert event.message.header.command == Command.DEVICE_GET_INFO
    assert (engine.next_event(), engine.wanted) == (None, wire.HEADER_SIZE)


def test_a_whole_message_is_bounded_as_one_in_pieces_is() -> None:
    engine = ConnectionPair().server
    engine.state, engine.limit = State.READY, 20
    with pytest.raises(RemoteProtocolError, match="the message size is 32; 16 to 20 bytes are allowed"):
        engine.receive(craft(Command.DEVICE_GET_INFO, bytes(16)))


@pytest.mark.parametrize("begun", [16, 3])
def test_inside_a_message_a_whole_one_is_our_mistake(begun: int) -> None:
    engine = ConnectionPair().server
    engine.state, message = State.READY, craft(Command.DEVICE_GET_INFO, bytes(16))
    engine.receive(message[:begun])
    with pytest.raises(LocalProtocolError, match="32 bytes were read where"):
        engine.receive(message)


def test_more_bytes_than_wanted_are_our_mistake_and_change_nothing() -> None:
    """The caller keeps the descriptors, too."""
    engine = ConnectionPair().server
    with pytest.raises(LocalProtocolError, match="17 bytes were read where 16 were wanted"):
        engine.receive(bytes(17), (9,))

    whole(engine, craft(Command.DEVICE_RESET), ())
    event = engine.next_event()
    assert isinstance(event, CommandReceived)
    assert event.fds == ()
    assert engine.close() == ()


def test_nothing_is_received_after_the_end() -> None:
    engine = ConnectionPair().server
    engine.receive(b"")
    with pytest.raises(LocalProtocolError, match="the connection has ended"):
        engine.receive(b"", (9,))

    assert engine.next_event() == Closed()
    assert engine.next_event() is None
    assert engine.close() == ()


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31])
def test_an_end_inside_a_message_is_a_broken_rule(length: int) -> None:
    engine = ConnectionPair().server
    data = craft(Command.REGION_READ, RegionReadRequest())
    whole(engine, data[:length], (4,))
    with pytest.raises(RemoteProtocolError, match="the peer closed inside a message"):
        engine.receive(b"")

    assert engine.close() == (4,)


def test_descriptors_on_any_byte_belong_to_their_message() -> None:
    engine = ConnectionPair().server
    data = craft(Command.REGION_READ, RegionReadRequest())
    engine.receive(data[:16], (4,))
    engine.receive(data[16:20], (5, 6))
    engine.receive(data[20:])
    engine.receive(craft(Command.DEVICE_RESET))
    first, second = engine.next_event(), engine.next_event()

    assert isinstance(first, CommandReceived)
    assert isinstance(second, CommandReceived)
    assert (first.fds, second.fds) == ((4, 5, 6), ())


def test_too_many_descriptors_end_the_connection_and_are_given_back() -> None:
    engine = Connection(Role.SERVER, max_fds=2)
    engine.receive(b"\0", (1, 2))
    with pytest.raises(RemoteProtocolError, match="3 descriptors came with one message, 2 are allowed"):
        engine.receive(b"\0", (3,))

    assert engine.close() == (1, 2, 3)


def test_close_gives_back_every_descriptor_that_was_not_taken() -> None:
    """Those of a message that is not whole yet, and those of events that nobody took."""
    engine = ConnectionPair().server
    whole(engine, craft(Command.DEVICE_RESET), (3,))
    whole(engine, craft(Command.DMA_MAP, b"does not decode"), (4, 5))
    whole(engine, craft(Command.DEVICE_RESET)[:5], (6,))
    assert sorted(engine.close()) == [3, 4, 5, 6]

    assert engine.close() == ()
    assert engine.state is State.CLOSED
    assert engine.next_event() is None


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({cut for cut in cuts if 0 < cut < len(data)} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


frames = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda command, body, kind, message_id: craft(command, body, kind=kind, message_id=message_id),
        st.integers(0, 20),
        st.binary(max_size=40),
        st.sampled_from([0, 0, 0, 1, 2]),
        st.integers(0, 3),
    ),
)


@given(
    role=st.sampled_from(Role),
    stream=st.lists(frames, max_size=6).map(b"".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    with_fds=st.lists(st.integers(0, 4), max_size=12),
)
def test_any_bytes_in_any_cuts_lose_no_descriptor(
    role: Role, stream: bytes, cuts: list[int], with_fds: list[int]
) -> None:
    """Every descriptor handed in comes out once, in an event or from close; only RemoteProtocolError is raised."""
    engine = ConnectionPair().of(role)
    engine._awaited[1, 13] += 1
    given_fds, seen = 0, []
    counts = iter(with_fds)
    try:
        for piece in pieces(stream, cuts):
            while piece:
                fds = tuple(range(given_fds, given_fds + next(counts, 0)))
                given_fds += len(fds)
                part, piece = piece[: engine.wanted], piece[engine.wanted :]
                engine.receive(part, fds)
                if len(seen) % 2:
                    continue
                while (event := engine.next_event()) is not None:
                    assert isinstance(event, CommandReceived | ReplyReceived)
                    seen += event.fds
    except RemoteProtocolError:
        assert engine.state is State.CLOSED
    seen += engine.close()

    assert sorted(seen) == list(range(given_fds))


@given(stream=st.lists(frames, max_size=6).map(b"".join), cuts=st.lists(st.integers(0, 200), max_size=8))
def test_cuts_make_no_difference(stream: bytes, cuts: list[int]) -> None:
    """The same bytes give the same events and the same error, however they arrive."""

    def events(parts: Iterator[bytes]) -> list[object]:
        engine, found = ConnectionPair().server, []
        try:
            for part in parts:
                while part:
                    engine.receive(part[: (size := engine.wanted)])
                    part = part[size:]
                    while (event := engine.next_event()) is not None:
                        found.append(str(event))
        except RemoteProtocolError as error:
            found.append(str(error))
        return found

    assert events(pieces(stream, cuts)) == events(stream[at : at + 1] for at in range(len(stream)))
