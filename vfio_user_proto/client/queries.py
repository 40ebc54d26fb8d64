"""What can be asked of a server without changing anything: the device, its regions, interrupts and features."""

from typing import Any

from vfio_user_proto import regioncaps, wire
from vfio_user_proto.client.asking import Asking, check_echo, pieces
from vfio_user_proto.client.regions import RegionInfo, RegionIoFds, checked
from vfio_user_proto.device import descriptors_of
from vfio_user_proto.dirty import bitmap_size
from vfio_user_proto.errors import DecodeError, RemoteProtocolError
from vfio_user_proto.messages import (
    FEATURES,
    Command,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    FeatureDmaLoggingReport,
    RegionReadReply,
    RegionReadRequest,
    SparseMmap,
)
from vfio_user_proto.model import Record


class Queries(Asking):
    """One typed method per question.

    The methods are named after the commands, whose sections in the document say what they do. Every one raises ErrorReply
    where the server refuses, RemoteProtocolError where its reply contradicts the request or itself, TransportError past the
    deadline or when the connection has ended, EncodeError and LocalProtocolError for what cannot be asked.
    """

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

    async def region_read(self, index: int, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on, in as many commands as they need."""
        parts = []
        for at, size in pieces(count, self.exchange.largest_transfer, "bytes"):
            request = RegionReadRequest(offset=offset + at, region=index, count=size)
            answer = await self.ask(Command.REGION_READ, request, RegionReadReply)
            check_echo(request, answer, "offset", "region", "count")
            parts.append(answer.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def device_feature(self, feature: int, action: DeviceFeatureFlags, data: Record | bytes = b"") -> Any:
        """Get, set or probe a feature; returns the record that its table describes, bytes where there is none.

        ``action`` is GET, SET or both, or PROBE with what is to be probed; a probe that succeeds returns None. Of all that is
        here, SET alone changes something. ``data`` goes with the command; the reply has room for as much, and for a bitmap.
        """
        body = wire.encode_record(data) if isinstance(data, Record) else data
        record = FEATURES.get(feature)
        room = len(body)
        if action & DeviceFeatureFlags.GET and record is not None:
            room = max(room, record.fixed_size)
        if isinstance(data, FeatureDmaLoggingReport) and data.page_size:
            room += bitmap_size(-(-data.length // data.page_size))
        request = DeviceFeatureRequest(
            argsz=DeviceFeatureRequest.fixed_size + room, flags=DeviceFeatureFlags(feature) | action, data=body
        )
        answer = await self.ask(Command.DEVICE_FEATURE, request, DeviceFeatureRequest)
        check_echo(request, answer, "flags")
        if action & DeviceFeatureFlags.PROBE:
            return None
        if record is None or not answer.data:
            return answer.data
        try:
            content, rest = wire.decode_record(record, answer.data)
        except DecodeError as problem:
            raise RemoteProtocolError(f"VFIO_USER_DEVICE_FEATURE reply: {problem}") from None
        if rest:
            raise RemoteProtocolError(f"{len(rest)} bytes follow the data of feature {feature}")
        return content
