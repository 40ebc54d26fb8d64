"""Files behind VFIO_USER_DMA_MAP that are not what the request says: no memory, too short, sealed, at odd offsets."""

import fcntl

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, request
from vfio_user_conformance.cases.dma_unmap import unmap
from vfio_user_conformance.checks import Released
from vfio_user_conformance.descriptors import Descriptor, LoneEventFd, Memfd, Odd
from vfio_user_conformance.expect import ANYTHING
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import DmaMapRequest

ADDRESS = 0x10000
SEALED = Memfd(PAGE, seals=fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)


def kind(what: str, passed: Descriptor, *, seen: bool = False) -> Case:
    """A descriptor that is no memory; where its end is ``seen``, it is to be let go of, mapped or not."""
    closed = (Released(passed),) if seen else ()
    return Case(
        ident=f"dma-files/{what}",
        requirement="security.validate",
        stimulus=(Send(request(ADDRESS), fds=(passed,)), unmap(ADDRESS)),
        expect=(ANYTHING, ANYTHING, *closed),
        catches=(f"map-{what}-{'kept' if seen else 'crash'}",),
    )


def place(what: str, wanted: DmaMapRequest, fault: str, size: int = 4 * PAGE, note: str = "") -> Case:
    """A range of a file that the file may not have."""
    return Case(
        ident=f"dma-files/{what}",
        requirement="security.validate",
        stimulus=(Send(wanted, fds=(Memfd(size),)), unmap(wanted.address, wanted.size)),
        expect=(ANYTHING, ANYTHING),
        catches=(fault,),
        note=note,
    )


CASES = [
    kind("socket", Odd("socket"), seen=True),
    kind("eventfd", LoneEventFd(), seen=True),
    kind("directory", Odd("directory")),
    kind("device", Odd("device")),
    kind("sealed-memory", SEALED),
    kind("file-on-disk", Odd("file", PAGE)),
    place("empty", request(ADDRESS), "map-empty-file-crash", 0),
    place("offset-behind-the-end", request(ADDRESS, offset=4 * PAGE), "map-offset-behind-the-end-crash"),
    place("offset-wraps", request(ADDRESS, 2 * PAGE, offset=2**64 - PAGE), "map-offset-wraps-crash"),
    place(
        "offset-not-of-a-page",
        request(ADDRESS, offset=0x800),
        "map-offset-not-of-a-page-crash",
        note="libvfio-user efd091b maps too little of the file; a device that comes to its end faults (lib/dma.c:267).",
    ),
    place("part-of-a-page", request(ADDRESS, 0x801), "map-part-of-a-page-crash"),
    place("address-not-of-a-page", request(ADDRESS + 0x10, PAGE), "map-address-not-of-a-page-crash"),
    place("larger-than-memory", request(ADDRESS, 1 << 62), "map-larger-than-memory-crash"),
]
