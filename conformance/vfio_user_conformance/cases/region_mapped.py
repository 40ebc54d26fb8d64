"""Regions that are really mapped: what is in the mapping against what VFIO_USER_REGION_READ and REGION_WRITE say."""

import mmap
import os
import stat
from collections.abc import Callable, Generator
from dataclasses import dataclass

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_info import areas_of, ask, info_of, mapping_problem
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Problem, Reply, Whole
from vfio_user_conformance.facts import Fact, Facts
from vfio_user_conformance.needs import MAPPABLE, WITH_AREAS
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.steps import Exchange, Reconnect, exchange
from vfio_user_proto.messages import RegionReadRequest, RegionWriteRequest, SparseMmapArea

PAGE = mmap.PAGESIZE
ASK = ask(MAPPABLE)
# As wide as a register: one that is no memory need not take more at once.
FIRST, SECOND = b"abcd", b"qrst"
WRITES = frozenset({"write"})


@dataclass(frozen=True)
class Place:
    """``count`` bytes at ``at`` of a region that was mapped, with the descriptor and the offset of the reply ``seen``."""

    seen: Received
    at: int
    count: int = len(FIRST)

    @property
    def region(self) -> int:
        return info_of(self.seen).index

    def open(self) -> tuple[mmap.mmap, int]:
        """A mapping of the pages around it, and where it begins there; that it can be mapped has been looked at before."""
        begin = info_of(self.seen).offset + self.at
        page = begin // PAGE * PAGE
        return mmap.mmap(self.seen.fds[0], begin + self.count - page, offset=page), begin - page

    def load(self) -> bytes:
        """The bytes in the mapping."""
        mapping, at = self.open()
        with mapping:
            return mapping[at : at + self.count]

    @property
    def read(self) -> Send:
        return Send(RegionReadRequest(region=self.region, offset=self.at, count=self.count))

    def write(self, data: bytes) -> Send:
        return Send(RegionWriteRequest(region=self.region, offset=self.at, data=data))

    def __str__(self) -> str:
        return f"{self.count} bytes at {self.at:#x} of region {self.region}"


@dataclass(frozen=True)
class Store:
    """Put bytes into a mapping."""

    place: Place
    data: bytes

    def perform(self, session: Session) -> None:
        mapping, at = self.place.open()
        with mapping:
            mapping[at : at + len(self.data)] = self.data

    def __str__(self) -> str:
        return f"store {self.place} through the mapping"


@dataclass(frozen=True)
class Mapped(AfterCheck):
    """The mapping has these bytes."""

    place: Place
    data: bytes

    def check(self, session: Session) -> list[Problem]:
        found = self.place.load()
        return [] if found == self.data else [Problem(f"the mapping of {self.place} has {found.hex(' ', 4)}")]

    def __str__(self) -> str:
        return f"the mapping of {self.place} with {self.data.hex(' ', 4)}"


def places(seen: Seen) -> list[Place]:
    """The beginning and the end of each area that can be mapped; of the whole region where none are named."""
    assert isinstance(seen, Received)
    areas = areas_of(seen) or (SparseMmapArea(offset=0, size=info_of(seen).size),)
    ends = [(area.offset, area.offset + area.size - len(FIRST)) for area in areas]
    return [Place(seen, at) for both in ends for at in both]


def file_problem(seen: Received) -> str:
    """There is a file, which goes to the end of each area, as far as files have an end."""
    if not seen.fds:
        return "no descriptor came"
    about, base = os.fstat(seen.fds[0]), info_of(seen).offset
    short = [area for area in areas_of(seen) if base + area.offset + area.size > about.st_size]
    if not short or not stat.S_ISREG(about.st_mode):
        return mapping_problem(seen)
    return f"the file has {about.st_size:#x} bytes, an area ends at {base + short[0].offset + short[0].size:#x}"


INFO = exchange(ASK, Reply(fds=1, whole=Whole("a file that holds the areas", file_problem)))


def _read_back(place: Place, before: bytes) -> Whole:
    """What a command has to read where the mapping had ``before``, and has the same bytes afterwards."""

    def problem(seen: Received) -> str:
        data, after = getattr(seen.message.payload, "data", b""), place.load()
        steady = [at for at in range(place.count) if before[at] == after[at]]
        wrong = [at for at in steady if data[at : at + 1] != before[at : at + 1]]
        return f"the mapping has {before.hex(' ', 4)}, the command read {data.hex(' ', 4)}" if wrong else ""

    return Whole("the bytes that the mapping has", problem)


def as_it_is(place: Place) -> Generator[Exchange, Seen, None]:
    """Nothing is changed; bytes that change by themselves meanwhile do not count."""
    yield exchange(place.read, Reply(whole=_read_back(place, place.load())))


def by_mapping(place: Place) -> Generator[Exchange, Seen, None]:
    """Stored through the mapping, read by a command."""
    for data in (FIRST, SECOND):
        yield exchange((Store(place, data), place.read), Reply(data=data))


def by_command(place: Place) -> Generator[Exchange, Seen, None]:
    """Written by a command, looked at in the mapping."""
    for data in (FIRST, SECOND):
        yield exchange(place.write(data), (Reply(), Mapped(place, data)))


def by_two_clients(place: Place) -> Generator[Exchange, Seen, None]:
    """Stored by one client, looked at by the next one."""
    yield Exchange((Store(place, FIRST),), ())
    again = yield Exchange((Reconnect(), *INFO.steps), INFO.expect)
    assert isinstance(again, Received)
    there = Place(again, place.at)
    yield exchange(there.read, (Reply(data=FIRST), Mapped(there, FIRST)))


def across_the_end(place: Place) -> Generator[Exchange, Seen, None]:
    """A command goes from an area to what cannot be mapped."""
    size, half = info_of(place.seen).size, len(FIRST) // 2
    wider = Place(place.seen, max(place.at - half, 0), len(FIRST) * 2)
    if wider.at + wider.count <= size:
        yield exchange(wider.read, Reply(count=wider.count))


def mapping(
    what: str,
    requirement: str,
    does: str,
    expected: str,
    follow: Callable[[Place], Generator[Exchange, Seen, None]],
    fault: str,
    *,
    hazards: frozenset[str] = frozenset(),
    needs: Fact = MAPPABLE,
) -> Case:
    """Something that is done at the beginning and at the end of each area of a region."""

    def script(_facts: Facts) -> Generator[Exchange, Seen, None]:
        begun = yield INFO
        for number in range(len(places(begun))):
            seen = yield INFO  # a connection of its own may have been the last one
            yield from follow(places(seen)[number])

    return Case(
        ident=f"region-mapped/{what}",
        requirement=requirement,
        stimulus=f"{ASK}; then, at the beginning and the end of each area, {does}",
        expect=expected,
        script=script,
        needs=(needs,),
        hazards=hazards,
        catches=(fault,),
    )


def pages_problem(seen: Received) -> str:
    """Each area begins and ends with a page."""
    uneven = [area for area in areas_of(seen) if (area.offset | area.size) % PAGE]
    return f"an area of {uneven[0].size:#x} bytes at {uneven[0].offset:#x} has no whole pages" if uneven else ""


BYTES = "region.mapped-bytes"

CASES = [
    mapping(
        "as-read",
        BYTES,
        "read what is in the mapping, by a command too",
        "the same bytes",
        as_it_is,
        "mapped-other-memory",
    ),
    mapping(
        "stored-and-read",
        BYTES,
        "store bytes through the mapping, and read them by a command",
        "the bytes that were stored",
        by_mapping,
        "mapped-stores-unseen",
        hazards=WRITES,
    ),
    mapping(
        "written-and-loaded",
        BYTES,
        "write bytes by a command",
        "the bytes in the mapping",
        by_command,
        "mapped-writes-kept-apart",
        hazards=WRITES,
    ),
    mapping(
        "by-two-clients",
        "disconnect.state-kept",
        "store bytes through the mapping, leave, connect again, and map the region anew",
        "the bytes in the new mapping, and by a command",
        by_two_clients,
        "mapped-memory-of-each-client",
        hazards=WRITES,
    ),
    mapping(
        "across-the-end-of-an-area",
        "get-region-info.access-flags",
        "read bytes inside and outside by one command",
        "a reply with all of them",
        across_the_end,
        "mapped-read-across-refused",
        needs=WITH_AREAS,
    ),
    Case(
        ident="region-mapped/areas-of-pages",
        requirement="region-caps.sparse-within-region",
        stimulus=ask(WITH_AREAS),
        expect=Reply(fds=1, whole=Whole("areas of whole pages", pages_problem)),
        catches=("mapped-areas-of-half-pages",),
    ),
    Case(
        ident="region-mapped/file-holds-areas",
        requirement="region-caps.sparse-within-region",
        stimulus=ask(WITH_AREAS),
        expect=Reply(fds=1, whole=Whole("a file that holds the areas", file_problem)),
        catches=("mapped-file-shorter",),
    ),
]
