# What libvfio-user's sample of a shadow ioeventfd offers (samples/shadow_ioeventfd_server.c, efd091b), and a device like it.
#
# Facts, from its source and from what it answers: PCI device 4e58:0000; BAR0 is one page; one sub-region, 4 bytes at 0, in a
# record of 48 bytes; its eventfd and its shadow memory, one page of a memfd, come with the reply in this order. The program for
# its guest (samples/shadow_ioeventfd_speed_test.c) stores 0xdeadbeef many times at 0, which is to go through the shadow memory,
# and as often at 8, which is to go by message; it looks at nothing but the time.
import struct

from vfio_user_proto.device import Description, Device, Host, Region
from vfio_user_proto.devices.pci import BAR0, CONFIG, ConfigSpace
from vfio_user_proto.iofds import Doorbell, IoFdRegion

SIZE = 4096
VALUE = 0xDEADBEEF
SHADOWED, BY_MESSAGE = 0, 8
ID = bytes.fromhex("584e0000")
KINDS = ["eventfd", "memfd"]
# argsz, flags, index, count; offset, size, fd_index, type, flags, shadow_mem_fd_index, shadow_offset, datamatch.
REPLY = struct.pack("=IIIIQQIIIIQQ", 64, 0, 0, 1, 0, 4, 0, 2, 0, 1, 0, 0)


class ShadowSample(Device):
    """The same offer; ``rung`` has the values that came with kicks, ``written`` what came by message."""

    def __init__(self) -> None:
        self.config = ConfigSpace(vendor=0x4E58, device=0, class_code=0, bars={BAR0: SIZE})
        self.rung: list[tuple[int | None, int]] = []
        self.written: list[tuple[int, bytes]] = []
        self.io_fds = IoFdRegion(SIZE, [Doorbell(SHADOWED, 4, self._rung, shadow=True)])
        self.description = Description(
            {BAR0: Region(SIZE, io_fds=self.io_fds.io_fds), CONFIG: Region(self.config.size)}, resettable=False
        )

    def attach(self, host: Host) -> None:
        self.io_fds.attach(host)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        return self.config.read(offset, count) if index == CONFIG else bytes(count)

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == BAR0 and not self.io_fds.write(offset, data):
            self.written.append((offset, data))

    def close(self) -> None:
        self.io_fds.close()

    def _rung(self, value: int | None, times: int) -> None:
        self.rung.append((value, times))
