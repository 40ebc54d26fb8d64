"""One 4-byte REGION_READ answered by the reference server, against a bare Python echo that reads header and payload apart.

Run: python bench/round_trip.py

All of them run on one core: there the client continues at once when its peer goes to sleep, and the figures repeat.

Two more echoes say where the time goes, each with one thing that the server cannot do without: the first waits for five
descriptors, as a device has doorbells, and makes sure that none came with the message; the second decodes the request and
encodes the reply as well.

The limit is missed. With Python 3.11 on two cores of an AMD EPYC, Linux 6.18, 2026-11-20, the server takes 20.3 to 21.3 µs,
1.5 times the 13.7 of the bare echo: 0.1 of that for waiting and descriptors, 0.26 for typed messages, 0.15 for all the rest
(the rules of the connection, the device, the queue of replies, a thread of its own). The limit leaves 4.1 µs. What counts
is Python code alone, and it runs slower here than in a loop, where nothing has displaced it from the processor's memory: the
calls of the kernel that the server makes, in a function written for nothing else, take 13.3 µs, no more than the bare echo.
One recvmsg with room for descriptors would take 1.2 µs less than the two calls that look ahead, but where it returns more
than one message with descriptors nobody can tell whose they are.

Waiting in another way gains nothing: an echo that polls without pause instead of sleeping takes 2.5 µs longer, since its
client no longer continues on the core where the echo goes to sleep; poll, epoll and a blocking read are within 0.5 µs of
each other; five descriptors cost no more than one. Nor does keeping the garbage collector from looking.
"""

import os
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from _kit import fastest, forked, greeted

from vfio_user_proto import launch, unix, wire
from vfio_user_proto.messages import Command, RegionReadReply, RegionReadRequest

# At most this many times the echo.
LIMIT = 1.3
ROUNDS, CALLS = 200, 30
READ = wire.build(Command.REGION_READ, RegionReadRequest(region=7, count=4))
# As long as the reply to READ, so that the echo moves the bytes that the server moves.
ECHOED = READ[:4] + (len(READ) + 4).to_bytes(4, sys.byteorder) + READ[8:] + bytes(4)


def echo(sock: socket.socket) -> None:
    """Send back what comes, message by message, until the peer closes."""
    while header := sock.recv(16):
        size = int.from_bytes(header[4:8], sys.byteorder)
        sock.sendall(header + sock.recv(size - 16))


def same(message: bytes) -> bytes:
    return message


def typed(message: bytes) -> bytes:
    """The reply to a request that nobody checks, by a device that nobody asks."""
    header, payload, _ = wire.decode(message)
    assert isinstance(payload, RegionReadRequest)
    reply = RegionReadReply(offset=payload.offset, region=payload.region, data=b"1234")
    return wire.build(header.command, reply, message_id=header.message_id, flags=1)


def watching(answer: Callable[[bytes], bytes], sock: socket.socket) -> None:
    """An echo by the server's means: it waits for five descriptors at once, and looks ahead whether descriptors come."""
    stream, poll = unix.Stream(sock), select.epoll()
    sock.setblocking(False)
    for fd in (sock.fileno(), *(os.eventfd(0) for _ in range(4))):
        poll.register(fd, select.EPOLLIN)
    while poll.poll():
        stream.look_ahead()
        message = stream.message()
        if not message:
            return
        stream.write(answer(message))


def microseconds(sock: socket.socket, message: bytes) -> float:
    """One round trip, the mean of ``CALLS``."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        sock.sendall(message)
        size = int.from_bytes(sock.recv(16)[4:8], sys.byteorder)
        sock.recv(size - 16)
    return (time.perf_counter() - begin) / CALLS * 1e6


def main() -> int:
    """Print the fastest rounds and their ratio; 1 where it is missed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with ExitStack() as opened:
        bare, same_by_server, typed_by_server = (
            opened.enter_context(forked(serve)) for serve in (echo, partial(watching, same), partial(watching, typed))
        )
        real = opened.enter_context(greeted(opened.enter_context(launch.builtin()).connect()))
        yardstick, waiting, coding, ours = fastest(
            ROUNDS,
            lambda: microseconds(bare, ECHOED),
            lambda: microseconds(same_by_server, ECHOED),
            lambda: microseconds(typed_by_server, READ),
            lambda: microseconds(real, READ),
        )
    print(f"round trip of a 4-byte REGION_READ: server {ours:.1f} µs, bare echo {yardstick:.1f} µs")
    print(f"  an echo that waits for five descriptors and looks for such that come  {waiting:.1f} µs")
    print(f"  ... and decodes the request and encodes the reply                     {coding:.1f} µs")
    print(f"server / echo {ours / yardstick:.2f}  (at most {LIMIT:g})")
    return 0 if ours / yardstick <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
