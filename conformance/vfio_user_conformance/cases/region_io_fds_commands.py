"""What comes of commands on every ioregionfd: loads, stores, who is answered, and commands that no kernel would send."""

import itertools
import os
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_io_fds_kicks import (
    NO_DOORBELL,
    Found,
    Test,
    answers,
    kick_case,
    number,
)
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.kicks import Place, Responses, Shows, ShutDown, Tell, command
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.recipes import Register
from vfio_user_conformance.steps import Exchange, Reconnect, Script
from vfio_user_proto.drafts.ioregionfd import IoregionfdCommand

READ, WRITE = IoregionfdCommand.READ, IoregionfdCommand.WRITE
FAR = 1 << 40


def windows(facts: Facts, test: Test = lambda place: True, missing: str = "no sub-region has an ioregionfd") -> Found:
    """Every ioregionfd of at least four bytes that ``test`` picks."""
    return answers(facts, lambda place: place.is_ioregion and place.entry.size >= 4 and test(place), missing)


def register(place: Place, offset: int = 0, size: int = 4) -> Register:
    """Bytes of a window, as a message reads them."""
    return Register(place.region, place.entry.offset + offset, size)


def steady(place: Place, offset: int = 0, size: int = 4) -> Generator[Exchange, Seen, int | None]:
    """What a message reads there; None where it reads something else each time."""
    first = yield from number(register(place, offset, size))
    second = yield from number(register(place, offset, size))
    return first if first == second else None


def load(place: Place, offset: int = 0, size: int = 4) -> Generator[Exchange, Seen, None]:
    """Load through the descriptor what a message reads."""
    value = yield from steady(place, offset, size)
    yield Exchange((command(place, READ, offset=offset, size=size),), (Responses(place, (value,), size),))


def ends(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Load the first and the last bytes of a window of each descriptor."""
    found = yield from windows(facts)
    for each in {place.fd: place for place in reversed(found)}.values():
        for offset in (0, each.entry.size - 4):
            yield from load(each, offset)


def widths(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Load 1, 2, 4 and 8 bytes."""
    for each in (yield from windows(facts)):
        for size in (1, 2, 4, 8):
            if size <= each.entry.size:
                yield from load(each, 0, size)


def sharing(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Load from windows that share a descriptor."""
    found = yield from windows(facts)
    pairs = [(one, other) for one, other in itertools.combinations(found, 2) if one.fd == other.fd]
    if not pairs:
        raise NotApplicable("no two sub-regions share an ioregionfd")
    for pair in pairs:
        for each in pair:
            yield from load(each)


def apart(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Load from one of two ioregionfds."""
    found = yield from windows(facts)
    pairs = [(one, other) for one, other in itertools.permutations(found, 2) if one.fd != other.fd]
    if not pairs:
        raise NotApplicable("there are no two ioregionfds")
    for one, other in pairs:
        value = yield from steady(one)
        yield Exchange((command(one, READ),), (Responses(one, (value,)), Responses(other, ())))


def stores(*, posted: bool, resp: bool) -> Script:
    """Store what is there already, then load it: answered once or twice."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        kind = "with" if posted else "without"
        found = yield from windows(facts, lambda place: place.posted is posted, f"no ioregionfd {kind} posted writes")
        for each in found:
            value = yield from steady(each)
            store = command(each, WRITE, data=value or 0, resp=resp)
            due = (None, value) if resp else (value,)
            yield Exchange((store, command(each, READ)), (Responses(each, due),))

    return script


def arrives(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Store a value, and look where the profile says that it shows."""

    def told(place: Place) -> Any:
        return place.bell and place.bell.value

    for turn, each in enumerate((yield from windows(facts, told, NO_DOORBELL)), 1):
        assert each.bell is not None
        assert each.bell.value is not None
        value, size = 0x11223344 * turn, each.bell.value.width
        value &= (1 << 8 * size) - 1
        store = command(each, WRITE, data=value, size=size, resp=not each.posted)
        yield Exchange((store,), (Responses(each, () if each.posted else (None,)), Shows({each.bell.value: value})))


def odd(tell: "partial[Tell]") -> Script:
    """Send something odd on each ioregionfd, and see that the server goes on."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        for each in (yield from windows(facts)):
            yield Exchange((tell(each),), ())

    return script


def closed(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Shut each ioregionfd down with a command in it."""
    for each in (yield from windows(facts)):
        yield Exchange((command(each, READ), ShutDown(each)), ())


def former_connection(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Keep the ioregionfds of one connection, and send a command on them when there is another."""
    found = yield from windows(facts)
    with ExitStack() as kept:
        former = [replace(each, fd=os.dup(each.fd)) for each in found]
        for each in former:
            kept.callback(os.close, each.fd)
        yield Exchange((Reconnect(),), ())
        for each in former:
            yield Exchange((command(each, READ),), ())
        yield from ends(facts)


def command_case(what: str, script: Script, stimulus: str, expect: str, *catches: str, of: str = "responses") -> Case:
    return kick_case(f"region-io-fds-commands/{what}", of, script, stimulus, expect, *catches)


def odd_case(what: str, words: str, fault: str, tell: "partial[Tell]") -> Case:
    return command_case(what, odd(tell), f"{words} on each ioregionfd", "the server lives and answers messages", fault)


CASES = [
    command_case(
        "load",
        ends,
        "a load of the first and of the last 4 bytes of a sub-region of each ioregionfd",
        "a response with what VFIO_USER_REGION_READ reads there",
        "ioregionfd-offset-from-region",
        "region-io-fds-ioregionfd-moved",
        of="same-effect",
    ),
    command_case(
        "shared",
        sharing,
        "loads from sub-regions that share an ioregionfd",
        "responses with what VFIO_USER_REGION_READ reads there",
        "ioregionfd-user-data-not-looked-at",
        of="shared-ioregionfd",
    ),
    command_case(
        "load-widths",
        widths,
        "loads of 1, 2, 4 and 8 bytes from each ioregionfd",
        "responses with what VFIO_USER_REGION_READ reads there",
        "ioregionfd-width-not-looked-at",
        of="same-effect",
    ),
    command_case(
        "store",
        arrives,
        "a store of a new value through each ioregionfd of the profile",
        "the value where the profile says that it shows",
        "ioregionfd-store-lost",
        of="same-effect",
    ),
    command_case(
        "response",
        stores(posted=False, resp=True),
        "a store that asks for a response, then a load, on each ioregionfd without posted writes",
        "a response to each, of 32 bytes",
        "ioregionfd-store-not-answered",
        "ioregionfd-response-short",
    ),
    command_case(
        "posted",
        stores(posted=True, resp=False),
        "a store that asks for no response, then a load, on each ioregionfd with posted writes",
        "one response, to the load",
        "ioregionfd-posted-store-answered",
    ),
    command_case(
        "asked-though-posted",
        stores(posted=True, resp=True),
        "a store that asks for a response, then a load, on each ioregionfd with posted writes",
        "a response to each: the command decides",
        "ioregionfd-response-by-record",
    ),
    command_case(
        "own-descriptor",
        apart,
        "a load on one of two ioregionfds",
        "the response there, and nothing on the other one",
        "ioregionfd-answer-on-the-other",
    ),
    command_case(
        "former-connection",
        former_connection,
        "a command on each ioregionfd of a connection that was closed, during the next one",
        "the next one undisturbed",
        "ioregionfd-of-the-former-client-crash",
        of="former-client",
    ),
    command_case(
        "shut-down",
        closed,
        "a load on each ioregionfd, which is then shut down in both directions",
        "the server lives and answers messages",
        "ioregionfd-shut-down-crash",
    ),
    odd_case(
        "short",
        "31 bytes",
        "ioregionfd-short-command-crash",
        partial(Tell, data=bytes(31), words="31 bytes"),
    ),
    odd_case(
        "command-unknown",
        "a command with the number 9",
        "ioregionfd-command-unknown-crash",
        partial(Tell, data=bytes([9, 2]) + bytes(30), words="a command with the number 9"),
    ),
    odd_case(
        "user-data-unknown",
        "a load with the user_data of no record",
        "ioregionfd-user-data-crash",
        partial(command, cmd=READ, user_data=(1 << 64) - 1),
    ),
    odd_case(
        "offset-beyond",
        "a load behind the sub-region",
        "ioregionfd-offset-crash",
        partial(command, cmd=READ, offset=FAR),
    ),
    odd_case(
        "offset-wraps",
        "a store at an offset that wraps around",
        "ioregionfd-offset-wraps-crash",
        partial(command, cmd=WRITE, offset=(1 << 64) - 1, data=7),
    ),
]
