"""The device in client memory at the edge: addresses, rights and lengths that killed or confused real servers."""

from vfio_user_conformance.answers import Serve
from vfio_user_conformance.cases.dma_map import PAGE
from vfio_user_conformance.cases.dma_messages import LARGE, announced, moves, proposal
from vfio_user_conformance.cases.server_dma import (
    ALL,
    BASE,
    MEMORY,
    READS_ON,
    UNCHANGED,
    WRITES_ON,
    mapped,
    no_read,
    no_write,
    read,
)
from vfio_user_conformance.memory import Piece, WasRead

# Where an access begins that goes on behind the highest address.
TOP = 2**64 - PAGE

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
