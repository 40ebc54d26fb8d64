"""Faults of the answers to VFIO_USER_DEVICE_GET_REGION_IO_FDS: wrong records, wrong descriptors."""

import os
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import Fault, fields, method, outgoing, right, sub_regions, without_fds
from vfio_user_proto.messages import (
    Command,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    IoeventfdFlags,
    IoFdType,
    IoregionfdSubRegion,
    IoregionFlags,
    ShadowIoeventfdSubRegion,
)
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.unix import kind_of

IO_FDS = Command.DEVICE_GET_REGION_IO_FDS
COUNT = 12  # where count is in the payload


def _answered(change: Callable[[Any, DeviceGetRegionIoFdsReply, list[int]], Answer]) -> type[Responder]:
    """A responder with other answers; ``change`` gets it, the right reply and its descriptors."""

    def answering(self: Any, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
        reply, sending = right("device_get_region_io_fds", self, request, fds)
        assert isinstance(reply, DeviceGetRegionIoFdsReply)
        return change(self, reply, list(sending))

    return method("device_get_region_io_fds", answering)


def _stale_count(data: bytes, answers: CommandReceived) -> bytes:
    """The reply has a record less than its count says."""
    at = wire.HEADER_SIZE + COUNT
    count = int.from_bytes(data[at : at + 4], sys.byteorder)
    return data[:at] + (count + 1).to_bytes(4, sys.byteorder) + data[at + 4 :] if count else data


def _sent_when_cut(self: Any, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
    reply, _ = right("device_get_region_io_fds", self, request, fds)
    return reply, right("device_get_region_io_fds", self, request.replace(argsz=1 << 16), fds)[1]


class _Growing(Responder):
    """Finds one record more with each query."""

    extra = 0

    def device_get_region_io_fds(self, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
        reply, sending = right("device_get_region_io_fds", self, request.replace(argsz=1 << 16), fds)
        assert isinstance(reply, DeviceGetRegionIoFdsReply)
        if reply.sub_regions:
            self.extra += 1
            records = reply.sub_regions + reply.sub_regions[-1:] * self.extra
            reply = DeviceGetRegionIoFdsReply(index=reply.index, sub_regions=records)
        return (reply, sending) if request.argsz >= reply.argsz else (reply.replace(sub_regions=()), ())


def _one_each(self: Any, reply: DeviceGetRegionIoFdsReply, fds: list[int]) -> Answer:
    """A descriptor for each record, however many share it; what is left comes behind them."""
    records = [record for record in reply.sub_regions if not isinstance(record, bytes)]
    own = [fds[record.fd_index] for record in records]
    sending = own + [fd for fd in fds if fd not in own]
    placed = [
        record.replace(fd_index=number, shadow_mem_fd_index=sending.index(fds[record.shadow_mem_fd_index]))
        if isinstance(record, ShadowIoeventfdSubRegion)
        else record.replace(fd_index=number)
        for number, record in enumerate(records)
    ]
    return reply.replace(sub_regions=tuple(placed)), sending


def _beyond_its_file(record: Any) -> dict[str, Any]:
    return {"shadow_offset": 1 << 20} if isinstance(record, ShadowIoeventfdSubRegion) else {}


def _without_last(reply: Any) -> tuple[Any, ...]:
    """The last of several sub-regions has no descriptor, which its index says by -1."""
    records: tuple[Any, ...] = reply.sub_regions
    return (*records[:-1], records[-1].replace(fd_index=0xFFFFFFFF)) if len(records) > 1 else records


def _counts_eventfds(record: Any) -> dict[str, Any]:
    return (
        {"shadow_mem_fd_index": record.shadow_mem_fd_index + 8} if isinstance(record, ShadowIoeventfdSubRegion) else {}
    )


def _moved(record: Any) -> dict[str, Any]:
    """Windows lie 16 bytes from where the record says."""
    return {"offset": record.offset + 16, "size": record.size - 16} if _is_large_window(record) else {}


def _is_large_window(record: Any) -> bool:
    return isinstance(record, IoregionfdSubRegion) and record.size > 16


def _in_memory(record: Any) -> dict[str, Any]:
    return {"flags": record.flags & ~(IoregionFlags.PIO if record.type == IoFdType.IOREGIONFD else IoeventfdFlags.PIO)}


def _without_match(record: Any) -> dict[str, Any]:
    return {} if record.type == IoFdType.IOREGIONFD else {"flags": record.flags & ~IoeventfdFlags.DATAMATCH}


def _match_high(record: Any) -> dict[str, Any]:
    """The value is in the upper half of its field."""
    return {} if record.type == IoFdType.IOREGIONFD else {"datamatch": record.datamatch << 32}


def _read_only(self: Any, reply: DeviceGetRegionIoFdsReply, fds: list[int]) -> Answer:
    """The shadow memory comes as a descriptor to read from."""
    for number, fd in enumerate(fds):
        if kind_of(fd) == "memfd":
            fds[number] = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    return reply, fds


class _SecondDead(Responder):
    """Makes eventfds for each answer, and looks at those of the first alone."""

    def device_get_region_io_fds(self, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
        reply, sending = right("device_get_region_io_fds", self, request, fds)
        asked = self.__dict__.setdefault("asked", set())
        if request.index not in asked:
            asked.add(request.index)
            return reply, sending
        return reply, [os.eventfd(0) if kind_of(fd) == "eventfd" else fd for fd in sending]


FAULTS: tuple[Fault, ...] = (
    Fault(
        "region-io-fds-offset-beyond",
        "Offsets count from the start of the BARs, not of the region.",
        outgoing=sub_regions(lambda record: {"offset": record.offset + (1 << 20)}),
    ),
    Fault("region-io-fds-without-descriptors", "The descriptors are forgotten.", outgoing=without_fds(IO_FDS)),
    Fault(
        "region-io-fds-index-minus-one",
        "A sub-region without descriptor has the index -1 (libvfio-user efd091b).",
        outgoing=fields(IO_FDS, sub_regions=_without_last),
    ),
    Fault(
        "region-io-fds-shadow-index-beyond",
        "Shadow memory is counted apart from eventfds.",
        outgoing=sub_regions(_counts_eventfds),
    ),
    Fault(
        "region-io-fds-count-stale", "A record was removed, and is counted.", outgoing=outgoing(_stale_count, IO_FDS)
    ),
    Fault(
        "region-io-fds-descriptors-when-cut",
        "Descriptors come without the records that name them.",
        responder=method("device_get_region_io_fds", _sent_when_cut),
    ),
    Fault("region-io-fds-argsz-grows", "There are more records with each query.", responder=_Growing),
    Fault(
        "region-io-fds-not-deduplicated",
        "Each record brings its descriptor, whoever else has it.",
        responder=_answered(_one_each),
    ),
    Fault(
        "region-io-fds-descriptors-reversed",
        "The descriptors come in another order than they are counted.",
        responder=_answered(lambda self, reply, fds: (reply, fds[::-1])),
    ),
    Fault(
        "region-io-fds-shadow-too-short",
        "The shadow memory ends before the value.",
        outgoing=sub_regions(_beyond_its_file),
    ),
    Fault(
        "region-io-fds-shadow-read-only",
        "The shadow memory can only be read.",
        responder=_answered(_read_only),
    ),
    Fault(
        "region-io-fds-ioregionfd-moved",
        "A record tells another place than the commands go to.",
        outgoing=sub_regions(_moved),
    ),
    Fault(
        "region-io-fds-pio-flag-missing",
        "Every sub-region is in memory space.",
        outgoing=sub_regions(_in_memory),
    ),
    Fault(
        "datamatch-flag-missing",
        "The value is given without its flag.",
        outgoing=sub_regions(_without_match),
    ),
    Fault(
        "datamatch-in-other-place",
        "The value stands in the upper half of its field.",
        outgoing=sub_regions(_match_high),
    ),
    Fault("kick-through-second-answer-lost", "Each answer brings new eventfds.", responder=_SecondDead),
)
