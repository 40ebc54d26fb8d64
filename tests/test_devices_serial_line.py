# The serial port: the terminals at the other end of the line.
import contextlib
import select
import socket
from collections.abc import Callable

import pytest
from serial_port import exactly, get, interrupted, put, received, send
from serving import Serving

from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import BAR0
from vfio_user_proto.devices.serial import (
    BOUND,
    DATA,
    EMPTY,
    FCR,
    FIFO,
    FIFO_CLEAR,
    FIFO_ENABLE,
    IER,
    IS_DATA,
    LSR,
    ON_DATA,
    SerialDevice,
    Terminal,
)

pytest_plugins = "serial_fixtures"


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
    serial: Serving, port: Client, connect: Callable[[], socket.socket]
) -> None:
    first = connect()
    send(port, b"1")
    assert first.recv(9) == b"1"
    with Client.connect(serial.path) as other:
        second = connect()
        send(other, b"2")
        assert second.recv(9) == b"2"
        second.sendall(b"x")
        assert received(other, 1) == b"x"
        assert get(port, LSR) == EMPTY


def test_terminal_stays_when_the_client_changes(serial: Serving, connect: Callable[[], socket.socket]) -> None:
    terminal = connect()
    for text in (b"one", b"two"):
        with Client.connect(serial.path) as client:
            send(client, text)
            assert exactly(terminal, 3) == text
        serial.wait_left()


def test_without_a_line_it_is_a_port_all_the_same(no_leak: None) -> None:
    with Serving(SerialDevice) as serving, Client.connect(serving.path) as port:
        send(port, b"nobody hears it")
        assert get(port, LSR) == EMPTY
