"""VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT after real writes of the device: which bits are set, and which are not."""

from typing import Any

from vfio_user_conformance.acting import Transfer
from vfio_user_conformance.answers import Serve
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_logging import STOP, K
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.server_dma import read, write
from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.logged import Act, Report, Start, logged
from vfio_user_conformance.memory import Pages
from vfio_user_conformance.needs import DMA_READ
from vfio_user_conformance.sending import Send

# No multiple of 64 pages, so that bits counted from IOVA 0 show; one that is; and one above 4 GiB.
BASE, ALIGNED, HIGH = 0x103000, 0x200000, 0x1_4567_8000
SMALL, SECOND, SERVED = Memfd(16 * K), Memfd(16 * K), Pages(16 * K)
LARGE, HUGE = Memfd(1024 * K), Memfd(5000 * K)
NEXT = BASE + SMALL.size


def mapped(memory: Memfd = SMALL, address: int = BASE) -> Send:
    """Map a memory with its descriptor."""
    return Send(request(address, memory.size), fds=(memory,))


def at(page: int, count: int = 100, *, base: int = BASE, inside: int = 8) -> tuple[int, int]:
    """A place of (address, length) in a page."""
    return base + page * K + inside, count


def writes(*places: tuple[int, int]) -> tuple[Transfer, ...]:
    """Make the device write there."""
    return tuple(write(*place) for place in places)


def all_of(*dirty: tuple[int, int], base: int = BASE) -> Report:
    """A report of a small mapping."""
    return Report(base, SMALL.size, K, dirty)


def scope(what: str, *acts: Act, fault: str, given: tuple[Send, ...] = (mapped(),), **more: Any) -> Case:
    """What was written is there, and nothing else."""
    return logged(what, "dma-logging.scope", *acts, fault=fault, given=given, **more)


def order(what: str, *acts: Act, fault: str, given: tuple[Send, ...] = (mapped(),)) -> Case:
    """Each bit is that of its page."""
    return logged(what, "dma-logging.bitmap-order", *acts, fault=fault, given=given)


def other_size(what: str, log: int, page: int, report: tuple[int, int], fault: str) -> Case:
    """A log in pages of ``log`` bytes, a write to one of 4096, and a report of (length, page size)."""
    place = at(page, base=ALIGNED)
    acts: tuple[Act, ...] = (Start(log), *writes(place), Report(ALIGNED, *report, (place,)))
    return logged(what, "dma-logging.report-any-page-size", *acts, fault=fault, given=(mapped(LARGE, ALIGNED),))


P1, P3, P7, P9, P12, P14, P70, P300, P4500 = map(at, (1, 3, 7, 9, 12, 14, 70, 300, 4500))
FIVE, TWO, LAST = at(2, 5 * K, inside=0), at(4, 100, inside=K - 50), at(4, 1, inside=K - 1)
N2 = at(2, base=NEXT)
H5 = at(5, base=HIGH)
BOTH = (mapped(), mapped(SECOND, NEXT))
IN_HUGE = (mapped(HUGE),)

CASES = [
    order("one-page", Start(), *writes(P3), all_of(P3), fault="dirty-bits-from-the-top"),
    scope("several-writes", Start(), *writes(P9, P1, P7), all_of(P1, P7, P9), fault="dirty-last-write-only"),
    order("ends-of-the-range", Start(), *writes(at(0), at(15)), all_of(at(0), at(15)), fault="dirty-bits-one-on"),
    order(
        "high-addresses",
        Start(),
        *writes(H5),
        all_of(H5, base=HIGH),
        given=(mapped(SMALL, HIGH),),
        fault="dirty-addresses-of-32-bits",
    ),
    order(
        "range-inside", Start(), *writes(P7), Report(BASE + 4 * K, 8 * K, K, (P7,)), fault="dirty-bits-from-the-mapping"
    ),
    order("odd-length", Start(), *writes(P12), Report(BASE, 13 * K - 8, K, (P12,)), fault="dirty-part-of-page-lost"),
    order(
        "page-70", Start(), *writes(P70), Report(BASE, 200 * K, K, (P70,)), given=IN_HUGE, fault="dirty-bit-of-address"
    ),
    order(
        "page-300",
        Start(),
        *writes(P300),
        Report(BASE, 600 * K, K, (P300,)),
        given=IN_HUGE,
        fault="dirty-page-of-8-bits",
    ),
    order(
        "page-4500",
        Start(),
        *writes(P4500),
        Report(BASE, HUGE.size, K, (P4500,)),
        given=IN_HUGE,
        fault="dirty-4096-pages",
    ),
    scope("last-byte-of-page", Start(), *writes(LAST), all_of(LAST), fault="dirty-end-rounded-down"),
    scope("across-two-pages", Start(), *writes(TWO), all_of(TWO), fault="dirty-first-page-only"),
    scope("several-pages", Start(), *writes(FIVE), all_of(FIVE), fault="dirty-end-counted-too"),
    logged(
        "behind-the-range",
        "dma-logging.bitmap-order",
        Start(),
        *writes(P7),
        Report(BASE, 7 * K),
        given=(mapped(),),
        fault="dirty-range-unchecked",
    ),
    scope(
        "second-mapping",
        Start(),
        *writes(N2),
        all_of(N2, base=NEXT),
        all_of(),
        given=BOTH,
        fault="dirty-first-mapping-only",
    ),
    logged(
        "range-over-two-mappings",
        "dma-logging.scope",
        Start(),
        *writes(P14, N2),
        Report(BASE, 32 * K, K, (P14, N2)),
        given=BOTH,
        fault="dirty-two-mappings-as-one",
    ),
    other_size("finer", 16 * K, 5, (64 * K, K), "dirty-finer-one-bit"),
    other_size("finer-page-300", 64 * K, 325, (512 * K, K), "dirty-finer-page-of-8-bits-hangs"),
    other_size("coarser", K, 6, (64 * K, 16 * K), "dirty-coarser-first-page-only"),
    other_size("coarser-page-300", K, 600, (1024 * K, 2 * K), "dirty-coarser-page-of-8-bits"),
    other_size("coarser-than-range", K, 6, (16 * K, 256 * K), "dirty-page-larger-than-range"),
    scope(
        "other-part-kept",
        Start(),
        *writes(P1, P9),
        Report(BASE, 4 * K, K, (P1,)),
        Report(BASE + 8 * K, 4 * K, K, (P9,)),
        fault="dirty-report-clears-all",
    ),
    logged(
        "reported-twice",
        "dma-logging.report-clears",
        Start(),
        *writes(P3),
        all_of(P3),
        Report(BASE, SMALL.size, silent=True),
        given=(mapped(),),
        fault="dirty-second-report-crash",
    ),
    scope("written-again", Start(), *writes(P3), all_of(P3), *writes(P3), all_of(P3), fault="dirty-once-only"),
    scope(
        "mapped-later",
        Start(),
        mapped(SECOND, NEXT),
        *writes(N2),
        all_of(N2, base=NEXT),
        fault="dirty-mappings-of-the-start",
    ),
    scope("reads", Start(), read(*P3), all_of(), needs=(DMA_READ,), fault="dirty-by-reads"),
    scope("before-the-start", *writes(P3), Start(), all_of(), fault="dirty-before-the-start"),
    scope("started-again", Start(), *writes(P3), STOP, Start(), all_of(), fault="dirty-kept-over-stop"),
    scope(
        "ranges",
        Start(ranges=((BASE, 4 * K), (BASE + 8 * K, 4 * K))),
        *writes(P1, P9),
        all_of(P1, P9),
        fault="dirty-first-range-only",
    ),
    scope(
        "by-message",
        Start(),
        Serve(((BASE, SERVED),)),
        *writes(P3),
        all_of(P3),
        given=(Send(request(BASE, SERVED.size)),),
        fault="dirty-not-by-message",
    ),
]
