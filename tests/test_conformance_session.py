# What cases do to a connection: cut it in half, read it in sips, lose it and make another, and start the program afresh.
import contextlib
import os
import socket
from collections.abc import Iterator

import pytest
from judging import QUICK, OneSocket, Threaded, bench, plain, refusal, reply

from vfio_user_conformance.case import Case
from vfio_user_conformance.descriptors import Pipe
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.expect import REFUSED, ErrorReply, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Peer, Timing
from vfio_user_conformance.profile import HAZARDS
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.steps import Afresh, Disconnect, HalfClose, Raw, Restart, Sip, each
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest, MessageType, VersionRequest
from vfio_user_proto.unix import Stream
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

INFO, MAP = Send(DeviceGetInfoRequest()), Send(DmaMapRequest(address=0x1000, size=0x1000))


@pytest.fixture
def ends() -> Iterator[tuple[Session, socket.socket]]:
    """A session, and the other end of its connection."""
    target = OneSocket()
    session = Session(target, Facts(), QUICK)
    session.connect()
    with target.theirs:
        yield session, target.theirs
        session.close()


def scripted(steps: list[Send], *expect: object, made: Bench | None = None) -> Result:
    one = Case(
        ident="x/y",
        requirement="dma-map.overlap",
        stimulus="each",
        expect="each",
        script=each(steps, expect),  # type: ignore[arg-type]
    )
    bench_ = made or bench()
    try:
        return bench_.run(one)
    finally:
        bench_.target.close()


def test_descriptors_go_with_the_first_byte_or_behind_the_last_cut(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    session.send((Send(DmaMapRequest(), fds=(Pipe(),)),))
    first = socket.recv_fds(theirs, 1000, 4)
    session.send((Send(DmaMapRequest(), fds=(Pipe(),), cuts=(16,), late=True),), (16,), late=True)
    late = socket.recv_fds(theirs, 16, 4), socket.recv_fds(theirs, 1000, 4)

    assert [(len(data), len(fds)) for data, fds, *_ in (first, *late)] == [(48, 1), (16, 0), (32, 1)]
    for _, fds, *_ in (first, *late):
        for fd in fds:
            os.close(fd)


def test_bytes_that_are_no_message_take_descriptors_too(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    pipe = Pipe()
    session.send_raw(b"abc", (pipe,))
    data, fds, *_ = socket.recv_fds(theirs, 1000, 4)

    assert data == b"abc"
    assert not session.handle(pipe).released()
    os.close(fds[0])
    assert session.handle(pipe).released()


def test_half_a_connection_is_still_read(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    session.send((Send(Command.DEVICE_RESET, message_id=5),))
    theirs.recv(1000)
    HalfClose().perform(session)
    theirs.sendall(craft(Command.DEVICE_RESET, message_id=5, kind=MessageType.REPLY))

    assert theirs.recv(1000) == b""
    assert Reply().problems(session.observe(), session.asked, session.facts) == []


def test_a_message_that_is_sipped_is_whole_in_the_end(ends: tuple[Session, socket.socket]) -> None:
    session, theirs = ends
    session.send((Send(VersionRequest(), message_id=5),))
    theirs.sendall(craft(Command.VERSION, VersionRequest(version_minor=2), message_id=5, kind=MessageType.REPLY))
    Sip(3).perform(session)

    assert Reply(version_minor=2).problems(session.observe(), session.asked, session.facts) == []


def test_a_target_that_answers_instead_of_reading_is_not_waited_for() -> None:
    """Otherwise both would write for ever; here the patience of a minute would be too much for the test."""
    ours, theirs = socket.socketpair()
    with theirs:
        peer = Peer(Stream(ours), [], Timing(reply=60, patience=0.02), 0)
        theirs.sendall(b"an answer")
        peer.send((bytes(1 << 22),))
        peer.close()
        theirs.setblocking(False)
        came = 0
        with contextlib.suppress(ConnectionResetError):
            while part := theirs.recv(1 << 20):
                came += len(part)

    assert 0 < came < 1 << 22


def test_a_script_goes_on_where_the_target_closed() -> None:
    made = bench(lambda message: None if message.header.command == Command.DMA_MAP else plain(message))

    assert scripted([MAP, MAP, INFO], REFUSED, made=made).reason == "it was carried out, not refused"
    assert isinstance(made.target, Threaded)
    assert made.target.connections < 97


def test_a_script_ends_with_the_first_problem() -> None:
    seen = list[int]()

    def serving(message: Message) -> bytes | None:
        seen.append(message.header.command)
        return plain(message)

    result = scripted([INFO, MAP, Send(Command.DEVICE_RESET)], Reply(), made=bench(serving))
    assert (result.outcome, result.reason) == (Outcome.FAIL, "it was refused with EINVAL")
    assert Command.DEVICE_RESET not in seen


def test_problems_that_are_alike_are_counted() -> None:
    one = Case(ident="x/y", requirement="dma-map.overlap", stimulus=(MAP,) * 3, expect=(ErrorReply(),) * 3)
    made = bench(lambda message: reply(message) if message.header.command == Command.DMA_MAP else plain(message))

    assert made.run(one).reason == "3 times it was carried out, not refused"
    made.target.close()


class Once(Threaded):
    """Serves one connection each time it is started; ``again`` says whether there is another time."""

    def __init__(self, *, again: bool = True) -> None:
        super().__init__(
            lambda message: refusal(message) if message.header.command == Command.DMA_MAP else plain(message)
        )
        self.again = again

    def renew(self) -> bool:
        self.connections = 1
        return super().renew()

    def discard(self) -> bool:
        return self.again


def run_once(*steps: object, again: bool = True) -> tuple[Result, int]:
    target = Once(again=again)
    one = Case(ident="x/y", requirement="dma-map.any-time", stimulus=(*steps, INFO), expect=Reply())  # type: ignore[arg-type]
    result = Bench(target, Facts(), frozenset(HAZARDS), QUICK).run(one)
    target.close()
    return result, target.renewed


def test_a_program_is_started_afresh() -> None:
    result, renewed = run_once(Restart())

    assert (result.outcome, renewed) == (Outcome.PASS, 2)


def test_a_program_that_serves_no_other_connection_is_started_afresh_too() -> None:
    result, renewed = run_once(Raw(b"x"), Disconnect(), Afresh())

    assert (result.outcome, renewed) == (Outcome.PASS, 2)


def test_a_program_that_is_not_ours_cannot_be_started_afresh() -> None:
    result, renewed = run_once(Restart(), again=False)

    assert (result.outcome, renewed) == (Outcome.NOT_APPLICABLE, 1)
    assert "not ours to start again" in result.reason
