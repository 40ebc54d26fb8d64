"""Faults of the commands that act: interrupts, region access, reset."""

import errno
from collections.abc import Callable
from typing import Any

from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    accept,
    crash,
    die,
    fields,
    hang,
    longer,
    method,
    refuse,
    respond,
    right,
    stuck,
)
from vfio_user_proto.messages import (
    Command,
    DeviceSetIrqsRequest,
    IrqSetFlags,
    RegionReadRequest,
    RegionWriteMultiReply,
    RegionWriteMultiRequest,
    RegionWriteReply,
    RegionWriteRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import NOTHING, Answer, Responder
from vfio_user_proto.wire import HEADER_SIZE

NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
TRIGGER, MASK = IrqSetFlags.ACTION_TRIGGER, IrqSetFlags.ACTION_MASK
# What the test device has: the faults are about its edges.
REGIONS, CONFIG, CONFIG_SIZE, MAPPABLE, IRQS, VECTORS = 10, 7, 256, 2, 5, 4
XFER, BIG, REGISTER = 1 << 20, 1 << 31, 8


# Interrupts.


def _raises(request: DeviceSetIrqsRequest, data: IrqSetFlags) -> bool:
    return request.flags == data | TRIGGER


def _all_true(self: Any, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
    if _raises(request, BOOL):
        request = request.replace(data=b"\1" * len(request.data))
    return right("device_set_irqs", self, request, fds)


class _FirstStays(Responder):
    """Keeps the first eventfd of an interrupt."""

    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        had = self.__dict__.setdefault("had", set())
        if fds and (request.index, request.start) in had:
            return NOTHING
        had |= {(request.index, request.start)} if fds else set()
        return super().device_set_irqs(request, fds)


def _none_taken_away(self: Any, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
    if _raises(request, EVENTFD) and not fds:
        return NOTHING
    return right("device_set_irqs", self, request, fds)


def _stuck_with_fds(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    request = event.message.payload
    if isinstance(request, DeviceSetIrqsRequest) and fds and not request.flags & EVENTFD:
        hang()
    return Responder.respond(self, event, fds)


def _irqs(name: str, mistake: str, when: Callable[[DeviceSetIrqsRequest], Any], wrong: Any = crash) -> Fault:
    return Fault(name, mistake, responder=wrong("device_set_irqs", when))


def _within(request: DeviceSetIrqsRequest) -> bool:
    return request.index < IRQS


# Region access.


def _reads(name: str, mistake: str, when: Callable[[RegionReadRequest], Any], wrong: Any = crash) -> Fault:
    return Fault(name, mistake, responder=wrong("region_read", when))


def _lost(request: RegionWriteRequest) -> RegionWriteReply:
    return RegionWriteReply(offset=request.offset, region=request.region, count=request.count)


def _has(event: CommandReceived, request: type[Record]) -> bool:
    """Whether a message has at least the fixed part of ``request``."""
    return event.message.header.message_size >= HEADER_SIZE + request.fixed_size


def _wrong_length(wrong: Callable[[CommandReceived], bool]) -> type[Responder]:
    """Takes a write whose data have another length than its count says."""

    def responding(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
        if event.message.header.command == Command.REGION_WRITE and wrong(event):
            return RegionWriteReply(), ()
        return Responder.respond(self, event, fds)

    return respond(responding)


def _count_believed(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    several = event.message.header.command == Command.REGION_WRITE_MULTI and _has(event, RegionWriteMultiRequest)
    if several and event.problem is not None:
        return RegionWriteMultiReply(wr_cnt=1), ()
    return Responder.respond(self, event, fds)


def _only_one(self: Any, request: RegionWriteMultiRequest, fds: list[int]) -> Answer:
    right("region_write_multi", self, RegionWriteMultiRequest(wrs=request.wrs[:1]), fds)
    return RegionWriteMultiReply(wr_cnt=request.wr_cnt), ()


class _Reset(Responder):
    """Knows whether it was reset."""

    was_reset = False

    def device_reset(self, request: None, fds: list[int]) -> Answer:
        self.was_reset = True
        return super().device_reset(request, fds)


class _NoMappings(_Reset):
    """Does not expect a mapping after a reset."""

    def dma_map(self, request: Any, fds: list[int]) -> Answer:
        return die() if self.was_reset else super().dma_map(request, fds)


class _NoInterrupts(_Reset):
    """Does not expect that an interrupt is raised after a reset."""

    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        return die() if self.was_reset and _raises(request, NONE) else super().device_set_irqs(request, fds)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "set-irqs-reply-with-payload", "The reply repeats the request.", outgoing=longer(Command.DEVICE_SET_IRQS, 20)
    ),
    _irqs(
        "set-irqs-raise-ignored",
        "The client cannot raise interrupts.",
        lambda request: _raises(request, NONE) and request.count,
        lambda name, when: accept(name, lambda request: None, when),
    ),
    _irqs(
        "set-irqs-true-ignored",
        "The client cannot raise interrupts by booleans.",
        lambda request: _raises(request, BOOL),
        lambda name, when: accept(name, lambda request: None, when),
    ),
    Fault("set-irqs-false-signalled", "Booleans are not looked at.", responder=method("device_set_irqs", _all_true)),
    Fault("set-irqs-second-ignored", "The first eventfd stays.", responder=_FirstStays),
    Fault(
        "set-irqs-taking-away-ignored",
        "Eventfds are replaced, never taken away.",
        responder=method("device_set_irqs", _none_taken_away),
    ),
    _irqs(
        "set-irqs-disabling-ignored",
        "A count of zero means nothing.",
        lambda request: not request.count,
        lambda name, when: accept(name, lambda request: None, when),
    ),
    _irqs(
        "set-irqs-start-crash",
        "Ranges begin within the type.",
        lambda r: _within(r) and VECTORS >= r.start > 0 and r.count == 1,
    ),
    _irqs(
        "set-irqs-count-crash",
        "Ranges end within the type.",
        lambda r: _within(r) and not r.start and 1 < r.count < BIG,
    ),
    _irqs("set-irqs-count-hangs", "A count is short.", lambda r: r.count >= BIG, stuck),
    _irqs("set-irqs-wrap-crash", "start and count fit into 32 bits.", lambda r: r.start + r.count > 1 << 32),
    _irqs("set-irqs-index-crash", "Indexes exist.", lambda r: not _within(r)),
    _irqs("set-irqs-data-crash", "There is a boolean for each.", lambda r: r.flags & BOOL and len(r.data) < r.count),
    _irqs("set-irqs-two-actions-crash", "There is one action.", lambda r: r.flags & TRIGGER and r.flags & MASK),
    Fault("set-irqs-descriptors-hang", "Descriptors come with eventfd data.", responder=respond(_stuck_with_fds)),
    Fault("read-data-longer-than-count", "A byte follows the data.", outgoing=longer(Command.REGION_READ, 1)),
    Fault("read-echoes-nothing", "The reply names no place.", outgoing=fields(Command.REGION_READ, offset=0, region=0)),
    _reads(
        "read-odd-width-refused",
        "Accesses have 1, 2, 4 or 8 bytes.",
        lambda request: request.count not in (1, 2, 4, 8),
        lambda name, when: refuse(name, errno.EINVAL, when),
    ),
    _reads(
        "read-last-bytes-refused",
        "The last byte of a region is not part of it.",
        lambda request: request.region == CONFIG and request.offset + request.count >= CONFIG_SIZE,
        lambda name, when: refuse(name, errno.EINVAL, when),
    ),
    _reads(
        "read-mappable-refused",
        "What can be mapped is not read by messages.",
        lambda request: request.region == MAPPABLE,
        lambda name, when: refuse(name, errno.EINVAL, when),
    ),
    _reads(
        "read-behind-the-end-crash",
        "Offsets lie within the region.",
        lambda r: r.region == CONFIG and CONFIG_SIZE <= r.offset < BIG,
    ),
    _reads(
        "read-across-the-end-crash",
        "Only the offset is looked at.",
        lambda r: r.region == CONFIG and r.offset < CONFIG_SIZE < r.offset + r.count < BIG,
    ),
    _reads(
        "read-one-byte-more-crash",
        "The end of the region is one byte further on.",
        lambda r: r.region == CONFIG and r.offset + r.count == CONFIG_SIZE + 1,
    ),
    _reads("read-wrap-crash", "offset and count fit into 64 bits.", lambda r: r.offset + r.count >= 1 << 64),
    _reads("read-no-such-region-crash", "Regions exist.", lambda r: r.region >= REGIONS),
    _reads("read-count-largest-crash", "There is memory for any count.", lambda r: r.count >= BIG),
    _reads("read-over-the-limit-hangs", "Counts are within the limit.", lambda r: XFER < r.count < BIG, stuck),
    _reads("read-count-zero-hangs", "Something is read.", lambda r: not r.count, stuck),
    Fault("write-reply-with-data", "The reply repeats the data.", outgoing=longer(Command.REGION_WRITE, 16)),
    Fault(
        "write-echoes-nothing", "The reply names no place.", outgoing=fields(Command.REGION_WRITE, offset=0, region=0)
    ),
    Fault(
        "write-lost",
        "What is wider than a register is forgotten.",
        responder=accept("region_write", _lost, lambda request: request.count > REGISTER),
    ),
    Fault(
        "write-short-data-accepted",
        "Missing data are not missed.",
        responder=_wrong_length(lambda event: event.problem is not None and _has(event, RegionWriteRequest)),
    ),
    Fault(
        "write-long-data-accepted",
        "What follows the data is not seen.",
        responder=_wrong_length(lambda event: bool(event.message.trailing) and event.problem is None),
    ),
    Fault(
        "write-several-does-one",
        "The first of several writes is done.",
        responder=method("region_write_multi", _only_one),
    ),
    Fault("write-several-count-unchecked", "wr_cnt is not looked at.", responder=respond(_count_believed)),
    Fault("reset-reply-with-payload", "The reply has a payload.", outgoing=longer(Command.DEVICE_RESET, 4)),
    Fault(
        "reset-offered-and-refused",
        "The reset flag is set for nothing.",
        responder=refuse("device_reset", errno.ENOTSUP),
    ),
    Fault("reset-then-raise-crash", "A reset disables every interrupt.", responder=_NoInterrupts),
    Fault("reset-then-map-crash", "Nothing is mapped after a reset.", responder=_NoMappings),
)
