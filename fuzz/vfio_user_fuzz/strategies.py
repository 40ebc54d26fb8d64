"""Recipes for values of every kind in the protocol, derived from the schemas (hypothesis strategies)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

import construct
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy

from vfio_user_fuzz.edges import interesting
from vfio_user_fuzz.mutations import mutate
from vfio_user_fuzz.packets import KINDS, ODD_DESCRIPTORS, Descriptor, Packet
from vfio_user_fuzz.sessions import Offer, Step, legal
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import (
    FEATURES,
    REGION_CAPABILITIES,
    REPLIES,
    REQUESTS,
    CapabilityHeader,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    Header,
    HeaderFlags,
    MessageType,
    VersionRequest,
)
from vfio_user_proto.model import Bits, Codes, Flags, Many, Record, Row, Strided
from vfio_user_proto.wire import Message

R = TypeVar("R", bound=Record)


def numbers(*, size: int) -> SearchStrategy[int]:
    """Unsigned numbers of ``size`` bytes, 1 to 8: edge values and all others."""
    if size not in range(1, 9):
        raise InvalidArgument(f"size={size!r} is not a number of bytes from 1 to 8")
    return st.one_of(st.integers(0, (1 << 8 * size) - 1), st.sampled_from(interesting(size)))


def flags(bits: type[Bits], *, size: int, unknown: bool = True) -> SearchStrategy[Bits]:
    """Sets of flag bits: any of the declared ones and, where ``unknown``, any others that fit into ``size`` bytes."""
    if not (isinstance(bits, type) and issubclass(bits, Bits)):
        raise InvalidArgument(f"bits={bits!r} is not a class of flag bits")
    declared = 0
    for member in bits.__members__.values():
        declared |= int(member)
    every = numbers(size=size)
    known = every.map(lambda number: number & declared)
    return (st.one_of(known, every) if unknown else known).map(bits)


def codes(table: type[Codes], *, size: int, unknown: bool = True) -> SearchStrategy[int]:
    """Numbers of a table and, where ``unknown``, any others that fit into ``size`` bytes."""
    if not (isinstance(table, type) and issubclass(table, Codes)):
        raise InvalidArgument(f"table={table!r} is not a table of numbers")
    known = st.sampled_from([int(code) for code in table])
    return st.one_of(known, numbers(size=size)) if unknown else known


def records(cls: type[R], *, unknown: bool = True, max_bytes: int = 64, max_parts: int = 4) -> SearchStrategy[R]:
    """Values of one record that survive encoding and decoding.

    Counts fit what they count; an ``argsz`` is right or any number, except where the record could not be read with a wrong
    one. ``unknown`` allows bits and codes that no table declares. An open field holds at most ``max_bytes`` bytes or
    ``max_parts`` records.
    """
    if not (isinstance(cls, type) and issubclass(cls, Record) and cls.rows):
        raise InvalidArgument(f"cls={cls!r} is not a class of records")
    _check_limits(max_bytes=max_bytes, max_parts=max_parts)
    options = _Options(unknown, max_bytes, max_parts)
    tail = cls.rows[cls.tail].holds if cls.tail else None
    contents = {key: _values(cls, key, row, options) for key, row in cls.rows.items() if not row.counts}
    for key, row in cls.rows.items():
        if row.measures and isinstance(tail, Strided):
            del contents[key]
        elif row.measures:
            contents[key] = st.one_of(st.none(), contents[key])
    whole = st.builds(cls, **contents)
    if isinstance(tail, Strided) and unknown:
        return st.one_of(whole, whole.flatmap(_size_only))
    return whole


def _check_limits(**limits: object) -> None:
    for name, value in limits.items():
        if not isinstance(value, int) or value < 0:
            raise InvalidArgument(f"{name}={value!r} is not a whole number of at least 0")


def _size_only(value: R) -> SearchStrategy[R]:
    """``value`` without its entries: the reply that only says how large the full one is."""
    lies = {key: numbers(size=4) for key, row in value.rows.items() if row.measures or row.counts}
    return st.builds(value.replace, **{str(value.tail): st.just(())}, **lies)


class _Options(NamedTuple):
    unknown: bool
    max_bytes: int
    max_parts: int


def _values(cls: type[Record], key: str, row: Row, options: _Options) -> SearchStrategy[Any]:
    """What one field may hold."""
    holds, size = row.holds, row.fixed_size
    if isinstance(holds, Flags):
        return flags(holds.bits, size=holds.sizeof(), unknown=options.unknown)
    if row.codes is not None:
        return codes(row.codes, size=holds.sizeof(), unknown=options.unknown)
    if isinstance(holds, construct.FormatField):
        return numbers(size=holds.sizeof())
    if isinstance(holds, Many):
        return st.lists(_part(holds.record, options), max_size=options.max_parts).map(tuple)
    if isinstance(holds, Strided):
        return _entries(holds, options)
    if size is not None:
        return st.binary(min_size=size, max_size=size)
    plain = st.binary(max_size=options.max_bytes)
    return st.one_of(plain, _CONTENTS[cls](options)) if cls in _CONTENTS else plain


def _part(cls: type[R], options: _Options) -> SearchStrategy[R]:
    return records(cls, unknown=options.unknown, max_bytes=options.max_bytes, max_parts=options.max_parts)


def _entries(holds: Strided, options: _Options) -> SearchStrategy[tuple[Record | bytes, ...]]:
    """Entries of one stride: known records and, where unknown ones are allowed, bytes that are none of these."""

    def of_stride(stride: int) -> SearchStrategy[list[Record | bytes]]:
        entries: list[SearchStrategy[Record | bytes]] = [
            _with_selector(_part(record, options), holds.selector, code)
            for (size, code), record in holds.records.items()
            if size == stride
        ]
        if options.unknown:
            raw = st.binary(min_size=stride, max_size=stride)
            entries.append(raw.filter(lambda entry: holds.record_of(entry) is None))
        return st.lists(st.one_of(entries), max_size=options.max_parts)

    strides = {size for size, _ in holds.records} | ({8, 56} if options.unknown else set())
    return st.sampled_from(sorted(strides)).flatmap(of_stride).map(tuple)


def _with_selector(parts: SearchStrategy[Record], selector: str, code: int) -> SearchStrategy[Record | bytes]:
    return parts.map(lambda part: part.replace(**{selector: code}))


def version_data() -> SearchStrategy[bytes]:
    """Version data with capabilities of any numbers, also with names that the document lacks."""
    unknown = st.dictionaries(
        st.text(max_size=8).filter(lambda name: name not in _CAPABILITIES), st.integers(), max_size=2
    )
    return st.builds(
        Capabilities,
        max_msg_fds=numbers(size=8),
        max_data_xfer_size=numbers(size=8),
        max_dma_maps=numbers(size=8),
        pgsizes=numbers(size=8),
        twin_socket=st.booleans(),
        twin_socket_fd_index=st.none() | numbers(size=4),
        write_multiple=st.booleans(),
        unknown=unknown,
    ).map(Capabilities.to_data)


_CAPABILITIES: Final = frozenset(field.name for field in fields(Capabilities))


def capability_chains(*, unknown: bool = True, max_parts: int = 4) -> SearchStrategy[bytes]:
    """The capabilities of a region as they follow the fixed part of the reply, each pointing to the next."""
    kinds = [
        st.tuples(st.just(int(code)), _part(record, _Options(unknown, 0, max_parts)))
        for code, record in REGION_CAPABILITIES.items()
    ]
    return st.lists(st.one_of(kinds), max_size=max_parts).map(_chain)


def _chain(parts: Sequence[tuple[int, Record]]) -> bytes:
    data, at = b"", DeviceGetRegionInfoReply.fixed_size
    for number, (code, record) in enumerate(parts, 1):
        at += CapabilityHeader.fixed_size + record.wire_size
        header = CapabilityHeader(id=code, version=1, next=at if number < len(parts) else 0)
        data += wire.encode_record(header) + wire.encode_record(record)
    return data


def _feature_data(options: _Options) -> SearchStrategy[bytes]:
    return st.one_of([_part(record, options).map(wire.encode_record) for record in FEATURES.values()])


# What the open field of a record holds when it is right; it may hold any other bytes too.
_CONTENTS: Final[Mapping[type[Record], Callable[[_Options], SearchStrategy[bytes]]]] = {
    VersionRequest: lambda options: version_data(),
    DeviceFeatureRequest: _feature_data,
    DeviceGetRegionInfoReply: lambda options: capability_chains(unknown=options.unknown, max_parts=options.max_parts),
}


def commands(*, command: int | None = None, unknown: bool = True, max_bytes: int = 64) -> SearchStrategy[Message]:
    """Commands that survive encoding and decoding: one ``command``, or any.

    ``unknown`` allows commands without a table, undeclared bits and codes, and bytes behind the payload.
    """
    return _messages(REQUESTS, MessageType.COMMAND, command, unknown, max_bytes)


def replies(*, command: int | None = None, unknown: bool = True, max_bytes: int = 64) -> SearchStrategy[Message]:
    """Replies that survive encoding and decoding, as ``commands``; also error replies."""
    good = _messages(REPLIES, MessageType.REPLY, command, unknown, max_bytes)
    bad = _messages(dict.fromkeys(REPLIES), MessageType.REPLY | HeaderFlags.ERROR, command, unknown, max_bytes)
    return st.one_of(good, bad)


def messages(*, unknown: bool = True, max_bytes: int = 64) -> SearchStrategy[Message]:
    """Commands and replies of all kinds."""
    return st.one_of(commands(unknown=unknown, max_bytes=max_bytes), replies(unknown=unknown, max_bytes=max_bytes))


def _messages(
    table: Mapping[int, type[Record] | None], kind: int, command: int | None, unknown: bool, max_bytes: int
) -> SearchStrategy[Message]:
    if command is None:
        known = st.sampled_from(sorted(table))
        number = st.one_of(known, numbers(size=2)) if unknown else known
    elif command in range(1 << 16):
        number = st.just(int(command))
    else:
        raise InvalidArgument(f"command={command!r} is not a number from 0 to 65535")

    def with_number(code: int) -> SearchStrategy[Message]:
        cls = table.get(code)
        payload = st.none() if cls is None else records(cls, unknown=unknown, max_bytes=max_bytes)
        holds = cls.rows[cls.tail].holds if cls and cls.tail else None
        open_end = holds is construct.GreedyBytes or isinstance(holds, Strided)
        trailing = st.binary(max_size=0 if open_end or not unknown else max_bytes)
        return st.builds(
            _message,
            st.just(code),
            payload,
            trailing,
            message_id=numbers(size=2),
            header_flags=_header_flags(kind, unknown),
            error=numbers(size=4) if unknown or kind & HeaderFlags.ERROR else st.just(0),
        )

    return number.flatmap(with_number)


def _header_flags(kind: int, unknown: bool) -> SearchStrategy[HeaderFlags]:
    """The flags of one kind of message: its type and Error bit as given, the others free."""
    fixed = int(HeaderFlags.TYPE | HeaderFlags.ERROR)
    free = flags(HeaderFlags, size=4, unknown=unknown)
    return free.map(lambda bits: HeaderFlags(int(bits) & ~fixed | int(kind)))


def _message(
    code: int, payload: Record | None, trailing: bytes, *, message_id: int, header_flags: HeaderFlags, error: int
) -> Message:
    size = wire.HEADER_SIZE + (payload.wire_size if payload is not None else 0) + len(trailing)
    header = Header(message_id=message_id, command=code, message_size=size, flags=header_flags, error=error)
    return Message(header, payload, trailing)


def descriptors(*, kinds: Sequence[str] = KINDS) -> SearchStrategy[Descriptor]:
    """Descriptors of the given kinds, right ones and odd ones: empty, sealed, full, counted up to the end."""
    if unknown := set(kinds) - set(KINDS):
        raise InvalidArgument(f"kinds={sorted(unknown)!r} cannot be made; known are {', '.join(KINDS)}")
    return st.sampled_from([each for each in ODD_DESCRIPTORS if each.kind in kinds])


def packets(*, max_packets: int = 8, max_fds: int = 3) -> SearchStrategy[list[Packet]]:
    """A byte stream as its reader may meet it: messages right and mutated, wild bytes, cut anywhere, any descriptors."""
    _check_limits(max_packets=max_packets, max_fds=max_fds)
    right = messages().map(wire.encode)
    mutated = st.builds(mutate, st.randoms(use_true_random=False), right, right)
    chunk = st.one_of(right, right, mutated, st.binary(max_size=40))
    fds = st.lists(descriptors(), max_size=max_fds).map(tuple)
    whole = st.lists(chunk, max_size=max_packets)
    return whole.flatmap(lambda chunks: _cuts(b"".join(chunks), fds, max_packets))


def _cuts(data: bytes, fds: SearchStrategy[tuple[Descriptor, ...]], most: int) -> SearchStrategy[list[Packet]]:
    places = st.lists(st.integers(0, len(data)), max_size=most).map(lambda inner: sorted({0, len(data), *inner}))
    pieces = places.map(lambda ends: [data[start:end] for start, end in pairwise(ends)])
    return pieces.flatmap(lambda parts: st.tuples(*(st.builds(Packet, st.just(part), fds) for part in parts)).map(list))


def sessions(offer: Offer, *, max_steps: int = 12) -> SearchStrategy[tuple[Step, ...]]:
    """Legal sessions with a server that makes this ``offer``: see ``vfio_user_fuzz.sessions.legal``."""
    _check_limits(max_steps=max_steps)
    return st.builds(legal, st.randoms(use_true_random=False), st.just(offer), steps=st.integers(0, max_steps))
