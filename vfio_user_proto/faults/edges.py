"""Faults at the edges of queries and accesses: fields that nobody looks at, and what was not offered."""

import errno
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import Fault, crash, fields, outgoing, payload, refuse
from vfio_user_proto.messages import (
    Command,
    DeviceFlags,
    DeviceGetRegionInfoReply,
    IrqSetFlags,
    RegionInfoFlags,
)
from vfio_user_proto.session import Filter

INFO, REGION, IO_FDS = Command.DEVICE_GET_INFO, Command.DEVICE_GET_REGION_INFO, Command.DEVICE_GET_REGION_IO_FDS
NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
DATA = NONE | BOOL | EVENTFD
ACTION = IrqSetFlags.ACTION_MASK | IrqSetFlags.ACTION_UNMASK | IrqSetFlags.ACTION_TRIGGER
# What the test device has: the faults are about its edges.
MAPPABLE, RING, EXTRA, MSI = 2, 5, 9, 1
AREA = 0x1000


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def _unversioned(reply: DeviceGetRegionInfoReply) -> bytes:
    chain = reply.capabilities
    return chain[:2] + _number(0, 2) + chain[4:] if len(chain) > 24 else chain


def _without(flag: RegionInfoFlags) -> Filter:
    """The info of the region that is specific to the device, without a flag."""

    def change(data: bytes, answers: CommandReceived) -> bytes:
        reply = wire.decode(data).payload
        assert isinstance(reply, DeviceGetRegionInfoReply)
        if reply.index != EXTRA:
            return data
        return payload(data, wire.encode_record(reply.replace(flags=reply.flags & ~flag)))

    return outgoing(change, REGION, error=False)


def _deassigned(reply: Any) -> tuple[Any, ...]:
    """Records that ask to be undone, as a flag of KVM's that has no place here does."""
    return tuple(record.replace(flags=record.flags | 4) if record.offset else record for record in reply.sub_regions)


def _flags_where(when: Callable[[Any], Any]) -> Filter:
    return fields(IO_FDS, flags=lambda reply: int(bool(when(reply))))


def _is_empty(reply: Any) -> bool:
    return not reply.count


def _is_cut(reply: Any) -> bool:
    return bool(reply.count and not reply.sub_regions)


def _irqs(name: str, mistake: str, when: Callable[[Any], Any]) -> Fault:
    return Fault(f"set-irqs-{name}-crash", mistake, responder=crash("device_set_irqs", when))


FAULTS: tuple[Fault, ...] = (
    Fault("device-info-regions-counted", "Regions are those that there are.", outgoing=fields(INFO, num_regions=8)),
    Fault(
        "device-info-request-believed",
        "A request has the device's own numbers.",
        responder=crash("device_get_info", lambda request: request.num_regions),
    ),
    Fault(
        "irq-info-count-believed",
        "A request has the count.",
        responder=crash("device_get_irq_info", lambda request: request.count),
    ),
    Fault(
        "region-areas-version-zero", "Versions are counted from 0.", outgoing=fields(REGION, capabilities=_unversioned)
    ),
    Fault(
        "write-mappable-refused",
        "What can be mapped is not written by message.",
        responder=refuse("region_write", errno.EPERM, lambda r: r.region == MAPPABLE and r.offset >= AREA),
    ),
    Fault(
        "read-of-one-region-refused",
        "A region with doorbells is not read.",
        responder=refuse("region_read", errno.EPERM, lambda request: request.region == RING),
    ),
    Fault(
        "read-without-flag-crash",
        "What cannot be read is not read.",
        responder=crash("region_read", lambda request: request.region == EXTRA),
        outgoing=_without(RegionInfoFlags.READ),
    ),
    Fault(
        "write-without-flag-crash",
        "What cannot be written is not written.",
        responder=crash("region_write", lambda request: request.region == EXTRA),
        outgoing=_without(RegionInfoFlags.WRITE),
    ),
    Fault(
        "reset-not-offered-crash",
        "What is not offered is not asked for.",
        responder=crash("device_reset"),
        outgoing=fields(INFO, flags=lambda reply: reply.flags & ~DeviceFlags.RESET),
    ),
    Fault(
        "region-io-fds-index-zero",
        "The reply names no region.",
        outgoing=fields(IO_FDS, index=0),
    ),
    Fault("region-io-fds-flags-set-when-empty", "flags says that there is nothing.", outgoing=_flags_where(_is_empty)),
    Fault("region-io-fds-flags-set-when-cut", "flags says that there is more.", outgoing=_flags_where(_is_cut)),
    Fault("region-io-fds-deassigns", "A flag of KVM's is copied.", outgoing=fields(IO_FDS, sub_regions=_deassigned)),
    Fault(
        "region-io-fds-count-believed",
        "A request has the count.",
        responder=crash("device_get_region_io_fds", lambda request: request.count),
    ),
    Fault(
        "write-several-count-zero-crash",
        "A write has bytes.",
        responder=crash("region_write_multi", lambda request: any(not each.count for each in request.wrs)),
    ),
    _irqs("no-data-flag", "There are data, or none.", lambda request: not request.flags & DATA),
    _irqs("two-data-flags", "Data are of one kind.", lambda r: r.flags & NONE and r.flags & (BOOL | EVENTFD)),
    _irqs("no-action", "Something is to be done.", lambda request: not request.flags & ACTION),
    _irqs("unknown-flags", "Flags are known.", lambda request: request.flags & ~(DATA | ACTION)),
    _irqs(
        "mask-of-unmaskable", "What has no mask is not masked.", lambda r: r.index == MSI and r.flags & ACTION == 1 << 3
    ),
    _irqs("argsz-zero", "argsz counts itself.", lambda request: not request.argsz),
    _irqs("argsz-largest", "argsz is what came.", lambda request: request.argsz >> 31),
)
