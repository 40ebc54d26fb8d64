# A responder with a device that remembers what was asked of it, for the tests of single commands.
import errno
import json
import os
from collections.abc import Sequence

import pytest

from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.device import Description, Device, IoFds, Irq, Region
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.messages import (
    Command,
    DeviceSetIrqsRequest,
    IoeventfdSubRegion,
    IoFdType,
    IrqInfoFlags,
    IrqSetFlags,
    RegionInfoFlags,
    RegionType,
    ShadowIoeventfdSubRegion,
    SparseMmapArea,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import OFFER, Answer, Responder
from vfio_user_proto.states import Role, State

READ, WRITE, MMAP, CAPS = RegionInfoFlags.READ, RegionInfoFlags.WRITE, RegionInfoFlags.MMAP, RegionInfoFlags.CAPS
NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
MASK, UNMASK, TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER
MAP, UNMAP, SET_IRQS = Command.DMA_MAP, Command.DMA_UNMAP, Command.DEVICE_SET_IRQS
TWIN_END = 99
FD, OTHER, SHADOW = 70, 71, 72  # only ever named, never used


class Recorder(Device):
    """A device that remembers what was asked of it."""

    def __init__(self) -> None:
        event = {"type": IoFdType.IOEVENTFD, "size": 4}
        self.description = Description(
            regions={
                0: Region(4096),
                1: Region(4096, flags=READ),
                2: Region(4096, flags=WRITE),
                3: Region(
                    8192, fd=FD, offset=4096, areas=(SparseMmapArea(offset=0, size=4096),), type=RegionType(type=5)
                ),
                4: Region(
                    4096,
                    io_fds=IoFds(
                        (
                            IoeventfdSubRegion(offset=0, fd_index=0, **event),
                            IoeventfdSubRegion(offset=4, fd_index=1, **event),
                            IoeventfdSubRegion(offset=8, fd_index=2, **event),
                        ),
                        (FD, OTHER, FD),
                    ),
                ),
                5: Region(
                    4096,
                    io_fds=IoFds(
                        (
                            ShadowIoeventfdSubRegion(
                                fd_index=1, shadow_mem_fd_index=0, type=IoFdType.IOEVENTFD_SHADOW, size=4
                            ),
                        ),
                        (SHADOW, FD),
                    ),
                ),
                8: Region(4096, fd=FD),
            },
            irqs={
                0: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED),
                2: Irq(4, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE),
                3: Irq(1, IrqInfoFlags.EVENTFD),
                4: Irq(1, IrqInfoFlags(0)),
            },
        )
        self.did: list[tuple[object, ...]] = []
        self.short = False

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        self.did.append(("read", index, offset, count))
        return bytes(count - self.short)

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        self.did.append(("write", index, offset, data))
        if data == b"no":
            raise OSError(errno.EPERM, "not that")

    def reset(self) -> None:
        self.did.append(("reset",))

    def irq_state(self, index: int, start: int, flags: IrqSetFlags, values: Sequence[bool]) -> None:
        self.did.append(("irq", index, start, flags, list(values)))


class Desk:
    """A responder with its table of memory and interrupts, asked with real bytes."""

    def __init__(self, offer: Capabilities = OFFER, peer: Capabilities | None = None) -> None:
        self.device = Recorder()
        self.dma = DmaMap(self)
        self.irqs = Interrupts(self.device.description.irqs)
        self.twins = 0
        self.responder = Responder(self.device, self.dma, self.irqs, offer, self.twin)
        if peer is not None:
            self.ask(Command.VERSION, VersionRequest(version_data=peer.to_data()))

    limit = 0

    def dma_read(self, address: int, count: int) -> bytes:
        raise AssertionError

    def dma_write(self, address: int, data: bytes) -> None:
        raise AssertionError

    def twin(self) -> int:
        self.twins += 1
        return TWIN_END

    def respond(self, command: int, payload: Record | bytes | None, fds: list[int], extra: bytes = b"") -> Answer:
        connection = Connection(Role.SERVER)
        connection.state = State.READY
        data = craft(command, payload, extra=extra)
        connection.receive(data[:16])
        if data[16:]:
            connection.receive(data[16:])
        event = connection.next_event()
        assert isinstance(event, CommandReceived)
        return self.responder.respond(event, fds)

    def ask(self, command: int, payload: Record | None = None, fds: Sequence[int] = ()) -> Answer:
        left = list(fds)
        answer = self.respond(command, payload, left)
        assert left == [], "a command that took descriptors did not keep them"
        return answer

    def refusal(
        self, command: int, payload: Record | bytes | None = None, fds: Sequence[int] = (), extra: bytes = b""
    ) -> int | None:
        """The errno; checks that every descriptor is left to be closed and that nothing reached the device."""
        left, did = list(fds), list(self.device.did)
        with pytest.raises(OSError) as refused:
            self.respond(command, payload, left, extra)
        assert left == list(fds)
        assert self.device.did == did
        return refused.value.errno


def version(desk: Desk, data: bytes = b"", *, major: int = 0, minor: int = 0) -> tuple[VersionRequest, Sequence[int]]:
    payload, fds = desk.ask(
        Command.VERSION, VersionRequest(version_major=major, version_minor=minor, version_data=data)
    )
    assert isinstance(payload, VersionRequest)
    return payload, fds


def said(content: object) -> bytes:
    return json.dumps({"capabilities": content}).encode() + b"\0"


def told(reply: VersionRequest) -> dict[str, object]:
    found: dict[str, object] = json.loads(reply.version_data[:-1])["capabilities"]
    return found


def irqs(flags: int, *, index: int = 2, start: int = 0, count: int = 1, data: bytes = b"") -> DeviceSetIrqsRequest:
    return DeviceSetIrqsRequest(flags=IrqSetFlags(flags), index=index, start=start, count=count, data=data)


def own(fds: Sequence[int]) -> list[int]:
    """Copies to give away, as the kernel makes them."""
    return [os.dup(fd) for fd in fds]
