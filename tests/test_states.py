"""The table of who may send what when: every state with every input."""

from itertools import product

import pytest

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError
from vfio_user_proto.events import CommandReceived, ReplyReceived
from vfio_user_proto.messages import Command, DmaReadRequest, Header, VersionRequest
from vfio_user_proto.states import SENDERS, TRANSITIONS, Role, State
from vfio_user_proto.wire import Message

CLIENT, SERVER = Role.CLIENT, Role.SERVER
COMMAND, REPLY = False, True
PLAIN, VERSION = False, True

# Said once more, by hand: which (sender, reply?, VERSION?) is legal in which state, and what follows.
LEGAL = {
    (State.NEW, CLIENT, COMMAND, VERSION): State.PROPOSED,
    (State.PROPOSED, SERVER, REPLY, VERSION): State.READY,
    (State.READY, CLIENT, COMMAND, PLAIN): State.READY,
    (State.READY, CLIENT, COMMAND, VERSION): State.READY,
    (State.READY, CLIENT, REPLY, PLAIN): State.READY,
    (State.READY, SERVER, COMMAND, PLAIN): State.READY,
    (State.READY, SERVER, REPLY, PLAIN): State.READY,
    (State.READY, SERVER, REPLY, VERSION): State.READY,
}
PRODUCT = list(product(State, Role, (COMMAND, REPLY), (PLAIN, VERSION)))
every_case = pytest.mark.parametrize(("state", "sender", "is_reply", "is_version"), PRODUCT, ids=str)


def a_command(sender: Role, is_version: bool) -> tuple[int, VersionRequest | DmaReadRequest | None]:
    if is_version:
        return Command.VERSION, VersionRequest()
    return (Command.DMA_READ, DmaReadRequest()) if sender is SERVER else (Command.DEVICE_RESET, None)


@every_case
def test_the_table_allows_what_the_document_allows(
    state: State, sender: Role, is_reply: bool, is_version: bool
) -> None:
    found = TRANSITIONS[state].get((sender, is_reply, is_version))

    assert found == LEGAL.get((state, sender, is_reply, is_version))


@every_case
def test_the_sender_keeps_to_the_table(state: State, sender: Role, is_reply: bool, is_version: bool) -> None:
    """Our own mistakes raise LocalProtocolError and change nothing."""
    engine = Connection(sender)
    engine.state = state
    engine._due.update({(0, command): 1 for command in Command})
    after = LEGAL.get((state, sender, is_reply, is_version))
    command, payload = a_command(sender.peer if is_reply else sender, is_version)
    legal = after is not None and (is_reply or SENDERS[command] is sender)

    def send() -> None:
        if is_reply:
            engine.reply(CommandReceived(Message(Header(command=command), payload)), payload)
        else:
            engine.command(command, payload)

    if legal:
        send()
        assert engine.state is after
    else:
        with pytest.raises(LocalProtocolError):
            send()
        assert (engine.state, engine.unanswered) == (state, 0)


@every_case
def test_the_receiver_keeps_to_the_table(state: State, sender: Role, is_reply: bool, is_version: bool) -> None:
    """The peer's mistakes raise RemoteProtocolError and end the connection."""
    engine = Connection(sender.peer)
    engine.state = state
    command, payload = a_command(sender.peer if is_reply else sender, is_version)
    if is_reply:
        engine._awaited[0, command] += 1
    after = LEGAL.get((state, sender, is_reply, is_version))
    data = wire.build(command, payload, flags=int(is_reply))

    def receive() -> None:
        engine.receive(data[:16])
        if data[16:]:
            engine.receive(data[16:])

    if after is not None:
        receive()
        assert engine.state is after
        assert isinstance(engine.next_event(), ReplyReceived if is_reply else CommandReceived)
    elif state is State.CLOSED:
        with pytest.raises(LocalProtocolError):
            receive()
    else:
        with pytest.raises(RemoteProtocolError, match="out of turn"):
            receive()
        assert engine.state is State.CLOSED
        assert engine.next_event() is None


def test_dma_reads_and_writes_are_the_servers_all_else_the_clients() -> None:
    servers = {Command.DMA_READ, Command.DMA_WRITE}

    assert {command for command, role in SENDERS.items() if role is SERVER} == servers
    assert set(SENDERS) == set(Command)


@pytest.mark.parametrize("role", Role)
def test_the_peer_of_the_peer_is_oneself(role: Role) -> None:
    assert role.peer is not role
    assert role.peer.peer is role


@pytest.mark.parametrize("state", [State.PROPOSED, State.READY])
def test_an_error_reply_does_not_move_the_state(state: State) -> None:
    """A refused VERSION leaves the server where the proposal put it, on both ends."""
    server, client = Connection(SERVER), Connection(CLIENT)
    server.state = client.state = state
    client._awaited[0, Command.VERSION] += 1
    server._due[0, Command.VERSION] = 1
    request = CommandReceived(Message(Header(command=Command.VERSION), VersionRequest()))
    outgoing = server.error(request, 22)
    assert outgoing is not None
    client.receive(outgoing.data)

    assert (server.state, client.state) == (state, state)
    event = client.next_event()
    assert isinstance(event, ReplyReceived)
    assert event.message.is_error
