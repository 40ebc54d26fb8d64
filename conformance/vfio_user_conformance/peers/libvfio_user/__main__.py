"""``python -m vfio_user_conformance.peers.libvfio_user``: serve the test device by a built libvfio-user.

A signal ends it at once and leaves the socket behind, as it does with libvfio-user's samples: while the library waits for
a client, nothing else in the process runs. SIGPIPE does too, which Python would ignore.
"""

import argparse
import signal
import sys

from vfio_user_conformance.peers.libvfio_user.api import Library
from vfio_user_conformance.peers.libvfio_user.server import Server
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.errors import UsageError


def main() -> int:
    """Serve one client after the other. Returns only on a mistake of the user's: 2."""
    parser = argparse.ArgumentParser(
        prog="python -m vfio_user_conformance.peers.libvfio_user",
        description="Serve the test device by libvfio-user, until a signal.",
    )
    parser.add_argument("--libvfio-user", required=True, metavar="PATH", help="the built library, libvfio-user.so")
    parser.add_argument("--socket-path", required=True, metavar="SOCKET", help="listen on this path")
    parser.add_argument(
        "--dma-by-message", action="store_true", help="ask the client for its memory even where it passed a descriptor"
    )
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    try:
        server = Server(
            Library(options.libvfio_user), TestDevice(), options.socket_path, direct=not options.dma_by_message
        )
    except UsageError as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        return 2
    return server.run()


if __name__ == "__main__":
    sys.exit(main())
