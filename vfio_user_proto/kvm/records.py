"""Records of sub-regions before they are used: what they promise, and whether that can be."""

import fcntl
import os
from itertools import combinations
from typing import Final

from vfio_user_proto import unix
from vfio_user_proto.device import IoFds, in_ports, match_of, shadow_of
from vfio_user_proto.errors import RemoteProtocolError
from vfio_user_proto.messages import IoeventfdFlags, IoregionfdSubRegion, IoregionFlags, SubRegion

_KNOWN: Final = IoeventfdFlags.DATAMATCH | IoeventfdFlags.PIO
_KNOWN_OF_IOREGION: Final = IoregionFlags.PIO | IoregionFlags.POSTED_WRITES
# Each record is compared with each other one, and KVM has room for no more devices on its buses (NR_IOBUS_DEVS).
MOST: Final = 1000


def why_unusable(entry: SubRegion) -> str:
    """Why the sub-region stays with messages: it asks for what nobody here knows; "" where it is known."""
    if isinstance(entry, IoregionfdSubRegion):
        return f"flags {entry.flags}" if entry.flags & ~_KNOWN_OF_IOREGION else ""
    if entry.flags & ~_KNOWN:
        return f"flags {entry.flags}"
    return "" if entry.size in (0, 1, 2, 4, 8) else f"an ioeventfd for stores of {entry.size} bytes"


def check(io_fds: IoFds, size: int, *, ports: bool) -> None:
    """Raise RemoteProtocolError for records that cannot be right in a region of ``size`` bytes in that space."""
    usable = [(number, entry) for number, entry in enumerate(io_fds.sub_regions) if not why_unusable(entry)]
    if len(usable) > MOST:
        raise RemoteProtocolError(f"{len(usable)} sub-regions are more than the {MOST} that are used")
    for number, entry in usable:
        problem = _problem(entry, size, ports) or _problem_of_fds(entry, io_fds.fds)
        if problem:
            raise RemoteProtocolError(f"sub-region {number} {problem}")
    for (first, one), (second, other) in combinations(usable, 2):
        if _collide(one, other):
            raise RemoteProtocolError(f"sub-regions {first} and {second} claim the same accesses")


def _problem(entry: SubRegion, size: int, ports: bool) -> str:
    if entry.offset + max(1, entry.size) > size:
        return f"reaches beyond the {size} bytes of its region"
    if in_ports(entry) != ports:
        return f"is {'' if in_ports(entry) else 'not '}in the I/O port space, its region is{'' if ports else ' not'}"
    if isinstance(entry, IoregionfdSubRegion) and not entry.size and not entry.flags & IoregionFlags.POSTED_WRITES:
        return "has size 0, but its writes are not posted"
    return ""


def _problem_of_fds(entry: SubRegion, fds: tuple[int, ...]) -> str:
    kind = unix.kind_of(fds[entry.fd_index])
    due = "socket" if isinstance(entry, IoregionfdSubRegion) else "eventfd"
    if kind != due:
        return f"brings no {due} but something else ({kind})"
    shadow = shadow_of(entry)
    if shadow is None:
        return ""
    memory = fds[shadow.shadow_mem_fd_index]
    if unix.kind_of(memory) not in ("memfd", "file"):
        return f"brings no shadow memory but something else ({unix.kind_of(memory)})"
    if fcntl.fcntl(memory, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR:
        return "brings shadow memory that cannot be read and written"
    there = os.fstat(memory).st_size
    if shadow.shadow_offset + (entry.size or 8) > there:
        return f"has its value at byte {shadow.shadow_offset} of a shadow memory of {there} bytes"
    return ""


def _collide(one: SubRegion, other: SubRegion) -> bool:
    """Whether a store could belong to both; ioeventfds are compared as KVM does it (EEXIST)."""
    if isinstance(one, IoregionfdSubRegion) or isinstance(other, IoregionfdSubRegion):
        first, second = sorted((one, other), key=lambda entry: entry.offset)
        return second.offset < first.offset + max(1, first.size)
    if one.offset != other.offset:
        return False
    if not one.size or not other.size:
        return True
    return one.size == other.size and (None in (match_of(one), match_of(other)) or match_of(one) == match_of(other))
