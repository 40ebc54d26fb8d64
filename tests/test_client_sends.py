"""Sends that fail: what ends the connection for everybody who waits, and what only the one command."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_server import Crowded, Fake, reply_to
from serving import memfd, room_for
from tasks import connected, run

from vfio_user_proto import messages as m
from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DescriptorError, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command

pytestmark = pytest.mark.usefixtures("no_leak")

LARGE = m.RegionWriteRequest(data=bytes(1 << 20))
ENDED = "the connection has ended before {} was done: {}"
DEAF = "sending failed: Broken pipe"


class Deaf(Fake):
    """A server that, when it has got ``commands``, sends ``last`` and hears nothing more; its socket stays open."""

    def __init__(self, commands: int = 1, last: Callable[[CommandReceived], Any] = lambda event: None) -> None:
        super().__init__(self._hear)
        self.engine.limit = 2 << 20
        self.left, self.last = commands, last
        self.deaf, self.over = threading.Event(), threading.Event()

    def _hear(self, event: CommandReceived) -> Any:
        self.left -= 1
        return [self.last(event), self._stop] if not self.left else None

    def _stop(self) -> None:
        self._theirs.socket.shutdown(socket.SHUT_RD)
        self.deaf.set()
        self.over.wait(10)

    def __exit__(self, *about: object) -> None:
        self.over.set()
        super().__exit__(*about)


def answer_all(event: CommandReceived) -> Any:
    answers = {Command.DEVICE_GET_INFO: m.DeviceGetInfoReply(), Command.REGION_WRITE: None}
    return answers.get(Command(event.message.header.command), reply_to(event))


class Slow(Fake):
    """A server that reads nothing more after the first command until ``go`` is set."""

    def __init__(self) -> None:
        super().__init__(self._hear)
        self.engine.limit = 2 << 20
        self.stream = self.crowded = Crowded(self.stream.socket)
        self.go = threading.Event()

    def _hear(self, event: CommandReceived) -> Any:
        self.go.wait(10)
        return answer_all(event)

    def __exit__(self, *about: object) -> None:
        self.go.set()
        super().__exit__(*about)


def fill(client: Client) -> None:
    """Have a command wait to be sent."""
    client.send(Command.DEVICE_RESET)
    client.timeout = 0.05
    with pytest.raises(TransportError, match="VFIO_USER_REGION_WRITE cannot be sent within"):
        client.send(Command.REGION_WRITE, LARGE, no_reply=True)
    client.timeout = 10


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def fails_with(client: Client, pending: Any, sentence: str) -> None:
    with pytest.raises(TransportError) as caught:
        client.wait(pending)
    assert str(caught.value) == sentence


# The end of the connection


def test_a_command_that_cannot_be_sent_ends_the_connection_for_all_that_wait() -> None:
    with Deaf(2) as server, server.connect(timeout=10) as client:
        waiting = [client.send(Command.DEVICE_RESET), client.send(Command.DEVICE_GET_INFO, m.DeviceGetInfoRequest())]
        assert server.deaf.wait(10)
        with pytest.raises(TransportError) as caught:
            client.irq_info(0)

        assert str(caught.value) == ENDED.format("VFIO_USER_DEVICE_GET_IRQ_INFO", DEAF)
        for pending in waiting:
            fails_with(client, pending, ENDED.format(pending.name, DEAF))
        with pytest.raises(TransportError, match=f"^the connection has ended: {DEAF}$"):
            client.device_info()


def test_an_answer_that_cannot_be_sent_ends_it_too() -> None:
    """A part of a command of ours may wait before it in the same queue."""
    asked = [craft(Command.DMA_READ, m.DmaReadRequest(address=0, count=1))]
    with Deaf(last=lambda event: [*asked]) as server, server.connect(timeout=10) as client:
        client.memory.add(0, bytearray(1))
        reset = client.send(Command.DEVICE_RESET)
        assert server.deaf.wait(10)

        fails_with(client, reset, ENDED.format("VFIO_USER_DEVICE_RESET", DEAF))


def test_what_was_answered_before_is_kept() -> None:
    with Deaf(2, reply_to) as server, server.connect(timeout=10) as client:
        first, second = client.send(Command.DMA_UNMAP, m.DmaUnmapRequest()), client.send(Command.DEVICE_RESET)
        assert server.deaf.wait(10)
        with pytest.raises(TransportError, match=DEAF):
            client.send(Command.DEVICE_RESET, no_reply=True)

        assert client.wait(second).message.name == "VFIO_USER_DEVICE_RESET reply"
        fails_with(client, first, ENDED.format("VFIO_USER_DMA_UNMAP", DEAF))


def test_a_rule_that_the_server_broke_before_is_the_reason() -> None:
    with Deaf(2, lambda event: bytes(16)) as server, server.connect(timeout=10) as client:
        waiting = [client.send(Command.DEVICE_RESET) for _ in range(2)]
        assert server.deaf.wait(10)

        for pending in waiting:
            with pytest.raises(RemoteProtocolError, match="the message size is 0"):
                client.wait(pending)
        with pytest.raises(TransportError, match="the connection has ended: the message size is 0"):
            client.reset()


def test_what_waited_to_be_sent_is_dropped_with_its_descriptors_at_once() -> None:
    with Slow() as server, server.connect() as client, memfd(4096) as fd:
        fill(client)
        before = open_fds()
        client.timeout = 0.05
        with pytest.raises(TransportError, match="VFIO_USER_DMA_MAP cannot be sent within"):
            client.dma_map(0, 4096, fd)
        assert open_fds() == before + 1
        server._theirs.socket.shutdown(socket.SHUT_RD)
        while server._theirs.socket.recv(1 << 16):
            continue
        with pytest.raises(TransportError, match=DEAF):
            client.reset()
        assert open_fds() == before


def test_all_tasks_hear_of_a_send_that_failed() -> None:
    async def work(server: Deaf) -> None:
        async with connected(server, timeout=10) as client:
            waiting = [asyncio.create_task(client.reset()), asyncio.create_task(client.device_info())]
            await asyncio.sleep(0)
            assert await asyncio.to_thread(server.deaf.wait, 10)
            told = [
                str(problem) for problem in await asyncio.gather(client.irq_info(0), *waiting, return_exceptions=True)
            ]
            names = ("DEVICE_GET_IRQ_INFO", "DEVICE_RESET", "DEVICE_GET_INFO")
            assert told == [ENDED.format(f"VFIO_USER_{name}", DEAF) for name in names]

    with Deaf(2) as server:
        run(work(server))


def test_all_tasks_hear_of_an_answer_that_could_not_be_sent() -> None:
    async def work(server: Deaf) -> None:
        async with connected(server, timeout=10) as client:
            for problem in await asyncio.gather(client.reset(), client.reset(), return_exceptions=True):
                assert str(problem) == ENDED.format("VFIO_USER_DEVICE_RESET", DEAF)

    def wait_and_ask(event: CommandReceived) -> list[Any]:
        server._theirs.socket.shutdown(socket.SHUT_RD)
        return [craft(Command.DMA_READ, m.DmaReadRequest(address=0, count=1))]

    with Deaf(2, wait_and_ask) as server:
        run(work(server))


def test_a_twin_socket_that_takes_no_answer_is_lost_alone() -> None:
    ours, theirs = unix.pair()
    peer = Capabilities(twin_socket=True, twin_socket_fd_index=0)
    asked = craft(Command.DMA_READ, m.DmaReadRequest(address=0, count=1))

    def ask(event: CommandReceived) -> Any:
        if theirs.socket.fileno() != -1:
            theirs.close()
            ours.write(asked)
            ours.socket.shutdown(socket.SHUT_RD)
        return m.DeviceGetInfoReply(num_irqs=3)

    with (
        Fake(ask, version=(m.VersionRequest(version_data=peer.to_data()), (theirs.fileno(),))) as server,
        server.connect(offer=OFFER) as client,
    ):
        for _ in range(3):
            assert client.device_info().num_irqs == 3
        assert client._twin is None
    ours.close()


# The end of one command


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        ([-1], "one of the descriptors is closed"),
        ([0] * 254, "at most 253 descriptors go with one message"),
        ([0] * 40_000, "at most 253 descriptors go with one message"),
    ],
    ids=["closed", "too many", "far too many"],
)
def test_descriptors_that_the_kernel_does_not_pass_fail_one_command(refused: list[int], why: str) -> None:
    """Nothing of it was sent: the others have their replies, and it is due none."""
    held: list[CommandReceived] = []

    def answer(event: CommandReceived) -> Any:
        held.append(event)
        return [reply_to(held[0]), m.DeviceGetInfoReply(num_irqs=2)] if len(held) == 2 else None

    with Fake(answer) as server, server.connect() as client:
        waiting = client.send(Command.DEVICE_RESET)
        with pytest.raises(DescriptorError, match=why):
            client.send(Command.DMA_MAP, m.DmaMapRequest(), fds=refused)
        assert client._main.engine.unanswered == 1
        assert client.device_info().num_irqs == 2
        client.wait(waiting)
        assert not client._awaited


def test_a_reply_to_a_command_that_was_not_sent_breaks_the_rules() -> None:
    def answer(event: CommandReceived) -> Any:
        return craft(Command.DMA_MAP, kind=1, message_id=event.message.header.message_id - 1)

    with Fake(answer) as server, server.connect() as client:
        with pytest.raises(DescriptorError):
            client.dma_map(0, 4096, -1)
        with pytest.raises(RemoteProtocolError, match="VFIO_USER_DMA_MAP reply with id 1 answers no command of ours"):
            client.reset()


def test_a_task_whose_descriptor_is_closed_fails_alone() -> None:
    async def work(server: Fake) -> None:
        async with connected(server) as client:
            calls = [client.reset(), client.dma_map(0, 4096, -1), client.device_info()]
            reset, refused, info = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(refused, DescriptorError)
            assert reset is None
            assert isinstance(info, m.DeviceGetInfoReply)

    with Fake(answer_all) as server:
        run(work(server))


def test_a_command_that_waits_and_is_refused_then_fails_alone() -> None:
    """The kernel refuses its descriptors when its turn comes: those before and behind it are sent."""
    with Slow() as server, server.connect() as client, memfd(4096) as fd:
        fill(client)
        before = open_fds()
        server.crowded.on = True
        server.go.set()
        with pytest.raises(DescriptorError, match="Too many references"):
            client.dma_map(0, 4096, fd)
        assert open_fds() == before
        server.crowded.on = False
        client.dma_map(0, 4096, fd)


def test_a_descriptor_of_which_no_copy_can_be_kept_fails_one_command() -> None:
    with Slow() as server, server.connect() as client, memfd(4096) as fd:
        fill(client)
        with (
            room_for(0),
            pytest.raises(DescriptorError, match="cannot be kept until it is sent: Too many open"),
        ):
            client.send(Command.DMA_MAP, m.DmaMapRequest(size=4096), fds=[fd])
        server.go.set()
        client.reset()


def test_of_the_tasks_that_wait_to_send_only_the_refused_one_fails() -> None:
    async def work(server: Slow) -> None:
        async with connected(server) as client:
            reset = asyncio.create_task(client.reset())
            with memfd(4096) as fd:
                calls = [
                    asyncio.create_task(each)
                    for each in (client.region_write(0, 0, LARGE.data, no_reply=True), client.dma_map(0, 4096, fd))
                ]
                await asyncio.sleep(0)
                assert len(client._main.queue) == 2
                server.crowded.on = True
            server.go.set()
            done = await asyncio.gather(reset, *calls, client.device_info(), return_exceptions=True)
            assert [type(each) for each in done] == [type(None), type(None), DescriptorError, m.DeviceGetInfoReply]

    with Slow() as server:
        run(work(server))


FULL = """
import os, resource
from vfio_user_proto import unix
if os.getuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
one, other = unix.pair()
try:
    for _ in range(100):
        one.write(b"x", [0] * 8)
except OSError as problem:
    print(type(problem).__name__, problem)
while (got := other.read(1, wait=False)) is not None:
    unix.close_all(got[1])
one.write(b"y", [0])
"""


def test_descriptors_on_their_way_beyond_the_limit_of_the_user() -> None:
    """What the kernel says to a user without privileges, and that the socket can be used when they have arrived."""
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=60, check=False)

    why = "more descriptors of this user than RLIMIT_NOFILE were sent and not received yet"
    assert (done.stdout, done.stderr) == (
        f"DescriptorError sending failed: Too many references: cannot splice ({why})\n",
        "",
    )
