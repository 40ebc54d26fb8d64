# Sockets: bytes with their descriptors, and what a descriptor is.
import errno
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import eventfds, memfd

from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DescriptorError, RemoteProtocolError, TransportError
from vfio_user_proto.messages import Command, DmaMapRequest
from vfio_user_proto.unix import Stream

Pair = tuple[Stream, Stream]


@pytest.fixture
def pair(no_leak: None) -> Iterator[Pair]:
    ends = unix.pair()
    yield ends
    for end in ends:
        end.close()


def test_bytes_and_descriptors_arrive_together_and_close_on_exec(pair: Pair) -> None:
    with eventfds(2) as fds:
        assert pair[0].write(b"hello", fds) == 5
        data, got = pair[1].read(2) or (b"", [])
        assert (data, len(got)) == (b"he", 2)
        assert not any(os.get_inheritable(fd) for fd in got)
        os.eventfd_write(got[1], 7)
        assert os.eventfd_read(fds[1]) == 7
        unix.close_all(got)
    assert pair[1].read(100) == (b"llo", [])


def test_descriptors_stay_with_their_message_where_exactly_its_bytes_are_read(pair: Pair) -> None:
    with eventfds(1) as fds:
        pair[0].write(b"first")
        pair[0].write(b"second", fds)
        assert pair[1].read(5) == (b"first", [])
        data, got = pair[1].read(6) or (b"", [])
        assert (data, len(got)) == (b"second", 1)
        unix.close_all(got)


def test_as_many_descriptors_as_the_kernel_passes(pair: Pair) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * unix.MAX_FDS:
        pytest.skip(f"the limit of open descriptors (ulimit -n) leaves no room for {unix.MAX_FDS}")
    with eventfds(1) as fds:
        pair[0].write(b"x", fds * unix.MAX_FDS)
        _, got = pair[1].read(1) or (b"", [])
        assert len(got) == unix.MAX_FDS
        unix.close_all(got)


@pytest.mark.parametrize("room", [0, 2])
def test_descriptors_cut_off_are_an_error_and_none_stays_open(pair: Pair, room: int) -> None:
    """Room for fewer than were sent: the kernel passes on what fits and says that it cut the rest, also where that is all."""
    with eventfds(1) as fds:
        pair[0].write(b"x", fds * 8)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + room, hard))
        try:
            with pytest.raises(RemoteProtocolError, match="MSG_CTRUNC"):
                pair[1].read(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_end_of_the_stream_is_no_bytes(pair: Pair) -> None:
    pair[0].close()
    assert pair[1].read(16) == (b"", [])


def test_reset_connection_reads_as_its_end(pair: Pair) -> None:
    """A peer that closes with our bytes unread makes the kernel say ECONNRESET."""
    pair[1].write(b"unread")
    pair[0].close()
    assert pair[1].read(16) == (b"", [])


def test_writing_to_a_closed_peer_is_an_error(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(TransportError, match="Broken pipe"):
        pair[1].write(b"x")


MAP = craft(Command.DMA_MAP, DmaMapRequest())
RESET = craft(Command.DEVICE_RESET)


def test_looking_ahead_takes_what_is_there_for_reads_to_hand_out(pair: Pair) -> None:
    pair[0].write(b"first")
    pair[0].write(b"second")
    assert pair[1].look_ahead() == b""
    pair[0].write(b"third")
    assert pair[1].look_ahead() == b""
    assert pair[1].ahead == b"firstsecond"
    assert [pair[1].read(5), pair[1].read(100), pair[1].read(100)] == [(b"first", []), (b"second", []), (b"third", [])]


def test_of_what_was_read_ahead_whole_messages_are_told_apart(pair: Pair) -> None:
    one, two = (craft(Command.DEVICE_RESET, extra=extra) for extra in (b"", b"payload"))
    pair[0].write(one + two + MAP + two[:-1])
    pair[1].socket.setblocking(False)
    assert [pair[1].look_ahead(), pair[1].message(), pair[1].message(), pair[1].message()] == [one, two, MAP, b""]
    assert [pair[1].read(16), pair[1].read(100), pair[1].read(100)] == [(two[:16], []), (two[16:-1], []), None]


@pytest.mark.parametrize("size", [16, unix.FIRST - 1, unix.FIRST, unix.FIRST + 1, unix.AHEAD])
def test_a_single_message_is_there_at_once_whatever_its_size(pair: Pair, size: int) -> None:
    message = craft(Command.DEVICE_RESET, extra=bytes(size - 16))
    pair[0].write(message)
    assert (pair[1].look_ahead(), pair[1].ahead) == (message, b"")


@pytest.mark.parametrize("start", [b"half", craft(Command.DEVICE_RESET, message_size=15)], ids=["a part", "no size"])
def test_what_is_no_whole_message_is_left_to_reads(pair: Pair, start: bytes) -> None:
    pair[0].write(start)
    assert (pair[1].look_ahead(), pair[1].read(100)) == (b"", (start, []))


def next_message(stream: Stream) -> tuple[bytes, int]:
    """The next message as a channel reads it, and how many descriptors came with it."""
    if whole := stream.look_ahead():
        return whole, 0
    data, count = b"", 0
    while len(data) < 16 or len(data) < int.from_bytes(data[4:8], sys.byteorder):
        end = 16 if len(data) < 16 else int.from_bytes(data[4:8], sys.byteorder)
        more, fds = stream.read(end - len(data)) or (b"", [])
        data, count = data + more, count + len(fds)
        unix.close_all(fds)
    return data, count


@pytest.mark.parametrize(
    ("plain", "with_descriptor", "counts"),
    [
        ((), (RESET,), (1,)),
        ((RESET,), (RESET,), (0, 1)),
        ((RESET,), (MAP,), (0, 1)),
        ((RESET, RESET), (MAP,), (0, 0, 1)),
        ((RESET, RESET, RESET), (MAP,), (0, 0, 0, 1)),
        ((MAP,), (MAP,), (0, 1)),
        ((MAP, RESET), (RESET,), (0, 0, 1)),
        ((), (MAP, RESET), (1, 0)),
        ((RESET,), (MAP, RESET, MAP), (0, 1, 0, 0)),
    ],
)
def test_descriptors_stay_with_their_message_where_it_is_looked_ahead(
    pair: Pair, plain: tuple[bytes, ...], with_descriptor: tuple[bytes, ...], counts: tuple[int, ...]
) -> None:
    """What is plain goes first, in one piece; the rest in another, which has the descriptor for its first message."""
    with eventfds(1) as fds:
        if plain:
            pair[0].write(b"".join(plain))
        pair[0].write(b"".join(with_descriptor), fds)
    assert [next_message(pair[1]) for _ in counts] == list(zip(plain + with_descriptor, counts, strict=True))


def test_descriptors_that_came_ahead_and_were_not_handed_out_are_closed_with_the_stream(pair: Pair) -> None:
    with eventfds(2) as fds:
        pair[0].write(MAP, fds)
    assert (pair[1].look_ahead(), pair[1].ahead) == (b"", MAP[: unix.FIRST])


def test_looking_ahead_waits_for_nothing_and_leaves_the_end_to_reads(pair: Pair) -> None:
    assert pair[1].look_ahead() == b""
    pair[0].write(b"last")
    pair[0].close()
    assert pair[1].look_ahead() == pair[1].look_ahead() == b""
    assert [pair[1].read(16), pair[1].read(16)] == [(b"last", []), (b"", [])]


@pytest.mark.parametrize("count", [unix.MAX_FDS + 1, 40_000])
def test_more_descriptors_than_the_kernel_passes_are_an_error_and_nothing_is_sent(pair: Pair, count: int) -> None:
    """Whichever of its limits the kernel would name: the one of a message, or of the memory to look at it."""
    why = f"sending failed: at most 253 descriptors go with one message, not {count}"
    with eventfds(1) as fds, pytest.raises(DescriptorError, match=why):
        pair[0].write(b"x", fds * count)
    pair[0].write(b"y")
    assert pair[1].read(16) == (b"y", [])


def test_where_the_kernel_has_little_room_for_descriptors_that_is_said(pair: Pair) -> None:
    """As with a net.core.optmem_max of 1 KiB, which is not a test's to set."""

    class Narrow(socket.socket):
        def sendmsg(self, *_: object) -> int:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    with eventfds(1) as fds, Narrow(fileno=os.dup(pair[0].fileno())) as sock:
        with pytest.raises(DescriptorError, match=r"No buffer space available \(net.core.optmem_max leaves no room"):
            unix.Stream(sock).write(b"x", fds * 200)
        assert unix.Stream(sock).write(b"y") == 1


def test_closed_descriptor_is_not_sent(pair: Pair) -> None:
    with eventfds(1) as (closed,):
        pass
    with pytest.raises(TransportError, match="sending failed: Bad file descriptor"):
        pair[0].write(b"x", [closed])


def test_using_a_closed_socket_is_an_error(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(TransportError, match="reading failed"):
        pair[0].read(1)


def test_full_socket_takes_a_part_then_nothing(pair: Pair) -> None:
    pair[0].socket.setblocking(False)
    assert 0 < pair[0].write(bytes(1 << 24)) < 1 << 24
    while pair[0].write(bytes(4096)):
        continue
    assert pair[0].write(b"x") == 0


def test_more_room_takes_more_before_the_peer_reads(pair: Pair) -> None:
    taken = []
    for size in (1 << 14, 1 << 17):
        pair[0].make_room(size)
        taken.append(pair[0].write(bytes(1 << 20), wait=False))
        while pair[1].read(1 << 20, wait=False):
            pass
    assert 0 < taken[0] < taken[1] < 1 << 20


def test_read_gives_up_after_its_timeout(pair: Pair) -> None:
    pair[1].set_timeout(0.02)
    start = time.monotonic()
    assert pair[1].read(1) is None
    assert 0.01 < time.monotonic() - start < 5


def test_a_read_that_does_not_wait_takes_what_is_there_whatever_the_socket_is_set_to(pair: Pair) -> None:
    one, other = pair
    other.socket.setblocking(True)
    other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    assert other.read(16, wait=False) is None
    one.write(b"x")
    assert other.read(16, wait=False) == (b"x", [])


def test_nothing_there_on_a_non_blocking_socket(pair: Pair) -> None:
    pair[1].socket.setblocking(False)
    assert pair[1].read(1) is None


def test_kinds_of_descriptors(tmp_path: Path, no_leak: None) -> None:
    reading, writing = os.pipe()
    kinds = {
        "pipe": writing,
        "device": os.open("/dev/null", os.O_RDONLY),
        "directory": os.open(tmp_path, os.O_RDONLY),
        "file": os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT),
        "other": os.pidfd_open(os.getpid()),
    }
    with eventfds(1) as (event,), memfd(0) as memory, socket.socket(socket.AF_UNIX) as sock:
        kinds |= {"eventfd": event, "memfd": memory, "socket": sock.fileno()}
        assert {kind: unix.kind_of(fd) for kind, fd in kinds.items()} == {kind: kind for kind in kinds}
    for kind in ("pipe", "device", "directory", "file", "other"):
        os.close(kinds[kind])
    os.close(reading)
    assert unix.kind_of(writing) == "closed"


def test_close_all_takes_what_is_closed_already(no_leak: None) -> None:
    ends = os.pipe()
    os.close(ends[0])
    unix.close_all([*ends, -1])


def test_descriptors_are_not_inherited_by_programs(pair: Pair) -> None:
    with eventfds(1) as fds:
        pair[0].write(b"x", fds)
        _, got = pair[1].read(1) or (b"", [])
        ours = f"{pair[0].fileno()} {pair[1].fileno()} {got[0]}"
        program = (
            f"import os\nfor fd in map(int, '{ours}'.split()):\n try: os.fstat(fd); print(fd)\n except OSError: pass"
        )
        out = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, close_fds=False
        )
        unix.close_all(got)
    assert out.stdout == ""


def test_what_the_peer_has_not_read_yet_is_told(pair: Pair) -> None:
    ours, theirs = pair
    before = ours.unread()
    ours.write(b"abc")
    waiting = ours.unread()
    theirs.read(2)
    rest = ours.unread()
    theirs.read(1)

    assert (before, waiting > 0, rest > 0, ours.unread()) == (0, True, True, 0)
