"""A device in thirty lines: a counter in BAR0 that interrupts at every tenth read."""

from vfio_user_proto.device import Description, Device, Host, Irq, Region
from vfio_user_proto.devices.pci import BAR0, CONFIG, MSIX, ConfigSpace


class MinimalDevice(Device):
    """4 bytes at offset 0 of BAR0: reading counts, writing sets the count."""

    def __init__(self) -> None:
        self.config = ConfigSpace(vendor=0x5646, device=0x0001, class_code=0xFF0000, bars={0: 4096})
        self.description = Description(
            regions={BAR0: Region(4096), CONFIG: Region(self.config.size)}, irqs={MSIX: Irq(1)}
        )
        self.count = 0

    def attach(self, host: Host) -> None:
        self.host = host

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        self.count += 1
        if self.count % 10 == 0:
            self.host.trigger(MSIX, 0)
        registers = (self.count & 0xFFFFFFFF).to_bytes(4, "little")
        return registers.ljust(4096, b"\0")[offset : offset + count]

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
        elif offset == 0:
            self.count = int.from_bytes(data[:4], "little")

    def reset(self) -> None:
        self.count = 0
        self.config.reset()
