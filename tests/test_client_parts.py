"""What a client is made of: descriptors with an owner, windows into regions, memory by address."""

import errno
import os
from typing import Any

import pytest
from serving import memfd

from vfio_user_proto import messages as m
from vfio_user_proto.client import Fd, MemoryMap, RegionInfo, Window
from vfio_user_proto.errors import (
    RemoteProtocolError,
)

pytestmark = pytest.mark.usefixtures("no_leak")


def test_a_file_that_was_shortened_is_an_error_not_a_signal() -> None:
    """The server owns the file: touching a mapping of it would kill the process with SIGBUS."""
    with memfd(8192) as fd, Fd(os.dup(fd)) as owned:
        window = Window(owned, 0, 4096, 4096)
        window.write(4096, b"ab")
        os.ftruncate(fd, 4097)
        assert window.read(4096, 1) == b"a"
        with pytest.raises(RemoteProtocolError, match="the file of the region ends before byte 4098"):
            window.read(4096, 2)
        with pytest.raises(RemoteProtocolError, match="the file of the region ends before byte 4098"):
            window.write(4096, b"ab")
        assert os.fstat(fd).st_size == 4097


def test_the_window_of_a_whole_region_begins_at_its_offset() -> None:
    with (
        memfd(8192) as fd,
        RegionInfo(m.DeviceGetRegionInfoReply(size=4096, offset=4096), (), (Fd(os.dup(fd)),)) as region,
    ):
        (window,) = region.windows()
        window.write(0, b"ab")
        assert (window.offset, window.size) == (0, 4096)
        assert os.pread(fd, 2, 4096) == b"ab"


def test_a_descriptor_has_one_owner() -> None:
    with memfd(100) as fd:
        owned = Fd(os.dup(fd))
        assert (owned.kind, owned.size, repr(owned)) == ("memfd", 100, f"Fd({owned.fileno()}, memfd)")
        number = owned.detach()
        owned.close()
        assert os.fstat(number).st_size == 100
        os.close(number)
        assert repr(owned) == "Fd(closed)"
        with pytest.raises(ValueError, match="the descriptor is closed"):
            owned.fileno()


def test_memory_is_found_by_address() -> None:
    memory = MemoryMap()
    buffer = bytearray(b"0123456789")
    memory.add(0x1000, buffer, 4, offset=2)
    memory.add(0x1004, memoryview(bytearray(4)))
    memory.add(0x3000, memoryview(b"fixed"), writeable=False)
    memory.add((1 << 64) - 4, bytearray(4))

    assert memory.read(0x1000, 4) == b"2345"
    assert memory.read(0x3000, 5) == b"fixed"
    memory.write(0x1001, b"xy")
    assert buffer == b"012xy56789"
    assert memory.read((1 << 64) - 1, 1) == b"\0"
    for address, count in ((0xFFF, 1), (0x1000, 5), (0x1004, 5), (0x1008, 1), ((1 << 64) - 4, 5)):
        with pytest.raises(OSError, match=f"no memory of {count} bytes") as caught:
            memory.read(address, count)
        assert caught.value.errno == errno.EFAULT
    memory.remove(0x1000)
    with pytest.raises(OSError, match="no memory"):
        memory.write(0x1000, b"x")


def test_memory_in_a_file_that_became_shorter_is_refused() -> None:
    memory = MemoryMap()
    with memfd(8) as fd:
        memory.add(0, fd, 8)
        memory.write(6, b"ab")
        os.ftruncate(fd, 7)
        assert memory.read(0, 7) == bytes(6) + b"a"
        for access in (lambda: memory.read(0, 8), lambda: memory.write(6, b"ab")):
            with pytest.raises(OSError, match="the file is shorter") as caught:
                access()
            assert caught.value.errno == errno.EFAULT
        assert os.fstat(fd).st_size == 7


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((0x1000, bytearray(8), 9), "9 bytes from 0 on are more than the buffer has"),
        ((0x1000, bytearray(8), 0), "0 bytes from 0 on do not lie"),
        ((0x1000, bytearray(0)), "0 bytes from 0 on do not lie"),
        (((1 << 64) - 7, bytearray(8)), "8 bytes from 0 on do not lie"),
        ((-1, bytearray(8)), "8 bytes from 0 on do not lie"),
        ((0x2000, memoryview(b"abc")), "the buffer is read-only"),
        ((0x2000, 5), "the size of a file must be given"),
        ((0xFFF, bytearray(2)), "there is memory at 0xfff already"),
        ((0x1001, bytearray(1)), "there is memory at 0x1001 already"),
    ],
)
def test_memory_that_cannot_be_is_refused(arguments: tuple[Any, ...], problem: str) -> None:
    memory = MemoryMap()
    memory.add(0x1000, bytearray(4))
    if problem.startswith("9 bytes"):
        memory.remove(0x1000)
    with pytest.raises(ValueError, match=problem):
        memory.add(*arguments)
    with pytest.raises(ValueError, match="no memory begins at 0x5"):
        memory.remove(5)
