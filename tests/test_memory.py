# The table of client memory: what may be mapped, and reading and writing it by IOVA.
import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import memfd

from vfio_user_proto.memory import DmaMap, Region

PAGE = 4096
TOP = 1 << 64


class Messages:
    """A client whose memory is reached by messages; remembers each."""

    limit = 1000

    def __init__(self) -> None:
        self.memory = bytearray(1 << 20)
        self.sent: list[tuple[str, int, int]] = []

    def dma_read(self, address: int, count: int) -> bytes:
        self.sent.append(("read", address, count))
        return bytes(self.memory[address : address + count])

    def dma_write(self, address: int, data: bytes) -> None:
        self.sent.append(("write", address, len(data)))
        self.memory[address : address + len(data)] = data


@pytest.fixture
def messages() -> Messages:
    return Messages()


@pytest.fixture
def table(messages: Messages, no_leak: None) -> Iterator[DmaMap]:
    one = DmaMap(messages, max_regions=8)
    yield one
    one.clear()


def region(address: int, size: int, fd: int | None = None, offset: int = 0, access: str = "rw") -> Region:
    return Region(address, size, "r" in access, "w" in access, None if fd is None else os.dup(fd), offset)


def refusal(table: DmaMap, wrong: Region) -> int | None:
    """The errno with which a region is refused; its descriptor is still ours then."""
    count = len(table)
    with pytest.raises(OSError) as refused:
        table.map(wrong)
    if wrong.fd is not None:
        os.close(wrong.fd)
    assert len(table) == count
    return refused.value.errno


@pytest.mark.parametrize(
    ("address", "size"),
    [(0x4000, PAGE), (0x3000, 2 * PAGE), (0x5000, 2 * PAGE), (0x5000, PAGE), (0, TOP), (0x3000, 0x10000)],
)
def test_overlap_is_refused(table: DmaMap, address: int, size: int) -> None:
    table.map(region(0x4000, 0x2000))
    table.map(region(0x8000, 0x1000))
    assert refusal(table, region(address, size)) == errno.EEXIST


@pytest.mark.parametrize(("address", "size"), [(0x3000, PAGE), (0x6000, 0x2000), (0x9000, PAGE), (0, 0x4000)])
def test_neighbour_is_no_overlap(table: DmaMap, address: int, size: int) -> None:
    table.map(region(0x4000, 0x2000))
    table.map(region(0x8000, 0x1000))
    table.map(region(address, size))
    assert len(table) == 3


@pytest.mark.parametrize(("address", "size"), [(0, 0), (1, PAGE), (0, PAGE - 1), (TOP - PAGE, 2 * PAGE), (TOP, PAGE)])
def test_wrong_range_is_refused(table: DmaMap, address: int, size: int) -> None:
    assert refusal(table, region(address, size)) == errno.EINVAL


def test_last_page_below_2_to_the_64_can_be_mapped(table: DmaMap) -> None:
    table.map(region(TOP - PAGE, PAGE))
    assert refusal(table, region(TOP - PAGE, PAGE)) == errno.EEXIST


def test_one_region_too_many_is_refused(table: DmaMap) -> None:
    for number in range(8):
        table.map(region(number * PAGE, PAGE))
    assert refusal(table, region(8 * PAGE, PAGE)) == errno.ENOSPC
    table.unmap(0, PAGE)
    table.map(region(8 * PAGE, PAGE))


@pytest.mark.parametrize(("address", "size"), [(0x1000, PAGE), (0, 0x3000), (0, 0x4000), (0x2000, PAGE), (0x5000, 1)])
def test_unmap_must_match_exactly(table: DmaMap, address: int, size: int) -> None:
    table.map(region(0x1000, 0x2000))
    table.map(region(0x3000, 0x1000))
    with pytest.raises(FileNotFoundError):
        table.unmap(address, size)
    assert len(table) == 2


def test_unmap_of_an_empty_table_is_refused(table: DmaMap) -> None:
    with pytest.raises(FileNotFoundError):
        table.unmap(0, PAGE)


def test_descriptors_are_closed_by_unmap_and_clear(table: DmaMap) -> None:
    with memfd(2 * PAGE) as fd:
        table.map(region(0, PAGE, fd))
        table.map(region(PAGE, PAGE, fd))
        table.unmap(0, PAGE)
        table.clear()
    assert len(table) == 0  # the fixture no_leak counts


def test_wrong_kinds_of_descriptors_are_refused(table: DmaMap) -> None:
    ends = [*os.pipe(), os.eventfd(0), os.open("/dev/zero", os.O_RDWR), os.open("/", os.O_RDONLY)]
    with socket.socket(socket.AF_UNIX) as sock:
        for fd in [*ends, sock.fileno()]:
            assert refusal(table, region(0, PAGE, fd)) == errno.EINVAL
    for fd in ends:
        os.close(fd)


@pytest.mark.parametrize(("size", "offset"), [(3 * PAGE, 0), (PAGE, 2 * PAGE), (PAGE, 1 << 63), (2 * PAGE, PAGE)])
def test_file_shorter_than_the_region_is_refused(table: DmaMap, size: int, offset: int) -> None:
    with memfd(2 * PAGE) as fd:
        assert refusal(table, region(0, size, fd, offset)) == errno.EINVAL


def test_offset_off_a_page_or_without_descriptor_is_refused(table: DmaMap) -> None:
    with memfd(2 * PAGE) as fd:
        assert refusal(table, region(0, PAGE, fd, 1)) == errno.EINVAL
    assert refusal(table, region(0, PAGE, None, PAGE)) == errno.EINVAL


def test_descriptor_must_allow_what_the_region_allows(table: DmaMap) -> None:
    with memfd(PAGE) as fd:
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_PATH):
            opened = os.open(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC)
            assert refusal(table, region(0, PAGE, opened)) == errno.EACCES
            if flags == os.O_RDONLY:
                table.map(region(0, PAGE, opened, access="r"))
                table.unmap(0, PAGE)
            os.close(opened)


@pytest.mark.parametrize("seal", [fcntl.F_SEAL_WRITE, 0x10])
def test_file_sealed_against_writing_is_for_reading_only(table: DmaMap, seal: int) -> None:
    with memfd(PAGE, os.MFD_ALLOW_SEALING) as fd:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
        assert refusal(table, region(0, PAGE, fd)) == errno.EPERM
        table.map(region(0, PAGE, fd, access="r"))
        assert table.read(0, 4) == bytes(4)


def test_access_by_descriptor(table: DmaMap) -> None:
    with memfd(4 * PAGE) as fd:
        table.map(region(0x10000, 2 * PAGE, fd, offset=PAGE))
        table.write(0x10010, b"hello")
        assert os.pread(fd, 5, PAGE + 0x10) == b"hello"
        os.pwrite(fd, b"there", 3 * PAGE - 5)
        assert table.read(0x12000 - 5, 5) == b"there"


def test_access_across_adjacent_regions(table: DmaMap, messages: Messages) -> None:
    with memfd(PAGE) as one, memfd(PAGE) as two:
        table.map(region(PAGE, PAGE, one))
        table.map(region(3 * PAGE, PAGE, two))
        table.map(region(2 * PAGE, PAGE))
        data = bytes(i % 251 for i in range(PAGE + 200))
        table.write(2 * PAGE - 100, data)
        assert os.pread(one, 100, PAGE - 100) == data[:100]
        assert os.pread(two, 100, 0) == data[-100:]
        assert table.read(2 * PAGE - 100, len(data)) == data


def test_messages_are_no_larger_than_the_client_takes(table: DmaMap, messages: Messages) -> None:
    table.map(region(0, 2 * PAGE))
    table.write(10, bytes(2500))
    table.read(20, 1001)
    assert messages.sent == [
        ("write", 10, 1000),
        ("write", 1010, 1000),
        ("write", 2010, 500),
        ("read", 20, 1000),
        ("read", 1020, 1),
    ]


def test_client_that_takes_no_data_is_an_error(table: DmaMap, messages: Messages) -> None:
    table.map(region(0, PAGE))
    messages.limit = 0
    for access in (lambda: table.read(0, 1), lambda: table.write(0, b"x")):
        with pytest.raises(OSError) as refused:
            access()
        assert refused.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize(("address", "count"), [(0, 1), (0x0FFF, 2), (0x2FFF, 2), (0x5000, 1), (TOP - 1, 2)])
def test_access_outside_is_refused(table: DmaMap, messages: Messages, address: int, count: int) -> None:
    table.map(region(0x1000, 0x2000))
    table.map(region(0x4000, 0x1000))
    table.map(region(TOP - PAGE, PAGE))
    for access in (lambda: table.read(address, count), lambda: table.write(address, bytes(count))):
        with pytest.raises(OSError) as refused:
            access()
        assert refused.value.errno == errno.EFAULT
    assert messages.sent == []


def test_access_that_the_region_forbids_is_refused(table: DmaMap) -> None:
    table.map(region(0, PAGE, access="r"))
    table.map(region(PAGE, PAGE, access="w"))
    assert table.read(0, 1) == b"\0"
    table.write(PAGE, b"x")
    with pytest.raises(OSError, match="no memory"):
        table.write(0, b"x")
    with pytest.raises(OSError, match="no memory"):
        table.read(PAGE - 1, 2)


def test_nothing_at_all_needs_no_memory(table: DmaMap) -> None:
    assert table.read(5, 0) == b""
    table.write(5, b"")


def test_file_that_was_cut_makes_access_fail_and_does_not_grow(table: DmaMap) -> None:
    with memfd(2 * PAGE) as fd:
        table.map(region(0, 2 * PAGE, fd))
        os.ftruncate(fd, PAGE)
        for access in (lambda: table.read(PAGE - 1, 2), lambda: table.write(PAGE - 1, b"xy")):
            with pytest.raises(OSError) as refused:
                access()
            assert refused.value.errno == errno.EFAULT
        assert os.fstat(fd).st_size == PAGE


# Files of huge pages


HUGE = 2 << 20


@contextlib.contextmanager
def huge_pages(size: int) -> Iterator[int]:
    """A memfd of huge pages of 2 MiB; the test is skipped where the machine has none."""
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    try:
        os.ftruncate(fd, size)
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as problem:
            pytest.skip(f"no huge pages of 2 MiB are free ({problem.strerror}): see /proc/sys/vm/nr_hugepages")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def like_huge_pages(size: int) -> Iterator[int]:
    """A memfd that pwrite refuses, as it does one of huge pages."""
    write = os.pwrite

    def refusing(fd: int, data: bytes, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("/memfd:test"):
            raise OSError(errno.EINVAL, "Invalid argument")
        return write(fd, data, offset)

    with memfd(size) as fd, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", refusing)
        yield fd


@pytest.fixture(params=[huge_pages, like_huge_pages])
def huge(request: pytest.FixtureRequest) -> Iterator[int]:
    """The descriptor of a file of two huge pages, or of one that behaves like it."""
    with request.param(2 * HUGE) as fd:
        yield fd


def test_file_of_huge_pages_is_written_and_read(table: DmaMap, huge: int) -> None:
    table.map(region(0, 2 * HUGE, huge))
    data = bytes(i % 251 for i in range(10_000))
    table.write(HUGE - 5000, data)
    table.write(2 * HUGE - 1, b"z")
    assert os.pread(huge, 10_000, HUGE - 5000) == table.read(HUGE - 5000, 10_000) == data
    assert os.pread(huge, 2, 2 * HUGE - 2) == b"\0z"


def test_region_may_begin_and_end_inside_a_huge_page(table: DmaMap, huge: int) -> None:
    for _ in range(2):
        table.map(region(0x10000, HUGE, huge, offset=3 * PAGE))
        table.write(0x10000, b"first")
        table.write(0x10000 + HUGE - 4, b"last")
        table.unmap(0x10000, HUGE)
    assert (os.pread(huge, 5, 3 * PAGE), os.pread(huge, 4, HUGE + 3 * PAGE - 4)) == (b"first", b"last")
    mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:test" in line]
    assert mapped == []


def test_file_of_huge_pages_that_was_cut_makes_access_fail(
    table: DmaMap, huge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is cut after we have looked at its size."""
    table.map(region(0, 2 * HUGE, huge))
    table.write(2 * HUGE - 2, b"ok")
    before = os.fstat(huge)
    os.ftruncate(huge, HUGE)
    for write in (lambda: table.write(HUGE, b"x"), lambda: table.write(HUGE - 1, b"xy")):
        for _ in range(2):
            with pytest.raises(OSError, match=r"shorter than it was|Bad address") as refused:
                write()
            assert refused.value.errno == errno.EFAULT
            monkeypatch.setattr(os, "fstat", lambda fd: before)
        monkeypatch.undo()
    assert os.fstat(huge).st_size == HUGE
    table.write(HUGE - 1, b"!")


def test_memory_of_huge_pages_that_is_only_read_is_not_mapped(table: DmaMap, huge: int) -> None:
    table.map(region(0, 2 * HUGE, huge, access="r"))
    assert table.read(HUGE, 4) == bytes(4)
    assert "memfd:test" not in Path("/proc/self/maps").read_text()


def test_more_huge_pages_than_there_are_is_refused(table: DmaMap) -> None:
    """Nothing is there yet, and the pages cannot be promised."""
    with huge_pages(HUGE), memfd(0, os.MFD_HUGETLB | os.MFD_HUGE_2MB) as fd:
        os.ftruncate(fd, 1 << 40)
        assert refusal(table, region(0, 1 << 40, fd)) == errno.ENOMEM


def test_file_of_huge_pages_that_gets_shorter_while_it_is_mapped_is_refused(
    table: DmaMap, huge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = region(0, 2 * HUGE, huge)

    def cut(*arguments: object, **options: object) -> None:
        raise ValueError("mmap length is greater than file size")

    monkeypatch.setattr("mmap.mmap", cut)
    assert refusal(table, wrong) == errno.EINVAL
