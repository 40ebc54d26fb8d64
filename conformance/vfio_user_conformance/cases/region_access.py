"""VFIO_USER_REGION_READ, REGION_WRITE and REGION_WRITE_MULTI: what is read and written, and where nothing is."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import REFUSED, Either, EmptyReply, ErrorReply, HangUp, Reply, Whole
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.needs import (
    MAX_XFER,
    NUM_REGIONS,
    READ_MAPPABLE,
    SCRATCH,
    SCRATCH_KEEPS,
    SCRATCH_REGION,
    UNREADABLE,
    UNWRITABLE,
    WRITE_MULTIPLE,
    size_of,
)
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto import regioncaps
from vfio_user_proto.messages import (
    DeviceWrite,
    RegionInfoFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    SparseMmap,
)

CONFIG = 7
PATTERN = bytes(range(0x41, 0x51))


def read(region: int, offset: int, count: int) -> Send:
    """Read from a region."""
    return Send(RegionReadRequest(region=region, offset=offset, count=count))


def write(data: bytes, offset: int = SCRATCH, count: int | None = None, extra: bytes = b"") -> Send:
    """Write to the scratch bytes; ``count`` may say something else than the data."""
    request = RegionWriteRequest(region=SCRATCH_REGION, offset=offset, data=data)
    return Send(request if count is None else request.replace(count=count), extra=extra)


def nowhere(what: str, request: Send, fault: str) -> Case:
    """An access to what is not there."""
    return Case(
        ident=f"region-access/{what}",
        requirement="read-write.bad-range",
        stimulus=request,
        expect=REFUSED,
        catches=(fault,),
    )


def data_problem(seen: Received) -> str:
    """Count and data fit each other; a count lower than asked for is another matter."""
    content = seen.message.payload
    assert isinstance(content, RegionReadReply)
    return "" if len(content.data) == content.count else f"count is {content.count}, {len(content.data)} bytes came"


def write_mappable(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Write what was read at a place that can be mapped."""
    flags = RegionInfoFlags.MMAP | RegionInfoFlags.READ | RegionInfoFlags.WRITE
    found = [info for info in facts.regions.values() if info.flags & flags == flags and info.size >= 4]
    if not found:
        raise NotApplicable("no region can be mapped, read and written")
    areas = [link.content.areas for link in regioncaps.walk(found[0])[0] if isinstance(link.content, SparseMmap)]
    place = areas[0][0].offset if areas and areas[0] else 0
    seen = yield exchange(read(found[0].index, place, 4), Reply())
    content = seen.message.payload if isinstance(seen, Received) else None
    if isinstance(content, RegionReadReply):
        yield exchange(Send(RegionWriteRequest(region=found[0].index, offset=place, data=content.data)), Reply())


def every_readable(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Read from each region."""
    found = [index for index, info in facts.regions.items() if info.flags & RegionInfoFlags.READ and info.size >= 4]
    if not found:
        raise NotApplicable("no region can be read")
    for index in found:
        yield exchange(read(index, 0, 4), Reply())


CASES = [
    Case(
        ident="region-access/read",
        requirement="read-write.reply-data",
        stimulus=read(CONFIG, 0, 4),
        expect=Reply(whole=Whole("as many bytes as its count says", data_problem)),
        catches=("read-data-longer-than-count",),
    ),
    Case(
        ident="region-access/read-echoes",
        requirement="read-write.echo",
        stimulus=read(CONFIG, 4, 8),
        expect=Reply(offset=4, region=CONFIG, count=8),
        catches=("read-echoes-nothing",),
    ),
    Case(
        ident="region-access/read-odd-width",
        requirement="get-region-info.access-flags",
        stimulus=read(CONFIG, 1, 3),
        expect=Reply(offset=1, region=CONFIG, count=3),
        catches=("read-odd-width-refused",),
    ),
    Case(
        ident="region-access/read-to-the-end",
        requirement="get-region-info.access-flags",
        stimulus=read(CONFIG, size_of(CONFIG) - 4, 4),
        expect=Reply(count=4),
        catches=("read-last-bytes-refused",),
    ),
    Case(
        ident="region-access/read-mappable",
        requirement="read-write.even-if-mapped",
        stimulus=read(READ_MAPPABLE, 0, 4),
        expect=Reply(),
        catches=("read-mappable-refused",),
    ),
    Case(
        ident="region-access/write-mappable",
        requirement="read-write.even-if-mapped",
        stimulus="VFIO_USER_REGION_READ of 4 bytes that can be mapped, and VFIO_USER_REGION_WRITE of the same bytes",
        expect="a reply to each",
        script=write_mappable,
        hazards=frozenset({"write"}),
        catches=("write-mappable-refused",),
    ),
    Case(
        ident="region-access/every-readable",
        requirement="get-region-info.access-flags",
        stimulus="VFIO_USER_REGION_READ of the first 4 bytes of each region that has the read flag",
        expect="a reply to each",
        script=every_readable,
        catches=("read-of-one-region-refused",),
    ),
    Case(
        ident="region-access/read-without-flag",
        requirement="read-write.bad-range",
        stimulus=read(UNREADABLE, 0, 4),
        expect=REFUSED,
        catches=("read-without-flag-crash",),
    ),
    Case(
        ident="region-access/write-without-flag",
        requirement="read-write.bad-range",
        stimulus=Send(RegionWriteRequest(region=UNWRITABLE, offset=0, data=PATTERN[:4])),
        expect=REFUSED,
        hazards=frozenset({"write"}),
        catches=("write-without-flag-crash",),
    ),
    nowhere("behind-the-end", read(CONFIG, size_of(CONFIG), 4), "read-behind-the-end-crash"),
    nowhere("across-the-end", read(CONFIG, size_of(CONFIG) - 2, 4), "read-across-the-end-crash"),
    nowhere("one-byte-across-the-end", read(CONFIG, size_of(CONFIG) - 3, 4), "read-one-byte-more-crash"),
    nowhere("range-wraps", read(CONFIG, 2**64 - 2, 4), "read-wrap-crash"),
    nowhere("no-such-region", read(NUM_REGIONS, 0, 4), "read-no-such-region-crash"),
    nowhere("count-largest", read(CONFIG, 0, 0xFFFFFFFF), "read-count-largest-crash"),
    nowhere("over-the-limit", read(CONFIG, 0, MAX_XFER + 1), "read-over-the-limit-hangs"),
    Case(
        ident="region-access/count-zero",
        requirement="read-write.zero-count",
        stimulus=read(CONFIG, 0, 0),
        expect=Either(Reply(data=b""), EmptyReply(), ErrorReply(), HangUp()),
        catches=("read-count-zero-hangs",),
    ),
    Case(
        ident="region-access/write",
        requirement="region-write.reply",
        stimulus=write(PATTERN),
        expect=Reply(fds=0),
        catches=("write-reply-with-data",),
    ),
    Case(
        ident="region-access/write-echoes",
        requirement="read-write.echo",
        stimulus=write(PATTERN),
        expect=Reply(offset=SCRATCH, region=SCRATCH_REGION, count=len(PATTERN)),
        catches=("write-echoes-nothing",),
    ),
    Case(
        ident="region-access/write-read-back",
        requirement="get-region-info.access-flags",
        needs=(SCRATCH_KEEPS,),
        stimulus=(write(PATTERN), read(SCRATCH_REGION, SCRATCH + 4, 8)),
        expect=(Reply(), Reply(data=PATTERN[4:12])),
        catches=("write-lost",),
    ),
    Case(
        ident="region-access/write-without-data",
        requirement="region-write.data",
        stimulus=write(PATTERN[:4], count=8),
        expect=REFUSED,
        catches=("write-short-data-accepted",),
    ),
    Case(
        ident="region-access/write-with-too-much",
        requirement="region-write.data",
        stimulus=write(PATTERN[:4], extra=bytes(4)),
        expect=REFUSED,
        catches=("write-long-data-accepted",),
    ),
    Case(
        ident="region-access/write-several",
        requirement="write-multi.reply",
        stimulus=(
            Send(
                RegionWriteMultiRequest(
                    wrs=(
                        DeviceWrite(region=SCRATCH_REGION, offset=SCRATCH, count=4, data=0x11111111),
                        DeviceWrite(region=SCRATCH_REGION, offset=SCRATCH + 4, count=4, data=0x22222222),
                    )
                )
            ),
            read(SCRATCH_REGION, SCRATCH, 8),
        ),
        expect=(Reply(wr_cnt=2), Reply(data=b"\x11\x11\x11\x11\x22\x22\x22\x22")),
        needs=(WRITE_MULTIPLE, SCRATCH_KEEPS),
        catches=("write-several-does-one",),
    ),
    Case(
        ident="region-access/write-several-count",
        requirement="write-multi.count",
        stimulus=Send(
            RegionWriteMultiRequest(wr_cnt=2**61, wrs=(DeviceWrite(region=SCRATCH_REGION, offset=SCRATCH, count=4),))
        ),
        expect=REFUSED,
        needs=(WRITE_MULTIPLE,),
        catches=("write-several-count-unchecked",),
    ),
]
