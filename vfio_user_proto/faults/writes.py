"""Faults of writes to regions, and of accesses of every width and place."""

import errno
from collections.abc import Callable
from functools import partial
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    crash,
    die,
    hang,
    instead,
    method,
    outgoing,
    payload,
    refuse,
    respond,
    rewritten,
    right,
    size_of,
    stuck,
)
from vfio_user_proto.messages import (
    Command,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteReply,
    RegionWriteRequest,
)
from vfio_user_proto.responder import Answer, Responder

# What the test device has: the faults are about its edges.
REGIONS, CONFIG, CONFIG_SIZE, SCRATCH, BIG = 10, 7, 256, 0x800, 1 << 31


def _writes(what: str, mistake: str, when: Callable[[RegionWriteRequest], Any]) -> Fault:
    """Dies of such writes."""
    return Fault(f"write-{what}-crash", mistake, responder=crash("region_write", when))


def _inside(request: Any) -> bool:
    return bool(request.region == CONFIG and request.offset < CONFIG_SIZE)


def _one_byte(offset: int, request: RegionWriteRequest) -> bool:
    return request.region == CONFIG and request.offset == offset and request.count == 1


def _of_registers(request: RegionWriteRequest) -> bool:
    """Those that no driver writes: vendor and device."""
    return request.region == CONFIG and request.offset < 4


def _as_if_done(data: bytes, answers: CommandReceived) -> bytes:
    """The fields of a write that was done follow the refusal of such a register."""
    request = answers.message.payload
    if not isinstance(request, RegionWriteRequest) or not _of_registers(request):
        return data
    done = RegionWriteReply(offset=request.offset, region=request.region, count=request.count)
    return payload(data, wire.encode_record(done))


def _believed(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Says that a write was done whose data did not come."""
    message = event.message
    if message.header.command == Command.REGION_WRITE and event.problem and message.trailing[12:16] == b"\xff" * 4:
        return RegionWriteReply(), ()
    return Responder.respond(self, event, fds)


def _whole_words(self: Any, request: RegionWriteRequest, fds: list[int]) -> Answer:
    """Writes 4 bytes where it is asked for less."""
    if 0 < request.count < 4:
        data = request.data.ljust(4, b"\0")
        right("region_write", self, request.replace(count=4, data=data), fds)
        return RegionWriteReply(offset=request.offset, region=request.region, count=request.count), ()
    return right("region_write", self, request, fds)


def _aligned_write(self: Any, request: RegionWriteRequest, fds: list[int]) -> Answer:
    """Writes at the word in which the offset lies."""
    if request.count in (4, 8):
        right("region_write", self, request.replace(offset=request.offset & ~3), fds)
        return RegionWriteReply(offset=request.offset, region=request.region, count=request.count), ()
    return right("region_write", self, request, fds)


def _aligned_read(self: Any, request: RegionReadRequest, fds: list[int]) -> Answer:
    """Reads from the word in which the offset lies."""
    record, sending = right("region_read", self, request.replace(offset=request.offset & ~3), fds)
    assert record is not None
    return record.replace(offset=request.offset), sending


def _below_the_limit(self: Any, request: RegionReadRequest, fds: list[int]) -> Answer:
    if request.count == self.agreed.max_data_xfer_size:
        raise OSError(errno.EINVAL, "too much at once")
    return right("region_read", self, request, fds)


def _eight_bytes(request: RegionWriteMultiRequest) -> RegionWriteMultiRequest:
    return request.replace(wrs=tuple(each.replace(count=8) for each in request.wrs))


def _cut(request: RegionWriteMultiRequest) -> RegionWriteMultiRequest:
    return request.replace(wrs=tuple(each.replace(count=min(each.count, 8)) for each in request.wrs))


def _rest_ignored(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    """Takes as many writes as are announced, and does not see that more came."""
    if event.message.header.command == Command.REGION_WRITE_MULTI and event.message.trailing and event.problem is None:
        event = event._replace(message=event.message._replace(trailing=b""))
    return Responder.respond(self, event, fds)


def _unasked(self: Any, request: RegionWriteMultiRequest, fds: list[int]) -> Answer:
    return right("region_write_multi", self, request, fds) if self.agreed.write_multiple else die()


def _several(what: str, mistake: str, when: Callable[[Any], Any]) -> Fault:
    """Dies of several writes one of which ``when`` picks."""
    wrong = crash("region_write_multi", lambda request: any(when(each) for each in request.wrs))
    return Fault(f"write-several-{what}-crash", mistake, responder=wrong)


FAULTS: tuple[Fault, ...] = (
    _writes(
        "behind-the-end",
        "Offsets lie within the region.",
        lambda r: CONFIG_SIZE <= r.offset < CONFIG_SIZE + 8 and r.region == CONFIG,
    ),
    _writes(
        "across-the-end",
        "Only the offset is looked at.",
        lambda r: r.offset > 0 and _inside(r) and r.offset + r.count > CONFIG_SIZE,
    ),
    _writes("range-wraps", "offset and count fit into 64 bits.", lambda r: r.offset + r.count > 1 << 64),
    _writes("offset-of-33-bits", "Offsets have 32 bits.", lambda r: r.offset == 1 << 32),
    _writes("no-such-region", "Regions exist.", lambda r: REGIONS <= r.region < BIG),
    _writes("highest-region", "An index is a signed number.", lambda r: r.region >= BIG),
    Fault(
        "write-count-zero-hangs",
        "Something is written.",
        responder=stuck("region_write", lambda request: not request.count),
    ),
    Fault(
        "write-over-the-limit-hangs",
        "There is room for what a message holds.",
        connection=rewritten(lambda data: hang() if 1 << 20 < size_of(data) < 1 << 31 else data),
    ),
    Fault("write-count-largest-accepted", "count fits into an int.", responder=respond(_believed)),
    Fault("write-of-whole-words", "Registers have 4 bytes.", responder=method("region_write", _whole_words)),
    Fault("write-at-whole-words", "Registers begin at words.", responder=method("region_write", _aligned_write)),
    Fault("read-at-whole-words", "Registers begin at words.", responder=method("region_read", _aligned_read)),
    *(
        Fault(
            f"config-byte-of-{what}-refused",
            "This register is written as a whole.",
            responder=refuse("region_write", errno.EINVAL, partial(_one_byte, offset)),
        )
        for what, offset in (("command", 0x04), ("base-address", 0x10), ("rom-address", 0x30), ("interrupt-line", 0x3C))
    ),
    Fault(
        "config-write-past-a-capability-crash",
        "What begins in a capability ends in it: 12 bytes from the fifth of an MSI-X capability on overrun a copy of it.",
        responder=crash("region_write", lambda r: (r.region, r.offset, r.count) == (CONFIG, 0x44, 12)),
    ),
    Fault(
        "refused-write-with-payload",
        "The reply is made before the device refuses the write, and sent with the refusal (libvfio-user efd091b).",
        responder=refuse("region_write", errno.EINVAL, _of_registers),
        outgoing=outgoing(_as_if_done, Command.REGION_WRITE, error=True),
    ),
    Fault(
        "limit-not-included",
        "max_data_xfer_size is one too much.",
        responder=method("region_read", _below_the_limit),
    ),
    Fault(
        "write-several-of-eight-bytes", "Each write has 8 bytes.", responder=instead("region_write_multi", _eight_bytes)
    ),
    Fault(
        "write-several-backwards",
        "The last write is done first.",
        responder=instead("region_write_multi", lambda request: request.replace(wrs=request.wrs[::-1])),
    ),
    Fault(
        "write-several-none-crash",
        "There is a write.",
        responder=crash("region_write_multi", lambda request: not request.wr_cnt),
    ),
    Fault("write-several-count-cut", "A count above 8 is 8.", responder=instead("region_write_multi", _cut)),
    Fault("write-several-rest-ignored", "Nobody looks behind the last write.", responder=respond(_rest_ignored)),
    _several("behind-the-end", "Offsets lie within their region.", lambda each: each.offset + each.count > 1 << 63),
    _several("no-such-region", "Regions exist.", lambda each: each.region >= REGIONS),
    Fault(
        "write-several-unasked-crash",
        "Nobody sends what was not offered.",
        responder=method("region_write_multi", _unasked),
    ),
)
