"""What the tests of the client on asyncio share: a loop, a client of a fake server, and one that answers late."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fake_server import ONE_SOCKET, Fake, reply_to

from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.client import aio
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command

T = TypeVar("T")


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
