"""What the benchmarks of the server share: children that serve a socket, a greeting, whole replies, rounds that take turns."""

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import Command, VersionRequest

VERSION = wire.build(Command.VERSION, VersionRequest(version_data=Capabilities(max_msg_fds=8).to_data()))


@contextmanager
def forked(serve: Callable[[socket.socket], None]) -> Iterator[socket.socket]:
    """The socket of a child that serves the other end with ``serve``."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        os.waitpid(child, 0)


def greeted(stream: unix.Stream) -> socket.socket:
    """The socket of a session on which the version is agreed."""
    stream.socket.sendall(VERSION)
    receive(stream.socket)
    return stream.socket


def receive(sock: socket.socket) -> bytes:
    """The payload of one whole message; header and payload are read apart."""
    size = int.from_bytes(sock.recv(wire.HEADER_SIZE, socket.MSG_WAITALL)[4:8], sys.byteorder)
    return sock.recv(size - wire.HEADER_SIZE, socket.MSG_WAITALL)


def fastest(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """The least that each measure returned, as nobody disturbed it; the rounds take turns, so that all get their chance."""
    found = [[measure() for measure in measures] for _ in range(rounds)]
    return [min(column) for column in zip(*found, strict=True)]
