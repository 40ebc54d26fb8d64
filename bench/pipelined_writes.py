"""REGION_WRITEs sent in batches without waiting, every one replied to: the reference server against libvfio-user's C server.

Run: python bench/pipelined_writes.py [--libvfio-user 'gpio-pci-idio-16 {socket}']

The option takes the command of libvfio-user's sample, which emulates the same card as our device gpio; both get the same
bytes. Without it our own figure is printed alone.
"""

import argparse
import socket
import sys
import time
from contextlib import ExitStack

from _kit import fastest, greeted

from vfio_user_proto import launch, wire
from vfio_user_proto.errors import TargetError, UsageError
from vfio_user_proto.messages import Command, RegionWriteReply, RegionWriteRequest

# At least this many times as many messages per second as the C server.
LIMIT = 0.4
ROUNDS, BATCH = 400, 256
WRITES = b"".join(
    wire.build(Command.REGION_WRITE, RegionWriteRequest(region=2, data=b"\x55"), message_id=number)
    for number in range(BATCH)
)
REPLIES = BATCH * (wire.HEADER_SIZE + RegionWriteReply.fixed_size)


def seconds(sock: socket.socket) -> float:
    """How long one batch takes, to the end of its last reply."""
    begin = time.perf_counter()
    sock.sendall(WRITES)
    left = REPLIES
    while left:
        left -= len(sock.recv(left))
    return time.perf_counter() - begin


def main() -> int:
    """Print messages per second, and with a peer the ratio; 1 where it is missed, 3 where the peer does not start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--libvfio-user", metavar="COMMAND", help="start the C server; {socket} stands for its path")
    command = parser.parse_args().libvfio_user
    with ExitStack() as opened:
        servers = [opened.enter_context(launch.builtin(["--device", "gpio"]))]
        try:
            servers += [opened.enter_context(launch.spawn(command))] if command else []
        except UsageError as problem:
            parser.error(str(problem))
        except TargetError as problem:
            print(problem, file=sys.stderr)
            return 3
        socks = [opened.enter_context(greeted(server.connect())) for server in servers]
        found = [BATCH / each for each in fastest(ROUNDS, *[lambda sock=sock: seconds(sock) for sock in socks])]
    print(f"replied REGION_WRITEs, {BATCH} in flight: server {found[0]:.0f} in a second", end="")
    if len(found) == 1:
        print("  (--libvfio-user compares)")
        return 0
    ratio = found[0] / found[1]
    print(f", libvfio-user {found[1]:.0f}\nserver / libvfio-user {ratio:.2f}  (at least {LIMIT:g})")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
