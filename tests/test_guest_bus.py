# The bus of a guest: which access goes to which descriptor, what stays a message, and what the kernel may take over.
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from guests import BASE, MEMORY, PORTS, Recorder, event, ioregion, shadow, word
from serving import eventfds, memfd, room_for, rung, same

from vfio_user_proto.device import IoFds
from vfio_user_proto.errors import ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.kvm import GuestBus, Space, Via
from vfio_user_proto.messages import (
    IoeventfdFlags,
    IoFdType,
    SubRegion,
)

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def server() -> Recorder:
    return Recorder()


@pytest.fixture
def bus(server: Recorder) -> Iterator[GuestBus]:
    with GuestBus(server, timeout=10) as made:
        yield made


# Messages


def test_what_has_no_descriptor_is_a_message(bus: GuestBus, server: Recorder) -> None:
    bus.place(3, 0x1000, BASE)
    bus.store(MEMORY, BASE + 8, b"\1\2")
    assert bus.load(MEMORY, BASE + 0xFFC, 4) == b"\x0c\x0d\x0e\x0f"
    assert server.accesses == [(3, 8, b"\1\2"), (3, 0xFFC, 4)]
    assert server.unanswered == 0


def test_a_posted_region_wants_no_replies_to_writes(bus: GuestBus, server: Recorder) -> None:
    bus.place(3, 0x1000, BASE, posted=True)
    bus.store(MEMORY, BASE, b"\1")
    assert server.unanswered == 1


def test_memory_and_ports_are_two_worlds(bus: GuestBus, server: Recorder) -> None:
    bus.place(0, 0x100, 0x500)
    bus.place(2, 0x100, 0x500, space=PORTS)
    bus.store(PORTS, 0x504, b"\1")
    bus.store(MEMORY, 0x504, b"\2")
    assert server.accesses == [(2, 4, b"\1"), (0, 4, b"\2")]


def test_two_regions_cannot_be_at_one_address(bus: GuestBus) -> None:
    bus.place(0, 0x1000, BASE)
    for address in (BASE, BASE - 1, BASE + 0xFFF):
        with pytest.raises(ValueError, match="already"):
            bus.place(1, 0x10, address)
    bus.place(1, 0x10, BASE - 0x10)


def test_an_access_across_an_end_is_nowhere(bus: GuestBus, server: Recorder) -> None:
    bus.place(0, 0x1000, BASE)
    bus.store(MEMORY, BASE + 0xFFE, word(1))
    assert bus.load(MEMORY, BASE - 2, 4) == b"\xff" * 4
    assert server.accesses == []


def test_what_the_server_refuses_is_told(bus: GuestBus, server: Recorder) -> None:
    bus.place(0, 0x1000, BASE)
    server.refusal = ErrorReply("VFIO_USER_REGION_WRITE", 22)
    with pytest.raises(ErrorReply):
        bus.store(MEMORY, BASE, b"\1")


# ioeventfd


def test_a_store_signals_its_eventfd_and_a_load_is_a_message(bus: GuestBus, server: Recorder) -> None:
    with eventfds(1) as fds:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(4),), tuple(fds)))
        bus.store(MEMORY, BASE + 4, word(9))
        bus.store(MEMORY, BASE + 4, word(9))
        bus.load(MEMORY, BASE + 4, 4)
        assert rung(fds[0]) == 2
    assert server.accesses == [(0, 4, 4)]


@pytest.mark.parametrize("size", [0, 1, 2, 4, 8])
def test_stores_count_by_width_as_in_the_kernel(bus: GuestBus, server: Recorder, size: int) -> None:
    with eventfds(1) as fds:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(4, size),), tuple(fds)))
        for width in (1, 2, 4, 8):
            bus.store(MEMORY, BASE + 4, bytes(width))
        assert rung(fds[0]) == (1 if size else 4)
        assert [len(data) for _, _, data in server.accesses if isinstance(data, bytes)] == [
            width for width in (1, 2, 4, 8) if size not in (0, width)
        ]


def test_several_eventfds_at_one_address_tell_values_apart(bus: GuestBus, server: Recorder) -> None:
    with eventfds(2) as fds:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(match=1), event(match=2, fd=1)), tuple(fds)))
        for value in (1, 2, 2, 3):
            bus.store(MEMORY, BASE, word(value))
        assert [rung(fd) for fd in fds] == [1, 2]
    assert server.accesses == [(0, 0, word(3))]


def test_a_full_eventfd_holds_nobody_up(bus: GuestBus) -> None:
    """One that its server never drains, blocking or not: as in the kernel it stays full."""
    for flags in (0, os.EFD_NONBLOCK):
        fd = os.eventfd(0, os.EFD_CLOEXEC | flags)
        os.eventfd_write(fd, (1 << 64) - 2)
        with GuestBus(Recorder()) as other:
            other.place(0, 0x1000, BASE, io_fds=IoFds((event(),), (fd,)))
            other.store(MEMORY, BASE, word(1))
        assert os.eventfd_read(fd) >= (1 << 64) - 2
        os.close(fd)


def test_the_bus_uses_copies(bus: GuestBus) -> None:
    """The caller may close the descriptors that came with the reply."""
    with eventfds(1) as [kept]:
        given = os.dup(kept)
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(),), (given,)))
        os.close(given)
        bus.store(MEMORY, BASE, word(1))
        assert rung(kept) == 1


# Shadow memory


def test_the_value_is_in_shadow_memory_before_the_kick(bus: GuestBus, server: Recorder) -> None:
    """Whoever waits for the eventfd finds it there."""
    found = []
    with eventfds(1) as [kick], memfd(4096) as memory:
        os.set_blocking(kick, True)

        def device() -> None:
            os.eventfd_read(kick)
            found.append(os.pread(memory, 12, 0x10))

        bus.place(0, 0x1000, BASE, io_fds=IoFds((shadow(8, 0x14),), (kick, memory)))
        thread = threading.Thread(target=device)
        thread.start()
        bus.store(MEMORY, BASE + 8, word(0x11223344))
        thread.join(10)
    assert found == [bytes(4) + word(0x11223344) + bytes(4)]
    assert server.accesses == []


def test_a_store_that_does_not_count_leaves_shadow_memory_alone(bus: GuestBus, server: Recorder) -> None:
    """By its width, or by its value."""
    with eventfds(1) as [kick], memfd(4096) as memory:
        entry = shadow(0, 0, flags=IoeventfdFlags.DATAMATCH, datamatch=7)
        bus.place(0, 0x1000, BASE, io_fds=IoFds((entry,), (kick, memory)))
        bus.store(MEMORY, BASE, word(6))
        bus.store(MEMORY, BASE, b"\7\0")
        assert (rung(kick), os.pread(memory, 4, 0)) == (0, bytes(4))
        bus.store(MEMORY, BASE, word(7))
        assert (rung(kick), os.pread(memory, 4, 0)) == (1, word(7))
    assert len(server.accesses) == 2


def test_a_record_of_48_bytes_without_shadow_only_kicks(bus: GuestBus) -> None:
    with eventfds(1) as [kick], memfd(4096) as memory:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((shadow(0, 0, IoFdType.IOEVENTFD),), (kick, memory)))
        bus.store(MEMORY, BASE, word(5))
        assert (rung(kick), os.pread(memory, 4, 0)) == (1, bytes(4))


def test_shadow_memory_that_was_cut_is_an_error_and_no_crash(bus: GuestBus) -> None:
    with eventfds(1) as [kick], memfd(4096) as memory:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((shadow(0, 0x10),), (kick, memory)))
        os.ftruncate(memory, 0x12)
        with pytest.raises(RemoteProtocolError, match="the shadow memory ends before byte 20"):
            bus.store(MEMORY, BASE, word(1))
        assert (rung(kick), os.fstat(memory).st_size) == (0, 0x12)


def test_shadow_memory_that_cannot_be_written_any_more_is_an_error(bus: GuestBus) -> None:
    with eventfds(1) as [kick], memfd(4096, os.MFD_ALLOW_SEALING) as memory:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((shadow(0, 0),), (kick, memory)))
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(RemoteProtocolError, match="the shadow memory cannot be written: Operation not permitted"):
            bus.store(MEMORY, BASE, word(1))


# ioregionfd

COMMAND = struct.Struct("=BB6xQQQ")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with ours, theirs:
        yield ours, theirs


def test_a_window_carries_stores_and_loads(
    bus: GuestBus, server: Recorder, pair: tuple[socket.socket, socket.socket]
) -> None:
    """Offsets count from its start. What is not wholly inside, or of no width that a command has, is a message."""
    ours, theirs = pair
    entries = (ioregion(0x100, 0x10, 0xAB),)
    bus.place(0, 0x1000, BASE, io_fds=IoFds(entries, (theirs.fileno(),)))
    bus.store(MEMORY, BASE + 0x104, word(5))
    assert COMMAND.unpack(ours.recv(64)) == (1, 2, 0xAB, 4, 5)
    thread = threading.Thread(target=lambda: ours.send(struct.pack("=Q24x", 0x77)) if ours.recv(64) else None)
    thread.start()
    assert bus.load(MEMORY, BASE + 0x108, 8) == b"\x77" + bytes(7)
    thread.join(10)
    for address, data in ((0xFE, word(1)), (0x10E, word(2)), (0x104, b"\1\2\3")):
        bus.store(MEMORY, BASE + address, data)
    assert server.accesses == [(0, 0xFE, word(1)), (0, 0x10E, word(2)), (0, 0x104, b"\1\2\3")]


def test_a_window_of_size_zero_takes_stores_of_every_width_at_one_address(
    bus: GuestBus, server: Recorder, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    bus.place(0, 0x1000, BASE, io_fds=IoFds((ioregion(0x100, 0, 1),), (theirs.fileno(),)))
    for width, code in ((1, 0), (2, 1), (4, 2), (8, 3)):
        bus.store(MEMORY, BASE + 0x100, b"\1".ljust(width, b"\0"))
        assert COMMAND.unpack(ours.recv(64)) == (1, code, 1, 0, 1)
    bus.store(MEMORY, BASE + 0x101, b"\1")
    bus.load(MEMORY, BASE + 0x100, 4)
    assert server.accesses == [(0, 0x101, b"\1"), (0, 0x100, 4)]


def test_windows_of_two_regions_share_a_socket_in_turn(
    bus: GuestBus, pair: tuple[socket.socket, socket.socket]
) -> None:
    """One socket, three descriptors of it: user_data tells the windows apart, and one failure is everybody's."""
    ours, theirs = pair
    first = (ioregion(0, 4, 1), ioregion(8, 4, 2, fd=1))
    copy = os.dup(theirs.fileno())
    bus.place(0, 0x1000, BASE, io_fds=IoFds(first, (theirs.fileno(), copy)))
    bus.place(4, 0x1000, BASE + 0x1000, io_fds=IoFds((ioregion(0, 4, 3, posted=False),), (copy,)))
    os.close(copy)
    bus.store(MEMORY, BASE, word(1))
    bus.store(MEMORY, BASE + 8, word(1))
    assert [COMMAND.unpack(ours.recv(64))[2] for _ in range(2)] == [1, 2]
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(TransportError):
        bus.store(MEMORY, BASE + 0x1000, word(1))
    with pytest.raises(TransportError, match="cannot be used any more"):
        bus.store(MEMORY, BASE, word(1))


# Who serves what


def test_records_that_contradict_place_nothing(bus: GuestBus, server: Recorder) -> None:
    with eventfds(1) as fds:
        with pytest.raises(RemoteProtocolError, match="claim the same accesses"):
            bus.place(0, 0x1000, BASE, io_fds=IoFds((event(), event()), tuple(fds)))
        assert bus.wirings == []
        bus.place(0, 0x1000, BASE)
        bus.store(MEMORY, BASE, word(1))
    assert len(server.accesses) == 1


@pytest.mark.parametrize("room", range(3))
def test_without_descriptors_for_copies_nothing_is_placed(bus: GuestBus, server: Recorder, room: int) -> None:
    """Of three that are due. The kernel is not asked, and the place can be taken later."""
    with eventfds(2) as fds, memfd(4096) as memory:
        io_fds = IoFds((event(8, fd=2), shadow(0, 0)), (fds[0], memory, fds[1]))
        with room_for(room), pytest.raises(TransportError) as caught:
            bus.place(0, 0x1000, BASE, io_fds=io_fds)
        assert str(caught.value) == "no copy of a sub-region's descriptor can be made: Too many open files"
        assert bus.wirings == []
        with room_for(3):
            bus.place(0, 0x1000, BASE, io_fds=io_fds)
        bus.store(MEMORY, BASE, word(1))
        assert rung(fds[0]) == 1


def test_what_is_unknown_stays_with_messages(bus: GuestBus, server: Recorder) -> None:
    with eventfds(1) as fds:
        odd = event().replace(flags=IoeventfdFlags.VIRTIO_CCW_NOTIFY)
        bus.place(0, 0x1000, BASE, io_fds=IoFds((odd, event(8)), tuple(fds)))
        bus.store(MEMORY, BASE, word(1))
        assert rung(fds[0]) == 0
    assert [(w.sub_region.offset, w.via, w.reason) for w in bus.wirings] == [
        (0, Via.MESSAGE, "flags VIRTIO_CCW_NOTIFY"),
        (8, Via.BUS, ""),
    ]
    assert len(server.accesses) == 1


class Taker:
    """A kernel that takes what has an offset in ``takes``."""

    def __init__(self, *takes: int) -> None:
        self.takes = takes
        self.asked: list[tuple[Space, int, int, int | None]] = []

    def take(self, space: Space, address: int, sub_region: SubRegion, fd: int, shadow: int | None) -> str:
        self.asked.append((space, address, fd, shadow))
        return "" if sub_region.offset in self.takes else "not today"

    def release(self) -> None:
        self.takes = ()


def test_what_the_kernel_takes_the_bus_does_not_serve(server: Recorder) -> None:
    """A store that arrives all the same did not count there, so it is a message."""
    kernel = Taker(0)
    with eventfds(2) as fds, memfd(4096) as memory, GuestBus(server, kernel) as bus:
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(), event(8)), tuple(fds)))
        bus.place(4, 0x1000, BASE + 0x1000, io_fds=IoFds((shadow(4, 0),), (fds[0], memory)))
        bus.store(MEMORY, BASE, word(1))
        bus.store(MEMORY, BASE + 8, word(1))
        assert rung(fds[0]) == 1
        assert [(w.region, w.via, w.reason) for w in bus.wirings] == [
            (0, Via.KERNEL, ""),
            (0, Via.BUS, "not today"),
            (4, Via.BUS, "not today"),
        ]
        (*at, bell, value), (*later, again, there) = kernel.asked[1:]
        assert (at, value, later) == ([MEMORY, BASE + 8], None, [MEMORY, BASE + 0x1004])
        assert there is not None
        assert all(same(*pair) for pair in ((bell, fds[0]), (again, fds[0]), (there, memory)))
    assert server.accesses == [(0, 0, word(1))]
