# A real "vfio-user serve" that a hostile client attacks, what of it can be counted from outside, and messages to attack with.
import contextlib
import select
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from serving import ALL, Client

from vfio_user_fuzz.corpus import corpus
from vfio_user_fuzz.mutations import mutate
from vfio_user_proto import launch, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, HeaderFlags, VersionRequest
from vfio_user_proto.states import SENDERS, Role

# Nothing of it travels by message: the server is not to wait for us in the midst of what we send.
NO_DATA = Capabilities(max_msg_fds=16, max_data_xfer_size=0, write_multiple=True)
# KiB that a server may keep after what is no reason to grow: what malloc does not give back, of large messages for instance.
LITTLE = 16384
TURN = 64  # messages that are sent before their replies are read: neither side's socket gets full
LONGEST = 1024
LAST = 0xFFFF  # the id of the query that ends a turn; no other message has it


class Figures(NamedTuple):
    """What a server holds while it serves one client: memory in KiB, descriptors, threads."""

    rss: int
    fds: int
    threads: int


class Victim:
    """A server in a process of its own; ``clients`` is how many it has at once at most, and so its devices, which it keeps."""

    def __init__(self, process: launch.Process, clients: int = 4) -> None:
        self.process, self.path = process, process.path
        self._clients: list[Client] = []
        for _ in range(clients):
            self.client()
        self.leave()

    def client(self, offer: Capabilities | None = ALL) -> Client:
        """A client that stays until ``leave``."""
        client = Client(self.process.connect(), offer)
        self._clients.append(client)
        return client

    def leave(self) -> None:
        """Close every client."""
        while self._clients:
            self._clients.pop().close()

    def look(self) -> Figures:
        """The figures, while one client more has just been served; every client that left before is gone by then.

        A thread that has ended is for the kernel there a moment longer.
        """
        client = Client(self.process.connect())
        deadline = time.monotonic() + 10
        try:
            while True:
                client.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
                found = self._figures()
                if found.threads <= 2 + len(self._clients) or time.monotonic() > deadline:
                    return found
        finally:
            client.close()

    def _figures(self) -> Figures:
        own = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
        fds = sum(1 for _ in (own / "fd").iterdir())
        return Figures(int(status["VmRSS"].split()[0]), fds, int(status["Threads"]))


@contextlib.contextmanager
def attacked(victim: Victim, *, growth: int) -> Iterator[None]:
    """What the block does leaves the server alive and silent, not a descriptor or thread richer, and ``growth`` KiB at most.

    Its clients are closed at its end.
    """
    before = victim.look()
    try:
        yield
    finally:
        victim.leave()
    after = victim.look()
    assert victim.process.poll() is None, victim.process.exit_text()
    assert victim.process.stderr() == f"listening on {victim.path}\n"
    assert (after.fds, after.threads) == (before.fds, before.threads), f"{before} before, {after} after"
    assert after.rss - before.rss <= growth, f"{after.rss - before.rss} KiB more, at most {growth} are allowed"


def random_commands(rng: Random, count: int) -> list[bytes]:
    """Wrong commands of every kind, ``count`` of them, after each of which the stream goes on."""
    seeds = [data for data in corpus().values() if 16 <= len(data) <= LONGEST]
    found: list[bytes] = []
    while len(found) < count:
        data = mutate(rng, rng.choice(seeds), rng.choice(seeds))
        if goes_on(data):
            found.append(data)
    return found


def goes_on(data: bytes) -> bool:
    """Whether a server that got these bytes as a message reads the next: it is a command of a client's, in one piece."""
    if not 16 <= len(data) <= LONGEST:
        return False
    header = wire.decode_header(data)
    return (
        header.message_size == len(data)
        and not header.flags & HeaderFlags.TYPE
        and header.message_id != LAST
        and SENDERS.get(header.command, Role.CLIENT) is Role.CLIENT
    )


def take_turn(client: Client, messages: Sequence[bytes], fds: Sequence[int] = ()) -> int:
    """Send ``messages``, the descriptors with the first of them, and read what comes; returns how many replies came."""
    sock = client.stream.socket
    query = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=LAST)
    data = b"".join((*messages, query))
    sent = client.stream.write(data, fds)
    sock.sendall(data[sent:])
    came, replies = b"", 0
    while True:
        at = 0
        while at + 16 <= len(came) and at + (size := int.from_bytes(came[at + 4 : at + 8], "little")) <= len(came):
            if came[at : at + 2] == b"\xff\xff":
                assert at + size == len(came)
                return replies
            replies, at = replies + 1, at + size
        more = sock.recv(1 << 20)
        assert more, "the server closed the connection"
        came = came[at:] + more


def half_open(path: str, data: bytes, fds: Sequence[int] = ()) -> None:
    """A client that is gone in the midst of a message."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)
        if fds:
            socket.send_fds(sock, [data], fds)
        else:
            sock.send(data)


def flood(client: Client, request: bytes) -> int:
    """Send as many requests as the server takes that gets no reply out; returns how many went as a whole."""
    sock = client.stream.socket
    sock.setblocking(False)
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    sent = 0
    while poll.poll(200):
        sent += client.stream.write((request * 64)[sent % len(request) :])
    sock.setblocking(True)
    return sent // len(request)


def greeting(offer: Capabilities = ALL) -> bytes:
    """A VERSION message."""
    return craft(Command.VERSION, VersionRequest(version_data=offer.to_data()))
