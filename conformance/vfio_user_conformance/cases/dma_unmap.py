"""VFIO_USER_DMA_UNMAP: exactly one mapping, let go of before the reply."""

import sys

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, request
from vfio_user_conformance.checks import Released
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.expect import ANYTHING, ErrorReply, Reply
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DmaUnmapRequest

MEMORY = Memfd()
# Page size and size of a bitmap, as older drafts had them.
BITMAP = (0x2000).to_bytes(8, sys.byteorder) + (8).to_bytes(8, sys.byteorder)


def unmap(address: int, size: int = PAGE, flags: int = 0) -> Send:
    """Take a range of client memory away."""
    return Send(DmaUnmapRequest(flags=flags, address=address, size=size))


def mismatch(what: str, address: int, size: int) -> Case:
    """A range that is not one of the two mappings of two pages each, from 0x10000 on."""
    return Case(
        ident=f"dma-unmap/{what}",
        requirement="dma-unmap.mismatch",
        given=(Send(request(0x10000, 2 * PAGE)), Send(request(0x12000, 2 * PAGE))),
        stimulus=(unmap(address, size), unmap(0x10000, 2 * PAGE), unmap(0x12000, 2 * PAGE)),
        expect=(ErrorReply(), Reply(), Reply()),
        catches=(f"unmap-{what}-accepted",),
    )


CASES = [
    Case(
        ident="dma-unmap/reply",
        requirement="dma-unmap.reply",
        given=(Send(request(0x10000)),),
        stimulus=unmap(0x10000),
        expect=Reply(fds=0),
        catches=("unmap-reply-empty",),
    ),
    Case(
        ident="dma-unmap/reply-echoes",
        requirement="dma-unmap.reply-echo",
        given=(Send(request(0x10000)),),
        stimulus=unmap(0x10000),
        expect=Reply(address=0x10000, size=PAGE),
        catches=("unmap-echoes-nothing",),
    ),
    Case(
        ident="dma-unmap/released",
        requirement="dma-unmap.released",
        given=(Send(request(0x10000), fds=(MEMORY,)),),
        stimulus=unmap(0x10000),
        expect=(Reply(), Released(MEMORY, at_once=True)),
        catches=("unmap-keeps-descriptor",),
    ),
    Case(
        ident="dma-unmap/mapped-again",
        requirement="dma-unmap.released",
        given=(Send(request(0x10000)),),
        stimulus=(unmap(0x10000), Send(request(0x10000))),
        expect=(Reply(), Reply()),
        catches=("unmap-range-stays-taken",),
    ),
    mismatch("first-part", 0x10000, PAGE),
    mismatch("last-part", 0x11000, PAGE),
    mismatch("larger", 0x10000, 3 * PAGE),
    mismatch("two-mappings", 0x10000, 4 * PAGE),
    mismatch("unknown-range", 0x40000, PAGE),
    mismatch("begins-before", 0xF000, 3 * PAGE),
    mismatch("size-zero", 0x10000, 0),
    mismatch("everything", 0, 2**64 - 1),
    mismatch("wraps", 0x12000, 2**64 - PAGE),
    Case(
        ident="dma-unmap/twice",
        requirement="dma-unmap.mismatch",
        given=(Send(request(0x10000)),),
        stimulus=(unmap(0x10000), unmap(0x10000)),
        expect=(Reply(), ErrorReply()),
        catches=("unmap-twice-accepted",),
    ),
    Case(
        ident="dma-unmap/flags",
        requirement="dma-unmap.flags",
        given=(Send(request(0x10000)),),
        stimulus=unmap(0x10000, flags=1 << 7),
        expect=ANYTHING,
        catches=("unmap-flags-crash",),
    ),
    Case(
        ident="dma-unmap/with-a-bitmap",
        requirement="dma-unmap.flags",
        given=(Send(request(0x10000)),),
        stimulus=Send(DmaUnmapRequest(argsz=0x1000, flags=1, address=0x10000, size=PAGE), extra=BITMAP),
        expect=ANYTHING,
        catches=("unmap-bitmap-crash",),
        note="Older drafts had a bitmap of dirty pages here, which libvfio-user still answers.",
    ),
]
