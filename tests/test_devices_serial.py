# The serial port: the chip as a driver knows it, its interrupts, and the terminal at the other end of the line.
import contextlib
import select
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from serving import Serving, eventfds, rung

from vfio_user_proto import unix
from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import BAR0, CONFIG, INTX
from vfio_user_proto.devices.serial import (
    BOUND,
    DATA,
    DATA_READY,
    DLAB,
    EMPTY,
    FCR,
    FIFO,
    FIFO_CLEAR,
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
    SerialDevice,
    Terminal,
)
from vfio_user_proto.messages import IrqSetFlags


@pytest.fixture
def listener(no_leak: None, tmp_path: Path) -> Iterator[socket.socket]:
    with unix.listen(tmp_path / "line") as sock:
        yield sock


@pytest.fixture
def serving(listener: socket.socket) -> Iterator[Serving]:
    with Serving(partial(SerialDevice, listener)) as serving:
        yield serving


@pytest.fixture
def port(serving: Serving) -> Iterator[Client]:
    with Client.connect(serving.path) as client:
        yield client


@pytest.fixture
def fd(port: Client) -> Iterator[int]:
    """The eventfd of the port's interrupt."""
    with eventfds(1) as (fd,):
        port.set_irqs(INTX, IrqSetFlags.ACTION_TRIGGER, eventfds=[fd])
        yield fd


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    """Makes terminals."""
    with contextlib.ExitStack() as opened:

        def make() -> socket.socket:
            sock = opened.enter_context(socket.socket(socket.AF_UNIX))
            sock.settimeout(10)
            sock.connect(listener.getsockname())
            return sock

        yield make


def get(port: Client, register: int) -> int:
    return port.region_read(BAR0, register, 1)[0]


def put(port: Client, register: int, value: int) -> None:
    port.region_write(BAR0, register, bytes([value]))


def send(port: Client, data: bytes) -> None:
    for byte in data:
        put(port, DATA, byte)


def received(port: Client, count: int) -> bytes:
    """So many bytes from the line, as a driver that polls gets them."""
    data = bytearray()
    while len(data) < count:
        if get(port, LSR) & DATA_READY:
            data.append(get(port, DATA))
    return bytes(data)


def interrupted(port: Client, fd: int) -> int:
    """Wait for an interrupt and end it; returns the reason."""
    assert select.select([fd], [], [], 10)[0]
    assert rung(fd) == 1
    reason = get(port, IIR)
    port.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
    return reason & ~IIR_FIFO


def exactly(terminal: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = terminal.recv(count - len(data))
        assert piece, "the line was hung up"
        data += piece
    return data


# The chip


def test_every_system_has_a_driver_for_it(port: Client) -> None:
    assert port.region_read(CONFIG, 9, 3) == bytes.fromhex("020007")  # a serial port like the 16550
    port.region_write(CONFIG, 0x10, b"\xff" * 4)
    assert port.region_read(CONFIG, 0x10, 4) == (-PORTS & 0xFFFFFFFF | 1).to_bytes(4, "little")


def test_at_rest(port: Client) -> None:
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


# The line


def test_text_goes_both_ways(port: Client, connect: Callable[[], socket.socket]) -> None:
    terminal = connect()
    put(port, FCR, FIFO_ENABLE)
    text = bytes(range(256)) * 4
    send(port, text)
    assert exactly(terminal, len(text)) == text
    terminal.sendall(text)
    assert received(port, len(text)) == text


@pytest.mark.parametrize(("fcr", "room"), [(0, 1), (FIFO_ENABLE, FIFO)])
def test_no_more_is_taken_from_the_line_than_there_is_room_for(
    port: Client, fd: int, connect: Callable[[], socket.socket], fcr: int, room: int
) -> None:
    put(port, FCR, fcr)
    put(port, IER, ON_DATA)
    connect().sendall(b"a" * room + b"b" * room)
    assert interrupted(port, fd) == IS_DATA
    put(port, FCR, fcr | FIFO_CLEAR)  # loses what is in the chip, and nothing else
    assert received(port, room) == b"b" * room


def test_switching_the_fifo_empties_it(port: Client, fd: int, connect: Callable[[], socket.socket]) -> None:
    put(port, IER, ON_DATA)
    connect().sendall(b"ab")
    assert interrupted(port, fd) == IS_DATA
    put(port, FCR, FIFO_ENABLE)
    assert received(port, 1) == b"b"


def test_what_was_sent_before_anybody_came_waits(port: Client, connect: Callable[[], socket.socket]) -> None:
    send(port, b"early")
    assert exactly(connect(), 5) == b"early"


def test_without_terminal_the_oldest_bytes_are_lost(port: Client, connect: Callable[[], socket.socket]) -> None:
    port.write_multi([(BAR0, DATA, bytes([number & 0xFF])) for number in range(BOUND + 7)])
    send(port, b"!")
    assert exactly(connect(), BOUND)[-1:] == b"!"


def test_slow_terminal_holds_nobody_up_and_misses_nothing(port: Client, connect: Callable[[], socket.socket]) -> None:
    """More than the socket takes, and less than is lost."""
    terminal = connect()
    send(port, b"<")
    assert exactly(terminal, 1) == b"<"
    text = bytes(number * 7 & 0xFF for number in range(20_000))
    port.write_multi([(BAR0, DATA, bytes([byte])) for byte in text])
    assert exactly(terminal, len(text)) == text


def test_next_terminal_is_taken_when_the_first_has_left(port: Client, connect: Callable[[], socket.socket]) -> None:
    put(port, FCR, FIFO_ENABLE)
    first = connect()
    send(port, b"1")
    assert first.recv(9) == b"1"
    second = connect()
    first.close()
    second.sendall(b"here")
    assert received(port, 4) == b"here"
    send(port, b"2")
    assert second.recv(9) == b"2"


def test_what_a_terminal_said_is_heard_when_it_has_left(
    port: Client, fd: int, connect: Callable[[], socket.socket]
) -> None:
    """Also where an answer, which finds nobody, comes first; the next terminal gets that."""
    put(port, IER, ON_DATA)
    first, second = connect(), connect()
    first.sendall(b"xy")
    assert interrupted(port, fd) == IS_DATA
    first.close()
    send(port, b"-")
    second.sendall(b"z")
    assert received(port, 3) == b"xyz"
    assert second.recv(9) == b"-"


def test_terminal_that_says_nothing_more_still_hears(port: Client, connect: Callable[[], socket.socket]) -> None:
    first = connect()
    first.sendall(b"?")
    first.shutdown(socket.SHUT_WR)
    assert received(port, 1) == b"?"
    send(port, b"answer")
    assert exactly(first, 6) == b"answer"
    second = connect()
    first.close()
    second.sendall(b"!")
    assert received(port, 1) == b"!"


def test_terminal_that_left_keeps_nobody_busy_while_it_is_not_read(
    listener: socket.socket, connect: Callable[[], socket.socket]
) -> None:
    heard = bytearray()
    terminal = Terminal(listener, lambda: 1 - len(heard), heard.extend)
    with contextlib.closing(terminal):
        first = connect()
        first.sendall(b"ab")
        first.close()
        terminal.renew()
        for _ in range(2):
            terminal.ready()
        assert heard == b"a"
        assert select.select([terminal], [], [], 0)[0] == []
        for rest in (b"b", b"", b""):  # what it said, that it was all, and that nobody is there
            heard.clear()
            terminal.renew()
            assert select.select([terminal], [], [], 0)[0] == [terminal]
            terminal.ready()
            assert heard == rest
        assert select.select([terminal], [], [], 0)[0] == []


def test_each_device_has_a_terminal_of_its_own(
    serving: Serving, port: Client, connect: Callable[[], socket.socket]
) -> None:
    first = connect()
    send(port, b"1")
    assert first.recv(9) == b"1"
    with Client.connect(serving.path) as other:
        second = connect()
        send(other, b"2")
        assert second.recv(9) == b"2"
        second.sendall(b"x")
        assert received(other, 1) == b"x"
        assert get(port, LSR) == EMPTY


def test_terminal_stays_when_the_client_changes(serving: Serving, connect: Callable[[], socket.socket]) -> None:
    terminal = connect()
    for text in (b"one", b"two"):
        with Client.connect(serving.path) as client:
            send(client, text)
            assert exactly(terminal, 3) == text
        serving.wait_left()


def test_reset(port: Client, fd: int, connect: Callable[[], socket.socket]) -> None:
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
    test_at_rest(port)
    assert port.region_read(CONFIG, 4, 1) == b"\0"
    terminal.sendall(b"k")
    assert received(port, 1) == b"k"


def test_without_a_line_it_is_a_port_all_the_same(no_leak: None) -> None:
    with Serving(SerialDevice) as serving, Client.connect(serving.path) as port:
        send(port, b"nobody hears it")
        assert get(port, LSR) == EMPTY
