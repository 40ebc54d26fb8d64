# Configuration space as a client finds it: I/O and memory BARs, capabilities, and the interrupt pin with its command bit.
import os
from collections.abc import Iterator

import pytest
from serving import Serving, eventfds, rung

from vfio_user_proto.cli import lspci
from vfio_user_proto.client import Client
from vfio_user_proto.device import Description, Device, Host, Irq, Region
from vfio_user_proto.devices.pci import BAR0, CONFIG, INTX, ConfigSpace, InterruptPin, msi, msix
from vfio_user_proto.messages import IrqInfoFlags, IrqSetFlags

COMMAND, STATUS = 4, 6
INTX_DISABLE, INTERRUPT = 0x400, 0x08
MSI_AT, MSIX_AT = 0x40, 0x50


class Card(Device):
    """A byte in BAR0: whether an interrupt is pending."""

    def __init__(self) -> None:
        self.config = ConfigSpace(
            vendor=0x1234,
            device=0x5678,
            class_code=0x070002,
            bars={1: 8192},
            ports={0: 8, 3: 4},
            interrupt_pin=1,
            capabilities=[msi(4), msix(2, bar=1, table=0, pending=4096)],
        )
        self.description = Description(
            regions={BAR0: Region(8), CONFIG: Region(256)},
            irqs={INTX: Irq(1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED)},
        )
        self.pin = InterruptPin(self.config)

    def attach(self, host: Host) -> None:
        self.pin.connect(host)

    def detach(self) -> None:
        self.pin.connect(None)

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        return self.config.read(offset, count)

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if index == CONFIG:
            self.config.write(offset, data)
            self.pin.renew()
        else:
            self.pin.set(bool(data[0]))


@pytest.fixture
def serving(no_leak: None) -> Iterator[Serving]:
    with Serving(Card) as serving:
        yield serving


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    with Client.connect(serving.path) as client:
        yield client


@pytest.fixture
def fd() -> Iterator[int]:
    with eventfds(1) as (fd,):
        yield fd


def get(client: Client, offset: int, size: int = 4) -> int:
    return int.from_bytes(client.region_read(CONFIG, offset, size), "little")


def put(client: Client, offset: int, value: int, size: int = 4) -> None:
    client.region_write(CONFIG, offset, value.to_bytes(size, "little"))


@pytest.mark.parametrize(("bar", "size", "kind"), [(0, 8, 1), (1, 8192, 0), (3, 4, 1)])
def test_bar_tells_its_kind_and_size_and_keeps_an_address(client: Client, bar: int, size: int, kind: int) -> None:
    at = 0x10 + 4 * bar
    assert get(client, at) == kind
    put(client, at, 0xFFFFFFFF)
    assert get(client, at) == 0x1_0000_0000 - size | kind
    put(client, at, 0xC000)
    assert get(client, at) == 0xC000 | kind


def test_bars_are_sized_bytewise_too(client: Client) -> None:
    for at in range(0x10, 0x14):
        put(client, at, 0xFF, 1)
    assert get(client, 0x10) == 0xFFFFFFF9


def test_a_person_reads_all_of_it(client: Client) -> None:
    put(client, 0x10, 0xC000)
    assert list(lspci.lines(client.region_read(CONFIG, 0, 256), [8, 8192, 0, 4, 0, 0])) == [
        "1234:5678, class 070002 (communication), revision 00",
        "subsystem 1234:5678",
        "interrupt pin A",
        "BAR0: I/O at 0xc000, 8 bytes",
        "BAR1: 32-bit memory at 0x0, 8192 bytes",
        "BAR3: I/O at 0x0, 4 bytes",
        "capability at 0x40: MSI (0x05)",
        "capability at 0x50: MSI-X (0x11), 2 vectors",
    ]


def test_msi_takes_an_address_of_64_bits_and_at_most_what_it_has(client: Client) -> None:
    assert get(client, MSI_AT + 2, 2) == 0x84  # 4 messages, 64-bit
    put(client, MSI_AT + 2, 0xFFFF, 2)
    assert get(client, MSI_AT + 2, 2) == 0xF5  # enabled, and the number that the driver chose
    for offset, kept in ((4, 0xFFFFFFFC), (8, 0xFFFFFFFF), (12, 0x0000FFFF)):
        put(client, MSI_AT + offset, 0xFFFFFFFF)
        assert get(client, MSI_AT + offset) == kept


def test_msix_says_where_its_table_is_and_is_enabled_and_masked(client: Client) -> None:
    assert (get(client, MSIX_AT + 4), get(client, MSIX_AT + 8)) == (1, 4097)
    put(client, MSIX_AT + 2, 0xFFFF, 2)
    assert get(client, MSIX_AT + 2, 2) == 0xC001


def connect_interrupt(client: Client, fd: int) -> None:
    client.set_irqs(INTX, IrqSetFlags.ACTION_TRIGGER, eventfds=[fd])


def unmask(client: Client) -> None:
    client.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)


def test_pin_is_a_level_that_unmasking_raises_again(client: Client, fd: int) -> None:
    connect_interrupt(client, fd)
    client.region_write(BAR0, 0, b"\1")
    assert rung(fd) == 1
    client.region_write(BAR0, 0, b"\1")
    assert rung(fd) == 0
    unmask(client)
    assert rung(fd) == 1
    client.region_write(BAR0, 0, b"\0")
    unmask(client)
    assert rung(fd) == 0


def test_command_register_holds_the_pin_back_and_status_shows_it(client: Client, fd: int) -> None:
    connect_interrupt(client, fd)
    put(client, COMMAND, INTX_DISABLE, 2)
    client.region_write(BAR0, 0, b"\1")
    assert rung(fd) == 0
    assert get(client, STATUS, 1) & INTERRUPT
    put(client, COMMAND, 0, 2)
    assert rung(fd) == 1
    client.region_write(BAR0, 0, b"\0")
    assert not get(client, STATUS, 1) & INTERRUPT


def test_status_is_not_the_clients_to_change(client: Client) -> None:
    before = get(client, STATUS, 2)
    put(client, STATUS, before ^ 0xFFFF, 2)
    assert get(client, STATUS, 2) == before


def test_pending_interrupt_reaches_the_next_client(serving: Serving, fd: int) -> None:
    with Client.connect(serving.path) as first:
        first.region_write(BAR0, 0, b"\1")
    serving.wait_left()
    with Client.connect(serving.path) as second:
        assert rung(fd) == 0
        connect_interrupt(second, fd)
        assert rung(fd) == 1


def test_capabilities_fit_the_space() -> None:
    """What is described by a test above lies apart: nothing overlaps, nothing is beyond the end."""
    space = ConfigSpace(vendor=1, device=2, class_code=3, capabilities=[msi(1), msix(1, bar=0, table=0, pending=0)] * 4)
    assert len(space.read(0, 256)) == 256
    space.write(0, os.urandom(256))
    found = lspci.decode(space.read(0, 256))["capabilities"]
    assert [each["offset"] for each in found] == [0x40, 0x50, 0x5C, 0x6C, 0x78, 0x88, 0x94, 0xA4]
