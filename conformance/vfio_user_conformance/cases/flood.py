"""Much at once: commands that nobody waits for, replies that nobody reads, clients that come and go."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, request
from vfio_user_conformance.cases.header import CONFIG, INFO, UNKNOWN
from vfio_user_conformance.cases.region_access import read, write
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import Either, ErrorReply, HangUp, NoReply, Reply
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.needs import (
    LARGEST,
    LARGEST_SIZE,
    MANY_MAPS,
    MAX_XFER,
    SCRATCH,
    SCRATCH_KEEPS,
    SCRATCH_REGION,
)
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Reconnect, Sip, Together, exchange
from vfio_user_proto.messages import Command

STRESS = frozenset({"stress"})


def sipped(facts: Facts) -> Generator[Exchange, Seen, None]:
    """One reply that is larger than what a socket holds, read in small parts."""
    region = LARGEST.read(facts)
    count = min(facts.regions[region].size, MAX_XFER.read(facts))
    if count < 1 << 19:
        raise NotApplicable("no region has 512 KiB that can be read at once")
    whole = under("get-region-info.access-flags", Reply(region=region, count=count))
    yield exchange((Sip(5000), read(region, 0, count)), whole)


CASES = [
    Case(
        ident="flood/queries",
        requirement="concurrency.pipelining",
        stimulus=Together((Send(INFO), Send(CONFIG)) * 500),
        expect=(Reply(),) * 1000,
        hazards=STRESS,
        catches=("pipelining-queue-overrun",),
    ),
    Case(
        ident="flood/replies-unread",
        requirement="header.reply-to-each",
        stimulus=Together((read(LARGEST, 0, LARGEST_SIZE),) * 500),
        expect=(Either(Reply(), ErrorReply()),) * 500,
        hazards=STRESS,
        catches=("replies-due-dropped",),
    ),
    Case(
        ident="flood/reply-sipped",
        requirement="header.message-size",
        stimulus="VFIO_USER_REGION_READ of as much as the target gives, read 5000 bytes at a time",
        expect="all of it",
        script=sipped,
        hazards=STRESS,
        catches=("reply-written-once",),
    ),
    Case(
        ident="flood/refusals",
        requirement="commands.unknown-in-step",
        stimulus=Together((Send(Command.DEVICE_RESET, command=UNKNOWN),) * 300),
        expect=(Either(ErrorReply(), HangUp()),) * 300,
        hazards=STRESS,
        catches=("refusals-overrun",),
    ),
    Case(
        ident="flood/without-reply",
        requirement="concurrency.in-order",
        stimulus=Together(
            (
                *(Send(write(bytes([number] * 4)).payload, no_reply=True) for number in range(200)),
                read(SCRATCH_REGION, SCRATCH, 4),
            )
        ),
        expect=(*(NoReply(),) * 200, Reply(data=bytes([199] * 4))),
        needs=(SCRATCH_KEEPS,),
        hazards=STRESS,
        catches=("no-reply-done-in-batches",),
    ),
    Case(
        ident="flood/mappings",
        requirement="dma-map.any-time",
        stimulus=Together(tuple(Send(request(number * 2 * PAGE)) for number in range(1, 301))),
        expect=(Reply(),) * 300,
        needs=(MANY_MAPS,),
        hazards=STRESS,
        catches=("map-table-of-256",),
    ),
    Case(
        ident="flood/clients",
        requirement="disconnect.survived",
        stimulus=(*(Reconnect(),) * 70, Send(INFO)),
        expect=Reply(),
        hazards=STRESS,
        catches=("clients-run-out",),
    ),
]
