"""Faults of the capabilities in VFIO_USER_VERSION, and of header fields."""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    ERROR,
    Fault,
    crash,
    die,
    hang,
    header,
    method,
    refuse,
    respond,
    rewritten,
    right,
    size_of,
)
from vfio_user_proto.messages import Command, HeaderFlags, VersionRequest
from vfio_user_proto.responder import Answer, Responder


def _odd(what: str, mistake: str, sign: bytes) -> Fault:
    """Dies of version data that hold ``sign``."""
    responder = crash("version", lambda request: sign in request.version_data)
    return Fault(f"capability-{what}-crash", mistake, responder=responder)


def _refuses(name: str, mistake: str, when: Callable[[VersionRequest], Any]) -> Fault:
    return Fault(name, mistake, responder=refuse("version", errno.EINVAL, when))


def _twin_where(told: bytes, taken: bytes) -> type[Responder]:
    """Takes one thing in version data for another."""

    def version(self: Any, request: VersionRequest, fds: list[int]) -> Answer:
        data = request.version_data.replace(told, taken)
        return right("version", self, request.replace(version_data=data), fds)

    return method("version", version)


def _takes(name: str, change: Callable[[Capabilities], int]) -> type[Responder]:
    """Believes another ``max_msg_fds`` than the client's when it answers the command ``name``."""

    def answering(self: Any, request: Any, fds: list[int]) -> Answer:
        told, self.peer = self.peer, replace(self.peer, max_msg_fds=change(self.peer))
        try:
            return right(name, self, request, fds)
        finally:
            self.peer = told

    return method(name, answering)


def _left(wrong: Callable[[int], bool]) -> type[Connection]:
    """Answers such a command when its header is there, and takes its payload for the next message."""

    def change(data: bytes) -> bytes:
        if not wrong(wire.decode_header(data).command):
            return data
        return header(data, message_size=wire.HEADER_SIZE)

    return rewritten(change)


def _type_left(data: bytes) -> bytes:
    told = wire.decode_header(data)
    if int(told.flags) & int(HeaderFlags.TYPE) != 9:
        return data
    return header(data, message_size=wire.HEADER_SIZE, flags=HeaderFlags(0))


def _flag_17(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return die() if int(event.message.header.flags) >> 17 & 1 else Responder.respond(self, event, fds)


def _error_bit(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    return die() if int(event.message.header.flags) & ERROR else Responder.respond(self, event, fds)


def _size_of(size: int, end: Callable[[], Any]) -> type[Connection]:
    return rewritten(lambda data: end() if size_of(data) == size else data)


def _underrun(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    try:
        return Responder.respond(self, event, fds)
    except OSError as refusal:
        if (refusal.errno or 0) < errno.EIO:
            die()
        raise


FAULTS: tuple[Fault, ...] = (
    Fault("command-zero-unread", "Commands are counted from 1.", connection=_left(lambda command: command == 0)),
    Fault(
        "command-dropped-unread", "A hole in the table has no size.", connection=_left(lambda command: command == 14)
    ),
    Fault("command-behind-the-last-unread", "The table ends with 19.", connection=_left(lambda command: command == 19)),
    Fault(
        "command-of-the-highest-number-unread",
        "0xffff is no number.",
        connection=_left(lambda command: command == 0xFFFF),
    ),
    Fault(
        "dma-write-to-the-server-unread",
        "A command for the client is refused before its payload is read.",
        connection=_left(lambda command: command == Command.DMA_WRITE),
    ),
    Fault("undefined-flag-17-crash", "A flag of our own is set by us alone.", responder=respond(_flag_17)),
    Fault("type-unread", "A message of type 9 has no payload.", connection=rewritten(_type_left)),
    Fault("error-bit-in-a-command-crash", "Only replies have the Error bit.", responder=respond(_error_bit)),
    Fault("size-zero-hangs", "A size of zero is one that comes later.", connection=_size_of(0, hang)),
    Fault("size-15-crash", "A size below 16 is off by far.", connection=_size_of(15, die)),
    Fault("error-number-table-underrun", "The names of errors begin with EIO.", responder=respond(_underrun)),
    _refuses("capabilities-wanted", "There are always capabilities.", lambda r: b"capabilities" not in r.version_data),
    _refuses(
        "twin-socket-unknown-member-refused", "Unknown members are refused.", lambda r: b"colour" in r.version_data
    ),
    Fault(
        "twin-socket-named-is-enough",
        "Who names the twin socket wants it.",
        responder=_twin_where(b'"supported": false', b'"supported": true'),
    ),
    Fault(
        "twin-socket-default-true",
        "supported is true if absent.",
        responder=_twin_where(b'"twin_socket": {}', b'"twin_socket": {"supported": true}'),
    ),
    _refuses("version-minor-one-refused", "The minor versions are 0 and 2.", lambda r: r.version_minor == 1),
    Fault(
        "max-msg-fds-ignored",
        "Every client takes as many descriptors as there are (libvfio-user efd091b).",
        responder=_takes("device_get_region_io_fds", lambda peer: 253),
    ),
    Fault(
        "max-msg-fds-default-many",
        "Who says nothing takes as many descriptors as there are.",
        responder=_takes(
            "device_get_region_io_fds", lambda peer: peer.max_msg_fds if "max_msg_fds" in peer.named else 253
        ),
    ),
    Fault(
        "max-msg-fds-off-by-one",
        "Descriptors are counted from 0.",
        responder=_takes("device_get_region_io_fds", lambda peer: peer.max_msg_fds + 1),
    ),
    Fault(
        "max-msg-fds-one-at-least",
        "Every client takes one descriptor.",
        responder=_takes("device_get_region_info", lambda peer: max(peer.max_msg_fds, 1)),
    ),
    _refuses(
        "descriptors-wanted",
        "Every client takes descriptors.",
        lambda request: b'"max_msg_fds": 0}' in request.version_data,
    ),
    _odd("max-msg-fds-fraction", "Numbers are whole.", b"1.5"),
    _odd("max-msg-fds-null", "A member that is there has a value.", b": null"),
    _odd("max-msg-fds-33-bits", "Numbers have 32 bits.", b"4294967297"),
    _odd("max-data-xfer-size-zero", "A transfer has a size.", b'"max_data_xfer_size": 0}'),
    _odd("max-data-xfer-size-64-bits", "Numbers are signed.", b"18446744073709551615"),
    _odd("max-dma-maps-zero", "There are mappings.", b'"max_dma_maps": 0'),
    _odd("pgsizes-zero", "There is a page size.", b'"pgsizes": 0'),
    _odd("pgsizes-no-power-of-two", "Page sizes are powers of two.", b'"pgsizes": 3'),
    _odd("twin-socket-no-object", "twin_socket is an object.", b'"twin_socket": true'),
    _odd("twin-socket-supported-a-number", "supported is a boolean.", b'"supported": 1'),
    _odd("twin-socket-fd-index-asked-for", "fd_index is for replies.", b'"fd_index": 9'),
    _odd("write-multiple-text", "write_multiple is a boolean.", b'"yes"'),
    _odd("list-of-capabilities", "capabilities is an object.", b'["max_msg_fds"]'),
    _odd("named-twice", "A member is there once.", b'3, "max_msg_fds": 4'),
    _odd("infinity", "Numbers are finite.", b"Infinity"),
    _odd("endless-number", "Numbers have a few digits.", b"7" * 1000),
    _odd("nested-deeply", "The stack is deep enough.", b"[" * 1000),
    _odd("long-text", "Version data have a few bytes.", b"x" * 50000),
    _odd("lone-surrogate", "Every escape is a character.", b"\\ud800"),
    _odd("nul-twice", "The first NUL is the last byte (rust-vmm).", b"}\0\0"),
    Fault(
        "capability-nul-alone-crash",
        "There is text before the NUL.",
        responder=crash("version", lambda request: request.version_data == b"\0"),
    ),
)
