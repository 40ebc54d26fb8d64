"""The codec: decode and encode of a 40-byte REGION_WRITE, against construct's own and against struct written by hand."""

import struct
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass

import construct

from vfio_user_proto import wire
from vfio_user_proto.messages import Command, Header, RegionWriteRequest

DATA = wire.build(Command.REGION_WRITE, RegionWriteRequest(offset=16, region=2, data=b"12345678"), message_id=7)
# At least this many times as fast as construct, and at most this many times as slow as code written by hand.
AGAINST_CONSTRUCT, AGAINST_HAND = 20.0, 4.0
ROUNDS, CALLS = 60, 250


@dataclass(slots=True)
class ByHand:
    """What one would write for this one message."""

    message_id: int
    command: int
    size: int
    flags: int
    error: int
    offset: int
    region: int
    count: int
    data: bytes


_FIXED = struct.Struct("=HHIIIQII")
_SCHEMA = construct.Struct("header" / Header.schema, "payload" / RegionWriteRequest.schema)


def by_plan() -> bytes:
    return wire.encode(wire.decode(DATA))


def by_construct() -> bytes:
    built: bytes = _SCHEMA.build(_SCHEMA.parse(DATA))
    return built


def by_hand() -> bytes:
    values = _FIXED.unpack_from(DATA)
    message = ByHand(*values, DATA[_FIXED.size :])
    return (
        _FIXED.pack(
            message.message_id,
            message.command,
            message.size,
            message.flags,
            message.error,
            message.offset,
            message.region,
            message.count,
        )
        + message.data
    )


def best(*calls: Callable[[], bytes]) -> list[float]:
    """Microseconds of each call in its fastest round; the rounds take turns, so that a busy machine is busy for all."""
    found = [[timeit.timeit(call, number=CALLS) / CALLS * 1e6 for call in calls] for _ in range(ROUNDS)]
    return [min(column) for column in zip(*found, strict=True)]


def main() -> int:
    """Print the ratios; 1 where one is missed."""
    assert by_plan() == by_construct() == by_hand() == DATA
    plan, hand, slow = best(by_plan, by_hand, by_construct)
    print(f"decode + encode of {len(DATA)} bytes: plan {plan:.2f} µs, by hand {hand:.2f} µs, construct {slow:.1f} µs")
    print(f"construct / plan {slow / plan:5.1f}  (at least {AGAINST_CONSTRUCT:g})")
    print(f"plan / by hand   {plan / hand:5.2f}  (at most {AGAINST_HAND:g})")
    return 0 if slow / plan >= AGAINST_CONSTRUCT and plan / hand <= AGAINST_HAND else 1


if __name__ == "__main__":
    sys.exit(main())
