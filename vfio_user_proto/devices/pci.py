"""PCI as devices need it: indexes of regions and interrupts, configuration space, the interrupt pin."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from vfio_user_proto.device import Description, Device, Host, Irq, Region
from vfio_user_proto.messages import DeviceState, IrqInfoFlags, MigrationFlags

# Regions and kinds of interrupts of a PCI device (linux/vfio.h numbers them so).
BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, ROM, CONFIG, VGA = range(9)
INTX, MSI, MSIX, ERR, REQ = range(5)

_AT_REST: Final = frozenset({DeviceState.STOP, DeviceState.STOP_COPY, DeviceState.RESUMING})
_INTX_DISABLE: Final = 0x04  # of the second byte of the command register
_STATUS_INTERRUPT: Final = 0x08
_STATUS_CAPABILITIES: Final = 0x10
_FIRST_CAPABILITY: Final = 0x40
_NO_BARS: Final = MappingProxyType[int, int]({})


class ConfigSpace:
    """256 bytes of configuration space; only what a driver may set changes when it is written.

    ``bars`` maps the number of a memory BAR to its size, a power of two of at least 16 bytes, ``ports`` that of an I/O BAR,
    of at least 4: writing all ones to it and reading it back tells the size. ``capabilities`` are (id, body, mask) each: the
    bytes behind the two of the header, and which of their bits can be written. ``interrupt_pin`` is 1 for INTA.
    """

    size: Final = 256

    def __init__(
        self,
        *,
        vendor: int,
        device: int,
        class_code: int,
        bars: Mapping[int, int] = _NO_BARS,
        ports: Mapping[int, int] = _NO_BARS,
        interrupt_pin: int = 0,
        capabilities: Sequence[tuple[int, bytes, bytes]] = (),
    ) -> None:
        start, mask = bytearray(self.size), bytearray(self.size)
        start[0:2], start[2:4] = vendor.to_bytes(2, "little"), device.to_bytes(2, "little")
        start[9:12] = class_code.to_bytes(3, "little")
        start[0x2C:0x30] = start[0:4]
        start[0x3D] = interrupt_pin
        mask[4:6] = b"\x07\x05"  # command: I/O, memory, bus master, SERR, INTx disable
        mask[0x0C], mask[0x3C] = 0xFF, 0xFF  # cache line size, interrupt line
        for bar, size in bars.items():
            mask[0x10 + 4 * bar : 0x14 + 4 * bar] = (-size & 0xFFFFFFF0).to_bytes(4, "little")
        for bar, size in ports.items():
            start[0x10 + 4 * bar] = 1
            mask[0x10 + 4 * bar : 0x14 + 4 * bar] = (-size & 0xFFFFFFFC).to_bytes(4, "little")
        link, place = 0x34, _FIRST_CAPABILITY
        for ident, body, body_mask in capabilities:
            start[6] |= _STATUS_CAPABILITIES
            start[link], link = place, place + 1
            start[place], start[place + 2 : place + 2 + len(body)] = ident, body
            mask[place + 2 : place + 2 + len(body)] = body_mask
            place += (2 + len(body) + 3) & ~3
        self._start, self._mask = bytes(start), bytes(mask)
        self._now = bytearray(start)

    def read(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset`` on."""
        return bytes(self._now[offset : offset + count])

    def write(self, offset: int, data: bytes) -> None:
        """Change the writable bits of the bytes from ``offset`` on."""
        for at, byte in enumerate(data, offset):
            mask = self._mask[at]
            self._now[at] = (self._now[at] & ~mask) | (byte & mask)

    def reset(self) -> None:
        """Every byte as at the start."""
        self._now[:] = self._start

    def load(self, content: bytes) -> None:
        """Become what ``read`` gave elsewhere, ``size`` bytes; what a driver cannot set stays as it is."""
        self.reset()
        self.write(0, content)

    def interrupt(self, pending: bool) -> bool:
        """Say in the status register whether an interrupt is pending; returns whether the pin may carry it."""
        self._now[6] = self._now[6] & ~_STATUS_INTERRUPT | (_STATUS_INTERRUPT if pending else 0)
        return pending and not self._now[5] & _INTX_DISABLE


class InterruptPin:
    """INTx: a level that the device sets, as far as the command register lets it out."""

    def __init__(self, config: ConfigSpace) -> None:
        self._config = config
        self._host: Host | None = None
        self._pending = self._resting = False

    def connect(self, host: Host | None) -> None:
        """A client came, or left: None."""
        self._host = host
        self.renew()

    def set(self, pending: bool) -> None:
        """Whether the device has an interrupt now."""
        self._pending = pending
        self.renew()

    def rest(self, resting: bool) -> None:
        """Whether the device is at rest: until it works again nothing is asserted."""
        self._resting = resting
        self.renew()

    def renew(self) -> None:
        """To be called when configuration space was written or reset."""
        asserted = self._config.interrupt(self._pending) and not self._resting
        if self._host is not None:
            self._host.level(INTX, 0, asserted)


class PinDevice(Device):
    """A device that interrupts by its pin, and can be migrated while it is at rest."""

    def __init__(self, config: ConfigSpace, regions: Mapping[int, Region]) -> None:
        self.config = config
        self._pin = InterruptPin(config)
        self._state = DeviceState.RUNNING
        self.description = Description(
            regions={**regions, CONFIG: Region(config.size)},
            irqs={INTX: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED)},
            migration=MigrationFlags.STOP_COPY,
        )

    @property
    def state(self) -> DeviceState:
        """Where the device stands (``Device``)."""
        return self._state

    @state.setter
    def state(self, state: DeviceState) -> None:
        self._state = state
        self.rest(self.at_rest)

    @property
    def at_rest(self) -> bool:
        """Whether the device changes neither itself nor anything outside."""
        return self._state in _AT_REST

    def rest(self, resting: bool) -> None:
        """The device comes to rest, or works again."""
        self._pin.rest(resting)

    def attach(self, host: Host) -> None:
        self._pin.connect(host)

    def detach(self) -> None:
        self._pin.connect(None)


def msi(count: int) -> tuple[int, bytes, bytes]:
    """The MSI capability of ``count`` messages, a power of two up to 32, with 64-bit addresses."""
    control = 0x80 | (count.bit_length() - 1) << 1
    return 0x05, bytes([control]) + bytes(11), b"\x71\0" + b"\xfc\xff\xff\xff" + b"\xff" * 4 + b"\xff\xff"


def msix(count: int, *, bar: int, table: int, pending: int) -> tuple[int, bytes, bytes]:
    """The MSI-X capability of ``count`` vectors, whose table and pending bits stand at these offsets of a BAR."""
    body = (
        (count - 1).to_bytes(2, "little") + (table | bar).to_bytes(4, "little") + (pending | bar).to_bytes(4, "little")
    )
    return 0x11, body, b"\x00\xc0" + bytes(8)
