"""Doing again what an evidence file holds: the case where the suite has it, else the bytes themselves."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise, takewhile
from operator import eq
from typing import Any, NamedTuple

from vfio_user_conformance.case import Case, catalogue
from vfio_user_conformance.descriptors import described
from vfio_user_conformance.driver import Bench
from vfio_user_conformance.model.again import every
from vfio_user_conformance.model.catalogue import moves_of
from vfio_user_conformance.peer import Asked, HungUp, OutOfStep, Peer, Received
from vfio_user_conformance.profile import HAZARDS
from vfio_user_conformance.session import Gone, NoSession, Session, Unanswered
from vfio_user_conformance.verdict import EXECUTED, FINDINGS, Outcome
from vfio_user_conformance.words import plural
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DecodeError, TargetError, UsageError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest
from vfio_user_proto.trace import EVIDENCE, FORMAT, Capture, Captured


class Replayed(NamedTuple):
    """What came of it, in words, and the exit status: 0 fixed, 1 still wrong, 4 it could not be done again."""

    text: str
    status: int


def replay(capture: Capture, bench: Bench) -> Replayed:
    """Do again what ``capture`` holds. Raises UsageError where that is no evidence, TargetError where there is no target."""
    if not capture.head:
        raise UsageError("this is no evidence, which begins with a line that says what was found")
    if (version := capture.head[EVIDENCE]) != FORMAT:
        raise UsageError(f"this is evidence of format version {version!r}, and only {FORMAT} can be read")
    if capture.head.get("side") == "client":
        raise UsageError("this is what a client did, and only the client can do it again")
    case = catalogue().get(str(capture.head.get("case")))
    try:
        if "script" in capture.head:
            return _sequence(capture, bench)
        return _traffic(capture, bench) if case is None else _case(case, capture, bench)
    finally:
        bench.target.close()


def _case(case: Case, capture: Capture, bench: Bench) -> Replayed:
    """Run the case again, which sends the same bytes, and its judgement with it."""
    bench.survey()
    result = replace(bench, allow=frozenset(HAZARDS)).run(case)
    before = [message.data for message in capture.messages if message.sender == "client"]
    now = [bytes.fromhex(entry["hex"]) for entry in result.messages if entry["from"] == "client"]
    other = _differing(before, now)
    if result.outcome not in EXECUTED:
        return Replayed(f"cannot replay: {result.outcome}, {result.reason}", 4)
    if result.outcome not in FINDINGS:
        return Replayed(f"fixed: {result.outcome}{other}", 0)
    same = "still" if result.outcome == capture.head.get("outcome") else f"was {capture.head.get('outcome')}, now"
    return Replayed(f"{same} {result.outcome}: {result.reason}{other}", 1)


def _differing(before: Sequence[bytes], now: Sequence[bytes]) -> str:
    """What is to be said where the messages that were sent are not those of the file."""
    same = len(list(takewhile(bool, map(eq, before, now))))
    if same < min(len(before), len(now)):
        return f"; from message {same + 1} on others were sent than those in the file: suite, profile or target have changed"
    if len(now) < len(before):
        return f"; ended after {same} of the {plural(len(before), 'message')} in the file"
    return f"; went on after the {plural(same, 'message')} in the file" if len(now) > len(before) else ""


def _sequence(capture: Capture, bench: Bench) -> Replayed:
    """Do the moves of a stateful run again, and judge the replies as it did."""
    moves, ident = moves_of(capture.head["script"]), capture.head.get("case")
    bench.survey()
    found = every(replace(bench, allow=frozenset(HAZARDS)), moves)
    results = [each.result for each in found if each.result.outcome in FINDINGS]
    same = [each for each in results if each.ident == ident]
    if same:
        return Replayed(f"still {same[-1].outcome}: {same[-1].reason}", 1)
    if results:
        text = f"{results[-1].outcome} of {results[-1].ident}: {results[-1].reason}"
        return Replayed(f"was {capture.head.get('outcome')}, now {text}", 1)
    return Replayed(f"fixed: {plural(len(moves), 'move')}, as the model has it", 0)


def _traffic(capture: Capture, bench: Bench) -> Replayed:
    """Send the bytes, and see whether the target lives, answers, and is in step."""
    if capture.head.get("twin"):
        return Replayed("cannot replay: a part of it went over the second socket", 4)
    if not any(message.sender == "client" for message in capture.messages):
        raise UsageError("there is nothing in it that was sent, and no case of this suite that found it")
    bench.target.renew()
    try:
        problem = next(filter(None, (_send(part, bench) for part in _connections(capture))), "")
        if not problem and (end := bench.target.ended(0)) is None:
            _serves(bench)
    except (OutOfStep, Unanswered, Gone, NoSession, TargetError) as error:
        problem = str(error) or "it serves no new connection"
    end = bench.target.ended(bench.timing.patience)
    if end is not None and end.crashed:
        problem = f"{Outcome.CRASH}: {end.how}"
    problem = problem or bench.target.report()
    return Replayed(f"still wrong: {problem}", 1) if problem else Replayed("fixed: the target lives and is in step", 0)


def _connections(capture: Capture) -> Iterator[Sequence[Captured]]:
    """The messages of each connection; of one, where the file does not tell where others begin."""
    begins = [number for number in capture.head.get("connects", ()) if 0 < number < len(capture.messages)]
    for first, end in pairwise([0, *begins, len(capture.messages)]):
        yield capture.messages[first:end]


def _send(messages: Sequence[Captured], bench: Bench) -> str:
    """Send what the client sent, waiting where the file has an answer, then a query; returns what is wrong with the replies."""
    sent = b"".join(message.data for message in messages if message.sender == "client")
    asked = _asked(sent)
    whole = _boundaries(sent) if asked is not None else set()
    at = 0
    log: list[dict[str, Any]] = []
    peer = Peer(bench.target.connect(), log, bench.timing, time.monotonic())
    try:
        for message in messages:
            if message.sender == "client":
                if at not in whole:  # the rest of a message that was cut: the first part is to be seen alone
                    peer.await_reader()
                _send_one(peer, message)
                at += len(message.data)
                continue
            seen = peer.receive(bench.timing.patience)
            if isinstance(seen, HungUp):
                return ""
            if isinstance(seen, Received) and (problem := _out_of_step(seen, asked)):
                return problem
        return "" if asked is None else _answers(peer, asked, bench.timing.reply)
    finally:
        peer.close()


def _asked(sent: bytes) -> set[Asked] | None:
    """The commands in a stream; None where it is not whole messages, so that nobody knows what is to be answered."""
    try:
        headers = map(wire.decode_header, wire.split(sent))
        return {Asked(header.message_id, header.command) for header in headers}
    except DecodeError:
        return None


def _boundaries(sent: bytes) -> set[int]:
    """Where messages begin in a stream of whole ones."""
    return {0, *accumulate(map(len, wire.split(sent)))}


def _out_of_step(seen: Received, asked: set[Asked] | None) -> str:
    header = seen.message.header
    if asked is None or seen.is_command or Asked(header.message_id, header.command) in asked:
        return ""
    return f"{Outcome.DESYNC}: what came answers nothing that was sent: {seen}"


def _send_one(peer: Peer, message: Captured) -> None:
    if isinstance(message.fds, int) and message.fds:
        raise UsageError("the file says how many descriptors were sent, not which")
    about: tuple[Mapping[str, Any], ...] = () if isinstance(message.fds, int) else message.fds
    handles = [described(each).open() for each in about]
    try:
        peer.send((message.data,), [handle.fd for handle in handles])
    finally:
        for handle in handles:
            handle.close()


def _answers(peer: Peer, asked: set[Asked], seconds: float | None) -> str:
    """A query must be answered, and what comes before it must answer what was sent."""
    info = Command.DEVICE_GET_INFO
    query = next(each for number in range(0xFFFF, 0, -1) if (each := Asked(number, info)) not in asked)
    peer.send((craft(info, DeviceGetInfoRequest(), message_id=query.message_id),))
    while True:
        seen = peer.receive(seconds)
        if seen is None:
            return f"{Outcome.HANG}: the query afterwards got no answer"
        if isinstance(seen, HungUp):
            return ""
        if Asked(seen.message.header.message_id, seen.message.header.command) == query:
            return ""
        if problem := _out_of_step(seen, asked):
            return problem


def _serves(bench: Bench) -> None:
    """A new connection is served, unless the program has ended by its own decision."""
    session = Session(bench.target, bench.facts, bench.timing)
    try:
        session.reconnect()
        session.prove_in_step()
    finally:
        session.close()
