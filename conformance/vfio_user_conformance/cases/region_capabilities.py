"""What region info says beyond the single fields: areas that are counted, types, regions that are not there."""

import os
import stat
from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_access import read
from vfio_user_conformance.cases.region_info import CONFIG, areas_of, ask, info_of, with_areas
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, ErrorReply, Reply, Whole, with_bits, without_bits
from vfio_user_conformance.facts import Fact, Facts, NotApplicable
from vfio_user_conformance.needs import CAPABILITIES_ARGSZ, MAPPABLE, WITH_CAPABILITIES
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto import regioncaps
from vfio_user_proto.messages import (
    CapabilityHeader,
    DeviceGetRegionInfoRequest,
    RegionInfoFlags,
    RegionType,
    SparseMmap,
    SparseMmapArea,
)

# The first region index that is specific to a device.
EXTRA = 9


def _absent(facts: Facts) -> int:
    found = [index for index, info in facts.regions.items() if not info.size]
    if not found:
        raise NotApplicable("there is every region")
    return found[0]


ABSENT = Fact("a region that is not there", _absent)


def _room(seen: Received) -> list[tuple[int, int]]:
    """For each list of areas: how many there are, and the bytes up to the next capability, or to the end."""
    links, _ = regioncaps.walk(info_of(seen))
    begins = sorted([*(link.offset for link in links), info_of(seen).wire_size])
    heads = CapabilityHeader.fixed_size + SparseMmap.fixed_size
    return [
        (link.content.nr_areas, begins[begins.index(link.offset) + 1] - link.offset - heads)
        for link in links
        if isinstance(link.content, SparseMmap)
    ]


def count_problem(seen: Received) -> str:
    """There is room for the areas."""
    _, problem = regioncaps.walk(info_of(seen))
    short = [(areas, room) for areas, room in _room(seen) if room < areas * SparseMmapArea.fixed_size]
    return str(problem) if problem else f"nr_areas is {short[0][0]}, and {short[0][1]} bytes follow" if short else ""


def more_problem(seen: Received) -> str:
    """There is no room for a further area: argsz counts what is there, and nothing is there beside the areas."""
    more = [(areas, room) for areas, room in _room(seen) if room >= (areas + 1) * SparseMmapArea.fixed_size]
    return f"nr_areas is {more[0][0]}, and {more[0][1]} bytes of areas follow" if more else ""


def version_problem(seen: Received) -> str:
    """The list of areas has the version of its table."""
    links, _ = regioncaps.walk(info_of(seen))
    versions = [link.header.version for link in links if isinstance(link.content, SparseMmap)]
    return "" if set(versions) <= {1} else f"the version of the list of areas is {versions[0]}"


def file_problem(seen: Received) -> str:
    """A region without areas is in its file from end to end, as far as files have an end."""
    info = info_of(seen)
    if not seen.fds:
        return ""  # which is told elsewhere
    about = os.fstat(seen.fds[0])
    if areas_of(seen) or not stat.S_ISREG(about.st_mode) or about.st_size >= info.offset + info.size:
        return ""
    return f"the file has {about.st_size:#x} bytes, the region {info.size:#x} from {info.offset:#x} on, and no areas"


def type_problem(seen: Received) -> str:
    """There is a type capability."""
    links, problem = regioncaps.walk(info_of(seen))
    has_type = any(isinstance(link.content, RegionType) for link in links)
    return "" if has_type else str(problem or "there is no type")


def every_type(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for each region beyond the standard ones."""
    extra = [index for index, info in facts.regions.items() if index >= EXTRA and info.size]
    if not extra:
        raise NotApplicable("there are no regions beyond the standard ones")
    for index in extra:
        yield exchange(ask(index), Reply(whole=Whole("a type", type_problem)))


CASES = [
    Case(
        ident="region-capabilities/areas-counted",
        requirement="region-caps.sparse-areas",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that has areas to map",
        expect="as many areas as nr_areas says, and no more of them",
        script=with_areas(
            Whole("as many areas as nr_areas says", count_problem),
            Whole("no more of them", more_problem, "argsz.reply-needed"),
        ),
        catches=("region-areas-miscounted", "region-areas-overcounted"),
    ),
    Case(
        ident="region-capabilities/areas-version",
        requirement="region-caps.sparse-version",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region that has areas to map",
        expect="version 1 of the list of areas",
        script=with_areas(Whole("version 1 of the list of areas", version_problem)),
        catches=("region-areas-version-zero",),
    ),
    Case(
        ident="region-capabilities/whole-region-maps",
        requirement="region.sparse-when-partial",
        stimulus=ask(MAPPABLE),
        expect=Reply(fds=1, whole=Whole("areas, or a file that holds the region", file_problem)),
        catches=("region-file-shorter",),
    ),
    Case(
        ident="region-capabilities/type",
        requirement="region.extra-has-type",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each region from 9 on that has a size",
        expect="a type capability",
        script=every_type,
        catches=("region-without-type",),
    ),
    Case(
        ident="region-capabilities/cut-in-the-first",
        requirement="get-region-info.caps-flag-when-cut",
        stimulus=ask(WITH_CAPABILITIES, 36),
        expect=Either(
            Reply(argsz=CAPABILITIES_ARGSZ, capabilities=b"", flags=without_bits(RegionInfoFlags.CAPS)),
            Reply(argsz=CAPABILITIES_ARGSZ, capabilities=b"", flags=with_bits(RegionInfoFlags.CAPS)),
        ),
        catches=("region-info-cut-in-the-first-crash",),
    ),
    Case(
        ident="region-capabilities/absent-region",
        requirement="get-region-info.absent-region",
        stimulus=(ask(ABSENT), read(ABSENT, 0, 4)),
        expect=(Either(Reply(size=0), ErrorReply()), REFUSED),
        catches=("absent-region-crash",),
    ),
    Case(
        ident="region-capabilities/argsz-largest",
        requirement="argsz.reply-needed",
        stimulus=ask(WITH_CAPABILITIES, 0xFFFFFFFF),
        expect=Reply(argsz=CAPABILITIES_ARGSZ),
        catches=("region-info-argsz-largest-refused",),
    ),
    Case(
        ident="region-capabilities/request-not-zero",
        requirement="security.validate",
        stimulus=Send(
            DeviceGetRegionInfoRequest(
                argsz=0x1000, flags=0xFFFFFFFF, index=CONFIG, cap_offset=0xFFFFFFF0, size=1 << 63, offset=1 << 63
            )
        ),
        expect=ANYTHING,
        catches=("region-info-cap-offset-believed",),
    ),
]
