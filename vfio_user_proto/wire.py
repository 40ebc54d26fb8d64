"""Bytes to typed messages and back: lossless, bounded, and fast.

construct defines every format but takes 20 microseconds for a small message. So each schema is walked once and
turned into a plan: one precompiled ``struct.Struct`` for the fixed part and at most one open field behind it.
A test holds plan and construct equal.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar

import construct

from vfio_user_proto import messages
from vfio_user_proto.errors import DecodeError, EncodeError
from vfio_user_proto.messages import Header, HeaderFlags, MessageType
from vfio_user_proto.model import Bits, Codes, Flags, Many, Record, Strided, name_of

HEADER_SIZE: Final = Header.fixed_size
# The default max_data_xfer_size (section VFIO_USER_VERSION) and generous room for what stands around the data.
DEFAULT_LIMIT: Final = 1048576 + 4096

# Plain numbers: the operators of IntFlag cost more than all else together.
_TYPE, _ERROR = int(HeaderFlags.TYPE), int(HeaderFlags.ERROR)
_KIND: Final = _TYPE | _ERROR
_REFUSED: Final = int(MessageType.REPLY) | _ERROR


class Message(NamedTuple):
    """One whole message.

    ``payload`` is None where there is no table for it; ``trailing`` holds the bytes that no table accounts for.
    """

    header: Header
    payload: Record | None = None
    trailing: bytes = b""

    @property
    def is_reply(self) -> bool:
        return int(self.header.flags) & _TYPE == 1

    @property
    def is_error(self) -> bool:
        return bool(int(self.header.flags) & _ERROR)

    @property
    def name(self) -> str:
        """For people: "VFIO_USER_DMA_MAP reply"."""
        return CURRENT.name(self.header)


class Plan(NamedTuple):
    """How one record is decoded and encoded.

    ``decode(data, at, end)`` returns the record and where it ended; ``encode(value)`` its bytes; ``build`` those of a
    message with it, from the values of the header but its size, the open field apart. ``fixed`` packs what comes before the
    open field, ``whole`` that behind a header.
    """

    record: type[Record]
    decode: Callable[[bytes, int, int], tuple[Any, int]]
    encode: Callable[[Any], bytes]
    build: Callable[[Any, int, int, int, int], tuple[bytes, bytes]]
    fixed: struct.Struct
    whole: struct.Struct


class _Known(dict[int, Bits]):
    """Flag values seen, so that the usual ones cost a dictionary look-up; it stops growing at 64."""

    def __init__(self, bits: type[Bits]) -> None:
        self.bits = bits

    def __missing__(self, value: int) -> Bits:
        flags = self.bits(value)
        if len(self) < 64:
            self[value] = flags
        return flags


@cache
def plan_of(record: type[Record]) -> Plan:
    """Derive the plan of ``record`` from its construct schema."""
    names: dict[str, Any] = {"make": record._make, "short": _short, "record": record, "wrong": _wrong_message}
    values = [key for key in record.rows if key != record.tail]
    readers = ""
    for key in values:
        holds = record.rows[key].holds
        if isinstance(holds, Flags):
            names[f"known_{key}"] = _Known(holds.bits)
            readers += f"    _{key} = known_{key}[_{key}]\n"
    fixed, whole = struct.Struct("=" + _form(record)), struct.Struct("=" + _form(Header) + _form(record))
    names.update(unpack=fixed.unpack_from, pack=fixed.pack, pack_whole=whole.pack, fault=struct.error)
    decode_tail, tail = _plan_tail(record, names)
    # A field is a variable with a line before its name, so that one called data is not taken for the bytes.
    values_of = ", ".join(f"value.{key}" for key in values)
    targets = "".join(f"_{key}, " for key in values) + ("= " if values else "")
    source = f"""
def decode(data, at, end):
    stop = at + {fixed.size}
    if stop > end:
        short(record, data, at, end)
    {targets}unpack(data, at)
{readers}{decode_tail}    return make({", ".join(f"_{key}" for key in record.rows)}), stop

def encode(value):
    tail = {tail}
    try:
        return pack({values_of}) + tail
    except fault:
        wrong(value)

def build(value, message_id, command, flags, error):
    tail = {tail}
    size = {whole.size} + len(tail)
    try:
        return pack_whole(message_id, command, size, flags, error, {values_of}), tail
    except fault:
        wrong(value, message_id, command, size, flags, error)
"""
    exec(source, names)
    return Plan(record, names["decode"], names["encode"], names["build"], fixed, whole)


def _form(record: type[Record]) -> str:
    """The fixed fields in the letters of ``struct``."""
    form = ""
    for key, each in record.rows.items():
        if key != record.tail:
            holds = each.holds.subcon if isinstance(each.holds, Flags) else each.holds
            form += holds.fmtstr.lstrip("=<>") if isinstance(holds, construct.FormatField) else f"{holds.sizeof()}s"
    return form


def _plan_tail(record: type[Record], names: dict[str, Any]) -> tuple[str, str]:
    """The lines that read the open field, and the expression that gives its bytes."""
    key = record.tail
    if key is None:
        return "", 'b""'
    holds = record.rows[key].holds
    fixed = [name for name in record.rows if name != key]
    if isinstance(holds, construct.Bytes):
        names.update(length=holds.length, missing=_missing)
        counter = next(name for name, each in record.rows.items() if each.counts == key)
        return (
            f"    start, stop = stop, stop + _{counter}\n"
            f"    if stop > end:\n        missing(record, start - at, _{counter}, end - start)\n"
            f"    _{key} = data[start:stop]\n",
            f"value.{key}",
        )
    if holds is construct.GreedyBytes:
        return f"    _{key}, stop = data[stop:end], end\n", f"value.{key}"
    context = "{" + ", ".join(f"'{name}': _{name}" for name in fixed) + "}"
    names.update(read_many=_reader_of_many(record, key, holds), write_many=_writer_of_many(record, key))
    return f"    _{key}, stop = read_many(data, stop, end, {context})\n", f"write_many(value.{key})"


def _reader_of_many(record: type[Record], key: str, holds: Any) -> Callable[..., tuple[tuple[Any, ...], int]]:
    """A function that reads an array of records; nothing is built before the bytes are known to be there."""
    if isinstance(holds, Many):
        part, counter = plan_of(holds.record), holds.count

        def read_many(data: bytes, at: int, end: int, context: dict[str, Any]) -> tuple[tuple[Any, ...], int]:
            count = (end - at) // part.record.fixed_size if counter is None else counter(context)
            size = count * part.record.fixed_size
            if size > end - at:
                _missing(record, record.rows[key].offset, size, end - at)
            return tuple(
                part.decode(data, place, end)[0] for place in range(at, at + size, part.record.fixed_size)
            ), at + size

        return read_many
    if not isinstance(holds, Strided):
        raise TypeError(f"{record.__name__}.{key}: no plan for {type(holds).__name__}")
    strided = holds

    def read_strided(data: bytes, at: int, end: int, context: dict[str, Any]) -> tuple[tuple[Any, ...], int]:
        count, total = strided.count(context), max(0, strided.total(context))
        size = total // count * count if count else 0
        if not size or at == end:
            return (), at
        if size > end - at:
            _missing(record, record.rows[key].offset, size, end - at)
        entries = strided.split(data[at : at + size], count)
        return tuple(
            raw if kind is None else plan_of(kind).decode(raw, 0, len(raw))[0] for kind, raw in entries
        ), at + size

    return read_strided


def _writer_of_many(record: type[Record], key: str) -> Callable[[tuple[Record | bytes, ...]], bytes]:
    """A function that writes an array of records; an error names the entry."""

    def write_many(parts: tuple[Record | bytes, ...]) -> bytes:
        data: list[bytes] = []
        for index, part in enumerate(parts):
            try:
                data.append(part if isinstance(part, bytes) else plan_of(type(part)).encode(part))
            except EncodeError as error:
                before = record.fixed_size + sum(map(len, data))
                raise error.inside(f"{record.__name__}.{key}[{index}]", before) from None
        return b"".join(data)

    return write_many


def _short(record: type[Record], data: bytes, at: int, end: int) -> None:
    """Raise for fixed fields that are cut: name the first field that is not whole."""
    for key, each in record.rows.items():
        size = each.fixed_size
        if size is not None and at + each.offset + size > end:
            problem = f"{size} bytes are due, {max(0, end - at - each.offset)} are there"
            raise DecodeError(f"{record.__name__}.{key}", problem, each.offset)


def _missing(record: type[Record], offset: int, due: int, there: int) -> None:
    """Raise for an open field that is cut."""
    raise DecodeError(f"{record.__name__}.{record.tail}", f"{due} bytes are due, {there} are there", offset)


def _wrong_message(value: Record, *header: int) -> None:
    """Raise for the first field whose value does not fit, in the header where there is one, or else in ``value``."""
    if header:
        encode_record(Header._make(*header))
    for key, each in value.rows.items():
        if key != value.tail:
            content = getattr(value, key)
            size = each.fixed_size or 0
            if not isinstance(content, int) or not 0 <= content < 1 << 8 * size:
                raise EncodeError(
                    f"{type(value).__name__}.{key}", f"{content!r} does not fit into {size} bytes", each.offset
                )


R = TypeVar("R", bound=Record)


def decode_record(record: type[R], data: bytes) -> tuple[R, bytes]:
    """Decode the beginning of ``data`` as one ``record``; returns it and the bytes behind it. Raises DecodeError."""
    data = bytes(data)
    value, stop = plan_of(record).decode(data, 0, len(data))
    return value, data[stop:]


def encode_record(value: Record) -> bytes:
    """The bytes of one record, its fields exactly as they are. Raises EncodeError for a value that does not fit."""
    return plan_of(type(value)).encode(value)


class Dialect(NamedTuple):
    """One revision of the protocol: its commands and what they carry. The layout of ``header`` is the same in all of them.

    ``plans`` has what reads the payload of a message, by its kind (the flags Type and Error) and command.
    """

    header: type[Record]
    commands: type[Codes]
    plans: Mapping[tuple[int, int], Plan]

    def name(self, header: Header) -> str:
        """For people: "VFIO_USER_DMA_MAP reply"."""
        flags = int(header.flags)
        word = {0: "command", 1: "reply"}.get(flags & _TYPE, f"type {flags & _TYPE}")
        return f"{name_of(self.commands, header.command)} {'error ' if flags & _ERROR else ''}{word}"


def dialect_of(module: ModuleType) -> Dialect:
    """The revision that a generated module declares: ``messages``, or a draft."""
    kinds = ((0, module.REQUESTS), (_ERROR, module.REQUESTS), (1, module.REPLIES))
    plans = {
        (kind, command): plan_of(record)
        for kind, records in kinds
        for command, record in records.items()
        if record is not None
    }
    return Dialect(module.Header, module.Command, plans)


CURRENT: Final = dialect_of(messages)
# The parts of decode() that run once per message, looked up once.
_decode_header, _unpack_header = plan_of(Header).decode, plan_of(Header).fixed.unpack_from
_encode_header, _make_header = plan_of(Header).encode, Header._make
_new_message = tuple.__new__
_FLAGS: Final = _Known(HeaderFlags)


def decode_header(data: bytes) -> Header:
    """The header in the first 16 bytes of ``data``. Raises DecodeError where there are fewer; judges nothing else."""
    header: Header = _decode_header(bytes(data[:HEADER_SIZE]), 0, min(len(data), HEADER_SIZE))[0]
    return header


def record_of(header: Header, dialect: Dialect = CURRENT) -> type[Record] | None:
    """The table of what follows ``header``; None for an unknown command, an error reply, and a message without payload."""
    plan = dialect.plans.get((int(header.flags) & _KIND, header.command))
    return plan.record if plan else None


def decode(data: bytes, dialect: Dialect = CURRENT) -> Message:
    """Decode one whole message of any kind.

    An unknown command, and a reply with the Error bit, have no payload: all their bytes behind the header are
    ``trailing``. Raises DecodeError where ``data`` is not exactly as long as its header says, or a field is cut.
    """
    if type(data) is not bytes:
        data = bytes(data)
    end = len(data)
    if end < HEADER_SIZE:
        _decode_header(data, 0, end)
    message_id, command, size, flags, error = _unpack_header(data)
    if size != end:
        raise DecodeError("Header.message_size", f"says {size} bytes, the message has {end}", 4)
    header = _make_header(message_id, command, size, _FLAGS[flags], error)
    plan = dialect.plans.get((flags & _KIND, command))
    if plan is None:
        return Message(header, None, data[HEADER_SIZE:])
    try:
        payload, stop = plan.decode(data, HEADER_SIZE, end)
    except DecodeError as problem:
        raise problem.inside(dialect.name(header), HEADER_SIZE) from None
    return _new_message(Message, (header, payload, data[stop:] if stop != end else b""))


def encode(message: Message) -> bytes:
    """The bytes of ``message`` exactly as it is, right or wrong: the inverse of ``decode``. Raises EncodeError."""
    header, payload, trailing = message
    data = _encode_header(header)
    if payload is not None:
        data += plan_of(type(payload)).encode(payload)
    return data + trailing


def build(command: int, payload: Record | None = None, *, message_id: int = 0, flags: int = 0, error: int = 0) -> bytes:
    """The bytes of one right message: the header's size is that of the message. Raises EncodeError."""
    return b"".join(parts(command, payload, message_id, flags, error))


def refusal(to: Header, errno: int) -> bytes:
    """The error reply to the message with this header: the header alone."""
    return build(to.command, message_id=to.message_id, flags=_REFUSED, error=errno)


def parts(command: int, payload: Record | None, message_id: int, flags: int, error: int) -> tuple[bytes, bytes]:
    """What ``build`` returns in two pieces: the second, which ends the message, is the open field of ``payload`` itself."""
    if payload is not None:
        return plan_of(type(payload)).build(payload, message_id, command, flags, error)
    return _encode_header(_make_header(message_id, command, HEADER_SIZE, flags, error)), b""


def split(data: bytes) -> Iterator[bytes]:
    """Cut a byte stream into whole messages by the sizes in their headers.

    Raises DecodeError where the stream ends inside a message, or a size is less than that of a header.
    """
    at = 0
    while at < len(data):
        try:
            size = decode_header(data[at : at + HEADER_SIZE]).message_size
        except DecodeError as error:
            raise DecodeError(error.path, error.problem, at + (error.offset or 0)) from None
        if size < HEADER_SIZE or at + size > len(data):
            raise DecodeError("Header.message_size", f"says {size} bytes, {len(data) - at} are there", at + 4)
        yield data[at : at + size]
        at += size
