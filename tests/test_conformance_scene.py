# What waits in vain gets all of its time while other cases run, and another trial where it was only slow.
import threading
from collections.abc import Callable

import pytest
from judging import INFO, QUICK, Serving, Threaded, plain, reply

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import Released
from vfio_user_conformance.descriptors import Handle, Pipe
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.expect import ErrorReply, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.plugin import Suite
from vfio_user_conformance.sending import Send
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest
from vfio_user_proto.program import End
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

MAP = Case(
    ident="x/map",
    requirement="dma-map.overlap",
    stimulus=Send(DmaMapRequest(address=0x1000, size=0x1000)),
    expect=ErrorReply(),
)
QUERY = Case(ident="x/query", requirement="header.echo", stimulus=Send(DeviceGetInfoRequest()), expect=Reply())


class Disposable(Threaded):
    """A target that is one program per case, each with what the one before was given."""

    disposable = True

    def __init__(self, serving: Serving = plain) -> None:
        super().__init__(serving)
        self.aside: list[Disposable] = []

    def set_aside(self) -> "Disposable":
        other = Disposable(self._serving)
        other._threads, self._threads = self._threads, []
        self.aside.append(other)
        return other

    def close(self) -> None:
        super().close()
        for other in self.aside:
            other.close()


def bench(target: Threaded) -> Bench:
    return Bench(target, Facts(device=INFO), timing=QUICK)


def waiting(until: threading.Event, *, answer: Callable[[Message], bytes] = plain) -> Serving:
    """Answers DMA_MAP when the event is set."""

    def serving(message: Message) -> bytes:
        if message.header.command == Command.DMA_MAP:
            until.wait(10)
            return answer(message)
        return plain(message)

    return serving


def test_who_does_not_answer_is_a_hang_when_all_of_the_time_is_over() -> None:
    """Other cases run meanwhile, on another program."""
    never = threading.Event()
    target = Disposable(waiting(never))
    made = bench(target)

    assert made.attempt(MAP) is None
    other = made.attempt(QUERY)
    result = made.settle()
    never.set()
    made.close()

    assert other is not None
    assert (other.outcome, target.renewed) == (Outcome.PASS, 2)
    assert (result.outcome, result.reason) == (Outcome.HANG, "VFIO_USER_DMA_MAP got no answer within 0.3 s")
    assert made.scenes == []


def test_who_is_only_slow_is_tried_again() -> None:
    answering = threading.Event()
    made = bench(Disposable(waiting(answering)))

    assert made.attempt(MAP) is None
    answering.set()
    assert made.settle().outcome is Outcome.PASS
    made.close()


def test_who_answers_something_else_after_all_is_judged_by_that() -> None:
    answering = threading.Event()
    made = bench(Disposable(waiting(answering, answer=reply)))

    assert made.attempt(MAP) is None
    answering.set()
    result = made.settle()
    made.close()

    assert (result.outcome, result.reason) == (Outcome.FAIL, "it was carried out, not refused")


class Kept:
    """A descriptor that is let go of when a test says so."""

    def __init__(self) -> None:
        self.free = threading.Event()

    def open(self) -> Handle:
        handle = Pipe().open()
        handle.released = self.free.is_set
        return handle

    def __str__(self) -> str:
        return "a pipe"


@pytest.mark.parametrize("late", [True, False])
def test_a_descriptor_that_is_let_go_of_late_is_no_finding(late: bool) -> None:
    kept = Kept()
    send = Send(DmaMapRequest(), fds=(kept,))
    one = Case(ident="x/y", requirement="security.validate", stimulus=send, expect=(ErrorReply(), Released(kept)))
    made = bench(Disposable())

    assert made.attempt(one) is None
    if late:
        kept.free.set()
    result = made.settle()
    made.close()

    assert (result.outcome, result.reason) == (
        (Outcome.PASS, "") if late else (Outcome.DEVIATION, "a pipe is still held")
    )


def test_who_dies_when_it_is_stopped_has_died_of_the_case() -> None:
    kept = Kept()
    send = Send(DmaMapRequest(), fds=(kept,))
    one = Case(ident="x/y", requirement="security.validate", stimulus=send, expect=(ErrorReply(), Released(kept)))
    target = Disposable()
    made = bench(target)

    assert made.attempt(one) is None
    target.aside[0].done = lambda: End("killed by SIGSEGV", crashed=True)  # type: ignore[method-assign]
    result = made.settle()
    made.close()

    assert (result.outcome, result.reason) == (
        Outcome.CRASH,
        "a pipe is still held; killed by SIGSEGV, soon afterwards",
    )


def test_a_run_tells_every_result_once() -> None:
    never = threading.Event()
    told: list[Result] = []
    made = bench(Disposable(waiting(never)))
    made.timing = Timing(reply=1.0, patience=0.005)
    suite = Suite(made, [MAP], told.append)
    most = 0
    for _ in range(6):
        assert suite.run(MAP) is None
        most = max(most, len(made.scenes))
    suite.finish()
    never.set()
    made.close()

    assert most <= 4
    assert [each.outcome for each in told] == [Outcome.HANG] * 6


def test_a_program_that_does_not_start_beside_another_is_waited_for() -> None:
    """It holds something of which there is one; the case that was to get its time is run again, alone."""
    never = threading.Event()
    told: list[Result] = []
    made = bench(Disposable(waiting(never)))
    suite = Suite(made, [MAP, QUERY], told.append)
    renew = made.target.renew

    def alone() -> bool:
        if made.scenes:
            raise TargetError("the disk is in use")
        return renew()

    made.target.renew = alone  # type: ignore[method-assign]
    assert suite.run(MAP) is None
    other = suite.run(QUERY)
    suite.finish()
    never.set()
    made.close()

    assert other is not None
    assert [(each.ident, each.outcome) for each in (other, *told)] == [
        ("x/query", Outcome.PASS),
        ("x/map", Outcome.HANG),
    ]
    assert (made.unreachable, made.crowded) == ("", True)


def test_one_program_for_all_cases_is_waited_for() -> None:
    never = threading.Event()
    target = Threaded(waiting(never))
    made = bench(target)
    result = made.attempt(MAP)
    never.set()
    made.close()

    assert result is not None
    assert result.outcome is Outcome.HANG


def test_first_looks_are_short_and_never_longer_than_what_is_waited_for() -> None:
    usual, slow, forever = Timing(), Timing.scaled(3), Timing.scaled(0)

    assert (usual.answer, usual.release, slow.answer, slow.release) == (5.0, 2.0, 15.0, 6.0)
    assert (forever.answer, forever.release) == (None, None)


def test_a_run_that_is_given_up_leaves_no_program() -> None:
    never = threading.Event()
    target = Disposable(waiting(never))
    made = bench(target)
    assert made.attempt(MAP) is None
    never.set()
    made.close()

    assert made.scenes == []
