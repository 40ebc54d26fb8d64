"""Messages that are right by default and wrong by named argument: what conformance cases and fuzzers are made of."""

from vfio_user_proto import wire
from vfio_user_proto.messages import Header, HeaderFlags, MessageType
from vfio_user_proto.model import Record
from vfio_user_proto.wire import Message


def craft(
    command: int,
    payload: Record | bytes | None = None,
    *,
    message_id: int = 0,
    kind: int = MessageType.COMMAND,
    no_reply: bool = False,
    flags: int | None = None,
    error: int = 0,
    message_size: int | None = None,
    extra: bytes = b"",
    cut: int = 0,
) -> bytes:
    """The bytes of one message.

    ``flags`` replaces the header's flags as a whole; ``message_size`` lies about the size; ``extra`` bytes follow the payload
    and are counted in the size; ``cut`` takes that many bytes off the end, counted likewise. A payload of bytes is sent as
    it is.
    """
    body = payload if isinstance(payload, bytes) else wire.encode_record(payload) if payload is not None else b""
    body += extra
    if cut:
        body = body[: max(0, len(body) - cut)]
    if flags is None:
        flags = int(kind) | (HeaderFlags.NO_REPLY if no_reply else 0)
    size = wire.HEADER_SIZE + len(body) if message_size is None else message_size
    header = Header(message_id=message_id, command=command, message_size=size, flags=HeaderFlags(flags), error=error)
    return wire.encode(Message(header, None, body))
