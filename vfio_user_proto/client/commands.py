"""What a client can ask: a greeting, then one typed method per command."""

import socket
import sys
from collections.abc import Sequence
from typing import Final

from vfio_user_proto import capabilities, regioncaps, unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.asking import HasFileno, check_echo, number_of, payload_of, pieces
from vfio_user_proto.client.exchange import Reply
from vfio_user_proto.client.migrating import Migrating
from vfio_user_proto.client.regions import RegionInfo, RegionIoFds, checked, descriptors_of
from vfio_user_proto.errors import DecodeError, LocalProtocolError, RemoteProtocolError
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DeviceWrite,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqSetFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteMultiReply,
    RegionWriteMultiRequest,
    RegionWriteReply,
    RegionWriteRequest,
    SparseMmap,
    VersionRequest,
)

# What the client offers unless it is told otherwise, and the version on the wire that it proposes.
OFFER: Final = Capabilities(max_msg_fds=16, twin_socket=True, write_multiple=True)
VERSION: Final = (0, 2)


class Commands(Migrating):
    """One typed method per command, over any exchange.

    The methods are named after the commands, whose sections in the document say what they do. Every one raises ErrorReply
    where the server refuses, RemoteProtocolError where its reply contradicts the request or itself, TransportError past the
    deadline or when the server is gone, EncodeError and LocalProtocolError for what cannot be asked.
    """

    async def greet(self, version: tuple[int, int]) -> None:
        """Agree on version and capabilities (section VFIO_USER_VERSION)."""
        exchange = self.exchange
        offer = exchange.offer.to_data()
        request = VersionRequest(version_major=version[0], version_minor=version[1], version_data=offer)
        reply = await exchange.call(Command.VERSION, request)
        try:
            answer = payload_of(reply, VersionRequest)
            if answer.version_major != version[0] or answer.version_minor > version[1]:
                theirs, ours = f"{answer.version_major}.{answer.version_minor}", f"{version[0]}.{version[1]}"
                raise RemoteProtocolError(f"the server answers version {theirs} to {ours}")
            try:
                exchange.peer = capabilities.parse(answer.version_data)
            except DecodeError as problem:
                raise RemoteProtocolError(f"VFIO_USER_VERSION reply: {problem}") from None
            exchange.version = answer.version_major, answer.version_minor
            if exchange.peer.twin_socket:
                exchange.add_twin(_twin(reply, exchange.offer, exchange.peer))
        finally:
            reply.close()

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

    # What the device is

    async def device_info(self) -> DeviceGetInfoReply:
        """Flags, and how many regions and kinds of interrupts there are."""
        return await self.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), DeviceGetInfoReply)

    async def region_info(self, index: int) -> RegionInfo:
        """One region with its capabilities and its descriptor; to be closed."""
        request = DeviceGetRegionInfoRequest(argsz=DeviceGetRegionInfoReply.fixed_size, index=index)
        reply, info = await self.ask_whole(Command.DEVICE_GET_REGION_INFO, request, DeviceGetRegionInfoReply)
        try:
            check_echo(request, info, "index")
            chain, problem = regioncaps.walk(info)
            if problem is not None:
                raise RemoteProtocolError(str(problem))
            if len(reply.fds) > 1:
                raise RemoteProtocolError(f"{len(reply.fds)} descriptors came with region {index}, one is due")
            for link in chain:
                for area in link.content.areas if isinstance(link.content, SparseMmap) else ():
                    if area.offset + area.size > info.size:
                        raise RemoteProtocolError(f"an area of region {index} reaches beyond its {info.size} bytes")
        except RemoteProtocolError:
            reply.close()
            raise
        return RegionInfo(info, tuple(chain), reply.fds)

    async def region_io_fds(self, index: int, size: int | None = None) -> RegionIoFds:
        """The sub-regions of a region that are accessed through descriptors; to be closed.

        ``size`` is that of the region, in bytes; the server is asked where it is not given. Refused with RemoteProtocolError,
        nothing staying open: flags of the reply, a sub-region beyond the region, of an unknown type or with unknown flags, and
        a number of a descriptor that did not come. Descriptors that no sub-region uses are closed.
        """
        if size is None:
            with await self.region_info(index) as info:
                size = info.size
        request = DeviceGetRegionIoFdsRequest(argsz=DeviceGetRegionIoFdsReply.fixed_size, index=index)
        reply, answer = await self.ask_whole(Command.DEVICE_GET_REGION_IO_FDS, request, DeviceGetRegionIoFdsReply)
        try:
            check_echo(request, answer, "flags", "index")  # flags that nobody knows may change what the records say
            sub_regions = checked(answer, size, len(reply.fds))
        except RemoteProtocolError:
            reply.close()
            raise
        used = {number for entry in sub_regions for number in descriptors_of(entry)}
        for number, fd in enumerate(reply.fds):
            if number not in used:
                fd.close()
        return RegionIoFds(answer, sub_regions, reply.fds)

    async def irq_info(self, index: int) -> DeviceGetIrqInfoReply:
        """One kind of interrupt."""
        request = DeviceGetIrqInfoRequest(index=index)
        answer = await self.ask(Command.DEVICE_GET_IRQ_INFO, request, DeviceGetIrqInfoReply)
        check_echo(request, answer, "index")
        return answer

    # What it does

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

    async def region_read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on, in as many commands as they need."""
        parts = []
        for at, size in pieces(count, self.exchange.largest_transfer, "bytes"):
            request = RegionReadRequest(offset=offset + at, region=index, count=size)
            answer = await self.ask(Command.REGION_READ, request, RegionReadReply)
            check_echo(request, answer, "offset", "region", "count")
            parts.append(answer.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def region_write(self, index: int, offset: int, data: bytes, *, no_reply: bool = False) -> None:
        """Write ``data`` at ``offset``, in as many commands as it needs; ``no_reply`` does not wait for them to be done."""
        for at, size in pieces(len(data), self.exchange.largest_transfer, "bytes"):
            request = RegionWriteRequest(offset=offset + at, region=index, data=data[at : at + size])
            if no_reply:
                await self.exchange.tell(Command.REGION_WRITE, request)
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


def _twin(reply: Reply, offer: Capabilities, peer: Capabilities) -> unix.Stream:
    """The socket for the server's commands, which came with the reply to VERSION."""
    index = peer.twin_socket_fd_index
    if not offer.twin_socket:
        raise RemoteProtocolError("the server set up a twin socket that was not offered")
    if index is None or index >= len(reply.fds):
        raise RemoteProtocolError(f"twin_socket.fd_index is {index}, {len(reply.fds)} descriptors came")
    if reply.fds[index].kind != "socket":
        raise RemoteProtocolError(f"the twin socket is no socket but a {reply.fds[index].kind}")
    return unix.Stream(socket.socket(fileno=reply.fds[index].detach()))
