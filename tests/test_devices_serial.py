# The serial port: the chip as a driver knows it, and its interrupts.
import socket
from collections.abc import Callable

import pytest
from serial_port import get, interrupted, put, received, send
from serving import rung

from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import BAR0, CONFIG, INTX
from vfio_user_proto.devices.serial import (
    DATA,
    DLAB,
    EMPTY,
    FCR,
    FIFO_ENABLE,
    IER,
    IIR,
    IIR_FIFO,
    IS_DATA,
    IS_EMPTY,
    IS_MODEM,
    IS_NOTHING,
    LCR,
    LOOP,
    LSR,
    MCR,
    MODEM_READY,
    MSR,
    ON_DATA,
    ON_EMPTY,
    ON_MODEM,
    PORTS,
    SCRATCH,
)
from vfio_user_proto.messages import IrqSetFlags

pytest_plugins = "serial_fixtures"


def test_every_system_has_a_driver_for_it(port: Client) -> None:
    assert port.region_read(CONFIG, 9, 3) == bytes.fromhex("020007")  # a serial port like the 16550
    port.region_write(CONFIG, 0x10, b"\xff" * 4)
    assert port.region_read(CONFIG, 0x10, 4) == (-PORTS & 0xFFFFFFFF | 1).to_bytes(4, "little")


def test_registers_at_rest_are_those_of_the_chip(port: Client) -> None:
    rest = {IIR: IS_NOTHING, LSR: EMPTY, MSR: MODEM_READY}
    assert [get(port, register) for register in range(PORTS)] == [rest.get(register, 0) for register in range(PORTS)]


def test_the_numbers_are_those_of_the_chip(port: Client) -> None:
    """What a driver writes and reads that has never heard of our names."""

    def reads(offset: int, value: int) -> None:
        assert get(port, offset) == value

    reads(5, 0x60)
    reads(6, 0xB0)
    put(port, 7, 0x5A)
    reads(7, 0x5A)
    put(port, 3, 0x80)
    put(port, 0, 0x0C)
    reads(0, 0x0C)
    put(port, 3, 0x03)
    put(port, 2, 0x07)
    reads(2, 0xC1)
    put(port, 1, 0x02)
    reads(2, 0xC2)
    reads(2, 0xC1)
    put(port, 1, 0x08)
    put(port, 4, 0x1A)
    reads(2, 0xC0)
    reads(6, 0x92)
    reads(2, 0xC1)
    put(port, 1, 0x01)
    put(port, 0, 0x41)
    reads(5, 0x61)
    reads(2, 0xC4)
    reads(0, 0x41)
    reads(5, 0x60)
    put(port, 2, 0x01)
    for byte in range(17):
        put(port, 0, byte)
    put(port, 2, 0x01)
    for byte in [*range(16), 0]:
        reads(0, byte)


@pytest.mark.parametrize(("register", "kept"), [(IER, 0x0F), (LCR, 0xFF), (MCR, 0x1F), (SCRATCH, 0xFF)])
def test_registers_keep_what_the_chip_has_bits_for(port: Client, register: int, kept: int) -> None:
    put(port, register, 0xFF)
    assert get(port, register) == kept


@pytest.mark.parametrize("register", [LSR, MSR])
def test_states_of_the_line_are_not_written(port: Client, register: int) -> None:
    before = get(port, register)
    put(port, register, before ^ 0xFF)
    assert get(port, register) == before


def test_divisor_stands_behind_a_bit(port: Client) -> None:
    put(port, LCR, DLAB)
    assert (get(port, DATA), get(port, IER)) == (1, 0)
    put(port, DATA, 12)
    put(port, IER, 34)
    assert (get(port, DATA), get(port, IER)) == (12, 34)
    put(port, LCR, 3)
    assert (get(port, DATA), get(port, IER)) == (0, 0)


def test_fifo_shows_in_the_identification(port: Client) -> None:
    put(port, FCR, FIFO_ENABLE)
    assert get(port, IIR) == IIR_FIFO | IS_NOTHING
    put(port, FCR, 0)
    assert get(port, IIR) == IS_NOTHING


@pytest.mark.parametrize(
    ("outputs", "modem"), [(0x0, 0), (0x1, 0x20), (0x2, 0x10), (0x4, 0x40), (0x8, 0x80), (0xA, 0x90), (0xF, 0xF0)]
)
def test_loop_brings_the_outputs_back_as_the_modem(port: Client, outputs: int, modem: int) -> None:
    put(port, MCR, LOOP | outputs)
    assert get(port, MSR) & 0xF0 == modem
    put(port, MCR, outputs)
    assert get(port, MSR) & 0xF0 == MODEM_READY


def test_changes_of_the_modem_are_told_once_and_interrupt(port: Client, fd: int) -> None:
    put(port, IER, ON_MODEM)
    put(port, MCR, LOOP | 0x06)  # carrier and data set ready go, ring comes
    assert interrupted(port, fd) == IS_MODEM
    assert [get(port, MSR), get(port, MSR)] == [0x5A, 0x50]
    assert get(port, IIR) == IS_NOTHING
    put(port, MCR, LOOP | 0x02)  # the end of the ring is what counts
    assert [get(port, MSR), get(port, MSR)] == [0x14, 0x10]
    put(port, MCR, LOOP)
    assert [get(port, MSR), get(port, MSR)] == [0x01, 0x00]


def test_loop_brings_data_back_and_nothing_goes_out(port: Client, connect: Callable[[], socket.socket]) -> None:
    terminal = connect()
    put(port, MCR, LOOP)
    send(port, b"ab")
    assert received(port, 1) == b"a"  # without FIFO there is room for one
    assert get(port, LSR) == EMPTY
    put(port, MCR, 0)
    send(port, b"c")
    assert terminal.recv(9) == b"c"


def test_wide_accesses_are_those_of_their_bytes(port: Client) -> None:
    port.region_write(BAR0, IER, bytes([ON_DATA, FIFO_ENABLE, 3, 8]))
    assert port.region_read(BAR0, IER, 4) == bytes([ON_DATA, IIR_FIFO | IS_NOTHING, 3, 8])


# Interrupts


def test_empty_transmitter_interrupts_when_enabled_and_after_each_byte(port: Client, fd: int) -> None:
    put(port, IER, ON_EMPTY)
    assert interrupted(port, fd) == IS_EMPTY
    assert get(port, IIR) == IS_NOTHING
    send(port, b"x")
    assert interrupted(port, fd) == IS_EMPTY
    put(port, IER, 0)
    put(port, IER, ON_EMPTY)
    assert interrupted(port, fd) == IS_EMPTY
    put(port, IER, ON_EMPTY)
    assert rung(fd) == 0


def test_data_interrupts_until_it_is_read(port: Client, fd: int, connect: Callable[[], socket.socket]) -> None:
    put(port, IER, ON_DATA)
    connect().sendall(b"!")
    assert interrupted(port, fd) == IS_DATA
    assert interrupted(port, fd) == IS_DATA
    assert get(port, DATA) == ord("!")
    assert get(port, IIR) == IS_NOTHING
    assert rung(fd) == 1  # what unmasking raised before the byte was read
    port.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    assert rung(fd) == 0


def test_data_comes_before_the_empty_transmitter(port: Client, fd: int, connect: Callable[[], socket.socket]) -> None:
    connect().sendall(b"!")
    put(port, IER, ON_DATA)
    assert interrupted(port, fd) == IS_DATA
    put(port, IER, ON_DATA | ON_EMPTY)
    assert get(port, IIR) == IS_DATA
    get(port, DATA)
    assert get(port, IIR) == IS_EMPTY
    assert get(port, IIR) == IS_NOTHING


def test_command_register_holds_the_interrupt_back(port: Client, fd: int) -> None:
    port.region_write(CONFIG, 4, b"\0\4")
    put(port, IER, ON_EMPTY)
    assert rung(fd) == 0
    port.region_write(CONFIG, 4, b"\0\0")
    assert interrupted(port, fd) == IS_EMPTY


def test_nothing_interrupts_unless_enabled(port: Client, fd: int, connect: Callable[[], socket.socket]) -> None:
    connect().sendall(b"!")
    send(port, b"x")
    put(port, MCR, LOOP)
    put(port, MCR, 0)
    assert received(port, 1) == b"!"
    assert (get(port, IIR), rung(fd)) == (IS_NOTHING, 0)


def test_reset_empties_the_chip_and_leaves_its_terminal(
    port: Client, fd: int, connect: Callable[[], socket.socket]
) -> None:
    terminal = connect()
    put(port, FCR, FIFO_ENABLE)
    put(port, IER, ON_DATA)
    terminal.sendall(b"lost")
    assert interrupted(port, fd) == IS_DATA
    port.region_write(CONFIG, 4, b"\1")
    port.reset()
    assert rung(fd) == 1
    port.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    assert rung(fd) == 0
    test_registers_at_rest_are_those_of_the_chip(port)
    assert port.region_read(CONFIG, 4, 1) == b"\0"
    terminal.sendall(b"k")
    assert received(port, 1) == b"k"
