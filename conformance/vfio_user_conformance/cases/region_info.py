"""VFIO_USER_DEVICE_GET_REGION_INFO: sizes, capabilities, and the descriptor to map."""

import mmap
from collections.abc import Callable, Generator
from itertools import pairwise

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import (
    REFUSED,
    Either,
    ErrorReply,
    Expectation,
    Reply,
    Whole,
    at_least,
    with_bits,
    without_bits,
)
from vfio_user_conformance.facts import MOST, Facts, NotApplicable
from vfio_user_conformance.needs import CAPABILITIES_ARGSZ, MAPPABLE, NUM_REGIONS, WITH_CAPABILITIES, has_areas
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Script, exchange
from vfio_user_conformance.words import plural
from vfio_user_proto import regioncaps
from vfio_user_proto.messages import (
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    RegionInfoFlags,
    SparseMmap,
    SparseMmapArea,
)

CONFIG = 7


def ask(index: int, argsz: int = 0x1000) -> Send:
    """Ask for one region."""
    return Send(DeviceGetRegionInfoRequest(argsz=argsz, index=index))


def info_of(seen: Received) -> DeviceGetRegionInfoReply:
    """The payload of a reply that decoded."""
    assert isinstance(seen.message.payload, DeviceGetRegionInfoReply)
    return seen.message.payload


def every_region(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for each region; a server may refuse those that the device has not."""
    yield exchange(ask(CONFIG), Reply(size=at_least(256)))
    for index in range(min(facts.device.num_regions, MOST)):
        yield exchange(ask(index), Either(Reply(), ErrorReply()))


def every(test: Callable[[DeviceGetRegionInfoReply], object], missing: str, expect: Expectation) -> Script:
    """Ask for each region that ``test`` picks."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        found = [index for index, info in facts.regions.items() if test(info)]
        if not found:
            raise NotApplicable(missing)
        for index in found:
            yield exchange(ask(index), expect)

    return script


def with_capabilities(whole: Whole) -> Script:
    """Ask for each region that has capabilities."""
    return every(lambda info: info.argsz > info.fixed_size, "no region has capabilities", Reply(whole=whole))


def with_areas(*wholes: Whole) -> Script:
    """Ask for each region that has areas to map."""
    expect = Reply(fds=1, whole=wholes)
    return every(
        lambda info: info.flags & RegionInfoFlags.MMAP and has_areas(info), "no region has areas to map", expect
    )


FLAGGED = Reply(flags=with_bits(RegionInfoFlags.MMAP), fds=1)


def chain_problem(seen: Received) -> str:
    """Follow the chain of capabilities; one that comes back breaks another requirement."""
    links, problem = regioncaps.walk(info_of(seen))
    if links and links[-1].header.next in {each.offset for each in links}:
        return ""
    return str(problem) if problem else "" if links else "there is no capability at cap_offset"


def end_problem(seen: Received) -> str:
    """The chain ends, and no two capabilities share bytes."""
    links, problem = regioncaps.walk(info_of(seen))
    ends = sorted((link.offset, link.offset + 8 + (link.content.wire_size if link.content else 0)) for link in links)
    shared = any(end > begin for (_, end), (begin, _) in pairwise(ends))
    return str(problem) if problem else "two capabilities share bytes" if shared else ""


def areas_of(seen: Received) -> tuple[SparseMmapArea, ...]:
    """The areas of the sparse mmap capability."""
    found = (link.content for link in regioncaps.walk(info_of(seen))[0])
    return next((each.areas for each in found if isinstance(each, SparseMmap)), ())


def mapping_problem(seen: Received) -> str:
    """Map each area, or the whole region where there are none; that a descriptor is missing is told elsewhere."""
    info = info_of(seen)
    for area in areas_of(seen) or (SparseMmapArea(offset=0, size=info.size),) if seen.fds else ():
        where = f"area of {area.size:#x} bytes at {area.offset:#x}"
        if not area.size or area.offset + area.size > info.size:
            return f"the {where} is not within the region of {info.size:#x} bytes"
        try:
            mmap.mmap(seen.fds[0], area.size, offset=info.offset + area.offset).close()
        except (OSError, ValueError, OverflowError) as error:
            return f"the {where} cannot be mapped: {error}"
    return ""


def length_problem(seen: Received) -> str:
    """The payload has as many bytes as its argsz says."""
    told, came = info_of(seen).argsz, info_of(seen).wire_size
    return "" if told == came else f"the payload has {plural(came, 'byte')}, and argsz says {told}"


# Half a list would be no breach of a must: the text only says that not all of it is there.
NO_PART = Whole(
    "no part of the capabilities", lambda seen: "a part came" if info_of(seen).capabilities else "", "argsz.too-small"
)

CASES = [
    Case(
        ident="region-info/reply",
        requirement="get-region-info.reply-layout",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for configuration space, then for each index below num_regions",
        expect="a reply with size at least 256, then a reply or an error reply for each",
        script=every_region,
        catches=("region-info-short",),
    ),
    Case(
        ident="region-info/index-echoed",
        requirement="get-region-info.index-echo",
        stimulus=ask(CONFIG),
        expect=Reply(index=CONFIG),
        catches=("region-info-index-zero",),
    ),
    Case(
        ident="region-info/index-beyond",
        requirement="get-region-info.index-range",
        stimulus=ask(NUM_REGIONS),
        expect=REFUSED,
        catches=("region-info-index-crash",),
    ),
    Case(
        ident="region-info/index-largest",
        requirement="get-region-info.index-range",
        stimulus=ask(0xFFFFFFFF),
        expect=REFUSED,
        catches=("region-info-index-signed",),
    ),
    Case(
        ident="region-info/no-caps-flag",
        requirement="get-region-info.caps-flag",
        stimulus=ask(CONFIG),
        expect=Either(
            Reply(argsz=32, flags=without_bits(RegionInfoFlags.CAPS), cap_offset=0),
            Reply(argsz=at_least(40), flags=with_bits(RegionInfoFlags.CAPS)),
        ),
        catches=("region-info-caps-always",),
    ),
    Case(
        ident="region-info/argsz-exact",
        requirement="get-region-info.reply-argsz",
        stimulus=ask(WITH_CAPABILITIES, CAPABILITIES_ARGSZ),
        expect=Reply(
            argsz=CAPABILITIES_ARGSZ,
            whole=Whole("a payload of argsz bytes", length_problem),
        ),
        catches=("region-info-argsz-off-by-one",),
    ),
    Case(
        ident="region-info/caps-flag",
        requirement="get-region-info.caps-flag",
        stimulus=ask(WITH_CAPABILITIES, CAPABILITIES_ARGSZ),
        expect=Reply(flags=with_bits(RegionInfoFlags.CAPS)),
        catches=("region-info-caps-flag-missing",),
    ),
    Case(
        ident="region-info/argsz-one-less",
        requirement="get-region-info.argsz-too-small",
        stimulus=ask(WITH_CAPABILITIES, CAPABILITIES_ARGSZ - 1),
        expect=Reply(argsz=CAPABILITIES_ARGSZ, whole=NO_PART),
        catches=("region-info-capabilities-cut",),
    ),
    Case(
        ident="region-info/argsz-fixed-part",
        requirement="get-region-info.argsz-too-small",
        stimulus=ask(WITH_CAPABILITIES, 32),
        expect=Reply(argsz=CAPABILITIES_ARGSZ, capabilities=b""),
        catches=("region-info-small-argsz-refused",),
    ),
    Case(
        ident="region-info/argsz-below",
        requirement="argsz.below-fixed-part",
        stimulus=ask(CONFIG, 16),
        expect=Either(Reply(argsz=at_least(32), capabilities=b""), ErrorReply()),
        catches=("region-info-cut-to-argsz",),
    ),
    Case(
        ident="region-info/capability-chain",
        requirement="region-caps.chain",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that has capabilities",
        expect="capabilities within argsz",
        script=with_capabilities(Whole("capabilities within argsz", chain_problem)),
        catches=(
            "region-info-cap-offset-from-end",
            "region-info-capability-far-in-the-last",
            "region-areas-overcounted",
        ),
    ),
    Case(
        ident="region-info/capability-chain-ends",
        requirement="region-caps.end",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that has capabilities",
        expect="chains that end",
        script=with_capabilities(Whole("a chain that ends", end_problem)),
        catches=("region-info-chain-circles", "region-info-chain-circles-in-the-last"),
    ),
    Case(
        ident="region-info/mmap-descriptor",
        requirement="get-region-info.mmap-descriptor",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that can be mapped",
        expect="replies with the mmap flag and a descriptor",
        script=every(lambda info: info.flags & RegionInfoFlags.MMAP and info.size, "no region can be mapped", FLAGGED),
        catches=("region-info-mmap-without-descriptor",),
    ),
    Case(
        ident="region-info/mmap-flag-when-cut",
        requirement="get-region-info.mmap-flag-when-cut",
        stimulus=ask(MAPPABLE, 32),
        expect=Either(
            Reply(flags=without_bits(RegionInfoFlags.MMAP), fds=0),
            Reply(flags=with_bits(RegionInfoFlags.MMAP), fds=1),
        ),
        catches=("region-info-mmap-flag-when-cut",),
    ),
    Case(
        ident="region-info/areas-map",
        requirement="region-caps.sparse-within-region",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that has areas to map",
        expect="areas that can be mapped",
        script=with_areas(Whole("areas that can be mapped", mapping_problem)),
        catches=("region-info-area-outside",),
    ),
]
