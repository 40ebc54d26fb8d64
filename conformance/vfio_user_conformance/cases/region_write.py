"""Writes to regions: where nothing is, every width and place, as much as one message may hold; and several at once."""

import sys
from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_access import CONFIG, PATTERN, read, write
from vfio_user_conformance.cases.version import propose
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, EmptyReply, ErrorReply, Expectation, HangUp, Reply
from vfio_user_conformance.facts import Fact, Facts, NotApplicable
from vfio_user_conformance.needs import (
    MAX_XFER,
    NUM_REGIONS,
    SCRATCH,
    SCRATCH_KEEPS,
    SCRATCH_REGION,
    WRITE_MULTIPLE,
    size_of,
)
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import (
    DeviceWrite,
    RegionInfoFlags,
    RegionReadReply,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)

OLD, NEW = b"\x5a" * 32, bytes(range(0xF1, 0xF9))


def _wide(facts: Facts) -> int:
    limit = facts.capabilities.max_data_xfer_size
    found = [i for i, each in facts.regions.items() if each.flags & RegionInfoFlags.READ and each.size >= limit]
    if not found:
        raise NotApplicable("no region is as long as max_data_xfer_size")
    return found[0]


WIDE = Fact("a region that is long enough", _wide)


def put(region: int, offset: int, data: bytes = NEW) -> Send:
    """Write anywhere."""
    return Send(RegionWriteRequest(region=region, offset=offset, data=data))


def nowhere(what: str, step: Send) -> Case:
    """A write to what is not there."""
    return Case(
        ident=f"region-write/{what}",
        requirement="read-write.bad-range",
        stimulus=step,
        expect=REFUSED,
        catches=(f"write-{what}-crash",),
    )


def every_place(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Each width at each of eight places, with what stands around it."""
    for at in range(8):
        for width in (1, 2, 4, 8):
            steps = (write(OLD), write(NEW[:width], SCRATCH + 8 + at), read(SCRATCH_REGION, SCRATCH, len(OLD)))
            kept = OLD[: 8 + at] + NEW[:width] + OLD[8 + at + width :]
            yield exchange(steps, (Reply(), Reply(count=width), Reply(data=kept)))


def read_every_place(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Each width at each of eight places."""
    yield exchange(write(PATTERN), Reply())
    for at in range(8):
        for width in (1, 2, 4, 8):
            yield exchange(read(SCRATCH_REGION, SCRATCH + at, width), Reply(data=PATTERN[at : at + width]))


def config_byte(what: str, offset: int, note: str = "") -> Case:
    """One byte of a register of the configuration space, which may have more, written as it was read."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        seen = yield exchange(read(CONFIG, offset, 1), Reply(count=1))
        content = seen.message.payload if isinstance(seen, Received) else None
        if isinstance(content, RegionReadReply):
            yield exchange(put(CONFIG, offset, content.data), Reply(count=1))

    return Case(
        ident=f"region-write/byte-of-{what}",
        requirement="get-region-info.access-flags",
        stimulus=f"read one byte at {offset:#x} of the configuration space, and write it back",
        expect="a reply to each",
        script=script,
        hazards=frozenset({"write"}),
        catches=(f"config-byte-of-{what}-refused",),
        note=note,
    )


def over_the_limit(facts: Facts) -> Generator[Exchange, Seen, None]:
    """More than any message may hold."""
    yield exchange(put(CONFIG, 0, bytes(MAX_XFER.read(facts) + 1)), REFUSED)


def several(*writes: DeviceWrite, count: int | None = None) -> Send:
    """Writes in one message; ``count`` may say something else than there are."""
    request = RegionWriteMultiRequest(wrs=writes)
    return Send(request if count is None else request.replace(wr_cnt=count))


def one(at: int, data: bytes = NEW[:4], region: int = SCRATCH_REGION, count: int | None = None) -> DeviceWrite:
    """One of several, in the scratch bytes; ``count`` may say something else than the data."""
    number = int.from_bytes(data.ljust(8, b"\0"), sys.byteorder)
    return DeviceWrite(region=region, offset=SCRATCH + at, count=len(data) if count is None else count, data=number)


def multi(what: str, requirement: str, steps: tuple[Send, ...], expect: tuple[Expectation, ...], fault: str) -> Case:
    """Several writes at once."""
    return Case(
        ident=f"region-write/several-{what}",
        requirement=requirement,
        stimulus=steps,
        expect=expect,
        needs=(WRITE_MULTIPLE, SCRATCH_KEEPS),
        catches=(fault,),
    )


BACK = read(SCRATCH_REGION, SCRATCH, 16)
CASES = [
    nowhere("behind-the-end", put(CONFIG, size_of(CONFIG))),
    nowhere("across-the-end", put(CONFIG, size_of(CONFIG) - 2)),
    nowhere("range-wraps", put(CONFIG, 2**64 - 2)),
    nowhere("offset-of-33-bits", put(CONFIG, 2**32)),
    nowhere("no-such-region", put(NUM_REGIONS, 0)),
    nowhere("highest-region", put(0xFFFFFFFF, 0)),
    Case(
        ident="region-write/count-zero",
        requirement="read-write.zero-count",
        stimulus=write(b""),
        expect=Either(Reply(count=0), EmptyReply(), ErrorReply(), HangUp()),
        catches=("write-count-zero-hangs",),
    ),
    Case(
        ident="region-write/count-largest",
        requirement="region-write.data",
        stimulus=write(NEW, count=0xFFFFFFFF),
        expect=REFUSED,
        catches=("write-count-largest-accepted",),
    ),
    Case(
        ident="region-write/every-place",
        requirement="get-region-info.access-flags",
        stimulus="writes of 1, 2, 4 and 8 bytes at each of eight places of the scratch bytes",
        expect="these bytes, and no others, to change",
        script=every_place,
        needs=(SCRATCH_KEEPS,),
        catches=("write-of-whole-words", "write-at-whole-words"),
    ),
    Case(
        ident="region-write/read-every-place",
        requirement="get-region-info.access-flags",
        stimulus="reads of 1, 2, 4 and 8 bytes at each of eight places of the scratch bytes",
        expect="the bytes that were written there",
        script=read_every_place,
        needs=(SCRATCH_KEEPS,),
        catches=("read-at-whole-words",),
    ),
    config_byte("command", 0x04, "libvfio-user efd091b reads a byte more than came (lib/pci.c:134)."),
    config_byte("base-address", 0x10, "libvfio-user efd091b reads three bytes more than came (lib/pci.c:102)."),
    config_byte("rom-address", 0x30, "libvfio-user efd091b reads three bytes more than came (lib/pci.c:236)."),
    config_byte("interrupt-line", 0x3C),
    Case(
        ident="region-write/over-the-limit",
        requirement="read-write.bad-range",
        stimulus="VFIO_USER_REGION_WRITE of one byte more than max_data_xfer_size, with its data",
        expect=f"{REFUSED}",
        script=over_the_limit,
        in_step=False,
        catches=("write-over-the-limit-hangs",),
    ),
    Case(
        ident="region-write/limit-read",
        requirement="get-region-info.access-flags",
        stimulus=read(WIDE, 0, MAX_XFER),
        expect=Reply(count=MAX_XFER),
        catches=("limit-not-included", "reply-written-once"),
    ),
    multi(
        "widths",
        "get-region-info.access-flags",
        (write(OLD), several(*(one(4 * at, NEW[: at + 1]) for at in range(4))), BACK),
        (Reply(), Reply(wr_cnt=4), Reply(data=b"".join(NEW[: at + 1].ljust(4, OLD[:1]) for at in range(4)))),
        "write-several-of-eight-bytes",
    ),
    multi(
        "in-order",
        "concurrency.in-order",
        (write(OLD), several(one(0, b"A" * 8), one(0, b"B" * 8), one(8, b"C" * 8), one(4, b"D" * 8)), BACK),
        (Reply(), Reply(wr_cnt=4), Reply(data=b"BBBBDDDDDDDDCCCC")),
        "write-several-backwards",
    ),
    multi("none", "security.validate", (several(),), (ANYTHING,), "write-several-none-crash"),
    multi("count-nine", "write-multi.count", (several(one(0, NEW, count=9)),), (REFUSED,), "write-several-count-cut"),
    multi(
        "record-too-many",
        "write-multi.count",
        (several(one(0), one(4), count=1),),
        (REFUSED,),
        "write-several-rest-ignored",
    ),
    multi(
        "record-missing",
        "write-multi.count",
        (several(one(0), count=2),),
        (REFUSED,),
        "write-several-count-unchecked",
    ),
    multi("count-zero", "security.validate", (several(one(0, b"")),), (ANYTHING,), "write-several-count-zero-crash"),
    multi(
        "behind-the-end",
        "security.validate",
        (several(one(0), DeviceWrite(region=CONFIG, offset=2**64 - 2, count=4)),),
        (ANYTHING,),
        "write-several-behind-the-end-crash",
    ),
    multi(
        "no-such-region",
        "security.validate",
        (several(one(0, region=NUM_REGIONS)),),
        (ANYTHING,),
        "write-several-no-such-region-crash",
    ),
    Case(
        ident="region-write/several-unasked",
        requirement="security.validate",
        stimulus=(Send(propose({})), several(one(0))),
        expect=(Reply(), ANYTHING),
        greet=False,
        catches=("write-several-unasked-crash",),
    ),
]
