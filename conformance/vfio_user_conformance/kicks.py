"""What is done through the descriptors of sub-regions, without a message, and what is to come of it."""

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vfio_user_conformance.acting import read
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Problem
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Received
from vfio_user_conformance.recipes import Doorbell, Register
from vfio_user_conformance.session import NotReached, Session
from vfio_user_conformance.steps import Step
from vfio_user_conformance.words import plural, shown
from vfio_user_proto import eventfds, wire
from vfio_user_proto.device import descriptors_of, match_of
from vfio_user_proto.drafts.ioregionfd import IoregionfdCmd, IoregionfdCommand, IoregionfdResp, SizeResp
from vfio_user_proto.messages import (
    DeviceGetRegionIoFdsReply,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
    SubRegion,
)

_RESPONSE: int = IoregionfdResp.fixed_size
_RESPONSES = "region-io-fds.responses"


@dataclass(frozen=True)
class Place:
    """A sub-region with the descriptors of its record, and what the profile says of it."""

    region: int
    entry: SubRegion
    fd: int
    memory: int | None = None
    bell: Doorbell | None = None

    @property
    def is_ioregion(self) -> bool:
        return isinstance(self.entry, IoregionfdSubRegion)

    @property
    def posted(self) -> bool:
        return isinstance(self.entry, IoregionfdSubRegion) and bool(self.entry.flags & IoregionFlags.POSTED_WRITES)

    def __str__(self) -> str:
        return (
            f"the {'ioregionfd' if self.is_ioregion else 'ioeventfd'} at {self.entry.offset:#x} of region {self.region}"
        )


def places(seen: Received, facts: Facts) -> list[Place]:
    """The sub-regions of a reply. Raises NotReached where one cannot be used: other cases are about that."""
    reply = seen.message.payload
    assert isinstance(reply, DeviceGetRegionIoFdsReply)
    found = list[Place]()
    for entry in reply.sub_regions:
        if isinstance(entry, bytes):
            raise NotReached(f"a record of region {reply.index} is of no known kind")
        try:
            fd, *rest = [seen.fds[index] for index in descriptors_of(entry)]
        except IndexError:
            raise NotReached(f"a record of region {reply.index} names a descriptor that did not come") from None
        bells = [each for each in facts.profile.doorbells if is_for(reply.index, entry, each)]
        memory = rest[0] if rest else None
        found.append(Place(reply.index, entry, fd, memory, bells[0] if bells else None))
    return found


def is_for(region: int, entry: SubRegion, bell: Doorbell) -> bool:
    """Whether a record is the one of a doorbell of the profile."""
    return (region, entry.offset, match_of(entry)) == (bell.region, bell.offset, bell.match)


@dataclass(frozen=True)
class Kick:
    """Signal the eventfd of a sub-region as KVM does, or with ``count`` as often as that."""

    place: Place
    count: int = 1

    def perform(self, session: Session) -> None:
        _note(session, self)
        if self.count > 1:
            os.set_blocking(self.place.fd, False)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.place.fd, self.count)
            return
        try:
            eventfds.signal(self.place.fd)
        except OSError:
            raise NotReached(f"the descriptor of {self.place} is no eventfd") from None

    def __str__(self) -> str:
        return f"kick {self.place}" + (f" {self.count:#x} times" if self.count > 1 else "")


@dataclass(frozen=True)
class Store:
    """Put a value where the shadow memory of a sub-region has it, as a patched KVM does before it kicks."""

    place: Place
    value: int

    def perform(self, session: Session) -> None:
        _note(session, self)
        entry = self.place.entry
        assert isinstance(entry, ShadowIoeventfdSubRegion)
        assert self.place.memory is not None
        try:
            os.pwrite(self.place.memory, self.value.to_bytes(entry.size or 8, sys.byteorder), entry.shadow_offset)
        except OSError as problem:
            raise NotReached(f"the shadow memory of {self.place} cannot be written: {problem.strerror}") from None

    def __str__(self) -> str:
        return f"store {self.value:#x} in the shadow memory of {self.place}"


@dataclass(frozen=True)
class Tell:
    """Send bytes on the ioregionfd of a sub-region; ``words`` say what they are."""

    place: Place
    data: bytes
    words: str

    def perform(self, session: Session) -> None:
        _note(session, self)
        with _socket(self.place) as sock, contextlib.suppress(BlockingIOError, ConnectionError):
            sock.send(self.data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def __str__(self) -> str:
        return f"{self.words} on {self.place} ({self.data.hex(' ', 4)})"


def command(
    place: Place,
    cmd: int,
    *,
    size: int = 4,
    offset: int = 0,
    data: int = 0,
    resp: bool = True,
    user_data: int | None = None,
) -> Tell:
    """One command as KVM would send it: a load or a store of ``size`` bytes at ``offset`` of the sub-region."""
    assert isinstance(place.entry, IoregionfdSubRegion)
    record = IoregionfdCmd(
        cmd=IoregionfdCommand(cmd),
        size_resp=SizeResp((size.bit_length() - 1) | (SizeResp.RESP if resp else 0)),
        user_data=place.entry.user_data if user_data is None else user_data,
        offset=offset,
        data=data,
    )
    words = (
        "a load"
        if cmd == IoregionfdCommand.READ
        else f"a store of {data:#x}"
        if resp
        else f"a posted store of {data:#x}"
    )
    return Tell(place, wire.encode_record(record), f"{words}, {size} bytes at {offset:#x},")


@dataclass(frozen=True)
class ShutDown:
    """Shut the ioregionfd of a sub-region down in both directions."""

    place: Place

    def perform(self, session: Session) -> None:
        _note(session, self)
        with _socket(self.place) as sock, contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    def __str__(self) -> str:
        return f"shut {self.place} down"


@dataclass(frozen=True)
class Drained(AfterCheck):
    """The counter of an eventfd comes to be zero."""

    place: Place

    def check(self, session: Session) -> list[Problem]:
        poll = select.poll()
        poll.register(self.place.fd, select.POLLIN)
        if _becomes(lambda: not poll.poll(0), session):
            return []
        return [Problem(f"{self.place} was kicked, and its eventfd is not read")]

    def __str__(self) -> str:
        return f"the eventfd of {self.place} read"


@dataclass(frozen=True)
class Shows(AfterCheck):
    """Registers come to read as these numbers; all at the same time."""

    wanted: Mapping[Register, int]

    def check(self, session: Session) -> list[Problem]:
        now = dict[Register, int | None]()

        def as_wanted() -> bool:
            now.update((register, read(session, register)) for register in self.wanted)
            return now == self.wanted

        if _becomes(as_wanted, session):
            return []
        return [
            Problem(f"{each.offset:#x} of region {each.region} reads as {shown(now[each])}, not {shown(value)}")
            for each, value in self.wanted.items()
            if now[each] != value
        ]

    def __str__(self) -> str:
        return f"{plural(len(self.wanted), 'register')} that show it"


@dataclass(frozen=True)
class Responses(AfterCheck):
    """These responses come on an ioregionfd, in order, and no other: values of loads of ``size`` bytes, None for any."""

    place: Place
    wanted: tuple[int | None, ...]
    size: int = 4

    def check(self, session: Session) -> list[Problem]:
        for number, value in enumerate(self.wanted, 1):
            data = next_response(self.place, session)
            where = f"response {number} of {len(self.wanted)} on {self.place}"
            if data is None:
                return [Problem(f"{where} did not come", _RESPONSES)]
            if len(data) != _RESPONSE:
                return [Problem(f"{where} has {plural(len(data), 'byte')}, not {_RESPONSE}", _RESPONSES)]
            got = wire.decode_record(IoregionfdResp, data)[0].data & ((1 << 8 * self.size) - 1)
            if value is not None and got != value:
                return [Problem(f"{where} has {got:#x}, not {value:#x}")]
        with _socket(self.place) as sock, contextlib.suppress(BlockingIOError):
            if sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK):
                return [Problem(f"one response more than was asked for came on {self.place}", _RESPONSES)]
        return []

    def __str__(self) -> str:
        return plural(len(self.wanted), "response")


def _note(session: Session, step: Step) -> None:
    """Write down what is no message behind the message before it, for the evidence."""
    if session.log:
        session.log[-1].setdefault("then", []).append(str(step))


def next_response(place: Place, session: Session) -> bytes | None:
    """What comes next on an ioregionfd: as much of 32 bytes as one read gets, a byte more of a packet that is longer.

    None where nothing comes in time.
    """
    with _socket(place) as sock:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        seconds = session.timing.reply
        if not poll.poll(None if seconds is None else seconds * 1000):
            return None
        more = sock.type == socket.SOCK_SEQPACKET
        try:
            return sock.recv(_RESPONSE + more, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionError):
            return None


def _socket(place: Place) -> socket.socket:
    """A copy of the socket of a sub-region."""
    copy = os.dup(place.fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise NotReached(f"the descriptor of {place} is no socket") from None


def _becomes(true: Callable[[], bool], session: Session) -> bool:
    """Whether something comes to be so within the time for a reply; looked at less and less often."""
    end = None if session.timing.reply is None else time.monotonic() + session.timing.reply
    idle, pause = select.poll(), 1
    while not true():
        if end is not None and time.monotonic() >= end:
            return False
        idle.poll(pause)
        pause = min(2 * pause, 64)
    return True
