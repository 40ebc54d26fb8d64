"""The device in client memory, at addresses and with rights that a server has to refuse itself: what killed real ones."""

from vfio_user_conformance.cases.dma_map import PAGE
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
)
from vfio_user_conformance.memory import Piece

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
]
