# Moves against a target, judged one by one: what is found, what is passed over, how a sequence is made short.
import contextlib
import signal

import pytest
from judging import Serving, bench, plain, refusal, reply

from vfio_user_conformance.model import proof
from vfio_user_conformance.model.again import again, every
from vfio_user_conformance.model.catalogue import MOVES, RULES, moves_of, script_of
from vfio_user_conformance.model.explore import Run
from vfio_user_conformance.model.memory import Map, Unmap
from vfio_user_conformance.model.region import Ask, Read, Write
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.shorten import shortest
from vfio_user_conformance.model.trial import Found, Key
from vfio_user_conformance.verdict import Outcome
from vfio_user_proto.errors import TargetError, UsageError
from vfio_user_proto.messages import Command, DmaUnmapRequest
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

LOW, INSIDE = Map(0x1000, 0x2000), Map(0x2000, 0x1000)


def takes_all(message: Message) -> bytes | None:
    """A server that maps and unmaps whatever it is told."""
    if message.header.command == Command.DMA_MAP:
        return reply(message)
    if message.header.command == Command.DMA_UNMAP:
        assert isinstance(message.payload, DmaUnmapRequest)
        return reply(message, message.payload)
    return plain(message)


def keys(serving: Serving, *moves: Map | Unmap | Ask) -> list[Key]:
    judge = bench(serving)
    try:
        return [found.key for found in every(judge, moves)]
    finally:
        judge.target.close()


def test_an_overlap_that_is_accepted_breaks_its_rule() -> None:
    assert keys(takes_all, LOW, INSIDE) == [("model/map-overlap", Outcome.FAIL)]


def test_after_that_the_sequence_goes_on_with_a_fresh_target() -> None:
    assert keys(takes_all, LOW, INSIDE, INSIDE) == [("model/map-overlap", Outcome.FAIL)]


def test_a_refused_mapping_is_no_mapping() -> None:
    found = keys(plain, LOW, INSIDE, Unmap(0x1000, 0x2000))
    assert found == [("model/map", Outcome.DEVIATION), ("model/map", Outcome.DEVIATION)]


def test_what_is_no_mapping_is_not_to_be_unmapped() -> None:
    assert keys(takes_all, LOW, Unmap(0x1000, 0x1000)) == [("model/unmap-mismatch", Outcome.DEVIATION)]


def test_a_description_that_changes_is_found() -> None:
    def other(message: Message) -> bytes | None:
        info = plain(message)
        return info if message.header.command != Command.DEVICE_GET_INFO or info is None else info[:-4] + b"\7\0\0\0"

    assert keys(other, Ask(0)) == [("model/info", Outcome.DEVIATION)]


def test_silence_is_a_hang_and_a_closed_connection_a_failure() -> None:
    def deaf(message: Message) -> bytes | None:
        return b"" if message.header.command in (Command.DMA_MAP, Command.DEVICE_GET_INFO) else plain(message)

    def rude(message: Message) -> bytes | None:
        return None if message.header.command == Command.DMA_MAP else plain(message)

    assert keys(deaf, LOW) == [("model/map", Outcome.HANG)]
    assert keys(rude, LOW) == [("model/map", Outcome.FAIL)]


def test_an_answer_to_nothing_is_out_of_step() -> None:
    def stray(message: Message) -> bytes | None:
        odd = message.header.command == Command.DMA_MAP
        return reply(message) + reply(message, message_id=0x7777) if odd else plain(message)

    assert keys(stray, LOW) == [("model/map", Outcome.DESYNC)]


def test_a_target_that_does_not_negotiate_is_no_target() -> None:
    judge = bench(refusal)
    with pytest.raises(TargetError, match="negotiation"):
        every(judge, [LOW])
    judge.target.close()


def test_only_the_finding_that_is_looked_for_ends_the_sequence() -> None:
    judge = bench(takes_all)
    moves = (LOW, Unmap(0x5000, 0x1000), LOW, INSIDE)
    found = again(judge, moves, Key("model/map-overlap", Outcome.FAIL))
    assert found is not None
    assert found.moves == (LOW, INSIDE)
    assert again(judge, (LOW,), Key("model/map-overlap", Outcome.FAIL)) is None
    judge.target.close()


def test_an_interrupt_loses_nothing_that_was_found() -> None:
    class Interrupted(Run):
        def _shortened(self, found: Found) -> Found:
            raise KeyboardInterrupt

    run = Interrupted(bench(takes_all), seed=1)
    outcomes = {result.outcome for result in run.run()}
    assert outcomes & {Outcome.FAIL, Outcome.DEVIATION}
    assert run.cut_short.startswith("stopped after")


class Deaf(Run):
    """An interrupt comes before the third move, where KeyboardInterrupt is lost: as in a callback of garbage collection."""

    def _step(self, move: Move) -> None:
        super()._step(move)
        if self.moves.total() == 3:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_is_lost_on_the_way_ends_the_run_before_the_next_move() -> None:
    run = Deaf(bench(plain), seed=1, steps=50)
    run.run()
    assert run.cut_short == "stopped after 3 moves"


def test_what_was_interrupted_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof ends there, instead of going on with the next fault."""
    monkeypatch.setattr(proof, "Run", Deaf)
    monkeypatch.setattr(proof, "bench", lambda *_conditions: bench(plain))
    with pytest.raises(KeyboardInterrupt):
        list(proof.prove(lambda _options: len, [RULES["model/map-overlap"]]))


def test_what_was_found_when_it_is_lost_while_a_finding_is_made_short_is_kept() -> None:
    class Shortening(Run):
        def _shortened(self, found: Found) -> Found:
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return super()._shortened(found)

    run = Shortening(bench(takes_all), seed=1)
    outcomes = [result.outcome for result in run.run()]
    assert len({*outcomes} & {Outcome.FAIL, Outcome.DEVIATION}) == 1
    assert run.cut_short.startswith("stopped after")


def found_by(*moves: object) -> Found:
    judge = bench(takes_all)
    found = every(judge, moves)[-1]  # type: ignore[arg-type]
    judge.target.close()
    return Found(found.result, moves)  # type: ignore[arg-type]


def test_a_sequence_is_made_as_short_as_it_can_be_and_loud() -> None:
    needed = {LOW.address, INSIDE.address}

    def attempt(moves: object) -> Found | None:
        present = {each.address for each in moves if isinstance(each, Map)}  # type: ignore[attr-defined]
        return Found(long.result, moves) if needed <= present else None  # type: ignore[arg-type]

    other = Map(0x9000, 0x1000)
    silent = Map(LOW.address, LOW.size, silent=True)
    long = Found(found_by(LOW, INSIDE).result, (other, silent, Ask(0), other, Ask(0), INSIDE, Ask(0)))
    assert shortest(long, attempt, lambda: False).moves == (LOW, INSIDE)
    assert shortest(long, attempt, lambda: True) is long


def test_a_script_holds_any_sequence() -> None:
    moves = (LOW, Unmap(0x1000, 0x2000, silent=True), Read(0, 4), Write(1, 2, 3))
    assert moves_of([dict(each) for each in script_of(moves)]) == moves
    assert len(MOVES) == len({type(each) for each in map(object.__new__, MOVES.values())})


@pytest.mark.parametrize(
    "script",
    [
        None,
        [{"move": "dance"}],
        [{"move": "map"}],
        [{"move": "map", "address": -1, "size": 1}],
        [{"move": "read", "at": "1"}],
    ],
)
def test_a_script_that_cannot_be_is_refused(script: object) -> None:
    with pytest.raises(UsageError, match="script"):
        moves_of(script)


def test_every_rule_says_what_it_expects_and_is_told_apart() -> None:
    assert all(ident == f"model/{rule.name}" and rule.says for ident, rule in RULES.items())
