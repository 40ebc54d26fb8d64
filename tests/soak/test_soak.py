# The long attacks on a real "vfio-user serve": make soak. Each ends with the server alive, no larger than stated, and serving.
import contextlib
import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

import pytest
from figures import Row, Soak, scaled
from hostile import LITTLE, NO_DATA, TURN, flood, greeting, half_open, random_commands, take_turn
from serving import ALL, TWIN, Client, by_message, eventfds, memfd, read_exactly, rung, start, status

from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.channel import OUTPUT_BOUND
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import DEVICES, testdev
from vfio_user_proto.messages import (
    Command,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    IrqSetFlags,
    RegionReadRequest,
    RegionWriteRequest,
)

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("no_leak")]
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER


@pytest.fixture(scope="module")
def soak(request: pytest.FixtureRequest) -> Iterator[Soak]:
    """Shows the figures in the end."""
    made = Soak()
    yield made
    plugins = request.config.pluginmanager
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        made.show(plugins.getplugin("terminalreporter"))


@functools.cache
def pool() -> list[bytes]:
    """What random messages are drawn from."""
    return random_commands(Random("soak"), 20_000)


def test_ten_thousand_connects(soak: Soak) -> None:
    """Most are gone at once, before VERSION or in the midst of a message, with a descriptor on its way."""
    with soak.attack("connects", growth=LITTLE) as (victim, row), memfd(4096) as memory:
        mapping = craft(Command.DMA_MAP, DmaMapRequest(flags=3, size=4096))
        for number in range(scaled(10_000)):
            row.connects += 1
            match number % 4:
                case 0:
                    half_open(victim.path, b"\0", [memory])
                case 1:
                    half_open(victim.path, greeting())
                case 2:
                    half_open(victim.path, greeting() + mapping[: number // 4 % len(mapping)], [memory])
                case _:
                    client = victim.client()
                    client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, size=4096), [memory])
                    victim.leave()
                    row.messages += 2


@pytest.mark.parametrize("device", DEVICES)
def test_a_million_random_messages(soak: Soak, device: str) -> None:
    """Four of five are refused; a session ends after some, with a message that cannot be. Of other devices there are fewer."""
    rng = Random("soak")
    count = scaled(1_000_000 if device == "testdev" else 100_000)
    pool()
    broken = [craft(2, message_size=size) for size in (0, 15, 1 << 31, (1 << 32) - 1)] + [
        craft(2, kind=1),
        craft(2, kind=3),
    ]
    with (
        soak.attack(f"random, {device}", growth=LITTLE, device=device) as (victim, row),
        memfd(1 << 20) as memory,
        eventfds(3) as events,
    ):
        while row.messages < count:
            client = victim.client(NO_DATA)
            row.connects += 1
            for _ in range(rng.randrange(100)):
                fds = rng.choices([memory, *events], k=rng.randrange(5)) if rng.random() < 0.3 else []
                row.messages += TURN
                take_turn(client, rng.choices(pool(), k=TURN), fds)
            client.stream.write(rng.choice(broken))
            assert client.is_closed()
            victim.leave()


def test_thousands_of_replies_due(soak: Soak) -> None:
    """Clients send as long as the server takes it, and read nothing; every other time they read all of it in the end."""
    reply = 16 + 16 + 1024
    request = craft(Command.REGION_READ, RegionReadRequest(region=testdev.RAM, count=1024))
    due = 4 * OUTPUT_BOUND // 1024
    with soak.attack("replies due", growth=LITTLE + due) as (victim, row):
        for number in range(scaled(40)):
            clients = [victim.client() for _ in range(3)]
            sent = [flood(client, request) for client in clients]
            assert min(sent) > 1000
            row.connects += len(clients)
            row.messages += sum(sent)
            assert victim.look().rss - row.before.rss <= LITTLE + len(clients) * due
            if number % 2:
                for client, whole in zip(clients, sent, strict=True):
                    for _ in range(whole):
                        assert len(read_exactly(client.stream, reply)) == reply
            victim.leave()


class Crowd:
    """Clients of every kind at once, a thread each, until the time is over; the first that fails ends them all."""

    def __init__(self, path: str, row: Row, seconds: float) -> None:
        self.path, self._row = path, row
        self._deadline = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._failed: list[BaseException] = []
        self.slowest = 0.0

    def run(self, *kinds: Callable[["Crowd", Random], None]) -> None:
        threads = [
            threading.Thread(target=self._repeat, args=(kind, Random(f"soak {number}")))
            for number, kind in enumerate(kinds)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in self._failed:
            raise failure

    def _repeat(self, kind: Callable[["Crowd", Random], None], rng: Random) -> None:
        try:
            while time.monotonic() < self._deadline and not self._failed:
                kind(self, rng)
        except BaseException as failure:
            self._failed.append(failure)

    @contextlib.contextmanager
    def client(self, offer: Capabilities = ALL) -> Iterator[Client]:
        with contextlib.closing(Client(unix.connect(self.path), offer)) as one:
            yield one

    def did(self, *, connects: int = 0, messages: int = 0, took: float = 0.0) -> None:
        with self._lock:
            self._row.connects += connects
            self._row.messages += messages
            self.slowest = max(self.slowest, took)


def working(crowd: Crowd, rng: Random) -> None:
    """Uses all there is, and looks at every result."""
    with crowd.client() as client, memfd(1 << 20) as memory, eventfds(1) as (event,):
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=1 << 32, size=1 << 20), [memory])
        wanted = DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1)
        client.ask(Command.DEVICE_SET_IRQS, wanted, [event])
        guest = by_message(client)
        for _ in range(20):
            began = time.monotonic()
            data = rng.randbytes(64)
            client.write(0, testdev.SCRATCH, data)
            assert client.read(0, testdev.SCRATCH, 64) == data
            at, length = rng.randrange(1 << 19), rng.randrange(1, 1 << 16)
            for base in (0, 1 << 32):
                start(client, 1, base + at, length)
                assert status(client) == (1, 0)
            expected = testdev.pattern(length, 3)
            assert os.pread(memory, length, at) == guest.memory[at : at + length] == expected
            client.set(testdev.RAISE, 2 << 16)
            assert rung(event) == 1
            crowd.did(messages=20, took=(time.monotonic() - began) / 20)
    crowd.did(connects=1)


def random(crowd: Crowd, rng: Random) -> None:
    """Sends what is refused."""
    with crowd.client(NO_DATA) as client:
        for _ in range(20):
            crowd.did(messages=take_turn(client, rng.choices(pool(), k=TURN)))
    crowd.did(connects=1)


def fleeting(crowd: Crowd, rng: Random) -> None:
    """Is gone at once."""
    with memfd(4096) as memory:
        half_open(crowd.path, greeting()[: rng.randrange(1, 40)], [memory])
    crowd.did(connects=1)


def silent(crowd: Crowd, rng: Random) -> None:
    """Does not answer the server, for a while."""
    with crowd.client(rng.choice([ALL, TWIN])) as client:
        unix.close_all(client.fds)
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, size=1 << 20))
        client.set(testdev.LENGTH, 16)
        client.send(Command.REGION_WRITE, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
        client.stream.set_timeout(rng.random())
        client.stream.read(16)
    crowd.did(connects=1, messages=4)


def deaf(crowd: Crowd, rng: Random) -> None:
    """Reads no reply."""
    with crowd.client() as client:
        sent = flood(client, craft(Command.REGION_READ, RegionReadRequest(region=testdev.RAM, count=4096)))
    crowd.did(connects=1, messages=sent)


def killed(crowd: Crowd, rng: Random) -> None:
    """A process that is killed while it sends."""
    request = craft(Command.REGION_WRITE, RegionWriteRequest(region=testdev.RAM, data=bytes(1000)))
    program = (
        "import socket, sys; sock = socket.socket(fileno=int(sys.argv[1])); data = bytes.fromhex(sys.argv[2])\n"
        "sock.sendall(bytes.fromhex(sys.argv[3])); print('sending', flush=True)\n"
        "while True: sock.sendall(data)"
    )
    with contextlib.closing(unix.connect(crowd.path)) as stream:
        words = [sys.executable, "-ISc", program, str(stream.fileno()), request.hex(), greeting().hex()]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, pass_fds=[stream.fileno()])
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"sending\n"
        child.kill()
    crowd.did(connects=1)


KINDS = (working, working, working, random, fleeting, silent, deaf, killed)


def test_clients_of_every_kind_at_once(soak: Soak) -> None:
    seconds = scaled(120)
    # A process that is being started holds a moment longer what other threads close: then there are more clients at once.
    with soak.attack("all at once", growth=3 * LITTLE, clients=2 * len(KINDS)) as (victim, row):
        crowd = Crowd(victim.path, row, seconds)
        crowd.run(*KINDS)
        row.note = f"{len(KINDS)} clients; slowest reply {crowd.slowest * 1000:.0f} ms"
        assert crowd.slowest < 2
