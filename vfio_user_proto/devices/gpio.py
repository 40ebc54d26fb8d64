"""A card of 16 outputs and 16 inputs: to a driver an ACCES PCI-IDIO-16, whose every output is wired to the input of its number.

Regions: BAR2, 8 I/O ports; 7, configuration space. Interrupts: INTx, a level. It migrates at rest.

    ======  =============================================  ==========================
    offset  read                                           write
    ======  =============================================  ==========================
    0       outputs 0-7                                    outputs 0-7
    1       inputs 0-7                                     clear the interrupt
    2       enable interrupts                              disable interrupts
    4       outputs 8-15                                   outputs 8-15
    5       inputs 8-15
    6       interrupt: bit 0, an input of 0-7 changed;
            bit 1, one of 8-15; bit 2, an interrupt waits
    ======  =============================================  ==========================

The rest, 3 and 7, controls the filters of the inputs, of which a wire has no need: it reads as zero and ignores writes.
"""

from typing import Final

from vfio_user_proto.device import Region
from vfio_user_proto.devices.pci import BAR2, CONFIG, ConfigSpace, PinDevice

LOW_OUTPUTS, LOW_INPUTS, ENABLE, _, HIGH_OUTPUTS, HIGH_INPUTS, STATUS, _ = range(8)
CLEAR: Final = LOW_INPUTS
PORTS: Final = 8
WAITING: Final = 4  # bit of STATUS
STATES: Final = (0, WAITING | 1, WAITING | 2, WAITING | 3)  # all values of STATUS


class GpioDevice(PinDevice):
    """See the head of this file."""

    def __init__(self) -> None:
        config = ConfigSpace(vendor=0x494F, device=0x0DC8, class_code=0xFF0000, ports={2: PORTS}, interrupt_pin=1)
        super().__init__(config, {BAR2: Region(PORTS)})
        self.reset()

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if index == CONFIG:
            return self.config.read(offset, count)
        return bytes(self._read(port) for port in range(offset, offset + count))

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
            self._pin.renew()
        else:
            for port, value in enumerate(data, offset):
                self._write(port, value)

    def reset(self) -> None:
        self.config.reset()
        self._lines = bytearray(2)
        self._enabled, self._status = False, 0
        self._pin.set(False)

    def save(self) -> bytes:
        return self.config.read(0, self.config.size) + bytes((*self._lines, self._enabled, self._status))

    def load(self, state: bytes) -> None:
        content, rest = state[: self.config.size], state[self.config.size :]
        if len(rest) != 4 or rest[2] > 1 or rest[3] not in STATES:
            raise ValueError("no state of a GPIO card")
        self.config.load(content)
        self._lines = bytearray(rest[:2])
        self._enabled, self._status = bool(rest[2]), rest[3]
        self._pin.set(bool(self._status) and self._enabled)

    def _read(self, port: int) -> int:
        if port in (LOW_OUTPUTS, LOW_INPUTS):
            return self._lines[0]
        if port in (HIGH_OUTPUTS, HIGH_INPUTS):
            return self._lines[1]
        if port == ENABLE:
            self._enabled = True
        return self._status if port == STATUS else 0

    def _write(self, port: int, value: int) -> None:
        if port in (LOW_OUTPUTS, HIGH_OUTPUTS):
            half = int(port == HIGH_OUTPUTS)
            if self._lines[half] != value and self._enabled:
                self._status |= WAITING | 1 << half
            self._lines[half] = value
        elif port == CLEAR:
            self._status = 0
        elif port == ENABLE:
            self._enabled = False
        self._pin.set(bool(self._status) and self._enabled)
