"""VFIO_USER_DMA_MAP: what may be mapped, and above all what may not."""

from errno import EEXIST

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import Released, under
from vfio_user_conformance.descriptors import Memfd, Pipe
from vfio_user_conformance.expect import ANYTHING, ErrorReply, Reply
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DmaMapFlags, DmaMapRequest, DmaUnmapRequest

PAGE = 0x1000
READ_WRITE = DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE
MEMORY, OTHER, PIPE = Memfd(4 * PAGE), Memfd(), Pipe()


def request(address: int, size: int = PAGE, *, flags: int = READ_WRITE, offset: int = 0) -> DmaMapRequest:
    """A range of client memory."""
    return DmaMapRequest(flags=DmaMapFlags(flags), offset=offset, address=address, size=size)


def overlap(what: str, address: int, size: int) -> Case:
    """A second range that shares bytes with the two pages at 0x10000."""
    return Case(
        ident=f"dma-map/overlap-{what}",
        requirement="dma-map.overlap",
        given=(Send(request(0x10000, 2 * PAGE)),),
        stimulus=Send(request(address, size)),
        expect=ErrorReply(EEXIST),
        catches=(f"overlap-{what}-accepted",),
    )


CASES = [
    Case(
        ident="dma-map/with-descriptor",
        requirement="dma-map.reply-empty",
        stimulus=Send(request(0x10000), fds=(MEMORY,)),
        expect=Reply(fds=0),
        catches=("map-reply-with-payload",),
    ),
    Case(
        ident="dma-map/without-descriptor",
        requirement="dma-map.without-descriptor",
        stimulus=Send(request(0x10000)),
        expect=Reply(fds=0),
        catches=("map-wants-descriptor",),
    ),
    Case(
        ident="dma-map/at-offset",
        requirement="dma-map.reply-empty",
        stimulus=Send(request(0x10000, offset=2 * PAGE), fds=(MEMORY,)),
        expect=Reply(fds=0),
        catches=("map-offset-refused",),
    ),
    Case(
        ident="dma-map/adjacent",
        requirement="dma-map.adjacent",
        given=(Send(request(0x10000, 2 * PAGE)),),
        stimulus=(Send(request(0xF000)), Send(request(0x12000))),
        expect=(Reply(), Reply()),
        catches=("map-adjacent-refused",),
    ),
    Case(
        ident="dma-map/highest-page",
        requirement="dma-map.without-descriptor",
        stimulus=(Send(request(2**64 - PAGE)), Send(DmaUnmapRequest(address=2**64 - PAGE, size=PAGE))),
        expect=(Reply(), Reply()),
        catches=("map-highest-page-refused",),
    ),
    overlap("same-range", 0x10000, 2 * PAGE),
    overlap("inside", 0x11000, PAGE),
    overlap("around", 0xF000, 4 * PAGE),
    overlap("first-page", 0xF000, 2 * PAGE),
    overlap("last-page", 0x11000, 2 * PAGE),
    Case(
        ident="dma-map/overlap-keeps-the-old",
        requirement="dma-map.overlap",
        given=(Send(request(0x10000, 2 * PAGE)),),
        stimulus=(Send(request(0x11000)), Send(DmaUnmapRequest(address=0x10000, size=2 * PAGE))),
        expect=(ErrorReply(), Reply()),
        catches=("overlap-replaces",),
    ),
    Case(
        ident="dma-map/refused-closes-descriptor",
        requirement="stream.unexpected-descriptors",
        given=(Send(request(0x10000, 2 * PAGE)),),
        stimulus=Send(request(0x10000), fds=(OTHER,)),
        expect=(ErrorReply(), *under("security.validate", Released(OTHER))),
        catches=("map-refused-keeps-descriptor",),
    ),
    Case(
        ident="dma-map/two-descriptors",
        requirement="stream.unexpected-descriptors",
        stimulus=Send(request(0x10000), fds=(MEMORY, OTHER)),
        expect=(ANYTHING, *under("security.validate", Released(OTHER))),
        catches=("map-second-descriptor-kept",),
    ),
    Case(
        ident="dma-map/pipe-as-memory",
        requirement="security.validate",
        stimulus=Send(request(0x10000), fds=(PIPE,)),
        expect=ANYTHING,
        catches=("map-pipe-crash",),
    ),
    Case(
        ident="dma-map/read-only-memory",
        requirement="security.validate",
        stimulus=Send(request(0x10000), fds=(Memfd(read_only=True),)),
        expect=ANYTHING,
        catches=("map-read-only-crash",),
    ),
    Case(
        ident="dma-map/memory-shorter-than-range",
        requirement="security.validate",
        stimulus=Send(request(0x10000, 16 * PAGE), fds=(OTHER,)),
        expect=ANYTHING,
        catches=("map-short-memory-crash",),
    ),
    Case(
        ident="dma-map/size-zero",
        requirement="dma-map.bad-range",
        stimulus=Send(request(0x10000, 0)),
        expect=ANYTHING,
        catches=("map-size-zero-crash",),
    ),
    Case(
        ident="dma-map/past-the-highest-address",
        requirement="dma-map.bad-range",
        stimulus=Send(request(2**64 - PAGE, 2 * PAGE)),
        expect=ANYTHING,
        catches=("map-past-end-crash",),
    ),
    Case(
        ident="dma-map/unknown-flags",
        requirement="dma-map.unknown-flags",
        stimulus=Send(request(0x10000, flags=READ_WRITE | 1 << 7)),
        expect=ANYTHING,
        catches=("map-unknown-flags-hangs",),
    ),
]
