"""Region accesses, which a VMM sends most and waits for: from the bytes of the command to those of the reply, nothing between.

Typed messages, events and the engine's rules take twice as long as the rest of a small read. A region access that came whole,
without descriptors, on a connection that is ready needs none of them: what comes out is the same, as a test shows.
"""

from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.messages import Command, HeaderFlags, MessageType, RegionReadRequest
from vfio_user_proto.responder import Responder

# Region reads and writes, and their replies, have the same fixed fields.
_FIELDS: Final = wire.plan_of(RegionReadRequest).whole
_SIZE: Final = _FIELDS.size
_unpack, _pack = _FIELDS.unpack_from, _FIELDS.pack
_READ, _WRITE = int(Command.REGION_READ), int(Command.REGION_WRITE)
_REPLY, _NO_REPLY = int(MessageType.REPLY), int(HeaderFlags.NO_REPLY)
# Larger data is sent from where it is.
_LARGE: Final = 1 << 12


def answer(responder: Responder, message: bytes) -> bytes | None:
    """Carry out a small region access; returns its reply, b"" where it wants none, and None for any other message.

    Raises OSError to refuse it, and what the device raises; ``refusal`` is then the reply.
    """
    if len(message) < _SIZE:
        return None
    message_id, command, size, flags, _, offset, region, count = _unpack(message)
    if flags & ~_NO_REPLY or count > _LARGE:
        return None
    if command == _READ and size == _SIZE:
        data = responder.read(region, offset, count)
    elif command == _WRITE and size == _SIZE + count:
        responder.write(region, offset, message[_SIZE:])
        data = b""
    else:
        return None
    return b"" if flags else _pack(message_id, command, _SIZE + len(data), _REPLY, 0, offset, region, count) + data


def refusal(message: bytes, errno: int) -> bytes:
    """The error reply to a region access; b"" where it wants none."""
    header = wire.decode_header(message)
    if int(header.flags) & _NO_REPLY:
        return b""
    return wire.refusal(header, errno)
