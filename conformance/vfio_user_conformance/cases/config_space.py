"""PCI configuration space: what lies behind its first 64 bytes is a chain of structures, and an access may go across them."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_access import CONFIG, read
from vfio_user_conformance.cases.region_write import put
from vfio_user_conformance.expect import ANYTHING, Either, ErrorReply, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import size_of
from vfio_user_conformance.peer import HungUp, Received, Seen
from vfio_user_conformance.steps import Afresh, Exchange, exchange
from vfio_user_proto.messages import RegionReadReply

# Where the place of the first capability stands, and how many capabilities there can be: each has 4 bytes at least.
FIRST, MOST = 0x34, 48
# As many bytes as an MSI-X capability, and as an MSI capability of the largest form.
LENGTHS = (12, 24)
INSIDE = 4
# What every device has in front of them.
HEADER = 64
EITHER = Either(Reply(), ErrorReply())


def across(facts: Facts) -> Generator[Exchange, Seen, None]:
    """From the fifth byte of each capability on, write what was read there, as far as the end of the region lets it."""
    size = size_of(CONFIG).read(facts)
    place = _data((yield exchange(read(CONFIG, FIRST, 1), Reply())))[0]
    for _ in range(MOST):
        if not 0x40 <= place < size - INSIDE:
            return
        head = _data((yield exchange(read(CONFIG, place, 2), Reply())))
        for length in LENGTHS:
            count = min(length, size - place - INSIDE)
            data = _data((yield exchange(read(CONFIG, place + INSIDE, count), Reply())))
            if isinstance((yield exchange(put(CONFIG, place + INSIDE, data), ANYTHING)), HungUp):
                yield exchange(Afresh(), ())
        place = head[1]


def written_back(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Each 4 bytes of the header, as they were read."""
    for place in range(0, HEADER, 4):
        data = _data((yield exchange(read(CONFIG, place, 4), Reply())))
        yield exchange(put(CONFIG, place, data), EITHER)


def _data(seen: Seen) -> bytes:
    assert isinstance(seen, Received), "the expectation held"
    assert isinstance(seen.message.payload, RegionReadReply)
    return seen.message.payload.data


CASES = [
    Case(
        ident="config-space/header-written-back",
        requirement="header.error-reply-empty",
        stimulus="read each 4 bytes of the 64 that the configuration space begins with, and write them back",
        expect="each is read; written, or refused with a header alone",
        script=written_back,
        needs=(size_of(CONFIG),),
        hazards=frozenset({"write"}),
        catches=("refused-write-with-payload",),
        note="No driver writes the first of them: what refuses them is the device, not the check of the range.",
    ),
    Case(
        ident="config-space/across-a-capability",
        requirement="security.validate",
        stimulus="for each PCI capability: read 12 bytes, and 24, from its fifth byte on, and write them back",
        expect="each is read; written or refused",
        script=across,
        needs=(size_of(CONFIG),),
        hazards=frozenset({"write"}),
        catches=("config-write-past-a-capability-crash",),
    ),
]
