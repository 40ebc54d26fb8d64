"""The device in client memory that was mapped with a descriptor: which bytes it reaches, and which it must not."""

from typing import Any

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, READ_WRITE, request
from vfio_user_conformance.cases.dma_unmap import unmap
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import Either, ErrorReply, Reply
from vfio_user_conformance.memory import Holds, NotRead, Pages, Piece, Refill, WasRead
from vfio_user_conformance.needs import DMA_READ, DMA_WRITE
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Reconnect, exchange
from vfio_user_conformance.story import story
from vfio_user_proto.messages import DmaMapFlags

BASE = 0x100000
# Where another mapping begins, which shows that the device goes on.
BEYOND = 0x40000000
MEMORY, OTHER, THIRD = Pages(8 * PAGE), Pages(8 * PAGE, seed=1), Pages(8 * PAGE, seed=2)
READABLE, WRITEABLE = DmaMapFlags.READABLE, DmaMapFlags.WRITEABLE
# Whether a device whose access failed also refuses the write that began it is its own affair.
WHATEVER = Either(Reply(), ErrorReply())


def mapped(memory: Pages, address: int, size: int = 0, *, offset: int = 0, flags: int = READ_WRITE) -> Send:
    """Map a memory, whole or in part, with its descriptor."""
    return Send(request(address, size or memory.size, flags=flags, offset=offset), fds=(memory,))


def write(address: int, length: int) -> Transfer:
    """Make the device write."""
    return Transfer("write", address, length)


def read(address: int, length: int) -> Transfer:
    """Make the device read."""
    return Transfer("read", address, length)


ALL = mapped(MEMORY, BASE)
# A transfer elsewhere: when it is done, what the one before it did is to be seen. That the device goes on is no must.
SPARE = mapped(OTHER, BEYOND)
WRITES_ON = exchange(
    write(BEYOND, 64), under("dma-map.file-offset", Reply(), Completed(), Holds(OTHER, (Piece(0, 64),)))
)
READS_ON = exchange(
    read(BEYOND, 64), under("dma-map.file-offset", Reply(), Completed("read"), WasRead(((OTHER, Piece(0, 64)),)))
)


def writes(what: str, given: tuple[Send, ...], step: Transfer, *holds: Holds, fault: str, **more: Any) -> Case:
    """A write that succeeds: the bytes are where they belong, and only there."""
    return Case(
        ident=f"server-dma/write-{what}",
        requirement=more.pop("requirement", "dma-map.file-offset"),
        given=given,
        stimulus=step,
        expect=(Reply(), Completed(), *holds),
        needs=(DMA_WRITE,),
        catches=(fault,),
        **more,
    )


def reads(what: str, given: tuple[Send, ...], step: Transfer, *pieces: tuple[Pages, Piece], fault: str) -> Case:
    """A read that succeeds: the device got the bytes that are there."""
    return Case(
        ident=f"server-dma/read-{what}",
        requirement="dma-map.file-offset",
        given=given,
        stimulus=step,
        expect=(Reply(), Completed("read"), WasRead(pieces)),
        needs=(DMA_READ,),
        catches=(fault,),
    )


def no_write(
    what: str,
    given: tuple[Send, ...],
    address: int,
    *holds: Holds,
    fault: str,
    length: int = 0x100,
    requirement: str = "dma-map.before-access",
    before: tuple[Exchange, ...] = (),
    spare: tuple[Exchange, ...] = (),
) -> Case:
    """A write that cannot be: nothing changes, and the device goes on."""
    return story(
        f"server-dma/write-{what}",
        requirement,
        *before,
        exchange(write(address, length), (WHATEVER,)),
        *spare,
        WRITES_ON,
        Exchange((), holds),
        given=(*given, *(() if spare else (SPARE,))),
        needs=(DMA_WRITE,),
        catches=(fault,),
    )


def no_read(
    what: str,
    given: tuple[Send, ...],
    address: int,
    piece: Piece,
    fault: str,
    *,
    requirement: str = "dma-map.before-access",
    before: tuple[Exchange, ...] = (),
    spare: tuple[Exchange, ...] = (),
) -> Case:
    """A read that cannot be: the device does not get the bytes, and goes on."""
    return story(
        f"server-dma/read-{what}",
        requirement,
        *before,
        exchange(read(address, piece.count), (WHATEVER, NotRead(((MEMORY, piece),)))),
        *spare,
        READS_ON,
        given=(*given, *(() if spare else (SPARE,))),
        needs=(DMA_READ,),
        catches=(fault,),
    )


UNCHANGED = Holds(MEMORY)
UNMAPPED = exchange(unmap(BASE, MEMORY.size), Reply())
RECONNECTED = Exchange((Reconnect(),), ())
SPARE_AGAIN = exchange(SPARE, Reply())
ANEW = mapped(THIRD, BASE)
# Nothing behind the first mapping changes; that a device which says it is done has written all of it is no must.
TWO_PIECES = (
    Holds(MEMORY, (Piece(3 * PAGE, PAGE),), partly=True),
    *under(
        "dma-map.file-offset",
        Holds(MEMORY, (Piece(3 * PAGE, PAGE),), if_done=True),
        Holds(OTHER, (Piece(0, PAGE, PAGE),), if_done=True),
    ),
)

CASES = [
    writes(
        "at-offset",
        (ALL,),
        write(BASE + 0x1080, 0x200),
        Holds(MEMORY, (Piece(0x1080, 0x200),)),
        fault="dma-offset-in-map-lost",
    ),
    writes(
        "odd-place",
        (ALL,),
        write(BASE + 0xFFD, 0x135),
        Holds(MEMORY, (Piece(0xFFD, 0x135),)),
        fault="dma-rounded-to-words",
    ),
    writes(
        "one-byte", (ALL,), write(BASE + 0x2345, 1), Holds(MEMORY, (Piece(0x2345, 1),)), fault="dma-at-least-a-word"
    ),
    writes(
        "file-offset",
        (mapped(MEMORY, BASE, 2 * PAGE, offset=3 * PAGE),),
        write(BASE + 0x80, PAGE),
        Holds(MEMORY, (Piece(3 * PAGE + 0x80, PAGE),)),
        fault="dma-file-offset-lost",
    ),
    writes("first-byte", (ALL,), write(BASE, 0x40), Holds(MEMORY, (Piece(0, 0x40),)), fault="dma-first-byte-outside"),
    writes(
        "last-byte",
        (ALL,),
        write(BASE + 8 * PAGE - 0x40, 0x40),
        Holds(MEMORY, (Piece(8 * PAGE - 0x40, 0x40),)),
        fault="dma-last-byte-outside",
    ),
    writes(
        "whole-mapping",
        (ALL,),
        write(BASE, 8 * PAGE),
        Holds(MEMORY, (Piece(0, 8 * PAGE),)),
        fault="dma-one-page-at-most",
    ),
    writes(
        "several-mappings",
        (ALL, mapped(OTHER, BASE + 0x10000), mapped(THIRD, BASE + 0x20000)),
        write(BASE + 0x10000 + 0x20, 0x40),
        Holds(OTHER, (Piece(0x20, 0x40),)),
        UNCHANGED,
        Holds(THIRD),
        fault="dma-into-first-mapping",
    ),
    writes(
        "above-4-gib",
        (ALL, mapped(OTHER, BASE | 1 << 32)),
        write((BASE | 1 << 32) + 0x10, 0x40),
        Holds(OTHER, (Piece(0x10, 0x40),)),
        UNCHANGED,
        fault="dma-addresses-of-32-bits",
    ),
    writes(
        "highest-page",
        (mapped(MEMORY, 2**64 - 8 * PAGE),),
        write(2**64 - 0x40, 0x40),
        Holds(MEMORY, (Piece(8 * PAGE - 0x40, 0x40),)),
        fault="dma-highest-page-outside",
    ),
    writes(
        "one-file-twice",
        (mapped(MEMORY, BASE, PAGE), mapped(MEMORY, BEYOND, PAGE, offset=PAGE)),
        write(BEYOND + 0x20, 0x40),
        Holds(MEMORY, (Piece(PAGE + 0x20, 0x40),)),
        fault="dma-file-known-already",
    ),
    Case(
        ident="server-dma/write-across-mappings",
        requirement="dma-map.before-access",
        given=(mapped(MEMORY, BASE, 4 * PAGE), mapped(OTHER, BASE + 4 * PAGE)),
        stimulus=write(BASE + 3 * PAGE, 2 * PAGE),
        expect=(WHATEVER, *TWO_PIECES),
        needs=(DMA_WRITE,),
        catches=("dma-runs-on-in-file",),
        note="A device need not be able to do this; where it does, the bytes are in both files.",
    ),
    no_write(
        "over-the-end",
        (mapped(MEMORY, BASE, 2 * PAGE),),
        BASE + 2 * PAGE - 0x80,
        Holds(MEMORY, (Piece(2 * PAGE - 0x80, 0x80),), partly=True),
        fault="dma-end-unchecked",
    ),
    no_write(
        "before-the-start",
        (mapped(MEMORY, BASE, 2 * PAGE, offset=PAGE),),
        BASE - 0x80,
        Holds(MEMORY, (Piece(PAGE, 0x80, 0x80),), partly=True),
        fault="dma-start-unchecked",
    ),
    no_write(
        "behind-a-mapping", (mapped(MEMORY, BASE, 2 * PAGE),), BASE + 2 * PAGE, UNCHANGED, fault="dma-end-belongs-to-it"
    ),
    no_write("unmapped", (ALL,), BASE + 0x800000, UNCHANGED, fault="dma-falls-back-to-a-mapping"),
    no_write(
        "wrapping",
        (mapped(MEMORY, 2**64 - 8 * PAGE), mapped(THIRD, 0)),
        2**64 - 0x80,
        Holds(MEMORY, (Piece(8 * PAGE - 0x80, 0x80),), partly=True),
        Holds(THIRD),
        fault="dma-wraps",
        requirement="security.validate",
    ),
    no_write(
        "read-only",
        (mapped(MEMORY, BASE, flags=READABLE),),
        BASE + 0x100,
        UNCHANGED,
        fault="dma-writes-read-only",
        requirement="dma-map.access",
    ),
    no_write(
        "after-unmap",
        (ALL,),
        BASE + 0x100,
        UNCHANGED,
        fault="dma-after-unmap",
        requirement="dma-unmap.released",
        before=(UNMAPPED,),
    ),
    no_write(
        "after-reconnect",
        (ALL,),
        BASE + 0x100,
        UNCHANGED,
        fault="dma-after-reconnect",
        requirement="disconnect.unmap-all",
        before=(RECONNECTED,),
        spare=(SPARE_AGAIN,),
    ),
    story(
        "server-dma/write-mapped-anew",
        "dma-unmap.released",
        exchange(
            write(BASE, 0x40), under("dma-map.file-offset", Reply(), Completed(), Holds(MEMORY, (Piece(0, 0x40),)))
        ),
        UNMAPPED,
        exchange(ANEW, Reply()),
        exchange(
            write(BASE + 0x80, 0x40),
            (
                *under("dma-map.file-offset", Reply(), Completed(), Holds(THIRD, (Piece(0x80, 0x40),))),
                Holds(MEMORY, (Piece(0, 0x40),)),
            ),
        ),
        given=(ALL,),
        needs=(DMA_WRITE,),
        catches=("dma-remembers-mapping",),
    ),
    reads(
        "at-offset",
        (ALL,),
        read(BASE + 0x1083, 0x201),
        (MEMORY, Piece(0x1083, 0x201)),
        fault="dma-read-offset-in-map-lost",
    ),
    reads(
        "file-offset",
        (mapped(MEMORY, BASE, 2 * PAGE, offset=3 * PAGE),),
        read(BASE + 0x80, PAGE),
        (MEMORY, Piece(3 * PAGE + 0x80, PAGE)),
        fault="dma-read-file-offset-lost",
    ),
    reads(
        "to-the-end",
        (ALL,),
        read(BASE + 8 * PAGE - 0x40, 0x40),
        (MEMORY, Piece(8 * PAGE - 0x40, 0x40)),
        fault="dma-read-last-byte-outside",
    ),
    reads(
        "several-mappings",
        (ALL, mapped(OTHER, BASE + 0x10000)),
        read(BASE + 0x10020, 0x40),
        (OTHER, Piece(0x20, 0x40)),
        fault="dma-read-from-first-mapping",
    ),
    reads(
        "read-only",
        (mapped(MEMORY, BASE, flags=READABLE),),
        read(BASE + 0x20, 0x40),
        (MEMORY, Piece(0x20, 0x40)),
        fault="dma-read-wants-writeable",
    ),
    story(
        "server-dma/read-again",
        "dma-map.file-offset",
        exchange(read(BASE, 0x40), (Reply(), Completed("read"), WasRead(((MEMORY, Piece(0, 0x40)),)))),
        exchange(
            (Refill(MEMORY), read(BASE, 0x40)), (Reply(), Completed("read"), WasRead(((MEMORY, Piece(0, 0x40)),)))
        ),
        given=(ALL,),
        needs=(DMA_READ,),
        catches=("dma-read-caches",),
    ),
    no_read(
        "write-only",
        (mapped(MEMORY, BASE, flags=WRITEABLE),),
        BASE + 0x100,
        Piece(0x100, 0x100),
        "dma-reads-write-only",
        requirement="dma-map.access",
    ),
    no_read(
        "over-the-end",
        (mapped(MEMORY, BASE, 2 * PAGE),),
        BASE + 2 * PAGE - 0x80,
        Piece(2 * PAGE - 0x80, 0x100),
        "dma-read-end-unchecked",
    ),
    no_read(
        "behind-a-mapping",
        (mapped(MEMORY, BASE, 2 * PAGE),),
        BASE + 2 * PAGE,
        Piece(2 * PAGE, 0x100),
        "dma-read-end-belongs-to-it",
    ),
    no_read(
        "after-unmap",
        (ALL,),
        BASE + 0x100,
        Piece(0x100, 0x100),
        "dma-read-after-unmap",
        requirement="dma-unmap.released",
        before=(UNMAPPED,),
    ),
    no_read(
        "after-reconnect",
        (ALL,),
        BASE + 0x100,
        Piece(0x100, 0x100),
        "dma-read-after-reconnect",
        requirement="disconnect.unmap-all",
        before=(RECONNECTED,),
        spare=(SPARE_AGAIN,),
    ),
]
