# The GPIO card: what it is to a driver, its lines, and the interrupt that a change of an input raises.
from collections.abc import Iterator

import pytest
from serving import Serving, eventfds, rung

from vfio_user_proto.client import Client
from vfio_user_proto.devices.gpio import (
    CLEAR,
    ENABLE,
    HIGH_INPUTS,
    HIGH_OUTPUTS,
    LOW_INPUTS,
    LOW_OUTPUTS,
    PORTS,
    STATUS,
    GpioDevice,
)
from vfio_user_proto.devices.pci import BAR2, CONFIG, INTX
from vfio_user_proto.messages import IrqInfoFlags, IrqSetFlags


@pytest.fixture
def serving(no_leak: None) -> Iterator[Serving]:
    with Serving(GpioDevice) as serving:
        yield serving


@pytest.fixture
def card(serving: Serving) -> Iterator[Client]:
    with Client.connect(serving.path) as client:
        yield client


@pytest.fixture
def fd(card: Client) -> Iterator[int]:
    """The eventfd of the card's interrupt."""
    with eventfds(1) as (fd,):
        card.set_irqs(INTX, IrqSetFlags.ACTION_TRIGGER, eventfds=[fd])
        yield fd


def get(card: Client, port: int) -> int:
    return card.region_read(BAR2, port, 1)[0]


def put(card: Client, port: int, value: int) -> None:
    card.region_write(BAR2, port, bytes([value]))


def test_driver_finds_its_card(card: Client) -> None:
    assert card.region_read(CONFIG, 0, 4) == bytes.fromhex("4f49c80d")
    assert card.region_read(CONFIG, 9, 3) == bytes.fromhex("0000ff")
    assert card.region_read(CONFIG, 0x3D, 1) == b"\1"
    card.region_write(CONFIG, 0x18, b"\xff" * 4)
    assert card.region_read(CONFIG, 0x18, 4) == (-PORTS & 0xFFFFFFFF | 1).to_bytes(4, "little")
    with card.region_info(BAR2) as info:
        assert info.size == PORTS
    irq = card.irq_info(INTX)
    assert (irq.count, irq.flags) == (1, IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE | IrqInfoFlags.AUTOMASKED)


@pytest.mark.parametrize(("outputs", "inputs"), [(LOW_OUTPUTS, LOW_INPUTS), (HIGH_OUTPUTS, HIGH_INPUTS)])
def test_outputs_are_read_back_and_arrive_at_the_inputs(card: Client, outputs: int, inputs: int) -> None:
    put(card, outputs, 0xA5)
    assert [get(card, port) for port in range(PORTS)] == [0xA5 * (port in (outputs, inputs)) for port in range(PORTS)]


def test_all_ports_at_once(card: Client) -> None:
    card.region_write(BAR2, 0, bytes([1, 2, 3, 4, 5, 6, 7, 8]))
    assert card.region_read(BAR2, 0, PORTS) == bytes([1, 1, 0, 0, 5, 5, 0, 0])


@pytest.mark.parametrize(("outputs", "status"), [(LOW_OUTPUTS, 5), (HIGH_OUTPUTS, 6)])
def test_change_of_an_input_interrupts_until_it_is_cleared(card: Client, fd: int, outputs: int, status: int) -> None:
    get(card, ENABLE)
    assert (rung(fd), get(card, STATUS)) == (0, 0)
    put(card, outputs, 0x10)
    assert (rung(fd), get(card, STATUS)) == (1, status)
    put(card, CLEAR, 0)
    assert get(card, STATUS) == 0
    card.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    assert rung(fd) == 0
    put(card, outputs, 0)
    assert rung(fd) == 1


def test_both_halves_are_told_apart_and_together(card: Client, fd: int) -> None:
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 1)
    put(card, HIGH_OUTPUTS, 1)
    assert (rung(fd), get(card, STATUS)) == (1, 7)


def test_interrupt_stays_until_it_is_cleared(card: Client, fd: int) -> None:
    """A driver that ends its interrupt without clearing it is interrupted again, as by any level."""
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 1)
    for _ in range(3):
        assert rung(fd) == 1
        card.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)


def test_no_interrupt_without_change(card: Client, fd: int) -> None:
    put(card, LOW_OUTPUTS, 7)
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 7)
    assert (rung(fd), get(card, STATUS)) == (0, 0)


def test_no_interrupt_unless_enabled(card: Client, fd: int) -> None:
    put(card, LOW_OUTPUTS, 1)
    get(card, ENABLE)
    put(card, ENABLE, 0)
    put(card, LOW_OUTPUTS, 2)
    assert (rung(fd), get(card, STATUS)) == (0, 0)


def test_disabling_takes_a_pending_interrupt_back(card: Client, fd: int) -> None:
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 1)
    put(card, ENABLE, 0)
    assert rung(fd) == 1
    card.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    assert rung(fd) == 0


def test_command_register_holds_the_interrupt_back(card: Client, fd: int) -> None:
    card.region_write(CONFIG, 4, b"\0\4")
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 1)
    assert (rung(fd), get(card, STATUS)) == (0, 5)
    card.region_write(CONFIG, 4, b"\0\0")
    assert rung(fd) == 1


def test_reset_lets_go_of_every_line_and_interrupt(card: Client, fd: int) -> None:
    get(card, ENABLE)
    put(card, LOW_OUTPUTS, 0xFF)
    card.region_write(CONFIG, 4, b"\1")
    assert rung(fd) == 1
    card.reset()
    assert card.region_read(CONFIG, 4, 1) == b"\0"
    assert card.region_read(BAR2, 0, 2) + card.region_read(BAR2, 4, 3) == bytes(5)
    card.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    put(card, LOW_OUTPUTS, 1)
    assert rung(fd) == 0


def test_lines_outlive_a_client(serving: Serving) -> None:
    with Client.connect(serving.path) as first:
        put(first, HIGH_OUTPUTS, 0x42)
    serving.wait_left()
    with Client.connect(serving.path) as second:
        assert get(second, HIGH_INPUTS) == 0x42
