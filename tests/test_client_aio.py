"""The client on asyncio: every command against the reference server, several tasks at once, cancelling, deadlines, the end."""

import asyncio
import errno
import inspect
import os
import socket
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fake_server import ONE_SOCKET, EndOfSession, Fake, leave, reply_to
from serving import Serving, eventfds, memfd, rung

from vfio_user_proto import messages as m
from vfio_user_proto import unix, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client, Fd, MemoryMap, aio
from vfio_user_proto.client.commands import Commands
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import ErrorReply, LocalProtocolError, RemoteProtocolError, TransportError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command, DeviceState, IrqSetFlags
from vfio_user_proto.session import Options

T = TypeVar("T")
TRIGGER = IrqSetFlags.ACTION_TRIGGER

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture
def serving(no_leak: None) -> Iterator[Serving]:
    with Serving() as running:
        yield running


@pytest.fixture(params=[OFFER, ONE_SOCKET], ids=["twin socket", "one socket"])
def offer(request: pytest.FixtureRequest) -> Capabilities:
    offer: Capabilities = request.param
    return offer


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own; the loop's own complaints fail the test."""
    complaints: list[dict[str, Any]] = []

    async def heard() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        return await work

    try:
        return asyncio.run(heard())
    finally:
        assert complaints == []


@asynccontextmanager
async def connected(server: Fake, **options: Any) -> AsyncIterator[aio.Client]:
    async with aio.connect(server.stream, **{"offer": ONE_SOCKET, "timeout": 10, **options}) as client:
        yield client


def test_both_clients_have_every_command() -> None:
    """The blocking one has the same parameters, too."""
    for name, method in inspect.getmembers(Commands, inspect.isfunction):
        if name.startswith("_") or name in ("ask", "ask_whole", "do", "greet"):
            continue
        twin = getattr(Client, name)
        assert inspect.signature(twin).parameters == inspect.signature(method).parameters
        assert twin.__doc__ == method.__doc__
        assert not inspect.iscoroutinefunction(inspect.unwrap(twin, stop=lambda _: True))


# Every command


def test_what_the_device_is(serving: Serving, offer: Capabilities) -> None:
    async def work() -> None:
        async with aio.connect(serving.path, offer=offer) as client:
            assert (client.version, client.peer.twin_socket) == ((0, 2), offer.twin_socket)
            assert (await client.device_info()).num_irqs == 5
            assert (await client.irq_info(2)).count == 4
            with await client.region_info(2) as region:
                assert region.fd is not None
                region.windows()[0].write(0x1FFC, b"abcd")
                assert await client.region_read(2, 0x1FFC, 4) == b"abcd"
            with await client.region_io_fds(4) as io_fds:
                assert {io_fds.fd_of(entry).kind for entry in io_fds.sub_regions} == {"eventfd", "socket"}

    run(work())


def test_accesses_reset_and_interrupts(serving: Serving) -> None:
    async def work() -> None:
        async with aio.connect(serving.path) as client:
            await client.region_write(9, 0, b"one")
            await client.region_write(9, 3, b"two", no_reply=True)
            await client.write_multi([(9, 6, b"three"), (9, 11, b"four")])
            assert await client.region_read(9, 0, 15) == b"onetwothreefour"
            await client.reset()
            assert await client.region_read(9, 0, 3) == b"\0\0\0"
            with eventfds(2) as fds, Fd(os.dup(fds[1])) as owned:
                await client.set_irqs(2, TRIGGER, eventfds=[fds[0], owned])
                await client.set_irqs(2, TRIGGER, values=[False, True])
                assert [rung(fd) for fd in fds] == [0, 1]
                await client.set_irqs(2, TRIGGER, count=0)

    run(work())


async def transfer(client: aio.Client, operation: int, address: int) -> int:
    """Let the test device move 100 bytes; returns its status: 1 done, 2 failed."""
    registers = address.to_bytes(8, "little") + (100).to_bytes(4, "little")
    await client.region_write(0, testdev.ADDRESS, registers)
    await client.region_write(0, testdev.GO, operation.to_bytes(4, "little"))
    return int.from_bytes(await client.region_read(0, testdev.STATUS, 4), "little")


def test_the_server_reaches_memory_by_descriptor_and_by_message(serving: Serving, offer: Capabilities) -> None:
    async def work() -> None:
        memory = MemoryMap()
        buffer = bytearray(4096)
        memory.add(0x20000, buffer)
        with memfd(4096) as fd:
            async with aio.connect(serving.path, offer=offer, memory=memory) as client:
                await client.dma_map(0x10000, 4096, fd)
                await client.dma_map(0x20000, 4096)
                for address in (0x10000, 0x20000):
                    assert await transfer(client, 1, address) == 1
                    assert await transfer(client, 2, address) == 1
                await client.dma_unmap(0x10000, 4096)
                assert await transfer(client, 1, 0x10000) == 2
            assert os.pread(fd, 100, 0) == buffer[:100] == testdev.pattern(100, 3)

    run(work())


def test_a_device_goes_from_server_to_server_and_its_writes_are_logged() -> None:
    async def work(one: str, two: str) -> None:
        async with aio.connect(one) as source, aio.connect(two) as destination:
            source.memory.add(0, bytearray(8192))
            await source.dma_map(0, 8192)
            assert await source.dma_logging_start() == 4096
            assert await transfer(source, 1, 0x1000) == 1
            assert await source.dma_logging_report(0, 8192) == [0x1000]
            await source.dma_logging_stop()
            assert await source.migration_flags()
            await source.region_write(9, 5, b"moved")
            await source.set_device_state(DeviceState.STOP_COPY)
            assert await source.device_state() == DeviceState.STOP_COPY
            await destination.set_device_state(DeviceState.RESUMING)
            async for part in source.read_migration_data():
                await destination.mig_data_write(part)
            await destination.write_migration_data([])
            await destination.set_device_state(DeviceState.RUNNING)
            assert await destination.region_read(9, 5, 5) == b"moved"

    small = Options(offer=Capabilities(max_data_xfer_size=99_999))
    with Serving(options=small) as one, Serving(options=small) as two:
        run(work(one.path, two.path))


def test_a_refusal_is_an_error_reply_and_the_session_goes_on(serving: Serving) -> None:
    async def work() -> None:
        async with aio.connect(serving.path) as client:
            with pytest.raises(ErrorReply, match="was refused with EINVAL"):
                await client.region_info(99)
            with pytest.raises(LocalProtocolError):
                await client.write_multi([(0, 0, bytes(9))])
            assert (await client.device_info()).num_irqs == 5

    run(work())


# Several tasks


def test_commands_of_several_tasks_are_under_way_together() -> None:
    """The server has them all before it answers the first, and answers in the reverse order."""
    events: list[CommandReceived] = []

    def answer(event: CommandReceived) -> Any:
        events.append(event)
        if len(events) < 3:
            return None
        bodies = [wire.encode(each.message)[wire.HEADER_SIZE :] for each in events]
        return [reply_to(each, body) for each, body in reversed([*zip(events, bodies, strict=True)])]

    async def work(server: Fake) -> list[int]:
        async with connected(server) as client:
            found = await asyncio.gather(*(client.irq_info(index) for index in range(3)))
            return [each.index for each in found]

    with Fake(answer) as server:
        assert run(work(server)) == [0, 1, 2]


def test_hundreds_of_tasks_share_a_connection(serving: Serving, offer: Capabilities) -> None:
    async def work() -> None:
        async with aio.connect(serving.path, offer=offer) as client:

            async def own(number: int) -> bytes:
                at = number * 4096
                data = number.to_bytes(2, "little") * 2048
                await client.region_write(9, at, data)
                assert await client.region_read(9, at, 4096) == data
                return data

            assert len(set(await asyncio.gather(*map(own, range(400))))) == 400

    run(work())


def test_large_commands_and_large_replies_do_not_block_each_other(serving: Serving) -> None:
    """16 MiB of replies are due while 16 MiB of commands are sent."""

    async def work() -> None:
        async with aio.connect(serving.path) as client:
            size = 1 << 20
            reads = [client.region_read(9, 0, size) for _ in range(16)]
            writes = [client.region_write(9, size, bytes(size)) for _ in range(16)]
            done = await asyncio.gather(*reads, *writes)
            assert sum(len(data or b"") for data in done) == 16 * size

    run(work())


def test_what_the_server_asks_is_answered_while_no_call_waits() -> None:
    answered = threading.Event()

    def answer(event: Any) -> Any:
        if isinstance(event, CommandReceived):
            server.engine._awaited[7, int(Command.DMA_READ)] += 1
            return [m.DeviceGetInfoReply(), craft(Command.DMA_READ, m.DmaReadRequest(address=0, count=4), message_id=7)]
        assert event.message.payload == m.DmaReadReply(address=0, data=b"\0\0\0\7")
        answered.set()
        return None

    async def work() -> None:
        async with connected(server) as client:
            client.memory.add(0, bytearray(b"\0\0\0\7"))
            await client.device_info()
            assert await asyncio.to_thread(answered.wait, 10)

    with Fake(answer) as server:
        run(work())


# Cancelling and deadlines


class Held:
    """A fake server that answers a question about a region only after the next other question, with a descriptor."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds
        self.asked, self.answered = threading.Event(), threading.Event()
        self._held: list[CommandReceived] = []

    def __call__(self, event: CommandReceived) -> Any:
        if event.message.header.command == Command.DEVICE_GET_REGION_INFO:
            self._held.append(event)
            self.asked.set()
            return None
        late = wire.encode_record(m.DeviceGetRegionInfoReply())
        replies = [(reply_to(each, late), self.fds) for each in self._held]
        self._held.clear()
        return [m.DeviceGetInfoReply(num_irqs=1), *replies, self.answered.set]


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
                f"the connection has ended: the server closed it before it answered {name}"
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


def test_closing_is_told_to_those_who_wait() -> None:
    async def work(server: Fake, held: Held) -> None:
        async with connected(server) as client:
            call = asyncio.create_task(client.region_info(0))
            assert await asyncio.to_thread(held.asked.wait, 10)
            client.close()
            with pytest.raises(TransportError, match="it was closed before it answered VFIO_USER_DEVICE_GET_REGION"):
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
