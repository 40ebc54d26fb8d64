# The engine without I/O: two of them connected, who may say what when, and every broken rule.

import pytest
from engines import ConnectionPair, Feed, byte_by_byte, whole

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError, VfioUserError
from vfio_user_proto.events import Closed, CommandReceived, ReplyReceived
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
from vfio_user_proto.states import Role, State


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
