# The loop: calling what is ready, deadlines, waking from elsewhere, and turns inside turns.
import os
import select
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from serving import eventfds, rung

from vfio_user_proto.loop import READABLE, WRITABLE, Loop, Watch


@pytest.fixture
def loop(no_leak: None) -> Iterator[Loop]:
    with closing(Loop()) as one:
        yield one


def test_ready_descriptor_is_called_with_its_events(loop: Loop) -> None:
    calls: list[tuple[int, int]] = []
    with eventfds(2) as fds:
        for fd in fds:
            loop.watch(fd, READABLE, lambda events, fd=fd: calls.append((fd, events)))
        os.eventfd_write(fds[1], 1)
        loop.turn()
        assert calls == [(fds[1], select.POLLIN)]
        for fd in fds:
            loop.forget(fd)


def test_file_has_no_events_to_wait_for(loop: Loop, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        loop.watch(file.fileno(), READABLE, lambda events: None)


def test_change_and_forget(loop: Loop) -> None:
    calls: list[int] = []
    with eventfds(1) as (fd,):
        loop.watch(fd, READABLE, calls.append)
        loop.change(fd, WRITABLE)
        loop.turn()
        assert calls == [select.POLLOUT]
        loop.forget(fd)
        loop.forget(fd)
        loop.turn(time.monotonic())
        assert len(calls) == 1


def test_deadline_that_has_passed_waits_for_nothing(loop: Loop) -> None:
    loop.turn(time.monotonic() - 5)


def test_deadline_ends_the_wait(loop: Loop) -> None:
    start = time.monotonic()
    loop.turn(start + 0.02)
    assert 0.01 < time.monotonic() - start < 5


def test_wake_from_another_thread_ends_the_wait_once(loop: Loop) -> None:
    threading.Thread(target=loop.wake).start()
    loop.turn()
    assert not loop.stopped
    start = time.monotonic()
    loop.turn(start + 0.02)
    assert time.monotonic() - start > 0.01


def test_stop_is_remembered(loop: Loop) -> None:
    loop.stop()
    loop.turn()
    assert loop.stopped


def test_descriptor_forgotten_by_an_earlier_callback_is_not_called(loop: Loop) -> None:
    calls: list[int] = []
    with eventfds(2) as fds:

        def first(called: int, other: int) -> None:
            calls.append(called)
            loop.forget(other)

        loop.watch(fds[0], READABLE, lambda events: first(fds[0], fds[1]))
        loop.watch(fds[1], READABLE, lambda events: first(fds[1], fds[0]))
        for fd in fds:
            os.eventfd_write(fd, 1)
        loop.turn()
        assert len(calls) == 1
        loop.forget(calls[0])


def test_watch_inside_a_loop_is_left_alone_as_one(loop: Loop) -> None:
    calls: list[int] = []
    with eventfds(3) as fds, closing(Watch()) as inner:
        for fd in fds:
            inner.watch(fd, READABLE, lambda events, fd=fd: calls.append(os.eventfd_read(fd)))
        loop.watch(inner.fileno(), READABLE, lambda events: inner.turn(time.monotonic()))
        for value, fd in enumerate(fds, 1):
            os.eventfd_write(fd, value)
        loop.forget(inner.fileno())
        loop.turn(time.monotonic())
        assert calls == []
        loop.watch(inner.fileno(), READABLE, lambda events: inner.turn(time.monotonic()))
        loop.turn()
        loop.turn(time.monotonic())
        assert sorted(calls) == [1, 2, 3]
        loop.forget(inner.fileno())


def test_callback_may_take_a_turn(loop: Loop) -> None:
    calls: list[str] = []
    with eventfds(2) as (outer, inner):

        def wait_for_inner(events: int) -> None:
            os.eventfd_read(outer)
            os.eventfd_write(inner, 1)
            while not calls:
                loop.turn()
            calls.append("outer")

        def note(events: int) -> None:
            os.eventfd_read(inner)
            calls.append("inner")

        loop.watch(outer, READABLE, wait_for_inner)
        loop.watch(inner, READABLE, note)
        os.eventfd_write(outer, 1)
        loop.turn()
        assert calls == ["inner", "outer"]
        loop.forget(outer)
        loop.forget(inner)


def test_who_stops_a_loop_that_is_closed_writes_into_nothing(no_leak: None) -> None:
    """A second signal, or a thread that was stuck, may come that late; the number may be another descriptor's by then."""
    loop = Loop()
    loop.close()
    with eventfds(5) as others:
        loop.stop()
        assert [rung(each) for each in others] == [0] * 5
    assert loop.stopped
