"""Wrong messages and sessions made from right ones: by field where the message is understood, by byte where it is not.

Everything is drawn from the ``Random`` that is given, so that a seed says it all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from sys import byteorder
from typing import Final

from vfio_user_fuzz.edges import around, interesting
from vfio_user_fuzz.fields import Field, Kind, fields_of
from vfio_user_fuzz.packets import ODD_DESCRIPTORS, Packet
from vfio_user_proto.messages import Header, HeaderFlags, MessageType
from vfio_user_proto.unix import MAX_FDS
from vfio_user_proto.wire import HEADER_SIZE

_NUMBER: Final = re.compile(rb"\d+|true|false|null")
_MESSAGE_SIZE: Final = "Header.message_size"
_SIZE_AT: Final = Header.rows["message_size"].offset


def seeded(*parts: object) -> Random:
    """A source of choices that is the same for the same ``parts``."""
    return Random("/".join(map(str, parts)))  # noqa: S311  # repeatable is what it is to be


def mutate(rng: Random, data: bytes, other: bytes = b"") -> bytes:
    """One wrong message made from ``data``; ``other`` is a second message to take parts from.

    In most cases its header still says how long it is, so that a receiver reads on behind it.
    """
    name = rng.choice(_NAMES)
    changed = MUTATIONS[name](rng, data, other)
    return changed if name == "size" else framed(changed)


def framed(data: bytes) -> bytes:
    """``data`` with its true length in the header; as it is where it has not even a header."""
    if len(data) < HEADER_SIZE:
        return data
    return data[:_SIZE_AT] + len(data).to_bytes(4, byteorder) + data[_SIZE_AT + 4 :]


def _fields(data: bytes, *kinds: Kind) -> list[Field]:
    """The numbers of these kinds in ``data``, the size in the header aside."""
    return [field for field in fields_of(data) if field.kind in kinds and field.path != _MESSAGE_SIZE]


def _edge(rng: Random, data: bytes, other: bytes) -> bytes:
    """Some number becomes an edge value, or any value."""
    fields = _fields(data, *Kind)
    if not fields:
        return _noise(rng, data, other)
    field = rng.choice(fields)
    choices = interesting(field.size) + (field.declared if field.kind is Kind.CODE else ())
    value = rng.choice(choices) if rng.random() < 0.9 else rng.getrandbits(8 * field.size)
    return field.write(data, value)


def _lie(rng: Random, data: bytes, other: bytes) -> bytes:
    """An ``argsz`` or a count no longer fits."""
    fields = _fields(data, Kind.SIZE, Kind.COUNT)
    if not fields:
        return _edge(rng, data, other)
    field = rng.choice(fields)
    return field.write(data, rng.choice(around(field.read(data), field.size)))


def _flag(rng: Random, data: bytes, other: bytes) -> bytes:
    """One flag bit changes, more often a declared one."""
    fields = _fields(data, Kind.FLAGS)
    if not fields:
        return _noise(rng, data, other)
    field = rng.choice(fields)
    declared = [bits for bits in field.declared if not bits & bits - 1]
    bit = rng.choice(declared) if declared and rng.random() < 0.8 else 1 << rng.randrange(8 * field.size)
    return field.write(data, field.read(data) ^ bit)


def _kind(rng: Random, data: bytes, other: bytes) -> bytes:
    """A command becomes a reply, an error, or something that is neither."""
    if len(data) < HEADER_SIZE:
        return _noise(rng, data, other)
    types = (MessageType.REPLY, MessageType.REPLY | HeaderFlags.ERROR, HeaderFlags.ERROR, HeaderFlags.NO_REPLY, 2, 15)
    flags, error = (field for field in fields_of(data) if field.path in ("Header.flags", "Header.error"))
    return error.write(flags.write(data, int(rng.choice(types))), rng.choice((0, 1, 22, (1 << 32) - 1)))


def _truncate(rng: Random, data: bytes, other: bytes) -> bytes:
    """The end is missing."""
    return data[: rng.randint(min(HEADER_SIZE, len(data)), len(data))]


def _extend(rng: Random, data: bytes, other: bytes) -> bytes:
    """Something follows."""
    return (
        data + rng.choice((b"\0", b"\xff")) * rng.choice((1, 4, 8, 64, 4096, 66000))
        if rng.random() < 0.5
        else data + other
    )


def _splice(rng: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one message and the end of another."""
    return data[: rng.randint(min(HEADER_SIZE, len(data)), len(data))] + other[rng.randint(0, len(other)) :]


def _body(rng: Random, data: bytes, other: bytes) -> bytes:
    """The header of one message and the payload of another."""
    return data[:HEADER_SIZE] + other[HEADER_SIZE:]


def _noise(rng: Random, data: bytes, other: bytes) -> bytes:
    """A few bytes of any."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8) if changed else 0):
        changed[rng.randrange(len(changed))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def _bits(rng: Random, data: bytes, other: bytes) -> bytes:
    """One bit."""
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _move(rng: Random, data: bytes, other: bytes) -> bytes:
    """A run of bytes is left out, doubled, or put in elsewhere."""
    start, end, place = (rng.randint(0, len(data)) for _ in range(3))
    run = data[min(start, end) : max(start, end)]
    rest = data[: min(start, end)] + data[max(start, end) :]
    return rng.choice((rest, data[:place] + run + data[place:], rest[:place] + run + rest[place:]))


def _text(rng: Random, data: bytes, other: bytes) -> bytes:
    """A number or word in JSON text becomes another; other messages lose their end."""
    found = list(_NUMBER.finditer(data, HEADER_SIZE))
    if not found or b"{" not in data:
        return _edge(rng, data, other)
    place = rng.choice(found)
    return data[: place.start()] + rng.choice(_WORDS) + data[place.end() :]


_WORDS: Final = (
    *(str(number).encode() for number in (0, 1, -1, 4095, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, 1 << 63, 1 << 64, 10**40)),
    b"1e400", b"0.5", b"NaN", b'""', b"null", b"true", b"[]", b"{}", b"[" * 2000, b'{"a":' * 200, b'"\\ud800"', b"\0", b"\xff",
)  # fmt: skip


def _size(rng: Random, data: bytes, other: bytes) -> bytes:
    """The size in the header is wrong: where the next message begins is anyone's guess."""
    if len(data) < HEADER_SIZE:
        return data
    choices = (*around(len(data), 4), *interesting(4))
    return data[:_SIZE_AT] + rng.choice(choices).to_bytes(4, byteorder) + data[_SIZE_AT + 4 :]


# All mutations of one message, by name; each takes (rng, message, another message) and returns bytes.
MUTATIONS: Final[Mapping[str, Callable[[Random, bytes, bytes], bytes]]] = {
    "edge": _edge,
    "lie": _lie,
    "flag": _flag,
    "kind": _kind,
    "truncate": _truncate,
    "extend": _extend,
    "splice": _splice,
    "body": _body,
    "noise": _noise,
    "bits": _bits,
    "move": _move,
    "text": _text,
    "size": _size,
}
# Half of the choices know the fields.
_NAMES: Final = (*MUTATIONS, "edge", "edge", "edge", "edge", "lie", "lie", "lie", "flag", "flag")


def mutate_session(rng: Random, packets: Sequence[Packet], spare: Sequence[bytes]) -> tuple[Packet, ...]:
    """A wrong session made from a right one; ``spare`` are messages to put in or take parts from.

    The first message, VERSION, is seldom touched: most servers close when it is wrong.
    """
    session = list(packets)
    for _ in range(rng.choice((1, 1, 2, 2, 3, 5))):
        first = 0 if rng.random() < 0.05 else 1
        if len(session) > first:
            rng.choice(_SESSION)(rng, session, rng.randrange(first, len(session)), spare)
    return tuple(session)


def _message(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """One message is mutated."""
    session[at] = session[at]._replace(data=mutate(rng, session[at].data, rng.choice(spare)))


def _drop(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    del session[at]


def _double(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """The same message again, with the same id, here or at the end."""
    session.insert(rng.choice((at, len(session))), session[at])


def _swap(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    other = rng.randrange(1, len(session)) if len(session) > 1 else at
    session[at], session[other] = session[other], session[at]


def _insert(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """A message from elsewhere."""
    session.insert(at, Packet(rng.choice(spare)))


def _same_id(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """Two messages with one id."""
    data, other = session[at].data, rng.choice(session).data
    session[at] = session[at]._replace(data=other[:2] + data[2:])


def _descriptors(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """Descriptors are missing, too many, or of the wrong kind; more often where there are some."""
    having = [number for number, packet in enumerate(session) if packet.fds]
    if having and rng.random() < 0.7:
        at = rng.choice(having)
    fds = list(session[at].fds)
    choice = rng.randrange(3)
    if choice == 0 and fds:
        fds.pop(rng.randrange(len(fds)))
    elif choice == 1 and fds:
        fds[rng.randrange(len(fds))] = rng.choice(ODD_DESCRIPTORS)
    else:
        fds += [rng.choice(ODD_DESCRIPTORS)] * rng.choice((1, 1, 1, 2, 8, 16, MAX_FDS))
    session[at] = session[at]._replace(fds=tuple(fds[:MAX_FDS]))


def _cut(rng: Random, session: list[Packet], at: int, spare: Sequence[bytes]) -> None:
    """One message in two writes."""
    data, fds = session[at]
    if len(data) > 1:
        place = rng.randrange(1, len(data))
        session[at : at + 1] = [Packet(data[:place], fds), Packet(data[place:])]


# More lines make a mutation more frequent.
_SESSION: Final = (
    *[_message] * 12,
    *[_insert] * 4,
    *[_double] * 2,
    *[_descriptors] * 2,
    _drop,
    _swap,
    _same_id,
    _cut,
)
