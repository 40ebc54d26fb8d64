# Targets: when a program is started anew, and what is told of its end.
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vfio_user_conformance.target import Respawn, Respawned, Target, builtin
from vfio_user_proto import launch, unix
from vfio_user_proto.errors import TargetError, UsageError
from vfio_user_proto.program import Attached, Started, spawned

pytestmark = pytest.mark.usefixtures("no_leak")

LISTENER = f"""{shlex.quote(sys.executable)} -c '
import socket, sys, signal
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen()
print("hello", file=sys.stderr, flush=True)
signal.pause()
' {{socket}}"""


class Listening(Respawned):
    """A target that tells its process."""

    def __init__(self, respawn: Respawn) -> None:
        self.program = spawned(LISTENER)
        super().__init__(self.program, respawn)

    @property
    def pid(self) -> int:
        assert self.program._process is not None
        return self.program._process.pid


@pytest.mark.parametrize(
    ("respawn", "after_a_case", "after_a_death"),
    [(Respawn.CASE, True, True), (Respawn.DEATH, False, True), (Respawn.NEVER, False, False)],
)
def test_when_a_program_gives_way(respawn: Respawn, after_a_case: bool, after_a_death: bool) -> None:
    target = Listening(respawn)
    try:
        assert target.renew()
        assert target.done() is None
        assert target.renew() == after_a_case

        os.kill(target.pid, signal.SIGSEGV)
        end = target.ended(10)
        assert end is not None
        assert end.crashed
        assert "SIGSEGV" in end.how
        assert target.done() == end
        assert target.renew() == after_a_death
    finally:
        target.close()


def test_a_program_that_was_stopped_did_not_crash() -> None:
    target = Listening(Respawn.CASE)
    target.renew()
    target.connect().close()

    assert target.ended(0) is None
    assert "hello" in target.stderr()
    assert target.report() == ""
    assert target.done() is None


def test_a_program_that_is_no_longer_of_use_is_discarded() -> None:
    target = Listening(Respawn.DEATH)
    target.renew()
    before = target.pid

    assert target.discard()
    assert target.renew()
    assert target.pid != before
    target.close()


def test_a_program_that_is_set_aside_runs_on_beside_the_next_one() -> None:
    target = Listening(Respawn.CASE)
    target.renew()
    first = target.pid
    aside = target.set_aside()
    try:
        assert target.renew()
        assert target.pid != first
        assert aside.ended(0) is None
    finally:
        aside.discard()
        target.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.parametrize("respawn", Respawn)
def test_only_the_program_of_one_case_may_be_set_aside(respawn: Respawn) -> None:
    assert Listening(respawn).disposable == (respawn is Respawn.CASE)
    assert not Respawned(Attached("x"), respawn).disposable


def test_one_that_is_never_started_anew_is_not_discarded() -> None:
    target = Listening(Respawn.NEVER)
    target.renew()

    assert not target.discard()
    assert not target.renew()
    target.close()


def test_a_program_that_does_not_start() -> None:
    target = Respawned(Started("x", lambda: launch.spawn("/bin/false {socket}", timeout=5)))

    with pytest.raises(TargetError, match="exit status 1"):
        target.renew()


def unusable(path: str) -> int:
    raise UsageError(f"nothing can be served on {os.path.basename(path)}")


def mistaken(path: str) -> int:
    return dict[str, int]()[path[:0]]


@pytest.mark.parametrize(
    ("serve", "told"),
    [
        (unusable, "exit status 70\n  vfio-user: nothing can be served on socket"),
        (mistaken, "exit status 70 (KeyError: '')\n"),
    ],
)
def test_a_built_in_server_that_dies_at_its_start_is_told_by_its_name_and_its_last_words(
    serve: Callable[[str], int], told: str
) -> None:
    target = builtin(serve, "vfio-user serve --fault quux")

    with pytest.raises(TargetError) as caught:
        target.renew()

    text = str(caught.value)
    assert text.startswith(f"vfio-user serve --fault quux: ended before it listened; {told}")


def test_a_socket_that_somebody_else_serves(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    target: Target = Respawned(Attached(path))

    with pytest.raises(TargetError, match="No such file"):
        target.connect()
    with unix.listen(path):
        target.connect().close()
    assert (target.renew(), target.discard(), target.done(), target.ended(1)) == (False, False, None, None)
