# Commands of the device: what they are answered from the memory that is mapped, and what is looked at in them.
import os
import socket
import threading
from collections.abc import Iterator
from errno import EFAULT, EINVAL

import pytest
from judging import QUICK, OneSocket, reply, texts

from vfio_user_conformance import session as session_module
from vfio_user_conformance.answers import (
    Answer,
    Asides,
    Commands,
    LeaveUnanswered,
    NoCommands,
    OnTwin,
    Serve,
    TakeTwin,
)
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.memory import Pages
from vfio_user_conformance.peer import OutOfStep, Received
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import NotReached, Session, Unanswered
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteReply,
    DmaWriteRequest,
    HeaderFlags,
    MessageType,
)
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

BASE = 0x100000
MEMORY = Pages(0x2000)
INFO = Send(DeviceGetInfoRequest())
READ = DmaReadRequest(address=BASE + 0x10, count=8)
WRITE = DmaWriteRequest(address=BASE + 0x20, data=b"abcd")


@pytest.fixture
def ends() -> Iterator[tuple[Session, socket.socket]]:
    """A session that has negotiated, and the other end of its connection."""
    target = OneSocket()
    session = Session(target, Facts(), QUICK)
    session.connect()
    session.negotiated = True
    with target.theirs:
        yield session, target.theirs
        session.close()


def answered(session: Session, theirs: socket.socket, request: DmaReadRequest | DmaWriteRequest, *more: bytes) -> bytes:
    """What the session sends when the target asks for memory, and then answers a query of ours."""
    command = Command.DMA_READ if isinstance(request, DmaReadRequest) else Command.DMA_WRITE
    session.send((INFO,))
    query = theirs.recv(100)
    theirs.sendall(craft(command, request, message_id=9) + b"".join(more) + reply(wire.decode(query)))
    assert isinstance(session.observe(), Received)
    theirs.setblocking(False)
    return theirs.recv(10000)


def messages(data: bytes) -> list[Message]:
    return [wire.decode(each) for each in wire.split(data)]


def content(session: Session) -> bytes:
    return os.pread(session.handle(MEMORY).ours, MEMORY.size, 0)


def test_commands_are_answered_from_the_memory_at_their_address(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),)).perform(session)
    before = content(session)

    (read,) = messages(answered(session, theirs, READ))
    (written,) = messages(answered(session, theirs, WRITE))

    assert read.payload == DmaReadReply(address=READ.address, data=before[0x10:0x18])
    assert written.payload == DmaWriteReply(address=WRITE.address, count=4)
    assert content(session) == before[:0x20] + b"abcd" + before[0x24:]
    assert [each.on_twin for each in session.commands] == [False, False]


@pytest.mark.parametrize("address", [BASE - 1, BASE + 0x2000 - 7, 0])
def test_what_is_not_in_the_memory_is_refused(ends: tuple[Session, socket.socket], address: int) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),)).perform(session)

    (came,) = messages(answered(session, theirs, READ.replace(address=address)))

    assert came.is_error
    assert (came.header.error, came.header.message_size, came.header.message_id) == (EFAULT, 16, 9)


def test_without_memory_every_command_is_refused(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends

    (came,) = messages(answered(session, theirs, WRITE))

    assert (came.is_error, came.header.error) == (True, EFAULT)


@pytest.mark.parametrize(
    ("odd", "field", "value"),
    [
        (Answer(message_id=2), lambda m: m.header.message_id, 11),
        (Answer(command=13), lambda m: m.header.command, 13),
        (Answer(kind=2), lambda m: int(m.header.flags), 2),
        (Answer(error=5), lambda m: (m.is_error, m.header.error, m.header.message_size), (True, 5, 16)),
        (Answer(error=5, extra=b"xy"), lambda m: m.header.message_size, 18),
        (Answer(cut=3), lambda m: m.header.message_size, 37),
    ],
)
def test_an_answer_is_wrong_by_named_argument(
    ends: tuple[Session, socket.socket], odd: Answer, field: object, value: object
) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), odd).perform(session)

    data = answered(session, theirs, READ)
    header = wire.decode_header(data)

    assert field(Message(header, None, data[16:])) == value  # type: ignore[operator]
    assert str(odd).startswith("answer it with ")


@pytest.mark.parametrize(
    ("odd", "body"),
    [
        (Answer(), lambda place, data: (place, 8, data)),
        (Answer(address=16), lambda place, data: (place + 16, 8, data)),
        (Answer(count=-3), lambda place, data: (place, 5, data)),
        (Answer(lost=3), lambda place, data: (place, 5, data[:5])),
        (Answer(extra=b"z"), lambda place, data: (place, 8, data + b"z")),
    ],
)
def test_the_payload_of_an_answer_too(ends: tuple[Session, socket.socket], odd: Answer, body: object) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), odd).perform(session)
    data = answered(session, theirs, READ)[16:]

    expected = body(READ.address, content(session)[0x10:0x18])  # type: ignore[operator]

    assert (int.from_bytes(data[:8], "little"), int.from_bytes(data[8:16], "little"), data[16:]) == expected


def test_a_narrow_count_has_four_bytes(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), Answer(narrow=True)).perform(session)

    assert answered(session, theirs, WRITE)[16:] == WRITE.address.to_bytes(8, "little") + b"\4\0\0\0"


def test_a_refused_write_leaves_the_memory_alone(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), Answer(error=EINVAL)).perform(session)

    answered(session, theirs, WRITE)

    assert content(session) == MEMORY.background()


def test_one_command_of_several_is_answered_wrong(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), Answer(error=EINVAL), only=2).perform(session)

    errors = [messages(answered(session, theirs, READ))[0].is_error for _ in range(3)]

    assert errors == [False, True, False]


def test_an_answer_can_come_twice_and_after_one_to_nobody(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), Answer(twice=True, stray=True)).perform(session)

    ids = [each.header.message_id for each in messages(answered(session, theirs, READ))]

    assert ids == [0x4009, 9, 9]


def test_a_command_that_wants_no_reply_gets_none(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),)).perform(session)
    session.send((INFO,))
    query = theirs.recv(100)
    theirs.sendall(craft(Command.DMA_WRITE, WRITE, no_reply=True) + reply(wire.decode(query)))

    assert isinstance(session.observe(), Received)
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)


def test_the_reply_to_an_aside_may_come_at_any_time(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    Serve(((BASE, MEMORY),), Answer(asides=(INFO, INFO)), only=1).perform(session)

    first, second, right = messages(answered(session, theirs, READ))

    assert (first.header.command, second.header.command) == (Command.DEVICE_GET_INFO, Command.DEVICE_GET_INFO)
    assert right.payload == DmaReadReply(address=READ.address, data=content(session)[0x10:0x18])
    assert texts(Asides().check(session)) == ["VFIO_USER_DEVICE_GET_INFO, sent before the answer, got no reply"]
    for each in (second, first):
        theirs.sendall(reply(each))
    assert Asides().check(session) == []


def test_an_aside_that_is_refused_is_told(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    session.aside(INFO)
    message_id = wire.decode_header(theirs.recv(100)).message_id
    flags = MessageType.REPLY | HeaderFlags.ERROR
    theirs.sendall(craft(Command.DEVICE_GET_INFO, message_id=message_id, flags=flags, error=EINVAL))

    assert "EINVAL" in texts(Asides().check(session))[0]


def test_commands_without_end_are_no_case(ends: tuple[Session, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    session, theirs = ends
    monkeypatch.setattr(session_module, "_ENDLESS", 3)
    session.send((INFO,))
    theirs.sendall(craft(Command.DMA_READ, READ) * 4)

    with pytest.raises(Unanswered, match="without end"):
        session.observe()


def test_a_command_can_be_left_unanswered(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    theirs.sendall(craft(Command.DMA_READ, READ))

    LeaveUnanswered().perform(session)

    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    with pytest.raises(NotReached, match="did not ask"):
        LeaveUnanswered().perform(session)


def test_commands_on_the_second_socket_are_answered_there(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    one, other = socket.socketpair()
    with one, other:
        TakeTwin(one.fileno()).perform(session)
        Serve(((BASE, MEMORY),)).perform(session)
        assert texts(OnTwin().check(session)) == ["no command for the memory came"]
        session.send((INFO,))
        query = theirs.recv(100)
        came = list[bytes]()

        def serve() -> None:
            other.sendall(craft(Command.DMA_READ, READ, message_id=3))
            came.append(other.recv(100))
            theirs.sendall(reply(wire.decode(query)))

        thread = threading.Thread(target=serve)
        thread.start()
        assert isinstance(session.observe(), Received)
        thread.join()

        assert wire.decode_header(came[0]).message_id == 3
        assert OnTwin().check(session) == []
        assert [entry.get("line") for entry in session.log] == [None, "twin", "twin", None]
        answered(session, theirs, WRITE)
        assert "on the first socket came VFIO_USER_DMA_WRITE" in texts(OnTwin().check(session))[0]


def test_a_reply_on_the_second_socket_is_a_loss_of_step(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    one, other = socket.socketpair()
    with one, other:
        TakeTwin(one.fileno()).perform(session)
        session.send((INFO,))
        other.sendall(reply(wire.decode(theirs.recv(100))))

        with pytest.raises(OutOfStep, match="on the second socket"):
            session.observe()


@pytest.mark.parametrize(
    ("command", "payload", "odd", "problem"),
    [
        (Command.DMA_READ, READ, {}, ""),
        (Command.DMA_WRITE, READ, {}, "what came is VFIO_USER_DMA_WRITE"),
        (Command.DMA_READ, READ, {"extra": b"1234"}, "does not fit its table"),
        (Command.DMA_READ, READ, {"cut": 2}, "does not fit its table"),
        (Command.DMA_READ, READ.replace(count=9), {}, "9 bytes at once, more than 8"),
        (Command.DMA_READ, READ.replace(address=BASE - 1), {}, "not within the memory"),
        (Command.DMA_READ, READ.replace(address=BASE + 0x1FF9), {}, "not within the memory"),
        (Command.DMA_READ, READ, {"error": EINVAL}, "has an error in its header"),
    ],
)
def test_commands_are_looked_at(
    ends: tuple[Session, socket.socket], command: int, payload: DmaReadRequest, odd: dict[str, int], problem: str
) -> None:
    session, theirs = ends
    looked = Commands("read", BASE, 0x2000, 8)
    assert texts(looked.check(session)) == ["no VFIO_USER_DMA_READ came"]
    assert NoCommands().check(session) == []
    session.send((INFO,))
    theirs.sendall(craft(command, payload, **odd) + reply(wire.decode(theirs.recv(100))))  # type: ignore[arg-type]
    session.observe()

    found = texts(looked.check(session))

    assert problem in found[0] if problem else found == []
    assert "it asked for memory" in texts(NoCommands().check(session))[0]
