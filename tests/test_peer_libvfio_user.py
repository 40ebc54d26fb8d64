# The server that loads libvfio-user: what it does with a library that is none, and what it makes of the library's calls.
import ctypes
import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from vfio_user_conformance.peers.libvfio_user import api
from vfio_user_conformance.peers.libvfio_user.server import Server
from vfio_user_proto.devices import testdev
from vfio_user_proto.devices.pci import MSIX, REQ
from vfio_user_proto.errors import UsageError

LIBC = "libc.so.6"


def run(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "vfio_user_conformance.peers.libvfio_user", *words], capture_output=True, text=True
    )
    return done.returncode, done.stderr


def test_a_path_without_a_library_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    status, told = run("--libvfio-user", str(tmp_path / "none.so"), "--socket-path", str(tmp_path / "socket"))

    assert status == 2
    assert told.startswith("python -m vfio_user_conformance.peers.libvfio_user: --libvfio-user ")
    assert "cannot be loaded" in told
    assert told.count("\n") == 1


def test_another_library_lacks_a_function() -> None:
    path = next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if LIBC in line)

    with pytest.raises(UsageError, match=r"has no vfu_create_ctx"):
        api.Library(path)


class Fake:
    """A library that notes what it is asked to do: ``mapped`` are the ranges that it knows, ``memory`` what is in them."""

    def __init__(self, *mapped: range) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.mapped, self.memory = mapped, {address: 0 for part in mapped for address in part}
        self._found = range(0)

    def call(self, name: str, *arguments: Any) -> int:
        self.calls.append((name, *arguments))
        act: Callable[..., int] | None = getattr(self, name, None)
        return 0 if act is None else act(*arguments)

    def dma_sg_size(self) -> int:
        return 8

    def vfu_addr_to_sgl(self, _context: int, address: int, count: int, *_rest: Any) -> int:
        ends = [part for part in self.mapped if part.start < address + count and address < part.stop]
        if sum(len(range(max(part.start, address), min(part.stop, address + count))) for part in ends) < count:
            raise OSError(errno.ENOENT, "no such memory")
        self._found = range(address, address + count)
        return 1 if len(ends) == 1 else -len(ends) - 1

    def vfu_sgl_read(self, _context: int, _entry: Any, _one: int, data: Any, _flags: int) -> int:
        ctypes.memmove(data, bytes(self.memory[address] for address in self._found), len(self._found))
        return 0

    def vfu_sgl_write(self, _context: int, _entry: Any, _one: int, data: Any, _flags: int) -> int:
        place = ctypes.cast(data, ctypes.c_void_p).value
        assert place is not None
        self.memory.update(zip(self._found, ctypes.string_at(place, len(self._found)), strict=True))
        return 0

    def vfu_get_poll_fd(self, _context: int) -> int:
        return 7

    def vfu_irq_trigger(self, _context: int, _vector: int) -> int:
        raise OSError(errno.ENOENT, "no eventfd")

    def given(self, name: str) -> list[Any]:
        """What the function was last called with, but for the context."""
        return list([call for call in self.calls if call[0] == name][-1][2:])


@pytest.fixture
def device() -> Iterator[testdev.TestDevice]:
    made = testdev.TestDevice()
    yield made
    made.close()


def behind(library: Fake, device: testdev.TestDevice) -> Server:
    return Server(cast(api.Library, library), device, "/run/socket", direct=True)


def test_a_transfer_over_several_mappings_goes_in_parts(device: testdev.TestDevice) -> None:
    """The library takes one mapping at a time; what is not mapped as a whole is refused before a byte moves."""
    library = Fake(range(100, 164), range(164, 165), range(165, 300))
    server = behind(library, device)
    data = bytes(range(120))

    server.write(110, data)
    assert server.read(110, len(data)) == data
    assert server.read(110, 0) == b""
    with pytest.raises(OSError, match="no such memory") as refused:
        server.write(290, bytes(20))
    assert refused.value.errno == errno.EFAULT
    assert library.memory[290] == 0


def test_a_refusal_of_the_device_is_minus_one_with_errno(device: testdev.TestDevice) -> None:
    """As the library calls it: through the pointer that it was given."""
    library = Fake()
    behind(library, device)
    transition = library.given("vfu_setup_device_migration_callbacks")[0]._obj.transition

    assert transition(None, 2) == 0  # to STOP_COPY
    assert transition(None, 3) == -1  # from there to PRE_COPY
    assert ctypes.get_errno() == errno.EINVAL


def test_an_access_of_a_region_reaches_the_device(device: testdev.TestDevice) -> None:
    library = Fake()
    behind(library, device)
    access = next(call[4] for call in library.calls if call[:1] + call[2:3] == ("vfu_setup_region", 0))
    data = ctypes.create_string_buffer(b"abcd")

    assert access(None, data, 4, testdev.SCRATCH, True) == 4
    data.raw = bytes(5)
    assert access(None, data, 4, testdev.SCRATCH, False) == 4
    assert data.value == b"abcd"


def test_an_interrupt_that_nobody_listens_to_is_nothing(device: testdev.TestDevice) -> None:
    server = behind(Fake(), device)

    server.trigger(MSIX, 2)
    server.trigger(REQ, 0)


def test_what_the_library_lacks_is_left_out(device: testdev.TestDevice) -> None:
    """A region beyond PCI's, ioregionfds; and shadow ioeventfds, which it may refuse."""

    class Plain(Fake):
        def vfu_create_ioeventfd(self, *arguments: Any) -> int:
            if arguments[7] != -1:
                raise OSError(errno.EINVAL, "not compiled")
            return 0

    library = Plain()
    behind(library, device)

    assert {call[2] for call in library.calls if call[0] == "vfu_setup_region"} <= set(range(9))
    assert any(call[0] == "vfu_create_ioeventfd" for call in library.calls)
