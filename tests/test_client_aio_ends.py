"""The client on asyncio: what is cancelled, late or broken, connecting, and the end."""

import asyncio
import contextlib
import errno
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_server import EndOfSession, Fake, leave, reply_to
from serving import eventfds, memfd
from tasks import Held, connected, run

from vfio_user_proto import messages as m
from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, MemoryMap, aio
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import ErrorReply, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command

pytestmark = pytest.mark.usefixtures("no_leak")


# Cancelling and deadlines


def test_a_call_that_is_cancelled_leaves_the_connection_in_step() -> None:
    """Its reply comes later, with a descriptor that is closed."""

    async def work(server: Fake, held: Held) -> None:
        async with connected(server) as client:
            call = asyncio.create_task(client.region_info(0))
            assert await asyncio.to_thread(held.asked.wait, 10)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            for _ in range(2):
                assert (await client.device_info()).num_irqs == 1

    with eventfds(1) as fds, Fake(held := Held(fds)) as server:
        run(work(server, held))


def test_a_call_that_is_cancelled_when_its_reply_is_there_leaves_no_descriptor() -> None:
    async def work(server: Fake, held: Held) -> None:
        async with connected(server) as client:
            call = asyncio.create_task(client.region_info(0))
            await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(held.answered.wait, 10)  # both replies are there when the loop looks
            await client.device_info()
            assert len(client._arrived) == 1
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not client._arrived

    with eventfds(1) as fds, Fake(held := Held(fds)) as server:
        run(work(server, held))


def test_a_command_that_is_cancelled_half_sent_is_sent_whole_with_its_descriptor() -> None:
    """The caller's descriptor may be closed at once: what waits to be sent has a copy."""
    came: list[tuple[int | str, ...]] = []
    read = threading.Event()

    def answer(event: CommandReceived) -> Any:
        kinds = [unix.kind_of(fd) for fd in event.fds]
        came.append((event.message.header.command, *kinds))
        if event.message.header.command == Command.DEVICE_RESET:
            read.wait(10)
        return reply_to(event) if event.message.header.command != Command.REGION_WRITE else None

    async def work(server: Fake) -> None:
        async with connected(server) as client:
            reset = asyncio.create_task(client.reset())
            large = asyncio.create_task(client.region_write(0, 0, bytes(1 << 20)))
            with memfd(4096) as fd:
                mapped = asyncio.create_task(client.dma_map(0, 4096, fd))
                await asyncio.sleep(0)
                assert len(client._main.queue) == 2
                for call in (large, mapped):
                    call.cancel()
                await asyncio.wait([large, mapped])
            read.set()
            await reset
            await client.dma_map(4096, 4096)
            assert not client._main.queue

    with Fake(answer) as server:
        server.engine.limit = 2 << 20
        run(work(server))
    assert came == [(Command.DEVICE_RESET,), (Command.REGION_WRITE,), (Command.DMA_MAP, "memfd"), (Command.DMA_MAP,)]


def test_a_command_that_never_could_be_sent_leaves_no_descriptor() -> None:
    read = threading.Event()

    async def work(server: Fake) -> None:
        async with connected(server, timeout=0.1) as client:
            with memfd(4096) as fd:
                calls = [client.reset(), client.region_write(0, 0, bytes(1 << 20)), client.dma_map(0, 4096, fd)]
                for problem in await asyncio.gather(*calls, return_exceptions=True):
                    assert isinstance(problem, TransportError)
        read.set()

    with Fake(lambda event: read.wait(10) and None) as server:
        run(work(server))


def test_the_deadline_of_one_call_does_not_end_the_session() -> None:
    async def work(server: Fake) -> None:
        async with connected(server, timeout=0.05) as client:
            with pytest.raises(TransportError, match=r"^VFIO_USER_DEVICE_GET_REGION_INFO has no reply within 0.05 s$"):
                await client.region_info(0)
            client.timeout = None
            assert (await client.device_info()).num_irqs == 1

    with eventfds(1) as fds, Fake(Held(fds)) as server:
        run(work(server))


def test_writes_that_want_no_reply_wait_for_a_server_that_does_not_read() -> None:
    read = threading.Event()

    def answer(event: CommandReceived) -> Any:
        read.wait(10)
        return reply_to(event) if event.message.header.command == Command.DEVICE_RESET else None

    async def work(server: Fake) -> None:
        async with connected(server, timeout=0.1) as client:
            await client.region_write(0, 0, b"1", no_reply=True)
            with pytest.raises(TransportError, match=r"^VFIO_USER_REGION_WRITE cannot be sent within 0.1 s$"):
                await client.region_write(0, 0, bytes(1 << 20), no_reply=True)
            client.timeout = 10
            write = asyncio.create_task(client.region_write(0, 0, bytes(1 << 20), no_reply=True))
            await asyncio.sleep(0)
            read.set()
            await write
            await client.reset()

    with Fake(answer) as server:
        server.engine.limit = 2 << 20
        run(work(server))


def test_answers_for_a_server_that_does_not_read_are_bounded() -> None:
    """It asks for 40 MiB before it reads: we stop taking its questions, and go on when it reads."""
    asked, size = 40, 1 << 20
    due: list[int] = []
    answered: list[Any] = []
    first: list[CommandReceived] = []

    def answer(event: Any) -> Any:
        if isinstance(event, CommandReceived):
            first.append(event)
            request = m.DmaReadRequest(address=0, count=size)
            server.engine._awaited.update({(number, int(Command.DMA_READ)): 1 for number in range(asked)})
            return [craft(Command.DMA_READ, request, message_id=number) for number in range(asked)]
        answered.append(event)
        return reply_to(first[0]) if len(answered) == asked else None

    async def work() -> None:
        async with connected(server) as client:

            class Watched(MemoryMap):
                def read(self, address: int, count: int) -> bytes:
                    due.append(client._main.due)
                    return bytes(count)

            client.memory.read = Watched().read  # type: ignore[method-assign]
            await client.reset()

    with Fake(answer) as server:
        server.engine.limit = 2 * size
        run(work())
    assert len(due) == asked
    assert max(due) < 4 * size


# Connecting and the end


def test_a_path_that_nobody_listens_on_is_named(tmp_path: Path) -> None:
    async def work() -> None:
        with pytest.raises(TransportError, match=r"nowhere: No such file or directory"):
            async with aio.connect(tmp_path / "nowhere"):
                pass

    run(work())


def test_a_full_queue_of_connections_does_not_stop_the_loop(tmp_path: Path) -> None:
    """The loop goes on meanwhile; whoever gives up leaves no descriptor when the server accepts at last."""
    path = tmp_path / "socket"

    async def work(listener: socket.socket) -> None:
        async def enter() -> None:
            async with aio.connect(path, timeout=10):
                pass

        connecting = asyncio.create_task(enter())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.shield(connecting)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        with pytest.raises(TransportError, match=r"nobody accepts a connection within 0.05 s"):
            async with aio.connect(path, timeout=0.05):
                pass
        for _ in range(2):
            listener.accept()[0].close()

    with unix.listen(path, backlog=0) as listener:
        first = unix.connect(path)
        run(work(listener))
        first.close()


def test_a_greeting_that_is_cancelled_or_refused_leaves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async def enter(server: Fake) -> None:
            async with connected(server):
                raise AssertionError

        with Fake(version=errno.EINVAL) as server, pytest.raises(ErrorReply, match="VFIO_USER_VERSION was refused"):
            await enter(server)
        greeted = threading.Event()
        with Fake(version=greeted.set) as server:
            entering = asyncio.create_task(enter(server))
            assert await asyncio.to_thread(greeted.wait, 10)
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering

    run(work())


def test_a_server_that_dies_is_told_to_everybody_who_waits_and_who_comes_later() -> None:
    async def work(server: Fake) -> None:
        async with connected(server) as client:
            calls = [client.reset(), client.device_info()]
            told = [str(problem) for problem in await asyncio.gather(*calls, return_exceptions=True)]
            assert told == [
                f"the connection has ended before {name} was done: the server closed it"
                for name in ("VFIO_USER_DEVICE_RESET", "VFIO_USER_DEVICE_GET_INFO")
            ]
            for call in (client.device_info(), client.region_write(0, 0, b"1", no_reply=True)):
                with pytest.raises(TransportError, match=r"^the connection has ended: the server closed it$"):
                    await call

    with Fake(
        lambda event: leave(event) if event.message.header.command == Command.DEVICE_GET_INFO else None
    ) as server:
        run(work(server))


def test_a_server_that_breaks_the_stream_is_told_to_everybody_who_waits() -> None:
    async def work(server: Fake) -> None:
        async with connected(server) as client:
            for problem in await asyncio.gather(client.reset(), client.reset(), return_exceptions=True):
                assert isinstance(problem, RemoteProtocolError)
                assert "the message size is 3" in str(problem)
            with pytest.raises(TransportError, match="the connection has ended: the message size is 3"):
                await client.reset()

    with Fake(lambda event: craft(1, message_size=3)) as server:
        run(work(server))


def test_a_server_that_is_gone_may_have_answered_before() -> None:
    """It leaves 150 replies, and a command that it has not read."""
    written, gone = threading.Event(), threading.Event()
    answered = 0

    def answer(event: CommandReceived) -> Any:
        nonlocal answered
        answered += 1
        return [m.DeviceGetInfoReply(), *([leave_now] if answered == 150 else [])]

    def leave_now() -> None:
        assert written.wait(10)
        server._theirs.close()
        gone.set()
        raise EndOfSession

    async def work(server: Fake) -> None:
        async with connected(server) as client:
            calls = [asyncio.create_task(client.device_info()) for _ in range(150)]
            write = asyncio.create_task(client.region_write(0, 0, bytes(1 << 20), no_reply=True))
            await asyncio.sleep(0)
            written.set()
            assert gone.wait(10)  # the loop finds all of this at once
            with pytest.raises(TransportError, match="the connection has ended"):
                await write
            assert len(await asyncio.gather(*calls)) == 150

    with Fake(answer) as server:
        run(work(server))


def test_a_server_that_hears_nothing_and_never_ends_does_not_stop_the_loop() -> None:
    """What it sends is read as long as that may have been sent before: not for ever."""
    count, written, deaf = 100_000, threading.Event(), threading.Event()
    asked: list[int] = []

    class Memory(MemoryMap):
        def answer(self, command: CommandReceived, largest: int) -> Any:
            asked.append(command.message.header.message_id)
            return super().answer(command, largest)

    def flood() -> None:
        assert written.wait(10)
        server._theirs.socket.shutdown(socket.SHUT_RD)
        while server._theirs.socket.recv(1 << 16):
            pass
        deaf.set()
        with contextlib.suppress(ConnectionError):
            server._theirs.socket.sendall(craft(Command.DMA_READ, m.DmaReadRequest()) * count)

    async def work(server: Fake) -> None:
        async with connected(server, memory=Memory()) as client:
            call = asyncio.create_task(client.reset())
            write = asyncio.create_task(client.region_write(0, 0, bytes(1 << 20), no_reply=True))
            await asyncio.sleep(0)
            written.set()
            assert deaf.wait(10)
            for each in (write, call):
                with pytest.raises(
                    TransportError, match=r"has ended before VFIO_USER_\w+ was done: sending failed: Broken"
                ):
                    await each
            assert len(asked) < count

    with Fake(lambda event: flood) as server:
        run(work(server))


def test_closing_is_told_to_those_who_wait() -> None:
    async def work(server: Fake, held: Held) -> None:
        async with connected(server) as client:
            call = asyncio.create_task(client.region_info(0))
            assert await asyncio.to_thread(held.asked.wait, 10)
            client.close()
            with pytest.raises(TransportError, match="before VFIO_USER_DEVICE_GET_REGION_INFO was done: it was closed"):
                await call
            client.close()

    with Fake(held := Held([])) as server:
        run(work(server, held))


def test_a_lost_twin_socket_does_not_end_the_session() -> None:
    async def work(server: Fake) -> None:
        async with connected(server, offer=OFFER) as client:
            ours.close()
            theirs.close()
            for _ in range(3):
                await client.device_info()

    ours, theirs = unix.pair()
    peer = Capabilities(twin_socket=True, twin_socket_fd_index=0)
    greeting = (m.VersionRequest(version_data=peer.to_data()), (theirs.fileno(),))
    with Fake(lambda event: m.DeviceGetInfoReply(), version=greeting) as server:
        run(work(server))
