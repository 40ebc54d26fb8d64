# What is seen beside a connection: other clients at the same time, and the program that was started.
import os

import pytest
from judging import INFO, QUICK, Serving, Threaded, plain, reply

from vfio_user_conformance.case import catalogue
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_proto.messages import Command
from vfio_user_proto.program import End
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

FOREGROUND, SIGTERM, BESIDE = (
    catalogue()[ident] for ident in ("backend/foreground", "backend/sigterm", "connection/second-beside")
)


class Started(Threaded):
    """A target that is a process: this one."""

    replaceable = True
    pid = os.getpid()

    def __init__(self, serving: Serving = plain, *, end: End | None = None, obeys: bool = True) -> None:
        super().__init__(serving, end=end)
        self.obeys, self.discarded = obeys, False

    def terminate(self) -> None:
        if self.obeys:
            self._end = End("killed by SIGTERM", False)

    def discard(self) -> bool:
        self.discarded = True
        return True


def judged(ident: str, target: Threaded) -> Result:
    made = Bench(target, Facts(device=INFO), timing=QUICK)
    try:
        return made.run(catalogue()[ident])
    finally:
        made.target.close()


@pytest.mark.parametrize("ident", [FOREGROUND.ident, SIGTERM.ident])
@pytest.mark.parametrize(("pid", "told"), [(0, "not started here"), (1, "wrapper")])
def test_a_program_that_is_not_known_is_not_judged(ident: str, pid: int, told: str) -> None:
    target = Started()
    target.pid = pid
    result = judged(ident, target)

    assert result.outcome is Outcome.NOT_APPLICABLE
    assert told in result.reason


def test_who_serves_and_is_there_is_in_the_foreground() -> None:
    assert judged(FOREGROUND.ident, Started()).outcome is Outcome.PASS


def test_who_serves_and_is_not_there_is_a_daemon() -> None:
    result = judged(FOREGROUND.ident, Started(end=End("exit status 0", False)))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "backend.no-daemon")
    assert "exit status 0" in result.reason


def test_who_ends_on_sigterm_has_obeyed() -> None:
    target = Started()

    assert judged(SIGTERM.ident, target).outcome is Outcome.PASS
    assert not target.discarded


def test_who_goes_on_after_sigterm_is_told_of_and_stopped() -> None:
    target = Started(obeys=False)
    result = judged(SIGTERM.ident, target)

    assert (result.outcome, result.reason) == (Outcome.FAIL, "the program goes on after SIGTERM")
    assert target.discarded


def test_the_only_program_there_is_is_not_ended() -> None:
    target = Started()
    target.replaceable = False

    assert judged(SIGTERM.ident, target).outcome is Outcome.NOT_APPLICABLE


def test_clients_beside_each_other_have_their_own_answers() -> None:
    assert judged(BESIDE.ident, Threaded(answered)).outcome is Outcome.PASS


def test_an_answer_that_comes_to_the_other_client_is_told_of() -> None:
    def astray(message: Message) -> bytes:
        return reply(message, message_id=0x101) if message.header.message_id == 0x7102 else answered(message)

    result = judged(BESIDE.ident, Threaded(astray))

    assert (result.outcome, result.broken) == (Outcome.DEVIATION, "socket.one-session")
    assert result.reason.startswith("to the other client came")


def test_where_there_is_no_other_client_nothing_is_judged() -> None:
    assert judged(BESIDE.ident, Threaded(answered, connections=1)).outcome is Outcome.NOT_APPLICABLE


def answered(message: Message) -> bytes:
    """As ``plain``, but that there are regions."""
    region = message.header.command == Command.DEVICE_GET_REGION_INFO
    return reply(message, bytes(32)) if region else plain(message)
