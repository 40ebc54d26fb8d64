"""A command and a device in, a reply out: what a server answers, without any socket."""

import errno
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from vfio_user_proto import capabilities, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.device import READ_WRITE, Device, IoFds, Region, fd_fields
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.features import Features
from vfio_user_proto.interrupts import MASK, TRIGGER, Interrupts
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.memory import Region as DmaRegion
from vfio_user_proto.messages import (
    CapabilityHeader,
    Command,
    DeviceFeatureRequest,
    DeviceFlags,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    IrqInfoFlags,
    IrqSetFlags,
    MigDataReadReply,
    MigDataReadRequest,
    MigDataWriteRequest,
    RegionCapability,
    RegionInfoFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteMultiReply,
    RegionWriteMultiRequest,
    RegionWriteReply,
    RegionWriteRequest,
    SparseMmap,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.states import SENDERS, Role

# The version on the wire; the document calls itself 0.9.2.
MAJOR: Final = 0
MINOR: Final = 2
OFFER: Final = Capabilities(max_msg_fds=16, twin_socket=True, write_multiple=True)

# The payload of a reply, None where it has none, and the descriptors that go with it; they stay their owner's.
Answer = tuple[Record | None, Sequence[int]]
NOTHING: Final[Answer] = (None, ())
NO_REGION: Final = Region(0, RegionInfoFlags(0))

_DATA: Final = IrqSetFlags.DATA_NONE | IrqSetFlags.DATA_BOOL | IrqSetFlags.DATA_EVENTFD
_ACTION: Final = IrqSetFlags.ACTION_MASK | IrqSetFlags.ACTION_UNMASK | IrqSetFlags.ACTION_TRIGGER
# Combined once: an operator of IntFlag takes longer than all else about a reply.
_RESETTABLE: Final = DeviceFlags.PCI | DeviceFlags.RESET
_NOT_DMA_MAP: Final = ~(DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE)
_NOT_SET_IRQS: Final = ~(_DATA | _ACTION)
# What most replies are, every field by position: a third of the time that the keywords take.
_read_reply, _write_reply = RegionReadReply._make, RegionWriteReply._make
_TAKE_FDS: Final = frozenset({int(Command.DMA_MAP), int(Command.DEVICE_SET_IRQS)})


class Responder:
    """Answers the commands of one client for one device: a method per command, named after it.

    A method gets the decoded request and the descriptors that came along, and returns an ``Answer``. It refuses by raising
    OSError. A descriptor that it keeps it removes from the list; what is left there the caller closes.

    ``offer`` is what the server has; ``agreed`` and ``peer`` are, after VERSION, what each side told the other. ``twin``
    makes a twin socket and returns the descriptor of the client's end.
    """

    def __init__(
        self, device: Device, dma: DmaMap, irqs: Interrupts, offer: Capabilities, twin: Callable[[], int]
    ) -> None:
        self.device, self.dma, self.irqs, self.offer, self.twin = device, dma, irqs, offer, twin
        self.features: Final = Features(device, dma)
        self.agreed = self.peer = Capabilities()
        self.greeted = False
        self._methods: Final[dict[int, Callable[[Any, list[int]], Answer]]] = {
            int(command): getattr(self, command.name.lower()) for command in Command if SENDERS[command] is Role.CLIENT
        }
        regions = device.description.regions.items()
        self._readable: Final = {index: r.size for index, r in regions if r.flags & RegionInfoFlags.READ}
        self._writable: Final = {index: r.size for index, r in regions if r.flags & RegionInfoFlags.WRITE}

    def respond(self, event: CommandReceived, fds: list[int]) -> Answer:
        """Answer one command. Raises OSError to refuse it; ``fds`` then still holds what is to be closed."""
        message = event.message
        command = message.header.command
        method = self._methods.get(command)
        if method is None:
            raise OSError(errno.EOPNOTSUPP, "no command for a server")
        if event.problem is not None or message.trailing:
            raise OSError(errno.EINVAL, "the payload does not fit its table")
        if fds and (command not in _TAKE_FDS or len(fds) > self.agreed.max_msg_fds):
            raise OSError(errno.EINVAL, "more descriptors than the command takes")
        return method(message.payload, fds)

    def version(self, request: VersionRequest, fds: list[int]) -> Answer:
        """Agree on a version and on capabilities: of those that the client named, what the server has."""
        if self.greeted or request.version_major != MAJOR:
            raise OSError(errno.EINVAL, "no version to agree on")
        try:
            peer = capabilities.parse(request.version_data)
        except DecodeError as problem:
            raise OSError(errno.EINVAL, str(problem)) from None
        data, twin = b"", []
        if request.version_data:
            ours = replace(self.offer, twin_socket=False)
            if self.offer.twin_socket and peer.twin_socket and peer.max_msg_fds:
                twin = [self.twin()]
                ours = replace(ours, twin_socket=True, twin_socket_fd_index=0)
            data = ours.to_data(peer.named)
        self.peer, self.agreed, self.greeted = peer, capabilities.parse(data), True
        self.dma.max_regions = self.agreed.max_dma_maps
        self.dma.page_size = self.agreed.pgsizes & -self.agreed.pgsizes
        minor = min(MINOR, request.version_minor)
        return VersionRequest(version_major=MAJOR, version_minor=minor, version_data=data), twin

    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        """Learn a region of client memory, with the descriptor behind it or without."""
        if request.argsz != DmaMapRequest.fixed_size or request.flags & _NOT_DMA_MAP or len(fds) > 1:
            raise OSError(errno.EINVAL, "argsz, flags or descriptors")
        readable = bool(request.flags & DmaMapFlags.READABLE)
        writeable = bool(request.flags & DmaMapFlags.WRITEABLE)
        fd = fds[0] if fds else None
        self.dma.map(DmaRegion(request.address, request.size, readable, writeable, fd, request.offset))
        fds.clear()
        return NOTHING

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        """Forget a region."""
        if request.flags:
            raise OSError(errno.EINVAL, "flags")
        self.dma.unmap(request.address, request.size)
        return DmaUnmapRequest(address=request.address, size=request.size), ()

    def device_get_info(self, request: DeviceGetInfoRequest, fds: list[int]) -> Answer:
        """What the device is. A small argsz changes nothing: this is the fixed part, and all there is."""
        about = self.device.description
        flags = _RESETTABLE if about.resettable else DeviceFlags.PCI
        return DeviceGetInfoReply(flags=flags, num_regions=about.num_regions, num_irqs=about.num_irqs), ()

    def device_get_region_info(self, request: DeviceGetRegionInfoRequest, fds: list[int]) -> Answer:
        """One region with its capabilities and its descriptor, or only the fixed part where they do not fit."""
        region = self._region(request.index)
        chain = region_capabilities(region)
        needed = DeviceGetRegionInfoReply.fixed_size + len(chain)
        flags = region.flags & READ_WRITE
        reply = DeviceGetRegionInfoReply(argsz=needed, index=request.index, size=region.size, flags=flags)
        if request.argsz < needed:
            return reply, ()
        if chain:
            flags |= RegionInfoFlags.CAPS
            reply = reply.replace(flags=flags, cap_offset=reply.fixed_size, capabilities=chain)
        if region.fd is None or not self.peer.max_msg_fds:
            return reply, ()
        return reply.replace(flags=flags | RegionInfoFlags.MMAP, offset=region.offset), (region.fd,)

    def device_get_region_io_fds(self, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
        """The sub-regions that are accessed through descriptors, as far as the client can take the descriptors."""
        if request.flags or request.count:
            raise OSError(errno.EINVAL, "flags and count are not zero")
        io_fds = self._region(request.index).io_fds or IoFds((), ())
        sending: list[int] = []
        entries = []
        for entry in io_fds.sub_regions:
            needed = {name: io_fds.fds[getattr(entry, name)] for name in fd_fields(entry)}
            together = list(dict.fromkeys([*sending, *needed.values()]))
            if len(together) <= self.peer.max_msg_fds:
                sending = together
                entries.append(entry.replace(**{name: sending.index(fd) for name, fd in needed.items()}))
        reply = DeviceGetRegionIoFdsReply(index=request.index, sub_regions=tuple(entries))
        if request.argsz < reply.argsz:
            return reply.replace(sub_regions=()), ()
        return reply, sending

    def device_get_irq_info(self, request: DeviceGetIrqInfoRequest, fds: list[int]) -> Answer:
        """One kind of interrupt."""
        if request.index >= self.device.description.num_irqs:
            raise OSError(errno.EINVAL, "no such kind of interrupt")
        irq = self.device.description.irqs.get(request.index)
        reply = DeviceGetIrqInfoReply(index=request.index)
        return reply if irq is None else reply.replace(flags=irq.flags, count=irq.count), ()

    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        """Set, take away, mask, unmask or raise a range of interrupts of one kind."""
        index, start, count, data = request.index, request.start, request.count, request.data
        kind, action = request.flags & _DATA, request.flags & _ACTION
        irq = self.device.description.irqs.get(index)
        if (
            request.argsz != request.fixed_size + len(data)
            or request.flags & _NOT_SET_IRQS
            or kind not in (IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD)
            or action not in (IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER)
            or irq is None
            or start + count > irq.count
            or len(data) != (count if kind == IrqSetFlags.DATA_BOOL else 0)
            or len(fds) not in ((0, count) if kind == IrqSetFlags.DATA_EVENTFD else (0,))
        ):
            raise OSError(errno.EINVAL, "argsz, flags, range, data or descriptors")
        if (action != TRIGGER and not irq.flags & IrqInfoFlags.MASKABLE) or (
            kind == IrqSetFlags.DATA_EVENTFD and not irq.flags & IrqInfoFlags.EVENTFD
        ):
            raise OSError(errno.EINVAL, "not what this kind of interrupt can do")
        if not count:
            if kind != IrqSetFlags.DATA_NONE or action != TRIGGER or start:
                raise OSError(errno.EINVAL, "an empty range")
            self.irqs.disable(index)
        elif kind == IrqSetFlags.DATA_EVENTFD:
            self.irqs.assign(index, start, action, fds or [None] * count)
            fds.clear()
        else:
            values = [bool(value) for value in data] if data else [True] * count
            self._act(index, start, action, values)
        return NOTHING

    def _act(self, index: int, start: int, action: IrqSetFlags, values: list[bool]) -> None:
        """Raise, mask or unmask the interrupts from ``start`` on whose value is true."""
        for vector, value in enumerate(values, start):
            if value and action == TRIGGER:
                self.irqs.trigger(index, vector)
            elif value:
                self.irqs.mask(index, vector, action == MASK)
        if action != TRIGGER:
            self.device.irq_state(index, start, action, values)

    def region_read(self, request: RegionReadRequest, fds: list[int]) -> Answer:
        """Read from a region."""
        index, offset, count = request.region, request.offset, request.count
        return _read_reply(offset, index, count, self.read(index, offset, count)), ()

    def region_write(self, request: RegionWriteRequest, fds: list[int]) -> Answer:
        """Write to a region."""
        index, offset, count = request.region, request.offset, request.count
        self.write(index, offset, request.data)
        return _write_reply(offset, index, count), ()

    def read(self, index: int, offset: int, count: int) -> bytes:
        """What is at ``offset`` of a region. Raises OSError where that cannot be read."""
        if offset + count > self._readable.get(index, -1) or count > self.agreed.max_data_xfer_size:
            raise self._no_access(index, RegionInfoFlags.READ)
        data = self.device.region_read(index, offset, count)
        if len(data) != count:
            raise OSError(errno.EIO, "the device has less than it says")
        return bytes(data)

    def write(self, index: int, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset`` of a region. Raises OSError where that cannot be written."""
        if offset + len(data) > self._writable.get(index, -1) or len(data) > self.agreed.max_data_xfer_size:
            raise self._no_access(index, RegionInfoFlags.WRITE)
        self.device.region_write(index, offset, data)

    def region_write_multi(self, request: RegionWriteMultiRequest, fds: list[int]) -> Answer:
        """Several small writes in their order; one that cannot be refuses them all before the first."""
        if not self.agreed.write_multiple:
            raise OSError(errno.EOPNOTSUPP, "not negotiated")
        for write in request.wrs:
            if write.count > 8 or write.offset + write.count > self._writable.get(write.region, -1):
                raise self._no_access(write.region, RegionInfoFlags.WRITE)
        for write in request.wrs:
            self.device.region_write(write.region, write.offset, write.data.to_bytes(8, sys.byteorder)[: write.count])
        return RegionWriteMultiReply(wr_cnt=request.wr_cnt), ()

    def device_reset(self, request: None, fds: list[int]) -> Answer:
        """Put the device back to its start; maps and eventfds stay."""
        if not self.device.description.resettable:
            raise OSError(errno.EOPNOTSUPP, "no reset")
        self.device.reset()
        self.features.reset()
        return NOTHING

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        """Get, set or probe a feature."""
        return self.features.answer(request), ()

    def mig_data_read(self, request: MigDataReadRequest, fds: list[int]) -> Answer:
        """Read from the device's state; less than was asked for is the end."""
        size = request.size
        if request.argsz < MigDataReadReply.fixed_size + size or size > self.agreed.max_data_xfer_size:
            raise OSError(errno.EINVAL, "argsz is less than the reply needs, or too much at once")
        return MigDataReadReply(data=self.features.migration.read(size)), ()

    def mig_data_write(self, request: MigDataWriteRequest, fds: list[int]) -> Answer:
        """Write to the device's state."""
        if request.size > self.agreed.max_data_xfer_size:
            raise OSError(errno.EINVAL, "too much at once")
        self.features.migration.write(request.data)
        return NOTHING

    def _region(self, index: int) -> Region:
        about = self.device.description
        if index >= about.num_regions:
            raise OSError(errno.EINVAL, "no such region")
        return about.regions.get(index, NO_REGION)

    def _no_access(self, index: int, way: RegionInfoFlags) -> OSError:
        region = self.device.description.regions.get(index)
        if region is not None and not region.flags & way:
            return OSError(errno.EACCES, "the region does not allow that")
        return OSError(errno.EINVAL, "no such region, outside it, or too much at once")


def region_capabilities(region: Region) -> bytes:
    """The chain of capabilities behind a region's info; "next" counts from the start of the info (VFIO region capabilities)."""
    present: list[tuple[RegionCapability, Record]] = []
    if region.fd is not None and region.areas:
        present.append((RegionCapability.SPARSE_MMAP, SparseMmap(areas=region.areas)))
    if region.type is not None:
        present.append((RegionCapability.TYPE, region.type))
    chain = b""
    for left, (ident, content) in zip(range(len(present) - 1, -1, -1), present, strict=True):
        body = wire.encode_record(content)
        size = CapabilityHeader.fixed_size + len(body)
        behind = DeviceGetRegionInfoReply.fixed_size + len(chain) + size
        chain += wire.encode_record(CapabilityHeader(id=ident, version=1, next=behind if left else 0)) + body
    return chain
