"""The client on asyncio: every command against the reference server, and several tasks at once."""

import asyncio
import inspect
import os
import threading
from typing import Any

import pytest
from fake_server import ONE_SOCKET, Fake, reply_to
from serving import Serving, eventfds, memfd, rung
from tasks import connected, run

from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import OFFER, Client, Fd, MemoryMap, aio
from vfio_user_proto.client.commands import Commands
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import ErrorReply, LocalProtocolError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command, DeviceState, IrqSetFlags
from vfio_user_proto.session import Options

TRIGGER = IrqSetFlags.ACTION_TRIGGER

pytestmark = pytest.mark.usefixtures("no_leak")


@pytest.fixture(params=[OFFER, ONE_SOCKET], ids=["twin socket", "one socket"])
def offer(request: pytest.FixtureRequest) -> Capabilities:
    offer: Capabilities = request.param
    return offer


def test_both_clients_have_every_command() -> None:
    """The blocking one has the same parameters, too."""
    for name, method in inspect.getmembers(Commands, inspect.isfunction):
        if name.startswith("_") or name in ("ask", "ask_whole", "do"):
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
