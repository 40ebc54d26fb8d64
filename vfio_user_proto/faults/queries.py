"""Faults of the commands that ask: device, regions, region I/O descriptors, interrupts."""

import errno
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    asked,
    crash,
    cut_to_argsz,
    fields,
    longer,
    method,
    outgoing,
    payload,
    refuse,
    right,
    sub_regions,
    without_fds,
)
from vfio_user_proto.messages import (
    Command,
    DeviceFlags,
    DeviceGetIrqInfoReply,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    IoFdType,
    IoregionFlags,
    RegionInfoFlags,
)
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.session import Filter

INFO, REGION = Command.DEVICE_GET_INFO, Command.DEVICE_GET_REGION_INFO
IO_FDS, IRQ = Command.DEVICE_GET_REGION_IO_FDS, Command.DEVICE_GET_IRQ_INFO
BIG = 1 << 31
# What the test device has: the faults are about its edges.
REGIONS, IRQS = 10, 5


# Region info.


def _argsz_is_enough(name: str, less: int) -> type[Responder]:
    """Takes the argsz of the request for ``less`` than it is."""
    return method(name, lambda self, r, fds: right(name, self, r.replace(argsz=max(0, r.argsz - less)), fds))


def _needed(name: str) -> type[Responder]:
    """Refuses an argsz that is too small for everything."""

    def asking(self: Any, request: Any, fds: list[int]) -> Answer:
        record = right(name, self, request, fds)[0]
        if isinstance(record, (DeviceGetRegionInfoReply, DeviceGetRegionIoFdsReply)) and request.argsz < record.argsz:
            raise OSError(errno.EINVAL, "argsz")
        return right(name, self, request, fds)

    return method(name, asking)


def _capabilities_cut(self: Any, request: DeviceGetRegionInfoRequest, fds: list[int]) -> Answer:
    record, sending = right("device_get_region_info", self, request.replace(argsz=BIG), fds)
    assert isinstance(record, DeviceGetRegionInfoReply)
    return record.replace(capabilities=record.capabilities[: max(0, request.argsz - 32)]), sending


def _mmap_when_cut(data: bytes, answers: CommandReceived) -> bytes:
    record = wire.decode(data).payload
    assert isinstance(record, DeviceGetRegionInfoReply)
    if asked(answers).argsz >= record.argsz or record.argsz < 64:
        return data
    return payload(data, wire.encode_record(record.replace(flags=record.flags | RegionInfoFlags.MMAP)))


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, sys.byteorder)


def _circle(reply: DeviceGetRegionInfoReply) -> bytes:
    """The first capability names itself as the next one."""
    chain = reply.capabilities
    return chain[:4] + _number(32, 4) + chain[8:] if chain else chain


def _in_the_last(change: Callable[[DeviceGetRegionInfoReply], bytes]) -> Callable[[DeviceGetRegionInfoReply], bytes]:
    """A change of the region that is specific to the device alone."""
    return lambda reply: change(reply) if reply.index == REGIONS - 1 else reply.capabilities


def _far(reply: DeviceGetRegionInfoReply) -> bytes:
    """The next capability lies far behind."""
    return reply.capabilities[:4] + _number(0x10000, 4) + reply.capabilities[8:]


def _area_outside(reply: DeviceGetRegionInfoReply) -> bytes:
    """The first area begins behind the region."""
    chain = reply.capabilities
    return chain[:16] + _number(reply.size, 8) + chain[24:] if len(chain) > 24 else chain


# Region I/O descriptors.


def _cut_behind(last: int, command: int, size: int) -> Filter:
    """Replies about indexes above ``last`` have ``size`` bytes of payload."""
    return outgoing(
        lambda data, to: payload(data, data[16 : 16 + size]) if asked(to).index > last else data, command, error=False
    )


def _not_posted(record: Any) -> dict[str, Any]:
    return {"size": 0, "flags": IoregionFlags(0)} if record.type == IoFdType.IOREGIONFD else {}


def _with_descriptor(self: Any, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
    record, sending = right("device_get_region_io_fds", self, request, fds)
    return record, sending or (0,)


def _queries(command: Command, name: str, word: str, reply: type[Any], past: int) -> tuple[Fault, ...]:
    """The faults that every query can have."""
    return (
        Fault(
            f"{word}-cut-to-argsz",
            "A small argsz cuts the fixed part.",
            outgoing=cut_to_argsz(command, reply.fixed_size),
        ),
        Fault(
            f"{word}-index-crash",
            "Indexes exist.",
            responder=crash(name, lambda request: past <= request.index < BIG),
        ),
    )


FAULTS: tuple[Fault, ...] = (
    Fault("device-info-longer", "The reply has a field more.", outgoing=longer(INFO, 4)),
    Fault(
        "device-info-no-pci",
        "The device is not said to be a PCI device.",
        outgoing=fields(INFO, flags=lambda reply: reply.flags & ~DeviceFlags.PCI),
    ),
    Fault(
        "device-info-argsz-echoed",
        "argsz is that of the request.",
        outgoing=outgoing(
            lambda data, to: payload(data, _number(asked(to).argsz, 4) + data[20:]) if data[16:] else data, INFO
        ),
    ),
    Fault(
        "device-info-argsz-largest-refused",
        "argsz has a largest value.",
        responder=refuse("device_get_info", errno.EINVAL, lambda request: request.argsz > BIG),
    ),
    Fault("device-info-cut-to-argsz", "A small argsz cuts the fixed part.", outgoing=cut_to_argsz(INFO, 16)),
    Fault(
        "device-info-one-region-too-many",
        "num_regions counts one that does not exist.",
        outgoing=fields(INFO, num_regions=REGIONS + 1),
    ),
    Fault(
        "device-info-one-irq-too-many",
        "num_irqs counts one that does not exist.",
        outgoing=fields(INFO, num_irqs=IRQS + 1),
    ),
    *_queries(REGION, "device_get_region_info", "region-info", DeviceGetRegionInfoReply, REGIONS),
    *_queries(IO_FDS, "device_get_region_io_fds", "region-io-fds", DeviceGetRegionIoFdsReply, REGIONS),
    *_queries(IRQ, "device_get_irq_info", "irq-info", DeviceGetIrqInfoReply, IRQS),
    Fault("region-info-short", "A region of the device's own has no offset.", outgoing=_cut_behind(8, REGION, 24)),
    Fault("region-info-index-zero", "The reply names no region.", outgoing=fields(REGION, index=0)),
    Fault(
        "region-info-index-signed",
        "An index is a signed number.",
        responder=crash("device_get_region_info", lambda request: request.index >= BIG),
    ),
    Fault(
        "region-info-caps-always",
        "Every region is said to have capabilities.",
        outgoing=fields(REGION, flags=lambda reply: reply.flags | RegionInfoFlags.CAPS),
    ),
    Fault(
        "region-info-caps-flag-missing",
        "Capabilities come without their flag.",
        outgoing=fields(REGION, flags=lambda reply: reply.flags & ~RegionInfoFlags.CAPS),
    ),
    Fault(
        "region-info-argsz-off-by-one",
        "An argsz that is just enough is too small.",
        responder=_argsz_is_enough("device_get_region_info", 1),
    ),
    Fault(
        "region-info-capabilities-cut",
        "As much of the capabilities is sent as fits.",
        responder=method("device_get_region_info", _capabilities_cut),
    ),
    Fault(
        "region-info-small-argsz-refused",
        "An argsz too small for the capabilities is refused.",
        responder=_needed("device_get_region_info"),
    ),
    Fault(
        "region-info-cap-offset-from-end",
        "cap_offset counts from the end of the fixed part.",
        outgoing=fields(REGION, cap_offset=lambda reply: max(0, reply.cap_offset - 32)),
    ),
    Fault(
        "region-info-chain-circles",
        "The last capability names the first.",
        outgoing=fields(REGION, capabilities=_circle),
    ),
    Fault(
        "region-info-chain-circles-in-the-last",
        "The only capability of a region names itself.",
        outgoing=fields(REGION, capabilities=_in_the_last(_circle)),
    ),
    Fault(
        "region-info-capability-far-in-the-last",
        "The only capability of a region names one that is not there.",
        outgoing=fields(REGION, capabilities=_in_the_last(_far)),
    ),
    Fault("region-info-mmap-without-descriptor", "A mappable region has no descriptor.", outgoing=without_fds(REGION)),
    Fault(
        "region-info-mmap-flag-when-cut",
        "The mmap flag stays when the descriptor does not (libvfio-user efd091b).",
        outgoing=outgoing(_mmap_when_cut, REGION, error=False),
    ),
    Fault(
        "region-info-area-outside",
        "An area lies behind the region.",
        outgoing=fields(REGION, capabilities=_area_outside),
    ),
    Fault(
        "region-io-fds-argsz-32-more",
        "argsz takes the fixed part for 32 bytes, as the published formula does.",
        outgoing=fields(IO_FDS, argsz=lambda reply: reply.argsz + (16 if reply.count else 0)),
    ),
    Fault(
        "region-io-fds-argsz-of-records",
        "argsz counts the records alone.",
        outgoing=fields(IO_FDS, argsz=lambda reply: reply.argsz - (16 if reply.count else 0)),
    ),
    Fault(
        "region-io-fds-flags-set",
        "flags is not zero.",
        outgoing=fields(IO_FDS, flags=lambda reply: int(reply.index > 3)),
    ),
    Fault(
        "region-io-fds-type-unknown",
        "Records are of a type that the table lacks.",
        outgoing=sub_regions(lambda record: {"type": 9} if record.offset else {}),
    ),
    Fault(
        "region-io-fds-index-from-one",
        "Descriptors are counted from 1.",
        outgoing=sub_regions(lambda record: {"fd_index": record.fd_index + 1}),
    ),
    Fault(
        "region-io-fds-size-zero",
        "An ioregionfd without size does not post its writes.",
        outgoing=sub_regions(_not_posted),
    ),
    Fault(
        "region-io-fds-small-argsz-refused",
        "An argsz too small for the records is refused.",
        responder=_needed("device_get_region_io_fds"),
    ),
    Fault(
        "region-io-fds-argsz-off-by-one",
        "An argsz that is just enough is too small.",
        responder=_argsz_is_enough("device_get_region_io_fds", 1),
    ),
    Fault(
        "region-io-fds-large-argsz-refused",
        "argsz has a largest value (libvfio-user efd091b).",
        responder=refuse("device_get_region_io_fds", errno.EINVAL, lambda request: request.argsz > 1 << 20),
    ),
    Fault(
        "region-io-fds-none-with-descriptor",
        "A reply without records brings a descriptor.",
        responder=method("device_get_region_io_fds", _with_descriptor),
    ),
    Fault("irq-info-without-count", "Types beyond MSI-X have no count.", outgoing=_cut_behind(2, IRQ, 12)),
    Fault("irq-info-index-zero", "The reply names no interrupt type.", outgoing=fields(IRQ, index=0)),
    Fault(
        "irq-info-argsz-echoed",
        "argsz is that of the request.",
        outgoing=outgoing(lambda data, to: payload(data, _number(asked(to).argsz, 4) + data[20:]), IRQ, error=False),
    ),
)
