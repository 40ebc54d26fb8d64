"""The capabilities of a region: a chain of records behind its info, followed with care (section VFIO region capabilities)."""

from typing import NamedTuple

from vfio_user_proto import wire
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    REGION_CAPABILITIES,
    CapabilityHeader,
    DeviceGetRegionInfoReply,
    RegionInfoFlags,
)
from vfio_user_proto.model import Record


class Capability(NamedTuple):
    """One link of the chain. ``offset`` counts bytes from the start of the region info, as ``header.next`` does.

    ``content`` is None for an id that has no table.
    """

    offset: int
    header: CapabilityHeader
    content: Record | None


def walk(info: DeviceGetRegionInfoReply) -> tuple[list[Capability], DecodeError | None]:
    """The capabilities in the order of the chain, none without the flag CAPS, and what broke the chain, if anything did.

    A chain is broken by a capability that lies outside the reply, is cut, or was there before. The error counts its bytes
    from the start of the region info.
    """
    begin = info.fixed_size
    end = begin + len(info.capabilities)
    at = info.cap_offset if info.flags & RegionInfoFlags.CAPS else 0
    found: list[Capability] = []
    seen = set()
    try:
        while at:
            if at < begin or at > end - CapabilityHeader.fixed_size:
                raise DecodeError("", f"a capability is said to be at byte {at} of {end}")
            if at in seen:
                raise DecodeError("", f"the chain comes back to byte {at}")
            seen.add(at)
            header, rest = wire.decode_record(CapabilityHeader, info.capabilities[at - begin :])
            record = REGION_CAPABILITIES.get(header.id)
            content = None if record is None else wire.decode_record(record, rest)[0]
            found.append(Capability(at, header, content))
            at = header.next
    except DecodeError as error:
        return found, error.inside("DeviceGetRegionInfoReply.capabilities", at + CapabilityHeader.fixed_size)
    return found, None
