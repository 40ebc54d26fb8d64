"""The device in client memory at the edge: addresses, rights and lengths that killed or confused real servers."""

from vfio_user_conformance.answers import Serve
from vfio_user_conformance.cases.dma_map import PAGE
from vfio_user_conformance.cases.dma_messages import LARGE, announced, moves, proposal
from vfio_user_conformance.cases.server_dma import (
    ALL,
    BASE,
    BEYOND,
    MEMORY,
    READS_ON,
    SPARE,
    UNCHANGED,
    WHATEVER,
    WRITES_ON,
    mapped,
    no_read,
    no_write,
    read,
    write,
)
from vfio_user_conformance.memory import Holds, Pages, Piece, WasRead
from vfio_user_conformance.needs import DMA_WRITE
from vfio_user_conformance.steps import exchange
from vfio_user_conformance.story import story

# Where an access begins that goes on behind the highest address.
TOP = 2**64 - PAGE
# Large enough to lie side by side where a server maps them.
NEIGHBOUR = Pages(LARGE.size, seed=2)
# A server may refuse a mapping that begins inside a page, and one that goes on where its file ends.
INSIDE_A_PAGE = exchange(mapped(LARGE, BASE, 0x100000, offset=0x800), WHATEVER)
LONGER_THAN_FILE = exchange(mapped(MEMORY, BASE, 16 * PAGE), WHATEVER)

CASES = [
    no_write(
        "wrapping-after-another",
        (ALL,),
        TOP,
        UNCHANGED,
        fault="dma-wraps-in-the-last",
        length=2 * PAGE,
        before=(WRITES_ON,),
    ),
    no_read(
        "wrapping-after-another", (ALL,), TOP, Piece(0, 2 * PAGE), "dma-read-wraps-in-the-last", before=(READS_ON,)
    ),
    no_read(
        "without-access",
        (mapped(MEMORY, BASE, flags=0),),
        BASE + 0x100,
        Piece(0x100, 0x100),
        "dma-reads-without-access",
        requirement="dma-map.access",
    ),
    story(
        "server-dma/write-offset-in-page",
        "dma-map.file-offset",
        INSIDE_A_PAGE,
        exchange(
            write(BASE + 0xFFF00, 0x100),
            (WHATEVER, Holds(LARGE, (Piece(0x100700, 0x100),), if_done=True), Holds(NEIGHBOUR)),
        ),
        WRITES_ON,
        given=(SPARE, mapped(NEIGHBOUR, 2 * BEYOND)),
        needs=(DMA_WRITE,),
        catches=("dma-mapped-by-the-page",),
    ),
    no_read(
        "behind-the-file",
        (),
        BASE + 12 * PAGE,
        Piece(0, 0x100),
        "dma-reads-behind-the-file",
        requirement="security.validate",
        before=(LONGER_THAN_FILE,),
    ),
    moves(
        "read-above-its-own-limit",
        "dma-map.without-descriptor",
        read(BASE, LARGE.size),
        WasRead(((LARGE, Piece(0, LARGE.size)),)),
        given=(proposal(limit=4 << 20), announced(size=LARGE.size)),
        serve=Serve(((BASE, LARGE),)),
        greet=False,
        fault="message-own-limit-for-replies",
    ),
]
