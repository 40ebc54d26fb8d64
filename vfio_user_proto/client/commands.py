"""All that a client can tell a server to do: one typed method per command."""

import sys
from collections.abc import Sequence
from typing import Protocol

from vfio_user_proto.client.asking import Exchanging, HasFileno, check_echo, number_of, pieces
from vfio_user_proto.client.migrating import Migrating
from vfio_user_proto.errors import LocalProtocolError
from vfio_user_proto.messages import (
    Command,
    DeviceSetIrqsRequest,
    DeviceWrite,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqSetFlags,
    RegionWriteMultiReply,
    RegionWriteMultiRequest,
    RegionWriteReply,
    RegionWriteRequest,
)
from vfio_user_proto.model import Record


class Telling(Exchanging, Protocol):
    """An exchange that can also send what wants no reply."""

    async def tell(self, command: int, payload: Record | None = None) -> None: ...


class Commands(Migrating):
    """One typed method per command: the queries, migration, and what else changes a device.

    They raise what ``Queries`` says, and DescriptorError, with nothing sent, where the kernel does not pass a descriptor.
    """

    def __init__(self, exchange: Telling) -> None:
        super().__init__(exchange)
        self._tell = exchange.tell

    # DMA

    async def dma_map(
        self,
        address: int,
        size: int,
        fd: int | HasFileno | None = None,
        *,
        offset: int = 0,
        flags: DmaMapFlags = DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE,
    ) -> None:
        """Let the server reach ``size`` bytes at IOVA ``address``.

        With ``fd`` the memory is that file's, from byte ``offset`` on; without, the server asks for it, and ``memory`` must
        have it.
        """
        request = DmaMapRequest(flags=flags, offset=offset, address=address, size=size)
        await self.do(Command.DMA_MAP, request, () if fd is None else (number_of(fd),))

    async def dma_unmap(self, address: int, size: int) -> None:
        """Take back what ``dma_map`` gave, by the same address and size."""
        request = DmaUnmapRequest(address=address, size=size)
        check_echo(request, await self.ask(Command.DMA_UNMAP, request, DmaUnmapRequest), "address", "size")

    # What the device does

    async def set_irqs(
        self,
        index: int,
        action: IrqSetFlags,
        *,
        start: int = 0,
        count: int = 1,
        eventfds: Sequence[int | HasFileno] | None = None,
        values: Sequence[bool] | None = None,
    ) -> None:
        """Mask, unmask or trigger (``action``) the interrupts of one kind from ``start`` on.

        ``eventfds`` are signalled from now on when that happens, one per interrupt; an empty sequence takes those of ``count``
        interrupts away. ``values`` says which interrupts are meant. Without both, ``count`` interrupts are, and 0 with
        ACTION_TRIGGER switches the whole kind off. More eventfds than the server takes at once go in several commands.
        """
        if eventfds:
            numbers = [number_of(fd) for fd in eventfds]
            for at, part in pieces(len(numbers), self.exchange.peer.max_msg_fds, "descriptors"):
                flags = action | IrqSetFlags.DATA_EVENTFD
                request = DeviceSetIrqsRequest(flags=flags, index=index, start=start + at, count=part)
                await self.do(Command.DEVICE_SET_IRQS, request, numbers[at : at + part])
            return
        data = b"" if values is None else bytes(map(bool, values))
        kind = IrqSetFlags.DATA_NONE if values is None else IrqSetFlags.DATA_BOOL
        if eventfds is not None:
            kind = IrqSetFlags.DATA_EVENTFD
        count = count if values is None else len(data)
        request = DeviceSetIrqsRequest(flags=action | kind, index=index, start=start, count=count, data=data)
        await self.do(Command.DEVICE_SET_IRQS, request)

    async def region_write(self, index: int, offset: int, data: bytes, *, no_reply: bool = False) -> None:
        """Write ``data`` at ``offset``, in as many commands as it needs; ``no_reply`` does not wait for them to be done."""
        for at, size in pieces(len(data), self.exchange.largest_transfer, "bytes"):
            request = RegionWriteRequest(offset=offset + at, region=index, data=data[at : at + size])
            if no_reply:
                await self._tell(Command.REGION_WRITE, request)
            else:
                answer = await self.ask(Command.REGION_WRITE, request, RegionWriteReply)
                check_echo(request, answer, "offset", "region", "count")

    async def write_multi(self, writes: Sequence[tuple[int, int, bytes]]) -> None:
        """Several writes of at most 8 bytes each, as (region, offset, data), in one command or a few."""
        if not self.exchange.peer.write_multiple:
            raise LocalProtocolError("the server does not take VFIO_USER_REGION_WRITE_MULTI")
        if any(len(data) > 8 for _, _, data in writes):
            raise LocalProtocolError("VFIO_USER_REGION_WRITE_MULTI carries writes of at most 8 bytes")
        entries = [
            DeviceWrite(
                offset=offset, region=index, count=len(data), data=int.from_bytes(data.ljust(8, b"\0"), sys.byteorder)
            )
            for index, offset, data in writes
        ]
        room = self.exchange.largest_transfer // DeviceWrite.fixed_size
        for at, size in pieces(len(entries), room, "writes"):
            request = RegionWriteMultiRequest(wrs=tuple(entries[at : at + size]))
            answer = await self.ask(Command.REGION_WRITE_MULTI, request, RegionWriteMultiReply)
            check_echo(request, answer, "wr_cnt")

    async def reset(self) -> None:
        """Put the device back to its start."""
        await self.do(Command.DEVICE_RESET)
