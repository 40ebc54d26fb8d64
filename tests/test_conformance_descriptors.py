# Descriptors as data, and whether somebody else still holds them.
import mmap
import os

import pytest

from vfio_user_conformance.descriptors import EventFd, LoneEventFd, Memfd, Odd, Pipe, described
from vfio_user_proto.errors import UsageError
from vfio_user_proto.unix import kind_of

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.mark.parametrize("kind", [Memfd(), Pipe(), LoneEventFd(), Odd("socket")], ids=str)
def test_a_copy_that_somebody_holds_is_seen(kind: Memfd | Pipe | LoneEventFd | Odd) -> None:
    handle = kind.open()
    copy = os.dup(handle.fd)
    handle.let_go()

    assert not handle.released()
    assert not handle.wait_released(0)
    os.close(copy)
    assert handle.wait_released(0)
    handle.close()


def test_a_mapping_holds_a_memfd_too() -> None:
    handle = Memfd().open()
    mapping = mmap.mmap(handle.fd, 4096)
    handle.let_go()

    assert not handle.released()
    mapping.close()
    assert handle.released()
    handle.close()


def test_a_descriptor_can_be_sent_again() -> None:
    handle = Memfd(0x1000).open()
    first = os.fstat(handle.lend())
    handle.let_go()

    assert os.path.samestat(os.fstat(handle.lend()), first)
    handle.close()


@pytest.mark.parametrize("blocking", [False, True])
def test_an_eventfd_blocks_when_it_is_full_or_not(blocking: bool) -> None:
    handle = EventFd(2**64 - 2, blocking=blocking).open()

    assert os.get_blocking(handle.fd) is blocking
    assert handle.count() == 2**64 - 2
    handle.close()


def test_an_eventfd_counts_since_the_last_look() -> None:
    handle = EventFd().open()
    os.eventfd_write(handle.fd, 3)

    assert handle.count() == 3
    assert handle.count() == 0
    handle.close()


def test_a_read_only_memfd_cannot_be_written() -> None:
    handle = Memfd(read_only=True).open()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(handle.fd, b"x")
    handle.close()


@pytest.mark.parametrize(
    "kind",
    [
        Memfd(),
        Memfd(8192, True, 2),
        EventFd(3),
        Pipe(),
        Pipe(100),
        Odd("socket"),
        Odd("file", 5),
        Odd("device"),
        Odd("directory"),
    ],
    ids=repr,
)
def test_a_descriptor_that_was_described_can_be_made_again(kind: Memfd | EventFd | Pipe | Odd) -> None:
    handle = kind.open()
    again = described(handle.about).open()

    assert handle.about == again.about
    assert kind_of(again.fd) == kind_of(handle.fd) == handle.about["kind"]
    assert os.fstat(again.fd).st_size == os.fstat(handle.fd).st_size
    handle.close()
    again.close()


def test_an_unknown_kind_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="'portal' cannot be made"):
        described({"kind": "portal"})
