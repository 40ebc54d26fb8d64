"""Several mappings at a time: gaps between them, ranges over two of them, and the order in which they go."""

from errno import EEXIST

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, request
from vfio_user_conformance.cases.dma_unmap import unmap
from vfio_user_conformance.cases.region_access import CONFIG, read
from vfio_user_conformance.checks import under
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.expect import ANYTHING, Either, ErrorReply, Reply
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DeviceGetInfoRequest, DmaMapFlags, DmaMapRequest, DmaUnmapRequest

TOP = 2**64 - 2 * PAGE
TWO = (Send(request(0x10000)), Send(request(0x12000)))


def allowed(what: str, flags: int) -> Case:
    """Memory that the device may use in one way only."""
    return Case(
        ident=f"dma-ranges/{what}",
        requirement="dma-map.without-descriptor",
        stimulus=(Send(request(0x10000, flags=flags)), unmap(0x10000)),
        expect=(Reply(), Reply()),
        catches=(f"map-{what}-refused",),
    )


def odd(what: str, wanted: DmaMapRequest | DmaUnmapRequest, fault: str, *given: Send) -> Case:
    """A field of which the text does not say what becomes of other values."""
    return Case(
        ident=f"dma-ranges/{what}",
        requirement="security.validate",
        given=given,
        stimulus=Send(wanted),
        expect=ANYTHING,
        catches=(fault,),
    )


CASES = [
    Case(
        ident="dma-ranges/any-time",
        requirement="dma-map.any-time",
        given=(TWO[0], Send(DeviceGetInfoRequest()), read(CONFIG, 0, 4)),
        stimulus=(TWO[1], unmap(0x10000), TWO[0], Send(request(0x20000))),
        expect=(Reply(),) * 4,
        catches=("map-before-first-access-only",),
    ),
    Case(
        ident="dma-ranges/gap",
        requirement="dma-map.adjacent",
        given=TWO,
        stimulus=Send(request(0x11000)),
        expect=Reply(),
        catches=("map-gap-refused",),
    ),
    Case(
        ident="dma-ranges/over-two",
        requirement="dma-map.overlap",
        given=TWO,
        stimulus=Send(request(0x10000, 3 * PAGE)),
        expect=ErrorReply(EEXIST),
        catches=("overlap-two-accepted",),
    ),
    Case(
        ident="dma-ranges/again-with-a-file",
        requirement="dma-map.overlap",
        given=(Send(request(0x10000), fds=(Memfd(),)),),
        stimulus=(Send(request(0x10000), fds=(Memfd(),)), unmap(0x10000), unmap(0x10000)),
        expect=(ErrorReply(EEXIST), Reply(), *under("dma-unmap.mismatch", ErrorReply())),
        catches=("overlap-same-range-with-file-accepted",),
    ),
    Case(
        ident="dma-ranges/at-the-top",
        requirement="dma-map.overlap",
        given=(Send(request(TOP, 2 * PAGE)),),
        stimulus=Send(request(TOP + PAGE)),
        expect=ErrorReply(EEXIST),
        catches=("overlap-at-the-top-accepted",),
    ),
    Case(
        ident="dma-ranges/from-zero",
        requirement="dma-map.overlap",
        given=(Send(request(0, 2 * PAGE)),),
        stimulus=Send(request(0)),
        expect=ErrorReply(EEXIST),
        catches=("overlap-at-zero-accepted",),
    ),
    Case(
        ident="dma-ranges/middle-unmapped",
        requirement="dma-unmap.released",
        given=(*TWO, Send(request(0x11000))),
        stimulus=(unmap(0x11000), Send(request(0x11000)), unmap(0x12000), unmap(0x10000), unmap(0x11000)),
        expect=(Reply(),) * 5,
        catches=("unmap-removes-the-last",),
    ),
    allowed("readable-only", DmaMapFlags.READABLE),
    allowed("writeable-only", DmaMapFlags.WRITEABLE),
    odd("neither-readable-nor-writeable", request(0x10000, flags=0), "map-without-permissions-crash"),
    odd("argsz-zero", request(0x10000).replace(argsz=0), "map-argsz-zero-crash"),
    odd("argsz-largest", request(0x10000).replace(argsz=0xFFFFFFFF), "map-argsz-largest-hangs"),
    Case(
        ident="dma-ranges/unmap-argsz-below",
        requirement="argsz.below-fixed-part",
        given=(TWO[0],),
        stimulus=Send(DmaUnmapRequest(argsz=8, address=0x10000, size=PAGE)),
        expect=Either(Reply(), ErrorReply()),
        catches=("unmap-cut-to-argsz",),
    ),
    odd(
        "unmap-argsz-largest",
        DmaUnmapRequest(argsz=0xFFFFFFFF, address=0x10000, size=PAGE),
        "unmap-argsz-largest-crash",
        TWO[0],
    ),
]
