"""Faults of payloads that are shorter or longer than their table."""

from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import Fault, header, respond, rewritten, size_of
from vfio_user_proto.messages import REQUESTS, Command, RegionWriteReply, RegionWriteRequest, VersionRequest
from vfio_user_proto.responder import Answer, Responder


def _padded(command: Command) -> type[Responder]:
    """Takes the bytes that a fixed part lacks for zeros."""
    record = REQUESTS[command]
    assert record is not None
    fixed = record.fixed_size

    def responding(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
        message = event.message
        if message.header.command != command or len(message.trailing) >= fixed or event.problem is None:
            return Responder.respond(self, event, fds)
        body = message.trailing + bytes(fixed - len(message.trailing))
        try:
            whole = wire.decode(header(wire.encode_record(message.header) + body, message_size=16 + fixed))
        except DecodeError:
            if record is RegionWriteRequest:
                return RegionWriteReply(), ()
            raise OSError(22, "still too short") from None
        return Responder.respond(self, event._replace(message=whole, problem=None), fds)

    return respond(responding)


def _left(command: Command, size: int) -> type[Connection]:
    """Takes what follows the payload of a command for the next message."""

    def change(data: bytes) -> bytes:
        longer = wire.decode_header(data).command == command and size_of(data) > 16 + size
        return header(data, message_size=16 + size) if longer else data

    return rewritten(change)


_SHORT = {
    "dma-map": Command.DMA_MAP,
    "dma-unmap": Command.DMA_UNMAP,
    "device-info": Command.DEVICE_GET_INFO,
    "io-fds": Command.DEVICE_GET_REGION_IO_FDS,
    "irq-info": Command.DEVICE_GET_IRQ_INFO,
    "set-irqs": Command.DEVICE_SET_IRQS,
    "region-read": Command.REGION_READ,
    "region-write": Command.REGION_WRITE,
    "write-multi": Command.REGION_WRITE_MULTI,
    "feature": Command.DEVICE_FEATURE,
}
_TRAILING = {
    "dma-map": (Command.DMA_MAP, 32),
    "dma-unmap": (Command.DMA_UNMAP, 24),
    "irq-info": (Command.DEVICE_GET_IRQ_INFO, 16),
    "set-irqs": (Command.DEVICE_SET_IRQS, 20),
    "region-read": (Command.REGION_READ, 16),
    "reset": (Command.DEVICE_RESET, 0),
}


def _proposal(size: int) -> type[Responder]:
    """Takes a proposal of just this size for one of version 0.0."""

    def responding(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
        message = event.message
        if message.header.command == Command.VERSION and event.problem and len(message.trailing) == size:
            whole = wire.decode(craft(Command.VERSION, VersionRequest(), message_id=message.header.message_id))
            event = event._replace(message=whole, problem=None)
        return Responder.respond(self, event, fds)

    return respond(responding)


FAULTS: tuple[Fault, ...] = (
    Fault("version-empty-padded", "A proposal of nothing is one of version 0.0.", responder=_proposal(0)),
    Fault("version-cut-padded", "A proposal without minor version has 0.", responder=_proposal(2)),
    *(
        Fault(f"{name}-short-padded", "Bytes that a payload lacks are zero.", responder=_padded(command))
        for name, command in _SHORT.items()
    ),
    *(
        Fault(f"{name}-trailing-left", "What follows a payload is the next message.", connection=_left(command, size))
        for name, (command, size) in _TRAILING.items()
    ),
)
