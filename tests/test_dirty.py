# The log of written pages, against a model that knows every byte.
import errno
import itertools
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto import dirty
from vfio_user_proto.dirty import MAX_BITMAP, DirtyLog

K = 4096
ROOM = 1 << 20


def bits(bitmap: bytes) -> set[int]:
    """The numbers of the bits that are set."""
    assert len(bitmap) % 8 == 0
    return {at * 8 + bit for at, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}


def begun(page_size: int = K, ranges: tuple[tuple[int, int], ...] = ()) -> DirtyLog:
    log = DirtyLog()
    log.start(page_size, ranges)
    return log


def refused(log: DirtyLog, *arguments: int) -> int | None:
    with pytest.raises(OSError) as refusal:
        log.report(*arguments)
    return refusal.value.errno


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [(0, K), (1, K), (K, K), (K + 1, K), (3 * K, 2 * K), (65536, 65536), ((1 << 64) - 1, 1 << 63)],
)
def test_the_page_size_is_a_power_of_two_near_the_one_asked_for(asked: int, chosen: int) -> None:
    assert DirtyLog().start(asked, ()) == chosen


@pytest.mark.parametrize("bad", [(0, 0), (1, (1 << 64) - 0), ((1 << 64) - 1, 2)])
def test_empty_and_wrapping_ranges_are_refused_and_nothing_starts(bad: tuple[int, int]) -> None:
    log = DirtyLog()
    with pytest.raises(OSError, match="a range is empty or ends beyond"):
        log.start(K, [(0, K), bad])
    assert refused(log, 0, K, K, ROOM) == errno.EINVAL


def test_a_second_start_is_refused_and_loses_nothing() -> None:
    log = begun()
    log.wrote(0, 1)
    with pytest.raises(OSError, match="recorded already"):
        log.start(K, ())
    assert bits(log.report(0, K, K, ROOM)) == {0}


def test_nothing_is_reported_or_stopped_before_the_start_and_after_the_stop() -> None:
    log = DirtyLog()
    for _ in range(2):
        assert refused(log, 0, K, K, ROOM) == errno.EINVAL
        with pytest.raises(OSError, match="no writes are recorded"):
            log.stop()
        log.wrote(0, K)
        log.start(K, ())
        assert log.report(0, K, K, ROOM) == bytes(8)
        log.wrote(0, K)
        log.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        (0, K, 0, ROOM),
        (0, K, K + 1, ROOM),
        (0, 0, K, ROOM),
        (K, (1 << 64) - 1, K, ROOM),
        (0, 65 * K, K, 15),
    ],
)
def test_reports_that_make_no_sense_are_refused_and_clear_nothing(arguments: tuple[int, int, int, int]) -> None:
    log = begun()
    log.wrote(0, 1)
    assert refused(log, *arguments) == errno.EINVAL
    assert bits(log.report(0, 65 * K, K, 16)) == {0}


@pytest.mark.parametrize(("length", "page_size"), [((1 << 64) - 1, 1), (1 << 63, K), (MAX_BITMAP * 8 * K + 1, K)])
def test_a_bitmap_that_is_too_large_is_refused_before_it_is_made(length: int, page_size: int) -> None:
    assert refused(begun(), 0, length, page_size, 1 << 62) == errno.E2BIG


def test_a_report_clears_what_it_tells_and_nothing_else() -> None:
    log = begun()
    for page in (0, 3, 9):
        log.wrote(page * K, 1)
    assert bits(log.report(0, 4 * K, K, ROOM)) == {0, 3}
    assert bits(log.report(0, 10 * K, K, ROOM)) == {9}
    assert bits(log.report(0, 10 * K, K, ROOM)) == set()


def test_a_page_that_is_reported_in_part_is_kept_for_the_other_part() -> None:
    log = begun(4 * K)
    log.wrote(0, 1)
    assert bits(log.report(0, 2 * K, K, ROOM)) == {0, 1}
    assert bits(log.report(2 * K, 2 * K, K, ROOM)) == {0, 1}


def test_the_last_byte_of_the_address_space() -> None:
    log = begun()
    log.wrote((1 << 64) - 1, 1)
    assert bits(log.report((1 << 64) - 2 * K, 2 * K, K, ROOM)) == {1}


def test_a_log_of_too_many_pages_gets_coarser_and_forgets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "MOST_PAGES", 8)
    log = begun()
    for page in range(0, 40, 2):
        log.wrote(page * K, 1)
        assert len(log._pages) <= 8
    assert log.page_size == 8 * K
    assert bits(log.report(0, 64 * K, K, ROOM)) == set(range(40))


def test_pages_far_apart_take_no_more_room_than_others() -> None:
    log = begun()
    for power in range(13, 64):
        log.wrote(1 << power, 1)
    assert [p for p in range(13, 64) if bits(log.report(1 << p, K, K, ROOM)) == {0}] == list(range(13, 64))


WRITES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), max_size=8)
RANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 600)), max_size=4)
REPORTS = st.lists(st.tuples(st.integers(0, 2000), st.integers(1, 1500), st.integers(0, 9)), min_size=1, max_size=4)


@given(st.integers(0, 8), RANGES, WRITES, REPORTS)
def test_bitmaps_are_those_of_a_model_of_bytes(
    power: int, ranges: list[tuple[int, int]], writes: list[tuple[int, int]], reports: list[tuple[int, int, int]]
) -> None:
    """Pages down to one byte, so that every edge is met; the model holds the recorded pages byte by byte."""
    with patch.object(dirty, "FINEST", 1):
        log = begun(1 << power, tuple(ranges))
    page = 1 << power
    asked = set(itertools.chain.from_iterable(range(start, start + length) for start, length in ranges))
    marked: set[int] = set()
    for address, count in writes:
        log.wrote(address, count)
        for byte in range(address, address + count):
            if not ranges or byte in asked:
                marked.add(byte // page)
    for iova, length, size_power in reports:
        size = 1 << size_power
        count = -(-length // size)
        dirty_bytes = {byte for each in marked for byte in range(each * page, (each + 1) * page)}
        expected = {
            i for i in range(count) if any(b in dirty_bytes for b in range(iova + i * size, iova + (i + 1) * size))
        }
        bitmap = log.report(iova, length, size, ROOM)
        assert len(bitmap) == -(-count // 64) * 8
        assert bits(bitmap) == expected
        marked -= {each for each in marked if iova <= each * page and (each + 1) * page <= iova + count * size}
