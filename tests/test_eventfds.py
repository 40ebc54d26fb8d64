# Eventfds that a peer holds too: signalled and read without waiting, whatever the peer does to flags and counter.
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from serving import memfd

from vfio_user_proto import eventfds

FULL = (1 << 64) - 2
pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(params=[os.EFD_NONBLOCK, 0], ids=["non-blocking", "blocking"])
def fd(request: pytest.FixtureRequest) -> Iterator[int]:
    made = os.eventfd(0, os.EFD_CLOEXEC | request.param)
    yield made
    os.close(made)


@pytest.fixture(params=["by the kernel", "by a write"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "by a write":
        monkeypatch.setattr(eventfds._READS, "_submit", ())


def test_what_was_signalled_is_taken_once(fd: int, way: None) -> None:
    eventfds.signal(fd)
    eventfds.signal(fd)
    assert eventfds.take(fd) == 2
    assert eventfds.take(fd) == 0


def test_a_full_counter_stays_full_and_nobody_waits(fd: int, way: None) -> None:
    os.eventfd_write(fd, FULL)
    eventfds.signal(fd)
    assert eventfds.take(fd) >= FULL


def test_what_is_no_eventfd_is_not_signalled() -> None:
    """A pipe that nobody reads from would end the process, a full one would stop it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(reader)
    with memfd(16) as file, socket.socket() as sock:
        for number in (writer, file, sock.fileno()):
            with pytest.raises(OSError):
                eventfds.signal(number)
        assert os.pread(file, 16, 0) == bytes(16)
    os.close(writer)


def test_a_peer_that_fills_the_counter_all_the_time_stops_nobody() -> None:
    """Between a look whether there is room and a write there may be none any more: a write would wait here for ever."""
    fd, over = os.eventfd(0, os.EFD_CLOEXEC), threading.Event()

    def fill() -> None:
        while not over.is_set():
            eventfds.take(fd)
            os.eventfd_write(fd, FULL - 8)

    peer = threading.Thread(target=fill)
    for _ in range(4):
        os.eventfd_write(fd, 1)
    peer.start()
    for _ in range(4):
        eventfds.signal(fd)
    over.set()
    peer.join()
    os.close(fd)


def test_a_child_process_can_signal_too(fd: int) -> None:
    """What the kernel set up for the parent is not the child's."""
    eventfds.signal(fd)
    pid = os.fork()
    if not pid:
        try:
            eventfds.signal(fd)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert eventfds.take(fd) == 2


def test_many_threads_lose_nothing(fd: int) -> None:
    threads = [threading.Thread(target=lambda: [eventfds.signal(fd) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert eventfds.take(fd) == 400
