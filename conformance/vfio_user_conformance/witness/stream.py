"""Checks of what every message has: its place in the conversation, its header, its size, its descriptors; and of replies."""

import sys

from vfio_user_conformance.witness.check import Check
from vfio_user_conformance.witness.seen import Known, Seen
from vfio_user_conformance.words import plural
from vfio_user_proto import capabilities
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    REPLIES,
    REQUESTS,
    Command,
    DmaReadReply,
    DmaReadRequest,
    DmaWriteReply,
    DmaWriteRequest,
    HeaderFlags,
    VersionRequest,
)
from vfio_user_proto.states import SENDERS, Role

_DEFINED = int(HeaderFlags.TYPE | HeaderFlags.NO_REPLY | HeaderFlags.ERROR)
_TAKE_DESCRIPTORS = (Command.DMA_MAP, Command.DEVICE_SET_IRQS)
# Their sizes are judged by checks of their own.
_SIZED = (Command.REGION_WRITE, Command.REGION_WRITE_MULTI, Command.DEVICE_RESET)


def _first(now: Seen, known: Known) -> str | None:
    if known.messages:
        return None
    return "" if now.is_command and now.header.command == Command.VERSION else f"{now.name} was the first message"


def _version_data(now: Seen, known: Known) -> str | None:
    if not (now.is_command and isinstance(now.payload, VersionRequest) and now.payload.version_data):
        return None
    try:
        capabilities.parse(now.payload.version_data)
    except DecodeError as problem:
        return str(problem)
    return ""


def _type(now: Seen, known: Known) -> str | None:
    return "" if now.is_command or now.is_reply else f"the type is {int(now.header.flags & HeaderFlags.TYPE)}"


def _undefined_flags(now: Seen, known: Known) -> str | None:
    more = int(now.header.flags) & ~_DEFINED
    return f"{now.name} has the undefined flags {more:#x}" if more else ""


def _error_field(now: Seen, known: Known) -> str | None:
    if not now.is_command:
        return None
    return f"{now.name} has {now.header.error} in the Error field" if now.header.error else ""


def _size(now: Seen, known: Known) -> str | None:
    if now.whole:
        return ""
    return f"Message size is {now.header.message_size}, and {plural(len(now.data), 'byte')} came"


def _complete(now: Seen, known: Known) -> str | None:
    if not now.whole or not now.is_command or REQUESTS.get(now.header.command) is None or now.header.command in _SIZED:
        return None
    return "" if now.problem is None else str(now.problem)


def _trailing(now: Seen, known: Known) -> str | None:
    if not now.whole or not now.is_command or now.problem or now.header.command not in {*REQUESTS} - {*_SIZED}:
        return None
    return f"{plural(len(now.trailing), 'byte')} behind the payload of {now.name}" if now.trailing else ""


def _direction(now: Seen, known: Known) -> str | None:
    if not now.is_command or now.header.command not in SENDERS:
        return None
    return "" if SENDERS[now.header.command] is Role.CLIENT else f"{now.name} from the client"


def _twin(now: Seen, known: Known) -> str | None:
    if not known.twin or not now.whole or not (now.is_reply or now.line == "twin"):
        return None
    if now.is_command:
        return f"{now.name} came on the second socket"
    # One that answers nothing is no matter of the socket.
    return "the client answered on the first socket" if now.line == "main" and known.asked["twin"] else ""


# Descriptors.


def _default_descriptors(now: Seen, known: Known) -> str | None:
    stated = known.agreed is not None and "max_msg_fds" in known.agreed.named
    if stated or not now.fds:
        return None
    return f"{len(now.fds)} came with {now.name}, and no max_msg_fds was stated" if len(now.fds) > 1 else ""


def _descriptors(now: Seen, known: Known) -> str | None:
    if known.agreed is None or "max_msg_fds" not in known.agreed.named or not now.fds:
        return None
    most = known.agreed.max_msg_fds
    return f"{len(now.fds)} came with {now.name}, max_msg_fds is {most}" if len(now.fds) > most else ""


def _unexpected_descriptors(now: Seen, known: Known) -> str | None:
    if now.is_command and now.header.command in _TAKE_DESCRIPTORS:
        more = len(now.fds) - 1 if now.header.command == Command.DMA_MAP else 0
        return f"{now.name} came with {len(now.fds)} descriptors" if more > 0 else ""
    return f"{now.name} came with {plural(len(now.fds), 'descriptor')}" if now.fds else ""


def _late_descriptors(now: Seen, known: Known) -> str | None:
    if not now.fds:
        return None
    return f"{plural(now.late, 'descriptor')} of {now.name} came behind its first byte" if now.late else ""


# Replies to our commands.


def _invented(now: Seen, known: Known) -> str | None:
    if not now.is_reply or not now.whole:
        return None
    elsewhere = known.asked["main" if now.line == "twin" else "twin"]
    return "" if known.asked[now.line] or elsewhere else f"{now.name} answers no command of the server"


def _unanswered(known: Known) -> str | None:
    left = [asked for line in known.asked.values() for asked in line]
    return f"{left[0].name} was not answered" if left else None


def _stalled(now: Seen, known: Known) -> str | None:
    """The server carries out one command after the other: while it waits, the client's last one has no reply."""
    asked = now.answers
    if asked is None:
        return None
    if asked in known.stalled:
        return f"{asked.name} was answered after {now.t - asked.t:.1f} s, when the server had given up and had replied itself"
    return "" if any(ours is asked for ours, _ in known.during) else None


def _echo(now: Seen, known: Known) -> str | None:
    if not now.is_reply or not known.asked[now.line]:
        return None
    due = known.asked[now.line][0].header
    if now.answers is not None:
        return ""
    return (
        f"Message ID {now.header.message_id} and Command {now.header.command} answer "
        f"Message ID {due.message_id} and Command {due.command}"
    )


def _error_bit(now: Seen, known: Known) -> str | None:
    if now.answers is None:
        return None
    failed = now.header.error and not now.is_error
    return f"the Error field is {now.header.error}, and the Error bit is clear" if failed else ""


def _error_empty(now: Seen, known: Known) -> str | None:
    if not (now.is_reply and now.is_error):
        return None
    return f"an error reply has {plural(len(now.body), 'byte')} of payload" if now.body else ""


def _read_reply(now: Seen, known: Known) -> Seen | None:
    """The VFIO_USER_DMA_READ that a message answers with success."""
    if now.answers is None or now.is_error or now.header.command != Command.DMA_READ:
        return None
    return now.answers


def _read_data(now: Seen, known: Known) -> str | None:
    if _read_reply(now, known) is None:
        return None
    if isinstance(now.payload, DmaReadReply) and not now.trailing:
        return ""
    count = int.from_bytes(now.body[8:16], sys.byteorder)
    return f"{plural(len(now.body), 'byte')} of payload, {16 + count} are due for count {count}"


def _dma_echo(now: Seen, known: Known) -> str | None:
    asked = now.answers.payload if now.answers else None
    if not isinstance(asked, DmaReadRequest | DmaWriteRequest) or not isinstance(
        now.payload, DmaReadReply | DmaWriteReply
    ):
        return None
    if (now.payload.address, now.payload.count) == (asked.address, asked.count):
        return ""
    return (
        f"address {now.payload.address:#x} and count {now.payload.count} answer "
        f"address {asked.address:#x} and count {asked.count}"
    )


def _write_reply(now: Seen, known: Known) -> str | None:
    if now.answers is None or now.is_error or now.header.command != Command.DMA_WRITE:
        return None
    size = REPLIES[Command.DMA_WRITE]
    assert size is not None
    return "" if len(now.body) == size.fixed_size else f"{plural(len(now.body), 'byte')} of payload"


_NO_MESSAGE = "no message came"
_NO_COMMAND = "no command of the kind came"
_NO_REPLY = "the server sent no command that the client had to answer, see --allow dma"
_NO_DATA = "the client answered no VFIO_USER_DMA_READ with data, see --allow dma"
_NO_WRITTEN = "the client carried out no VFIO_USER_DMA_WRITE, see --allow dma"
_NO_SUCCESS = "the client carried out no command of the server, see --allow dma"
_NO_DESCRIPTOR = "no message with descriptors came"

CHECKS = (
    Check(
        "version/first",
        "version.first",
        "the first message is VFIO_USER_VERSION",
        _first,
        _NO_MESSAGE,
        ("info-before-version",),
    ),
    Check(
        "version/data",
        "version.data-form",
        "version data that is a JSON object with a NUL behind it, and members of the right types",
        _version_data,
        "the client sent no version data",
        ("version-data-without-nul",),
    ),
    Check("header/type", "header.type", "type 0 or 1", _type, _NO_MESSAGE, ("type-2",)),
    Check(
        "header/undefined-flags",
        "header.undefined-flags",
        "bits 6 to 31 of Flags are zero",
        _undefined_flags,
        _NO_MESSAGE,
        ("flag-6",),
    ),
    Check(
        "header/error-field",
        "header.error-reserved",
        "zero in the Error field of commands",
        _error_field,
        _NO_COMMAND,
        ("command-with-error",),
    ),
    Check(
        "header/size",
        "header.message-size",
        "as many bytes as Message size says",
        _size,
        _NO_MESSAGE,
        ("size-below-header", "cut-at-the-end"),
    ),
    Check(
        "payload/complete",
        "header.length",
        "every field of the payload, each at its offset",
        _complete,
        _NO_COMMAND,
        ("short-payload",),
    ),
    Check(
        "payload/trailing",
        "security.trailing-payload",
        "nothing behind the payload",
        _trailing,
        _NO_COMMAND,
        ("long-payload",),
    ),
    Check(
        "command/direction",
        "commands.wrong-direction",
        "no command that is for the server to send",
        _direction,
        _NO_COMMAND,
        ("sends-dma-read",),
    ),
    Check(
        "twin-socket/used",
        "twin-socket.used",
        "replies, and nothing else, on the second socket",
        _twin,
        "twin-socket mode was not in force, or nothing was to be answered",
        ("answers-on-first-socket", "asks-on-second-socket"),
    ),
    Check(
        "descriptors/default-limit",
        "version.max-msg-fds-default",
        "one descriptor at the most, where the server stated no max_msg_fds",
        _default_descriptors,
        "no message with descriptors came while no max_msg_fds was stated",
        ("two-descriptors-with-version",),
    ),
    Check(
        "descriptors/limit",
        "version.max-msg-fds-kept",
        "no more descriptors than the server's max_msg_fds",
        _descriptors,
        _NO_DESCRIPTOR,
        ("descriptors-beyond-limit",),
    ),
    Check(
        "descriptors/expected",
        "stream.unexpected-descriptors",
        "one descriptor with VFIO_USER_DMA_MAP, several with VFIO_USER_DEVICE_SET_IRQS, none elsewhere",
        _unexpected_descriptors,
        _NO_MESSAGE,
        ("descriptor-with-info",),
    ),
    Check(
        "descriptors/first-byte",
        "stream.descriptors-of-message",
        "descriptors come with the first byte",
        _late_descriptors,
        _NO_DESCRIPTOR,
        ("late-descriptor",),
    ),
    Check(
        "reply/one-each",
        "header.reply-to-each",
        "one reply to each command of the server, and no other",
        _invented,
        _NO_REPLY,
        ("reply-invented", "no-reply-to-dma"),
        _unanswered,
    ),
    Check(
        "reply/no-stall",
        "socket.no-stall",
        "a client that waits for a reply still answers",
        _stalled,
        "the server sent no command while the client waited for a reply",
        ("answers-after-reply",),
    ),
    Check(
        "reply/echo",
        "header.echo",
        "Message ID and Command of the command",
        _echo,
        _NO_REPLY,
        ("reply-other-id", "reply-other-command"),
    ),
    Check(
        "reply/error-bit",
        "header.error-bit",
        "the Error bit where there is an error",
        _error_bit,
        _NO_REPLY,
        ("error-without-bit",),
    ),
    Check(
        "reply/error-empty",
        "header.error-reply-empty",
        "an error reply is a header alone",
        _error_empty,
        "the client refused no command of the server",
        ("error-with-payload",),
    ),
    Check(
        "dma-read/data",
        "read-write.reply-data",
        "16 + count bytes of payload",
        _read_data,
        _NO_DATA,
        ("dma-read-data-cut",),
    ),
    Check(
        "dma/echo",
        "read-write.echo",
        "address and count of the command",
        _dma_echo,
        _NO_SUCCESS,
        ("dma-other-address",),
    ),
    Check(
        "dma-write/reply", "dma-write.reply", "16 bytes of payload", _write_reply, _NO_WRITTEN, ("dma-write-12-bytes",)
    ),
)
