"""What comes of kicks through every descriptor of every sub-region: who is rung, with which value, and how often."""

import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_io_fds import ask, with_sub_regions
from vfio_user_conformance.expect import Reply, Whole
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.kicks import Drained, Kick, Place, Shows, Store, is_for, places
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.recipes import Doorbell, Register
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Reconnect, Script, exchange
from vfio_user_proto.messages import (
    DeviceGetRegionIoFdsReply,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteRequest,
    ShadowIoeventfdSubRegion,
)

HAZARDS = frozenset({"write"})
NO_DOORBELL = "the profile names no doorbell of that kind"
Found = Generator[Exchange, Seen, list[Place]]
Test = Callable[[Place], Any]


def answers(facts: Facts, test: Test, missing: str) -> Found:
    """Ask for every sub-region; those that ``test`` picks. Raises NotApplicable where there are none."""
    found = list[Place]()
    for index in with_sub_regions(facts):
        seen = yield exchange(ask(index), Reply())
        assert isinstance(seen, Received)
        found += filter(test, places(seen, facts))
    if not found:
        raise NotApplicable(missing)
    return found


def eventfds(facts: Facts) -> Found:
    """Every ioeventfd."""
    return answers(facts, lambda place: not place.is_ioregion, "no sub-region has an ioeventfd")


def counters(facts: Facts) -> Found:
    """Every ioeventfd of which the profile says where its kicks are counted."""
    return answers(facts, lambda place: not place.is_ioregion and place.bell and place.bell.count, NO_DOORBELL)


def number(register: Register) -> Generator[Exchange, Seen, int]:
    """What a register holds."""
    request = RegionReadRequest(region=register.region, offset=register.offset, count=register.width)
    seen = yield exchange(Send(request), Reply())
    assert isinstance(seen, Received)
    assert isinstance(seen.message.payload, RegionReadReply)
    return int.from_bytes(seen.message.payload.data, "little")


def count_of(place: Place) -> Register:
    assert place.bell is not None
    assert place.bell.count is not None
    return place.bell.count


def kicked(target: Place, watched: Iterable[Place]) -> Generator[Exchange, Seen, None]:
    """Kick one sub-region: its count goes up by one; that of those watched stays, unless they share its eventfd."""
    wanted = dict[Register, int]()
    for each in watched:
        if each is target or each.fd != target.fd:
            before = yield from number(count_of(each))
            wanted[count_of(each)] = before + (each is target)
    yield Exchange((Kick(target),), (Shows(wanted),))


def every_eventfd(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Kick each eventfd."""
    for each in (yield from eventfds(facts)):
        yield Exchange((Kick(each),), (Drained(each),))


def huge_counter(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Fill each eventfd almost to the brim."""
    for each in (yield from eventfds(facts)):
        yield Exchange((Kick(each, (1 << 64) - 0x100),), (Drained(each),))


def own_count(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Kick each doorbell and look at its count."""
    for each in (yield from counters(facts)):
        yield from kicked(each, (each,))


def other_counts(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Kick each doorbell and look at all counts."""
    bells = yield from counters(facts)
    for each in bells:
        yield from kicked(each, bells)


def both_answers(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Kick through the descriptors of two replies to the same query."""
    first = yield from eventfds(facts)
    second = yield from eventfds(facts)
    for each in (*second, *first):
        yield Exchange((Kick(each),), (Drained(each),))


def next_connection(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Kick, connect anew, and kick again."""
    for each in (yield from eventfds(facts)):
        yield Exchange((Kick(each),), (Drained(each),))
    yield Exchange((Reconnect(),), ())
    yield from every_eventfd(facts)


def former_connection(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Keep the descriptors of one connection, and kick them when there is another."""
    found = yield from eventfds(facts)
    with ExitStack() as kept:
        former = [replace(each, fd=os.dup(each.fd)) for each in found]
        for each in former:
            kept.callback(os.close, each.fd)
        yield Exchange((Reconnect(),), ())
        for each in former:
            yield Exchange((Kick(each),), ())
        yield from every_eventfd(facts)


# Values.


def match_problem(bell: Doorbell, seen: Received) -> str:
    """A reply has a record for a doorbell that takes one value."""
    assert isinstance(seen.message.payload, DeviceGetRegionIoFdsReply)
    records = [each for each in seen.message.payload.sub_regions if not isinstance(each, bytes)]
    return "" if any(is_for(bell.region, each, bell) for each in records) else f"no record is for {bell}"


def with_match(facts: Facts) -> list[Doorbell]:
    regions = with_sub_regions(facts)
    found = [each for each in facts.profile.doorbells if each.match is not None and each.region in regions]
    if not found:
        raise NotApplicable(NO_DOORBELL)
    return found


def datamatch_records(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Look for the records of doorbells that take one value."""
    for bell in with_match(facts):
        whole = Whole(f"a record for {bell}", partial(match_problem, bell))
        yield exchange(ask(bell.region), Reply(whole=whole))


def datamatch_messages(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Store the value by message, and another one."""
    for each in (yield from counters(facts)):
        bell = each.bell
        if bell is not None and bell.match is not None and each.entry.size:
            before = yield from number(count_of(each))
            for value, count in ((bell.match, before + 1), (bell.match ^ 1, before + 1)):
                data = value.to_bytes(each.entry.size, "little")
                write = Send(RegionWriteRequest(region=bell.region, offset=bell.offset, data=data))
                yield exchange(write, (Reply(), Shows({count_of(each): count})))


def shadows(test: Callable[[ShadowIoeventfdSubRegion], Any]) -> Script:
    """Store a value in the shadow memory of each doorbell that ``test`` picks, kick it, and see whether the value arrived."""

    def picked(place: Place) -> Any:
        has_value = place.memory is not None and place.bell and place.bell.value
        return has_value and isinstance(place.entry, ShadowIoeventfdSubRegion) and test(place.entry)

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        for turn, each in enumerate((yield from answers(facts, picked, NO_DOORBELL)), 1):
            assert each.bell is not None
            assert each.bell.value is not None
            value = (0x11223344 * turn) & ((1 << 8 * min(each.entry.size or 8, each.bell.value.width)) - 1)
            yield Exchange((Store(each, value), Kick(each)), (Shows({each.bell.value: value}),))

    return script


def kick_case(ident: str, requirement: str, script: Script, stimulus: str, expect: str, *catches: str) -> Case:
    return Case(
        ident=ident if "/" in ident else f"region-io-fds-kicks/{ident}",
        requirement=f"region-io-fds.{requirement}",
        stimulus=stimulus,
        expect=expect,
        script=script,
        hazards=HAZARDS,
        catches=catches,
    )


CASES = [
    kick_case(
        "taken",
        "kick-taken",
        every_eventfd,
        "a kick of each ioeventfd",
        "each eventfd read",
        "kick-left-in-the-eventfd",
    ),
    kick_case(
        "counter-huge",
        "kick-taken",
        huge_counter,
        "so many kicks of each ioeventfd that its counter takes hardly more",
        "each eventfd read",
        "kick-count-crash",
    ),
    kick_case(
        "counted",
        "same-effect",
        own_count,
        "a kick of each doorbell of the profile",
        "its count one more",
        "kick-lost",
    ),
    kick_case(
        "counted-apart",
        "same-effect",
        other_counts,
        "a kick of each doorbell of the profile",
        "its count one more, those of doorbells with another eventfd as before",
        "kick-rings-the-next",
        "kick-rings-all",
    ),
    kick_case(
        "asked-twice",
        "same-effect",
        both_answers,
        "two queries for the same sub-regions, and a kick through each descriptor of both replies",
        "each eventfd read",
        "kick-through-second-answer-lost",
    ),
    kick_case(
        "next-connection",
        "same-effect",
        next_connection,
        "a kick of each ioeventfd, a new connection, and a kick of each again",
        "each eventfd read",
        "kick-of-the-next-client-lost",
    ),
    kick_case(
        "former-connection",
        "former-client",
        former_connection,
        "a kick through each descriptor of a connection that was closed, during the next one",
        "the next one undisturbed",
        "kick-of-the-former-client-crash",
    ),
    kick_case(
        "datamatch-record",
        "datamatch",
        datamatch_records,
        "VFIO_USER_DEVICE_GET_REGION_IO_FDS for each doorbell of the profile that takes one value",
        "a record with the flag and the value",
        "datamatch-flag-missing",
        "datamatch-in-other-place",
    ),
    kick_case(
        "datamatch-by-message",
        "datamatch",
        datamatch_messages,
        "VFIO_USER_REGION_WRITE of the value that a doorbell takes, then of another one",
        "its count one more, then as it was",
        "datamatch-not-looked-at",
    ),
    kick_case(
        "shadow-value",
        "same-effect",
        shadows(lambda entry: True),
        "a value in the shadow memory of each doorbell of the profile, then a kick",
        "the value with the device",
        "shadow-memory-not-read",
    ),
    kick_case(
        "shadow-offset",
        "same-effect",
        shadows(lambda entry: entry.shadow_offset),
        "a value where shadow_offset is not zero, then a kick",
        "the value with the device",
        "shadow-offset-not-used",
    ),
]
