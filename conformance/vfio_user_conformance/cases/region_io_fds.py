"""VFIO_USER_DEVICE_GET_REGION_IO_FDS: records, their stride, and the descriptors they count."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import REFUSED, Either, Erratum, ErrorReply, Reply, Whole, at_least
from vfio_user_conformance.facts import IO_FDS_ARGSZ, MOST, NUM_REGIONS, WITH_IO_FDS, WITHOUT_IO_FDS, Facts
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.steps import Exchange, Send, exchange
from vfio_user_conformance.words import plural
from vfio_user_proto.messages import (
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
    SubRegion,
)


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
    indexes = [each.fd_index for each in records(seen)]
    indexes += [
        each.shadow_mem_fd_index
        for each in records(seen)
        if isinstance(each, ShadowIoeventfdSubRegion) and each.type == IoFdType.IOEVENTFD_SHADOW
    ]
    beyond = [index for index in indexes if index >= len(seen.fds)]
    return f"fd_index {beyond[0]} with {plural(len(seen.fds), 'descriptor')}" if beyond else ""


def posted_problem(seen: Received) -> str:
    """An ioregionfd record without a size has posted writes."""
    for each in records(seen):
        if isinstance(each, IoregionfdSubRegion) and not each.size and not each.flags & IoregionFlags.POSTED_WRITES:
            return f"the record at {each.offset:#x} has size 0 and no posted writes"
    return ""


def every_region(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for the sub-regions of each region."""
    for index in range(min(facts.device.num_regions, MOST)):
        yield exchange(ask(index), Either(Reply(), ErrorReply()))


CASES = [
    Case(
        ident="region-io-fds/every-region",
        requirement="region-io-fds.argsz",
        stimulus="VFIO_USER_DEVICE_GET_REGION_IO_FDS for each index below num_regions",
        expect="a reply to each whose records can be told apart, or an error reply",
        script=every_region,
        catches=("region-io-fds-argsz-32-more",),
    ),
    Case(
        ident="region-io-fds/argsz",
        requirement="region-io-fds.argsz",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(count=at_least(1), whole=Whole("argsz that fits its records", size_problem)),
        catches=("region-io-fds-argsz-of-records",),
    ),
    Case(
        ident="region-io-fds/flags-zero",
        requirement="region-io-fds.reply-flags",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(flags=0),
        catches=("region-io-fds-flags-set",),
    ),
    Case(
        ident="region-io-fds/types",
        requirement="region-io-fds.type",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(whole=Whole("records of known types", type_problem)),
        catches=("region-io-fds-type-unknown",),
    ),
    Case(
        ident="region-io-fds/fd-index",
        requirement="region-io-fds.fd-index",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(whole=Whole("indexes of descriptors that came", index_problem)),
        catches=("region-io-fds-index-from-one",),
    ),
    Case(
        ident="region-io-fds/posted-writes",
        requirement="region-io-fds.posted-writes",
        stimulus=ask(WITH_IO_FDS),
        expect=Reply(whole=Whole("posted writes where an ioregionfd has no size", posted_problem)),
        catches=("region-io-fds-size-zero",),
    ),
    Case(
        ident="region-io-fds/argsz-one-less",
        requirement="region-io-fds.argsz-too-small",
        stimulus=ask(WITH_IO_FDS, IO_FDS_ARGSZ - 1),
        expect=Reply(argsz=IO_FDS_ARGSZ, sub_regions=(), fds=0),
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
        ident="region-io-fds/index-beyond",
        requirement="get-region-info.index-range",
        stimulus=ask(NUM_REGIONS),
        expect=REFUSED,
        catches=("region-io-fds-index-crash",),
    ),
]
