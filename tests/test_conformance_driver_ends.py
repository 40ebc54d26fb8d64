# What the driver makes of targets that end, die, hang, or are not there.
import threading

import pytest
from judging import Threaded, bench, case, plain, refusal, run, to_map

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import REFUSED, Reply
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Disconnect, Reconnect
from vfio_user_conformance.trial import result_of
from vfio_user_conformance.verdict import Outcome
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest
from vfio_user_proto.program import End

pytestmark = pytest.mark.usefixtures("no_leak")

QUERY = Send(DeviceGetInfoRequest(), message_id=7)


def test_a_program_that_ends_by_itself_after_a_refusal_is_noted() -> None:
    result = run(case(expect=REFUSED), to_map(None), connections=1, end=End("exit status 1", crashed=False))

    assert result.outcome is Outcome.PASS
    assert result.came == "the connection was closed; the program ended (exit status 1)"


def test_a_program_that_was_killed_is_a_crash_whatever_was_expected() -> None:
    result = run(case(expect=REFUSED), to_map(None), connections=1, end=End("killed by SIGSEGV", crashed=True))

    assert (result.outcome, result.reason, result.broken) == (Outcome.CRASH, "killed by SIGSEGV", "security.validate")
    assert result.stderr == "what it printed"


def test_a_crash_where_other_cases_ran_before_is_tried_again_alone() -> None:
    made = bench(to_map(None), connections=1, end=End("killed by SIGSEGV", crashed=True))
    first = iter([False, True])

    def renew() -> bool:
        made.target.connections = 1  # type: ignore[attr-defined]
        return next(first)

    made.target.renew = renew  # type: ignore[method-assign]
    result = made.run(case(expect=REFUSED))
    made.target.close()

    assert result.reason == "killed by SIGSEGV; alone on a fresh target: again"


def test_a_target_that_dies_of_the_end_of_the_connection_has_died_of_the_case() -> None:
    """It is not stopped before it has seen that end: whether it dies of that or of our SIGTERM were chance."""
    made = bench()
    made.timing = Timing(reply=10, patience=10)
    assert isinstance(made.target, Threaded)
    made.target.at_the_end = lambda: threading.Event().wait(0.1)
    left, dead = made.target.left, End("killed by SIGSEGV", crashed=True)
    made.target.done = lambda: dead if left.is_set() else None  # type: ignore[method-assign]
    result = made.run(case(expect=Reply()))
    made.target.close()

    assert (result.outcome, result.broken) == (Outcome.CRASH, "security.validate")
    assert result.reason == "it was refused with EINVAL; killed by SIGSEGV, soon afterwards"
    assert result.stderr == "what it printed"


def test_a_target_that_does_not_look_at_the_end_of_a_connection_is_not_waited_for_each_time() -> None:
    """Some wait for a hang-up, which half of a connection is not; of hundreds of cases each would take our patience."""
    deaf, looked = threading.Event(), list[int]()
    made = bench()
    assert isinstance(made.target, Threaded)
    made.target.at_the_end = lambda: deaf.wait(10)
    made.target.done = lambda: looked.append(made._deaf)  # type: ignore[method-assign, func-returns-value]
    for _ in range(5):
        made.run(case())
    deaf.set()
    made.target.close()

    assert looked == [1, 2, 3, 3, 3]


def test_a_used_program_that_is_found_dead_has_crashed() -> None:
    made = bench(connections=0, end=End("killed by SIGSEGV", crashed=True))
    result = made.run(case())

    assert (result.outcome, result.reason) == (Outcome.CRASH, "killed by SIGSEGV, before this case began")
    assert made.unreachable == ""


def test_a_crash_of_what_nobody_starts_again_is_told_once() -> None:
    made = bench(to_map(None), connections=1, end=End("killed by SIGSEGV", crashed=True))
    made.target.discard = lambda: False  # type: ignore[method-assign]
    first, second = made.run(case()), made.run(case())
    made.target.close()

    assert (first.outcome, second.outcome) == (Outcome.CRASH, Outcome.NOT_REACHED)
    assert made.unreachable == "nobody listens"


def test_a_used_program_that_has_ended_by_itself_is_no_lost_target() -> None:
    """It serves one client only: the case is run on a fresh one."""
    made = bench(connections=0, end=End("exit status 0", crashed=False))
    first = iter([False, True])

    def renew() -> bool:
        fresh = next(first)
        made.target.connections = int(fresh)  # type: ignore[attr-defined]
        return fresh

    made.target.renew = renew  # type: ignore[method-assign]
    result = made.run(case())
    made.target.close()

    assert (result.outcome, made.unreachable) == (Outcome.PASS, "")


def test_a_refused_negotiation_is_not_the_failure_of_a_case() -> None:
    result = run(case(), refusal)

    assert result.outcome is Outcome.NOT_REACHED
    assert result.reason.startswith("negotiation: VFIO_USER_VERSION error reply")


def test_a_target_that_is_gone_is_remembered() -> None:
    made = bench(connections=0)

    assert made.run(case()).outcome is Outcome.NOT_REACHED
    assert made.unreachable == "nobody listens"


def test_a_second_connection_that_nobody_takes_does_not_apply() -> None:
    one = Case(ident="x/y", requirement="disconnect.survived", stimulus=(Reconnect(), QUERY), expect=Reply())

    assert run(one).outcome is Outcome.PASS
    assert run(one, connections=1).outcome is Outcome.NOT_APPLICABLE


def test_a_server_that_serves_nobody_any_more_is_noted() -> None:
    one = Case(ident="x/y", requirement="disconnect.survived", stimulus=Disconnect(), expect=())

    assert run(one, connections=1).came == "; it serves no new connection"


def test_a_target_that_does_not_even_greet_is_no_target() -> None:
    made = bench(lambda message: b"")
    with pytest.raises(TargetError, match=r"a thread: no answer to VERSION within 0.3 s"):
        made.survey()
    made.target.close()


def test_after_many_hangs_in_a_row_no_further_case_is_tried() -> None:
    made = bench(lambda message: plain(message) if message.header.command == Command.VERSION else b"")
    made.timing = Timing(reply=0.01, patience=0.01)

    results = [made.run(case()) for _ in range(10)]

    assert [each.outcome for each in results] == [Outcome.HANG] * 8 + [Outcome.NOT_REACHED] * 2
    assert made.unreachable == "8 cases in a row got no answer"
    made.target.close()


def test_after_many_hangs_in_one_section_the_others_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target still answers a query, so it is what these cases do that it has no answer to."""
    made = bench()
    made.timing = Timing(reply=10, patience=0.01)
    attempt = made._try
    hang = result_of(case(), Outcome.HANG, "silence")
    monkeypatch.setattr(made, "_try", lambda one: hang if one.ident == hang.ident else attempt(one))
    results = [made.run(case()) for _ in range(10)]
    other = made.run(Case(ident="y/z", requirement="dma-map.overlap", stimulus=QUERY, expect=Reply()))
    made.target.close()

    assert [each.outcome for each in results] == [Outcome.HANG] * 8 + [Outcome.NOT_REACHED] * 2
    assert results[-1].reason == "8 cases of its section in a row got no answer"
    assert (other.outcome, made.unreachable) == (Outcome.PASS, "")


def test_a_hang_tells_what_the_program_is_doing() -> None:
    made = bench(lambda message: plain(message) if message.header.command == Command.VERSION else b"")
    assert isinstance(made.target, Threaded)
    made.target.doing = "sleeps in futex"
    result = made.run(case())
    made.target.close()

    assert (result.outcome, result.reason) == (
        Outcome.HANG,
        "VFIO_USER_DMA_MAP got no answer within 0.3 s; the program sleeps in futex",
    )


def test_what_any_session_is_the_end_of_is_told_once() -> None:
    made = bench()
    ends = iter(
        [
            "exit status 1 (Sanitizer: free a.c:5)",
            "exit status 0 (Sanitizer: free a.c:5)",
            "exit status 1 (Sanitizer: free)",
            "abort",
        ]
    )
    made.target.done = lambda: End(next(ends), crashed=True)  # type: ignore[method-assign]
    made.survey()
    first, second, third = made.run(case()), made.run(case()), made.run(case(expect=Reply()))
    made.target.close()

    assert (first.outcome, first.broken) == (Outcome.CRASH, "security.validate")
    assert first.reason == (
        "exit status 0 (Sanitizer: free a.c:5) when it is left or stopped, after every session; told only here"
    )
    assert second.outcome is Outcome.PASS
    assert (third.outcome, third.reason) == (Outcome.CRASH, "it was refused with EINVAL; abort, soon afterwards")
