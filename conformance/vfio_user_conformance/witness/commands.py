"""Checks of the commands that ask what the device is, map memory and set interrupts up: their fields and their sizes."""

from typing import Any

from vfio_user_conformance.witness.check import Check, Judge, none_of, of
from vfio_user_conformance.witness.seen import Known, Seen
from vfio_user_conformance.words import plural, said
from vfio_user_proto.messages import (
    REPLIES,
    Command,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqInfoFlags,
    IrqSetFlags,
)
from vfio_user_proto.model import Record

_NONE, _BOOL, _EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
_MASK, _UNMASK, _TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER


def _zero(record: type[Record], *apart: str) -> Judge:
    """A judge of the commands that carry this record: every field but ``apart`` is zero."""

    def judge(request: Record, now: Seen, known: Known) -> str:
        wrong: dict[str, Any] = {
            name: int(value) for name in record.rows if name not in apart and (value := getattr(request, name))
        }
        return said(wrong)

    return of(record, judge)


def _argsz(now: Seen, known: Known) -> str | None:
    argsz, reply = getattr(now.payload, "argsz", None), REPLIES.get(now.header.command)
    if not now.is_command or argsz is None or reply is None:
        return None
    least = reply.fixed_size
    return f"{now.name} has argsz {argsz}, the reply has at least {least} bytes" if argsz < least else ""


# DMA.


def _map_offset(request: DmaMapRequest, now: Seen, known: Known) -> str | None:
    if now.fds:
        return None
    return f"offset is {request.offset:#x}, and no descriptor came" if request.offset else ""


def _map_count(request: DmaMapRequest, now: Seen, known: Known) -> str | None:
    if known.agreed is None:
        return None
    most = known.agreed.max_dma_maps
    return f"there are {len(known.maps)} mappings already, max_dma_maps is {most}" if len(known.maps) >= most else ""


def _map_pages(request: DmaMapRequest, now: Seen, known: Known) -> str | None:
    if known.agreed is None or not known.agreed.pgsizes:
        return None
    page = known.agreed.pgsizes & -known.agreed.pgsizes
    if not (request.address | request.size) % page:
        return ""
    return f"address {request.address:#x} and size {request.size:#x} are not made of pages of {page} bytes"


def _unmap(request: DmaUnmapRequest, now: Seen, known: Known) -> str:
    if (request.address, request.size) in known.maps:
        return ""
    return f"no mapping has address {request.address:#x} and size {request.size:#x}"


# Interrupts.


def _irq_argsz(request: DeviceSetIrqsRequest, now: Seen, known: Known) -> str:
    data = request.count if request.flags & _BOOL else 0
    due = DeviceSetIrqsRequest.fixed_size + data
    if request.argsz == due == len(now.body):
        return ""
    return f"argsz is {request.argsz} and the payload has {plural(len(now.body), 'byte')}, {due} are due"


def _irq_one_each(request: DeviceSetIrqsRequest, now: Seen, known: Known) -> str:
    data = sum(bool(request.flags & bit) for bit in (_NONE, _BOOL, _EVENTFD))
    action = sum(bool(request.flags & bit) for bit in (_MASK, _UNMASK, _TRIGGER))
    return "" if data == action == 1 else f"flags {int(request.flags):#x}: {data} of data and {action} of action"


def _irq_possible(request: DeviceSetIrqsRequest, now: Seen, known: Known) -> str | None:
    kind = known.irqs.get(request.index)
    if kind is None:
        return None
    if request.flags & _EVENTFD and not kind.flags & IrqInfoFlags.EVENTFD:
        return f"eventfds for interrupt type {request.index}, which takes none"
    if request.flags & (_MASK | _UNMASK) and not kind.flags & (IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED):
        return f"a mask or unmask action for interrupt type {request.index}, which is not maskable"
    return ""


def _irq_disable(request: DeviceSetIrqsRequest, now: Seen, known: Known) -> str | None:
    if request.start or request.count or not request.flags & _NONE:
        return None
    return "" if request.flags & _TRIGGER else f"flags are {int(request.flags):#x}, without the trigger action"


_NO_MAP, _NO_IRQS = none_of(Command.DMA_MAP), none_of(Command.DEVICE_SET_IRQS)

CHECKS = (
    Check(
        "argsz/room",
        "argsz.request-minimum",
        "argsz is at least the fixed part of the reply",
        _argsz,
        "no command with argsz came",
        ("argsz-small",),
    ),
    Check(
        "dma-map/offset",
        "dma-map.offset-zero",
        "offset is zero where no descriptor comes",
        of(DmaMapRequest, _map_offset),
        "no mapping came without descriptor",
        ("map-offset",),
    ),
    Check(
        "dma-map/count",
        "version.map-limits-kept",
        "no more mappings than max_dma_maps",
        of(DmaMapRequest, _map_count),
        _NO_MAP,
        ("one-map-too-many",),
    ),
    Check(
        "dma-map/pages",
        "version.map-limits-kept",
        "whole pages of a size in pgsizes",
        of(DmaMapRequest, _map_pages),
        _NO_MAP,
        ("map-half-a-page",),
    ),
    Check(
        "dma-unmap/exact",
        "dma-unmap.exact",
        "address and size of one mapping in force",
        of(DmaUnmapRequest, _unmap),
        none_of(Command.DMA_UNMAP),
        ("unmap-part",),
    ),
    Check(
        "device-info/zero",
        "get-info.request-zero",
        "every field but argsz is zero",
        _zero(DeviceGetInfoRequest, "argsz"),
        none_of(Command.DEVICE_GET_INFO),
        ("info-flags",),
    ),
    Check(
        "region-info/zero",
        "get-region-info.request-zero",
        "every field but argsz and index is zero",
        _zero(DeviceGetRegionInfoRequest, "argsz", "index"),
        none_of(Command.DEVICE_GET_REGION_INFO),
        ("region-info-size",),
    ),
    Check(
        "region-io-fds/zero",
        "region-io-fds.request-zero",
        "flags and count are zero",
        _zero(DeviceGetRegionIoFdsRequest, "argsz", "index"),
        none_of(Command.DEVICE_GET_REGION_IO_FDS),
        ("io-fds-count",),
    ),
    Check(
        "irq-info/zero",
        "get-irq-info.request-zero",
        "every field but argsz and index is zero",
        _zero(DeviceGetIrqInfoRequest, "argsz", "index"),
        none_of(Command.DEVICE_GET_IRQ_INFO),
        ("irq-info-count",),
    ),
    Check(
        "set-irqs/argsz",
        "set-irqs.argsz",
        "argsz is the size of the payload: 20, with booleans 20 + count",
        of(DeviceSetIrqsRequest, _irq_argsz),
        _NO_IRQS,
        ("irqs-argsz",),
    ),
    Check(
        "set-irqs/one-each",
        "set-irqs.one-each",
        "one data bit and one action bit",
        of(DeviceSetIrqsRequest, _irq_one_each),
        _NO_IRQS,
        ("irqs-two-actions",),
    ),
    Check(
        "set-irqs/possible",
        "set-irqs.client-knows",
        "what the description of the interrupt type allows",
        of(DeviceSetIrqsRequest, _irq_possible),
        f"{_NO_IRQS} for a type that was asked about",
        ("irqs-mask-err",),
    ),
    Check(
        "set-irqs/disable",
        "set-irqs.disable-all",
        "the trigger action with start and count of zero",
        of(DeviceSetIrqsRequest, _irq_disable),
        "no type of interrupt was disabled",
        ("irqs-disable-by-mask",),
    ),
)
