"""One 4-byte REGION_READ answered by the reference server, against a bare Python echo that reads header and payload apart.

Run: python bench/round_trip.py
"""

import os
import socket
import statistics
import sys
import time
from collections.abc import Callable

from vfio_user_proto import launch, unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import Command, RegionReadRequest, VersionRequest

# At most this many times the echo.
LIMIT = 1.3
ROUNDS, CALLS = 40, 250
READ = wire.build(Command.REGION_READ, RegionReadRequest(region=7, count=4))
# As long as the reply to READ, so that the echo moves the bytes that the server moves.
ECHOED = READ[:4] + (len(READ) + 4).to_bytes(4, sys.byteorder) + READ[8:] + bytes(4)


def echo(sock: socket.socket) -> None:
    """Send back what comes, message by message, until the peer closes."""
    while header := sock.recv(16):
        size = int.from_bytes(header[4:8], sys.byteorder)
        sock.sendall(header + sock.recv(size - 16))


def microseconds(sock: socket.socket, message: bytes) -> float:
    """One round trip, the mean of ``CALLS``."""
    begin = time.perf_counter()
    for _ in range(CALLS):
        sock.sendall(message)
        size = int.from_bytes(sock.recv(16)[4:8], sys.byteorder)
        sock.recv(size - 16)
    return (time.perf_counter() - begin) / CALLS * 1e6


def forked(serve: Callable[[socket.socket], None]) -> tuple[socket.socket, int]:
    """A child that serves one end of a socket pair; returns the other end and the child's number."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    return ours, child


def greeted(stream: unix.Stream) -> socket.socket:
    """The socket of a session that is negotiated."""
    sock = stream.socket
    version = VersionRequest(version_data=Capabilities(max_msg_fds=8).to_data())
    sock.sendall(wire.build(Command.VERSION, version))
    size = int.from_bytes(sock.recv(16)[4:8], sys.byteorder)
    sock.recv(size - 16)
    return sock


def main() -> int:
    """Print the ratio of the medians; 1 where it is missed. The rounds take turns, so a busy machine is busy for both."""
    bare, child = forked(echo)
    with launch.builtin() as server:
        real = greeted(server.connect())
        rounds = [(microseconds(bare, ECHOED), microseconds(real, READ)) for _ in range(ROUNDS)]
        real.close()
    bare.close()
    os.waitpid(child, 0)
    yardstick, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"round trip of a 4-byte REGION_READ: server {ours:.1f} µs, bare echo {yardstick:.1f} µs")
    print(f"server / echo {ours / yardstick:.2f}  (at most {LIMIT:g})")
    return 0 if ours / yardstick <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
