# The engine and its stream: bytes in any cuts, whole messages, the end, and no descriptor ever lost.
from collections.abc import Iterator
from itertools import pairwise

import pytest
from engines import ConnectionPair, whole
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError
from vfio_user_proto.events import Closed, CommandReceived, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    RegionReadRequest,
)
from vfio_user_proto.states import Role, State


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
