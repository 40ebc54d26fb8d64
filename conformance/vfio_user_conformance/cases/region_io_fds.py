"""VFIO_USER_DEVICE_GET_REGION_IO_FDS: records, their stride, and the descriptors they count."""

import fcntl
import os
from collections.abc import Callable, Generator
from functools import partial

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.version import propose
from vfio_user_conformance.expect import REFUSED, Either, Erratum, ErrorReply, Reply, Whole, at_least
from vfio_user_conformance.facts import MOST, Facts, NotApplicable
from vfio_user_conformance.needs import IO_FDS_ARGSZ, NUM_REGIONS, SHADOW_IO_FDS, WITH_IO_FDS, WITHOUT_IO_FDS
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Script, exchange
from vfio_user_conformance.steps import each as in_turn
from vfio_user_conformance.words import plural
from vfio_user_proto.device import descriptors_of, in_ports, shadow_of
from vfio_user_proto.devices.pci import BAR5, CONFIG
from vfio_user_proto.messages import (
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    RegionReadReply,
    RegionReadRequest,
    SubRegion,
)
from vfio_user_proto.unix import kind_of


def ask(index: int, argsz: int = 0x1000) -> Send:
    """Ask for the sub-regions of one region."""
    return Send(DeviceGetRegionIoFdsRequest(argsz=argsz, index=index))


def reply_of(seen: Received) -> DeviceGetRegionIoFdsReply:
    """The payload of a reply that decoded."""
    assert isinstance(seen.message.payload, DeviceGetRegionIoFdsReply)
    return seen.message.payload


def records(seen: Received) -> list[SubRegion]:
    """The records of a known kind."""
    return [each for each in reply_of(seen).sub_regions if not isinstance(each, bytes)]


def size_problem(seen: Received) -> str:
    """argsz, count and the records fit each other."""
    reply = reply_of(seen)
    if not reply.sub_regions:
        return f"count is {reply.count}, and no records came"
    if reply.wire_size != reply.argsz or (reply.argsz - 16) % reply.count:
        return f"argsz is {reply.argsz}, {plural(reply.count, 'record')} take {reply.wire_size - 16} bytes"
    return ""


def type_problem(seen: Received) -> str:
    """Every record has a type of the table."""
    stride = (reply_of(seen).argsz - 16) // (reply_of(seen).count or 1)
    known = {int(each) for each in IoFdType}
    types = [
        int.from_bytes(each[20:24], "little") if isinstance(each, bytes) else each.type
        for each in reply_of(seen).sub_regions
    ]
    unknown = [each for each in types if each not in known]
    return f"a record of {stride} bytes has the type {unknown[0]}" if unknown else ""


def index_problem(seen: Received) -> str:
    """Every index counts a descriptor of the reply."""
    indexes = [index for each in records(seen) for index in descriptors_of(each)]
    beyond = [index for index in indexes if index >= len(seen.fds)]
    return f"fd_index {beyond[0]} with {plural(len(seen.fds), 'descriptor')}" if beyond else ""


def posted_problem(seen: Received) -> str:
    """An ioregionfd record without a size has posted writes."""
    for each in records(seen):
        if isinstance(each, IoregionfdSubRegion) and not each.size and not each.flags & IoregionFlags.POSTED_WRITES:
            return f"the record at {each.offset:#x} has size 0 and no posted writes"
    return ""


def kind_problem(seen: Received) -> str:
    """Every descriptor is what its record needs."""
    for each in records(seen):
        if index_problem(seen):
            return ""
        due = "socket" if isinstance(each, IoregionfdSubRegion) else "eventfd"
        if (kind := kind_of(seen.fds[each.fd_index])) != due:
            return f"the record at {each.offset:#x} has no {due} but something else ({kind})"
    return ""


def shadow_problem(seen: Received) -> str:
    """Shadow memory reaches as far as its records say."""
    for each in filter(None, map(shadow_of, records(seen))):
        if index_problem(seen):
            return ""
        size = os.fstat(seen.fds[each.shadow_mem_fd_index]).st_size
        if each.shadow_offset + each.size > size:
            return f"the record at {each.offset:#x} has its value at {each.shadow_offset:#x} of {plural(size, 'byte')}"
    return ""


def read_only_problem(seen: Received) -> str:
    """Shadow memory can be written."""
    for each in filter(None, map(shadow_of, records(seen))):
        if index_problem(seen):
            return ""
        if fcntl.fcntl(seen.fds[each.shadow_mem_fd_index], fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
            return f"the shadow memory of the record at {each.offset:#x} cannot be read and written"
    return ""


def inside_problem(facts: Facts, seen: Received) -> str:
    """Every record lies within the region."""
    size = facts.regions[reply_of(seen).index].size
    for each in records(seen):
        if each.offset >= size or each.offset + each.size > size:
            return f"{each.size:#x} bytes at {each.offset:#x} of a region of {size:#x} bytes"
    return ""


def with_sub_regions(facts: Facts) -> list[int]:
    """The regions that have some. Raises NotApplicable where none has."""
    found = [index for index, each in facts.io_fds.items() if each.count]
    if not found:
        raise NotApplicable("no region has I/O descriptors")
    return found


def every_record(whole: Callable[[Facts], Whole]) -> Script:
    """Ask for the sub-regions of each region that has some, and judge its records."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        for index in with_sub_regions(facts):
            yield exchange(ask(index), Reply(whole=whole(facts)))

    return script


def second_attempt(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask with room for the fixed part, then with the room that was called for."""
    index = WITH_IO_FDS.read(facts)
    seen = yield exchange(ask(index, 16), Reply(sub_regions=()))
    assert isinstance(seen, Received)
    needed = reply_of(seen).argsz
    yield exchange(ask(index, needed), Reply(argsz=needed, whole=Whole("argsz that fits its records", size_problem)))


def port_problem(ports: bool, seen: Received) -> str:
    """Every record says of the space that it is in what the region's BAR says."""
    for each in records(seen):
        if in_ports(each) != ports:
            return f"the record at {each.offset:#x} is {'not ' if ports else ''}in the I/O port space"
    return ""


def spaces(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Look at each BAR that has sub-regions, then at their records."""
    bars = [index for index in with_sub_regions(facts) if index <= BAR5 and CONFIG in facts.regions]
    if not bars:
        raise NotApplicable("no BAR has I/O descriptors")
    for index in bars:
        seen = yield exchange(Send(RegionReadRequest(region=CONFIG, offset=0x10 + 4 * index, count=4)), Reply())
        assert isinstance(seen, Received)
        assert isinstance(seen.message.payload, RegionReadReply)
        ports = bool(seen.message.payload.data[0] & 1)
        words = f"records {'' if ports else 'not '}in the I/O port space"
        yield exchange(ask(index), Reply(whole=Whole(words, partial(port_problem, ports))))


FLAGS_ZERO = Whole("flags 0", lambda seen: f"flags is {flags:#x}" if (flags := reply_of(seen).flags) else "")
# Half a list would be no breach of a must: the text only says that not all of it is there.
NO_PART = Whole(
    "no part of the records", lambda seen: "a part came" if reply_of(seen).wire_size > 16 else "", "argsz.too-small"
)


def some_fds(most: int) -> Whole:
    """At most so many descriptors, which are enough for the records."""

    def problem(seen: Received) -> str:
        return f"{plural(len(seen.fds), 'descriptor')} came" if len(seen.fds) > most else index_problem(seen)

    return Whole(f"at most {plural(most, 'descriptor')}", problem)


def every_region(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for the sub-regions of each region; a server that has no such command may also close the connection."""
    yield from in_turn([ask(index) for index in range(min(facts.device.num_regions, MOST))], Either(Reply(), REFUSED))(
        facts
    )


CASES = [
    Case(
        ident="region-io-fds/every-region",
        requirement="region-io-fds.argsz",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each index below num_regions",
        expect=f"a reply to each whose records can be told apart, or {REFUSED}",
        script=every_region,
        catches=("region-io-fds-argsz-32-more",),
    ),
    Case(
        ident="region-io-fds/argsz",
        requirement="region-io-fds.argsz",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(count=at_least(1), whole=Whole("argsz that fits its records", size_problem)),
        catches=("region-io-fds-argsz-of-records", "region-io-fds-count-stale"),
    ),
    Case(
        ident="region-io-fds/flags-zero",
        requirement="region-io-fds.reply-flags",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="replies with flags 0",
        script=every_record(lambda facts: FLAGS_ZERO),
        catches=("region-io-fds-flags-set",),
    ),
    Case(
        ident="region-io-fds/types",
        requirement="region-io-fds.type",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="records of known types",
        script=every_record(lambda facts: Whole("records of known types", type_problem)),
        catches=("region-io-fds-type-unknown",),
    ),
    Case(
        ident="region-io-fds/posted-writes",
        requirement="region-io-fds.posted-writes",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="posted writes where an ioregionfd has no size",
        script=every_record(lambda facts: Whole("posted writes where an ioregionfd has no size", posted_problem)),
        catches=("region-io-fds-size-zero",),
    ),
    Case(
        ident="region-io-fds/argsz-one-less",
        requirement="region-io-fds.argsz-too-small",
        stimulus=ask(WITH_IO_FDS, IO_FDS_ARGSZ - 1),
        expect=Reply(argsz=IO_FDS_ARGSZ, whole=NO_PART),
        catches=("region-io-fds-small-argsz-refused",),
    ),
    Case(
        ident="region-io-fds/argsz-exact",
        requirement="region-io-fds.argsz",
        stimulus=ask(WITH_IO_FDS, IO_FDS_ARGSZ),
        expect=Reply(argsz=IO_FDS_ARGSZ, whole=Whole("argsz that fits its records", size_problem)),
        catches=("region-io-fds-argsz-off-by-one",),
    ),
    Case(
        ident="region-io-fds/argsz-largest",
        requirement="argsz.reply-needed",
        stimulus=ask(WITHOUT_IO_FDS, 0xFFFFFFFF),
        expect=Reply(argsz=16),
        catches=("region-io-fds-large-argsz-refused",),
    ),
    Case(
        ident="region-io-fds/argsz-below",
        requirement="argsz.below-fixed-part",
        stimulus=ask(WITHOUT_IO_FDS, 8),
        expect=Either(Reply(argsz=16), ErrorReply()),
        catches=("region-io-fds-cut-to-argsz",),
    ),
    Case(
        ident="region-io-fds/none",
        requirement="region-io-fds.descriptors",
        stimulus=ask(WITHOUT_IO_FDS),
        expect=Erratum(Reply(argsz=16, count=0, fds=0)),
        catches=("region-io-fds-none-with-descriptor",),
    ),
    Case(
        ident="region-io-fds/inside-region",
        requirement="region-io-fds.inside",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="records that lie within the region",
        script=every_record(lambda facts: Whole("records within the region", partial(inside_problem, facts))),
        catches=("region-io-fds-offset-beyond",),
    ),
    Case(
        ident="region-io-fds/fd-index",
        requirement="region-io-fds.fd-index",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="indexes of descriptors that came",
        script=every_record(lambda facts: Whole("indexes of descriptors that came", index_problem)),
        catches=(
            "region-io-fds-index-from-one",
            "region-io-fds-without-descriptors",
            "region-io-fds-index-minus-one",
            "region-io-fds-shadow-index-beyond",
        ),
        note="libvfio-user efd091b takes -1 for a descriptor, and sends it as fd_index 0xffffffff.",
    ),
    Case(
        ident="region-io-fds/kinds",
        requirement="region-io-fds.fd-kind",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="an eventfd for an ioeventfd, a socket for an ioregionfd",
        script=every_record(lambda facts: Whole("descriptors of the right kind", kind_problem)),
        catches=("region-io-fds-descriptors-reversed",),
    ),
    Case(
        ident="region-io-fds/shadow-memory",
        requirement="region-io-fds.fd-kind",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="shadow memory that reaches as far as the records say",
        script=every_record(lambda facts: Whole("shadow memory that is long enough", shadow_problem)),
        needs=(SHADOW_IO_FDS,),
        catches=("region-io-fds-shadow-too-short",),
    ),
    Case(
        ident="region-io-fds/shadow-writable",
        requirement="region-io-fds.fd-kind",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions",
        expect="shadow memory that is open for reading and writing, as a mapping of it needs",
        script=every_record(lambda facts: Whole("shadow memory that can be written", read_only_problem)),
        needs=(SHADOW_IO_FDS,),
        catches=("region-io-fds-shadow-read-only",),
    ),
    Case(
        ident="region-io-fds/space",
        requirement="region-io-fds.pio",
        stimulus="the BAR of each region that has sub-regions, from configuration space, then its records",
        expect="records in the I/O port space where the BAR is there, and only there",
        script=spaces,
        catches=("region-io-fds-pio-flag-missing",),
    ),
    Case(
        ident="region-io-fds/second-attempt",
        requirement="region-io-fds.argsz-too-small",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS with argsz 16, then with the argsz of the reply",
        expect="the fixed part, then every record",
        script=second_attempt,
        catches=("region-io-fds-argsz-grows", "io-fds-fixed-part-refused"),
    ),
    Case(
        ident="region-io-fds/argsz-small-no-descriptors",
        requirement="region-io-fds.descriptors",
        stimulus=ask(WITH_IO_FDS, 16),
        expect=Reply(sub_regions=(), fds=0),
        catches=("region-io-fds-descriptors-when-cut",),
    ),
    Case(
        ident="region-io-fds/one-descriptor-stated",
        requirement="version.max-msg-fds-kept",
        given=(Send(propose({"max_msg_fds": 1})),),
        stimulus=ask(WITH_IO_FDS),
        expect=Either(Reply(whole=some_fds(1)), ErrorReply()),
        greet=False,
        catches=("max-msg-fds-off-by-one", "max-msg-fds-ignored"),
    ),
    Case(
        ident="region-io-fds/one-descriptor-by-default",
        requirement="version.max-msg-fds-default",
        given=(Send(propose({})),),
        stimulus=ask(WITH_IO_FDS),
        expect=Either(Reply(whole=some_fds(1)), ErrorReply()),
        greet=False,
        catches=("max-msg-fds-default-many",),
    ),
    Case(
        ident="region-io-fds/four-descriptors",
        requirement="version.max-msg-fds-kept",
        given=(Send(propose({"max_msg_fds": 4})),),
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each region that has sub-regions, of a server that was told 4",
        expect="at most 4 descriptors, those that the records name among them",
        script=every_record(lambda facts: some_fds(4)),
        greet=False,
        catches=("region-io-fds-not-deduplicated", "max-msg-fds-ignored"),
    ),
    Case(
        ident="region-io-fds/index-beyond",
        requirement="get-region-info.index-range",
        stimulus=ask(NUM_REGIONS),
        expect=REFUSED,
        catches=("region-io-fds-index-crash",),
    ),
]
