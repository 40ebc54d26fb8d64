"""A REGION_READ of 1 MiB by the reference server, against a Python sender that sends as many bytes for the same request.

Run: python bench/region_read.py

The yardstick is what the socket itself can copy: it reads a request as the server does, and sends the reply from memory.
The server asks for a larger buffer in the kernel, which grants it up to net.core.wmem_max; the yardstick has the usual one.
"""

import socket
import sys
import time

from _kit import fastest, forked, greeted

from vfio_user_proto import launch, wire
from vfio_user_proto.devices.testdev import RAM
from vfio_user_proto.messages import Command, RegionReadReply, RegionReadRequest

# At least this part of the speed of the sender.
LIMIT = 0.6
ROUNDS = 400
SIZE = 1 << 20
READ = wire.build(Command.REGION_READ, RegionReadRequest(region=RAM, count=SIZE))
REPLY = wire.build(Command.REGION_READ, RegionReadReply(region=RAM, count=SIZE, data=bytes(SIZE)), flags=1)
BUFFER = bytearray(len(REPLY))


def sender(sock: socket.socket) -> None:
    """Answer each request with the same reply, until the peer closes."""
    while sock.recv(wire.HEADER_SIZE):
        sock.recv(len(READ) - wire.HEADER_SIZE)
        sock.sendall(REPLY)


def microseconds(sock: socket.socket) -> float:
    """How long one read takes."""
    view = memoryview(BUFFER)
    begin = time.perf_counter()
    sock.sendall(READ)
    done = 0
    while done < len(BUFFER):
        done += sock.recv_into(view[done:])
    return (time.perf_counter() - begin) * 1e6


def main() -> int:
    """Print the ratio; 1 where it is missed."""
    with forked(sender) as bare, launch.builtin() as server, greeted(server.connect()) as real:
        yardstick, ours = fastest(ROUNDS, lambda: microseconds(bare), lambda: microseconds(real))
    print(f"REGION_READ of 1 MiB: server {ours:.0f} µs, bare sender {yardstick:.0f} µs")
    print(f"speed of server / sender {yardstick / ours:.2f}  (at least {LIMIT:g})")
    return 0 if yardstick / ours >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
