# What cases do on descriptors of sub-regions, and what they look for there: right, wrong, late, and never.
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from vfio_user_conformance.facts import Facts
from vfio_user_conformance.kicks import Drained, Kick, Place, Responses, Store, Tell, command, places
from vfio_user_conformance.peer import Received, Timing
from vfio_user_conformance.profile import load
from vfio_user_conformance.session import NotReached, Session
from vfio_user_conformance.target import Respawned
from vfio_user_proto.messages import (
    Command,
    DeviceGetRegionIoFdsReply,
    Header,
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    ShadowIoeventfdSubRegion,
    SubRegion,
)
from vfio_user_proto.program import Attached
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")
RESPONSE = struct.Struct("=Q24x")
BELL = IoeventfdSubRegion(size=4)
WINDOW = IoregionfdSubRegion(offset=0x10, size=8, type=IoFdType.IOREGIONFD, user_data=5)


@pytest.fixture
def session() -> Session:
    """One that sends no messages: only its patience counts here."""
    return Session(Respawned(Attached("nowhere")), Facts(), Timing(reply=0.02))


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM], ids=["packets", "stream"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[Place, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, request.param)
    with ours, theirs:
        yield Place(0, WINDOW, ours.fileno()), theirs


def test_a_kick_is_seen_to_be_taken_or_left(session: Session) -> None:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    place = Place(0, BELL, fd)
    Kick(place).perform(session)
    assert [problem.text for problem in Drained(place).check(session)] == [
        "the ioeventfd at 0x0 of region 0 was kicked, and its eventfd is not read"
    ]
    assert os.eventfd_read(fd) == 1
    assert Drained(place).check(session) == []
    Kick(place, 7).perform(session)
    Kick(place, (1 << 64) - 2).perform(session)
    assert os.eventfd_read(fd) == 7
    os.close(fd)


def test_a_command_is_32_bytes_with_the_user_data_of_its_record(
    session: Session, ends: tuple[Place, socket.socket]
) -> None:
    place, theirs = ends
    command(place, 1, size=2, offset=4, data=0x1122, resp=False).perform(session)
    assert theirs.recv(64) == struct.pack("=BB6xQQQ", 1, 1, 5, 4, 0x1122)
    command(place, 0, size=8).perform(session)
    assert theirs.recv(64) == struct.pack("=BB6xQQQ", 0, 0x13, 5, 0, 0)


def test_what_is_done_is_written_down_behind_the_message_before(
    session: Session, ends: tuple[Place, socket.socket]
) -> None:
    """Evidence has no other trace of it."""
    session.log.append({"from": "server"})
    Tell(ends[0], b"\1\2\3", "three bytes").perform(session)
    assert session.log == [{"from": "server", "then": ["three bytes on the ioregionfd at 0x10 of region 0 (010203)"]}]


@pytest.mark.parametrize(
    ("came", "wanted", "problem"),
    [
        ([7], (7,), ""),
        ([9, 7], (None, 7), ""),
        ([], (), ""),
        ([0xAABB00000007], (7,), ""),
        ([8], (7,), "response 1 of 1 on the ioregionfd at 0x10 of region 0 has 0x8, not 0x7"),
        ([7], (7, 7), "response 2 of 2 on the ioregionfd at 0x10 of region 0 did not come"),
        ([7, 7], (7,), "one response more than was asked for came on the ioregionfd at 0x10 of region 0"),
    ],
)
def test_responses_are_counted_in_order(
    session: Session, ends: tuple[Place, socket.socket], came: list[int], wanted: tuple[int | None, ...], problem: str
) -> None:
    place, theirs = ends
    for data in came:
        theirs.send(RESPONSE.pack(data))
    assert [each.text for each in Responses(place, wanted).check(session)] == ([problem] if problem else [])


def test_a_response_of_another_size_is_told(session: Session, ends: tuple[Place, socket.socket]) -> None:
    place, theirs = ends
    theirs.send(bytes(8))
    [problem] = Responses(place, (0,)).check(session)
    assert problem.text == "response 1 of 1 on the ioregionfd at 0x10 of region 0 has 8 bytes, not 32"


def test_a_peer_that_is_gone_or_full_stops_nobody(session: Session, ends: tuple[Place, socket.socket]) -> None:
    place, theirs = ends
    for _ in range(5000):
        Tell(place, bytes(32), "much").perform(session)
    theirs.close()
    Tell(place, bytes(32), "more").perform(session)
    assert [each.text for each in Responses(place, (0,)).check(session)] != []


def test_a_descriptor_of_another_kind_is_no_finding_of_a_case_about_kicks(session: Session) -> None:
    """Another case is about kinds."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    shadow = ShadowIoeventfdSubRegion(size=4, type=IoFdType.IOEVENTFD_SHADOW)
    steps = (
        Kick(Place(0, BELL, reader)),
        command(Place(0, WINDOW, reader), 0),
        Store(Place(0, shadow, reader, reader), 1),
    )
    for step in steps:
        with pytest.raises(NotReached):
            step.perform(session)
    os.close(reader)
    os.close(writer)


def answer(*records: SubRegion | bytes, fds: tuple[int, ...]) -> Received:
    reply = DeviceGetRegionIoFdsReply(index=4, sub_regions=tuple(records))
    return Received(Message(Header(command=Command.DEVICE_GET_REGION_IO_FDS), reply, b""), fds)


def test_records_meet_their_descriptors_and_what_the_profile_says() -> None:
    match = IoeventfdSubRegion(offset=4, size=4, fd_index=1, flags=IoeventfdFlags.DATAMATCH, datamatch=0x5A)
    shadow = ShadowIoeventfdSubRegion(offset=8, type=IoFdType.IOEVENTFD_SHADOW, shadow_mem_fd_index=1)
    facts = Facts(profile=load("builtin"))
    found = places(answer(BELL, match, match.replace(datamatch=1), shadow, fds=(11, 12)), facts)
    assert [(place.fd, place.memory, place.bell and place.bell.match) for place in found] == [
        (11, None, None),
        (12, None, 0x5A),
        (12, None, None),
        (11, 12, None),
    ]
    assert [place.bell is None for place in found] == [False, False, True, False]


@pytest.mark.parametrize("records", [(b"x" * 40,), (BELL.replace(fd_index=2),)])
def test_records_that_cannot_be_used_are_not_reached(records: tuple[SubRegion | bytes, ...]) -> None:
    with pytest.raises(NotReached):
        places(answer(*records, fds=(11, 12)), Facts())
