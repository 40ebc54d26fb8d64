# A device's end of the descriptors of its registers: records, and one call for an access whichever way it came.
import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from conftest import open_descriptors
from polling import Log, Poll

from vfio_user_proto import unix
from vfio_user_proto.device import IoFds
from vfio_user_proto.iofds import Doorbell, IoFdRegion, Window
from vfio_user_proto.kvm import GuestBus, Space
from vfio_user_proto.messages import (
    IoeventfdFlags,
    IoeventfdSubRegion,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
)

pytestmark = pytest.mark.usefixtures("no_leak")
COMMAND = struct.Struct("=BB6xQQQ")
READ, WRITE, RESP = 0, 1, 0x10


class Made:
    """A region of 4 KiB, attached."""

    def __init__(self, *entries: Doorbell | Window) -> None:
        self.region, self.host = IoFdRegion(4096, entries), Poll()
        self.region.attach(self.host)

    @property
    def fds(self) -> tuple[int, ...]:
        return self.region.io_fds.fds


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def make() -> Iterator[Callable[..., Made]]:
    made: list[Made] = []

    def one(*entries: Doorbell | Window) -> Made:
        made.append(Made(*entries))
        return made[-1]

    yield one
    for each in made:
        each.region.close()


Make = Callable[..., Made]


def test_records_say_what_was_declared(make: Make, log: Log) -> None:
    made = make(
        Doorbell(0, 4, log.ring("a")),
        Doorbell(4, 0, log.ring("b"), ports=True),
        Doorbell(8, 2, log.ring("c"), match=7),
        Window(0x10, 8, log),
        Window(0x20, 0, log, posted=True, ports=True),
    )
    socket_at, pio, posted = 3, IoregionFlags.PIO, IoregionFlags.POSTED_WRITES
    assert made.region.io_fds.sub_regions == (
        IoeventfdSubRegion(offset=0, size=4, fd_index=0),
        IoeventfdSubRegion(offset=4, size=0, fd_index=1, flags=IoeventfdFlags.PIO),
        IoeventfdSubRegion(offset=8, size=2, fd_index=2, flags=IoeventfdFlags.DATAMATCH, datamatch=7),
        IoregionfdSubRegion(offset=0x10, size=8, fd_index=socket_at, type=IoFdType.IOREGIONFD, user_data=3),
        IoregionfdSubRegion(offset=0x20, fd_index=socket_at, type=IoFdType.IOREGIONFD, flags=pio | posted, user_data=4),
    )
    assert [unix.kind_of(fd) for fd in made.fds] == ["eventfd"] * 3 + ["socket"]


def test_one_shadow_makes_every_record_48_bytes(make: Make, log: Log) -> None:
    made = make(Doorbell(0, 4, log.ring("a")), Doorbell(8, 4, log.ring("b"), shadow=True, match=3))
    assert made.region.io_fds.sub_regions == (
        ShadowIoeventfdSubRegion(offset=0, size=4, fd_index=0),
        ShadowIoeventfdSubRegion(
            offset=8,
            size=4,
            fd_index=1,
            type=IoFdType.IOEVENTFD_SHADOW,
            flags=IoeventfdFlags.DATAMATCH,
            shadow_mem_fd_index=2,
            shadow_offset=8,
            datamatch=3,
        ),
    )
    assert [unix.kind_of(fd) for fd in made.fds] == ["eventfd", "eventfd", "memfd"]


@pytest.mark.parametrize(
    "entries",
    [
        [Window(0, 4, Log()), Doorbell(8, 4, print, shadow=True)],
        [Doorbell(0, 3, print)],
        [Doorbell(0, 0, print, shadow=True)],
        [Doorbell(4094, 4, print)],
        [Doorbell(4096, 0, print)],
        [Window(0, 0, Log())],
        [Window(-4, 4, Log())],
    ],
)
def test_what_no_reply_can_describe_is_refused_and_opens_nothing(entries: list[Doorbell | Window]) -> None:
    with pytest.raises(ValueError):
        IoFdRegion(4096, entries)


# Kicks


def test_a_kick_is_told_with_how_often_and_the_only_value_it_can_have(make: Make, log: Log) -> None:
    made = make(Doorbell(0, 4, log.ring("any")), Doorbell(4, 4, log.ring("five"), match=5))
    os.eventfd_write(made.fds[0], 1)
    os.eventfd_write(made.fds[0], 2)
    os.eventfd_write(made.fds[1], 1)
    assert made.host.turn() == 2
    assert sorted(log.told) == [("any", None, 3), ("five", 5, 1)]
    assert made.host.turn() == 0


def test_a_kick_that_is_gone_when_it_is_looked_for_is_none(make: Make, log: Log) -> None:
    """Even where the client made the eventfd block, which is one flag for both."""
    made = make(Doorbell(0, 4, log.ring("a")))
    os.set_blocking(made.fds[0], True)
    made.host.calls[made.fds[0]]()
    assert log.told == []


def test_doorbells_that_share_an_eventfd_are_all_told(make: Make, log: Log) -> None:
    """Nothing tells which one it was."""
    made = make(
        Doorbell(0, 4, log.ring("a"), match=1, share="x"),
        Doorbell(0, 4, log.ring("b"), match=2, share="x"),
        Doorbell(8, 4, log.ring("c")),
    )
    assert [entry.fd_index for entry in made.region.io_fds.sub_regions] == [0, 0, 1]
    os.eventfd_write(made.fds[0], 1)
    made.host.turn()
    assert log.told == [("a", None, 1), ("b", None, 1)]


def test_a_kick_with_shadow_memory_brings_the_last_value(make: Make, log: Log) -> None:
    made = make(Doorbell(8, 4, log.ring("a"), shadow=True), Doorbell(16, 2, log.ring("b"), shadow=True))
    os.pwrite(made.fds[2], struct.pack("=I", 0x11223344), 8)
    os.pwrite(made.fds[2], struct.pack("=HH", 0x5566, 0x7788), 16)
    os.eventfd_write(made.fds[0], 2)
    os.eventfd_write(made.fds[1], 1)
    made.host.turn()
    assert sorted(log.told) == [("a", 0x11223344, 2), ("b", 0x5566, 1)]


def test_shadow_memory_keeps_its_size(make: Make, log: Log) -> None:
    made = make(Doorbell(8, 4, log.ring("a"), shadow=True))
    with pytest.raises(PermissionError):
        os.ftruncate(made.fds[1], 0)


# Commands


def command(made: Made, cmd: int, flags: int, user_data: int, offset: int, data: int = 0) -> int | None:
    """Send one, let the device work, and return the data of its response."""
    theirs = socket.socket(fileno=os.dup(made.fds[-1]))
    with theirs:
        theirs.setblocking(False)
        theirs.send(COMMAND.pack(cmd, flags, user_data, offset, data))
        made.host.turn()
        try:
            response = theirs.recv(64)
        except BlockingIOError:
            return None
    assert len(response) == 32
    assert response[8:] == bytes(24)
    return int.from_bytes(response[:8], "little")


def test_commands_become_reads_and_writes_of_the_region(make: Make, log: Log) -> None:
    """Offsets count from the region's start; the value has no more bytes than the access."""
    made = make(Doorbell(0, 4, log.ring("a")), Window(0x100, 0x10, log), Window(0x200, 0x10, log, posted=True))
    assert command(made, WRITE, 2 | RESP, 1, 4, 0x1122334455667788) == 0
    assert command(made, WRITE, 0, 2, 0xF, 0x1FF) is None
    assert command(made, READ, 2 | RESP, 1, 8) == 0x108
    assert command(made, READ, 3, 2, 0) == 0x200
    assert log.told == [(0x104, 4, 0x55667788), (0x20F, 1, 0xFF)]


def test_a_window_of_size_zero_takes_writes_alone(make: Make, log: Log) -> None:
    made = make(Window(0x100, 0, log, posted=True))
    for code in range(4):
        assert command(made, WRITE, code, 0, 0, 1) is None
    assert command(made, READ, 2 | RESP, 0, 0) == 0xFFFFFFFF
    assert log.told == [(0x100, 1 << code, 1) for code in range(4)]


@pytest.mark.parametrize(
    ("user_data", "offset", "code"), [(1, 0xD, 2), (1, 0x10, 0), (1, (1 << 64) - 1, 0), (0, 0, 2), (2, 0, 2), (1, 0, 4)]
)
def test_a_command_for_nothing_changes_nothing_and_is_answered(
    make: Make, log: Log, user_data: int, offset: int, code: int
) -> None:
    """So that whoever waits does not wait for ever."""
    made = make(Doorbell(0, 4, log.ring("a")), Window(0x100, 0x10, log))
    ones = (1 << min(64, 8 << code)) - 1
    assert command(made, READ, code | RESP, user_data, offset) == ones
    assert command(made, WRITE, code | RESP, user_data, offset, 1) == 0
    assert command(made, WRITE, code, user_data, offset, 1) is None
    assert log.told == []


def test_packets_that_are_no_command_are_dropped(make: Make, log: Log) -> None:
    made = make(Window(0, 0x10, log))
    with socket.socket(fileno=os.dup(made.fds[-1])) as theirs:
        for packet in (b"", b"x" * 31, b"x" * 33, COMMAND.pack(9, 0, 0, 0, 0)):
            theirs.send(packet)
    made.host.turn()
    assert log.told == []
    assert command(made, READ, 0, 0, 3) == 3


def test_many_commands_do_not_keep_the_server_from_others(make: Make, log: Log) -> None:
    """After so many it looks at its other descriptors, and comes back."""
    made = make(Window(0, 0x10, log, posted=True))
    with socket.socket(fileno=os.dup(made.fds[-1])) as theirs:
        for number in range(100):
            theirs.send(COMMAND.pack(WRITE, 0, 0, 0, number))
    made.host.turn()
    assert len(log.told) == 64
    made.host.turn()
    assert log.told == [(0, 1, number) for number in range(100)]


def test_a_client_that_does_not_take_responses_holds_nobody_up(make: Make, log: Log) -> None:
    made = make(Window(0, 0x10, log))
    with socket.socket(fileno=os.dup(made.fds[-1])) as theirs:
        theirs.setblocking(False)
        for _ in range(500):
            try:
                while True:
                    theirs.send(COMMAND.pack(READ, 0, 0, 0, 0))
            except BlockingIOError:
                made.host.turn()
        while made.host.turn():
            pass


def test_descriptors_that_come_with_a_command_are_not_kept(make: Make, log: Log) -> None:
    made = make(Window(0, 0x10, log, posted=True))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with socket.socket(fileno=os.dup(made.fds[-1])) as theirs:
        socket.send_fds(theirs, [COMMAND.pack(WRITE, 0, 0, 0, 7)], [writer])
    os.close(writer)
    made.host.turn()
    assert log.told == [(0, 1, 7)]
    assert os.read(reader, 1) == b""
    os.close(reader)


@pytest.mark.parametrize("how", [socket.SHUT_WR, socket.SHUT_RDWR])
def test_a_socket_that_the_client_shut_down_keeps_nobody_busy(make: Make, log: Log, how: int) -> None:
    """What was sent before is done; then the server looks at it no more, although it could be read for ever."""
    made = make(Window(0, 0x10, log))
    with socket.socket(fileno=os.dup(made.fds[-1])) as theirs:
        theirs.send(b"")
        theirs.send(COMMAND.pack(WRITE, 2 | RESP, 0, 0, 7))
        theirs.send(COMMAND.pack(WRITE, 2, 0, 4, 8))
        theirs.shutdown(how)
        while made.host.turn():
            pass
    assert log.told == [(0, 4, 7), (4, 4, 8)]
    assert made.host.calls == {}


# Messages, and the life of the descriptors


def test_a_message_is_told_like_a_kick_or_a_command(make: Make, log: Log) -> None:
    made = make(
        Doorbell(0, 4, log.ring("a")),
        Doorbell(4, 4, log.ring("five"), match=5),
        Doorbell(8, 0, log.ring("b")),
        Window(0x100, 0x10, log),
    )
    assert made.region.write(0, struct.pack("=I", 9))
    assert made.region.write(4, struct.pack("=I", 5))
    assert made.region.write(8, b"\1")
    assert made.region.write(0x104, b"\2\0")
    assert made.region.read(0x108, 2) == b"\x08\x01"
    assert log.told == [("a", 9, 1), ("five", 5, 1), ("b", 1, 1), (0x104, 2, 2)]


def test_other_messages_are_the_devices_own(make: Make, log: Log) -> None:
    made = make(Doorbell(4, 4, log.ring("five"), match=5), Window(0x100, 0x10, log), Window(0x200, 0, log, posted=True))
    for offset, data in ((4, b"\6\0\0\0"), (4, b"\5"), (0, b"\5\0\0\0"), (0x10E, b"\1\0\0\0"), (0x100, b"\1\2\3")):
        assert not made.region.write(offset, data)
    for offset, count in ((0, 4), (0x10E, 4), (0x100, 3), (0x200, 4)):
        assert made.region.read(offset, count) is None
    assert log.told == []


def test_new_descriptors_are_deaf_to_the_former_client(make: Make, log: Log) -> None:
    made = make(Doorbell(0, 4, log.ring("a")), Window(0x100, 4, log))
    before, kept = len(open_descriptors()), [os.dup(fd) for fd in made.fds]
    made.region.renew()
    made.host.calls.clear()
    made.region.attach(made.host)
    os.eventfd_write(kept[0], 1)
    with socket.socket(fileno=kept.pop()) as old, pytest.raises(OSError):
        old.send(COMMAND.pack(WRITE, 2, 1, 0, 7))
    assert made.host.turn() == 0
    unix.close_all(kept)
    assert len(open_descriptors()) == before
    assert log.told == []


def test_renewing_without_descriptors_left_keeps_the_former_ones(make: Make, log: Log) -> None:
    made = make(Doorbell(0, 4, log.ring("a")), Doorbell(8, 4, log.ring("b"), shadow=True))
    before, limits = made.fds, resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(before[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    try:
        made.region.renew()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert made.fds == before
    os.eventfd_write(made.fds[0], 1)
    made.host.turn()
    assert log.told == [("a", None, 1)]


def test_the_bus_of_a_guest_and_the_region_understand_each_other(make: Make, log: Log) -> None:
    """Every mechanism from a store to the device's call, over the real descriptors."""
    plain = make(Doorbell(0, 4, log.ring("kick")), Window(0x10, 4, log, posted=True))
    shadowed = make(Doorbell(0, 4, log.ring("shadow"), shadow=True))

    class Nobody:
        def region_read(self, index: int, offset: int, count: int) -> bytes:
            raise AssertionError

        def region_write(self, index: int, offset: int, data: bytes, *, no_reply: bool = False) -> None:
            raise AssertionError

    with GuestBus(Nobody()) as bus:
        for number, made in enumerate((plain, shadowed)):
            io_fds = made.region.io_fds
            bus.place(number, 4096, number * 4096, io_fds=IoFds(io_fds.sub_regions, io_fds.fds))
        for address in (0, 0x10, 0x1000):
            bus.store(Space.MEMORY, address, struct.pack("=I", 7))
    plain.host.turn()
    shadowed.host.turn()
    assert log.told == [("kick", None, 1), (0x10, 4, 7), ("shadow", 7, 1)]
