"""What a driver does with a serial port, and somebody at its terminal."""

import select
import socket

from serving import rung

from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import BAR0, INTX
from vfio_user_proto.devices.serial import DATA, DATA_READY, IIR, IIR_FIFO, LSR
from vfio_user_proto.messages import IrqSetFlags


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
