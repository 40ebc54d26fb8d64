"""Cards with an interrupt pin migrate, with the interrupt that is due; at rest they are quiet."""

import os
import select
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from serving import Serving, eventfds, rung

from vfio_user_proto import unix
from vfio_user_proto.client import Client
from vfio_user_proto.device import Device
from vfio_user_proto.devices import gpio, serial
from vfio_user_proto.devices.pci import BAR0, BAR2, CONFIG, INTX
from vfio_user_proto.errors import ErrorReply
from vfio_user_proto.messages import DeviceState, IrqSetFlags, MigrationFlags

TRIGGER = IrqSetFlags.ACTION_TRIGGER
CONFIG_SIZE = 256

pytestmark = pytest.mark.usefixtures("no_leak")


def move(source: Client, destination: Client) -> None:
    """The state of one device to another, which works afterwards."""
    assert source.migration_flags() == MigrationFlags.STOP_COPY
    source.set_device_state(DeviceState.STOP_COPY)
    destination.set_device_state(DeviceState.RESUMING)
    destination.write_migration_data(source.read_migration_data())
    destination.set_device_state(DeviceState.RUNNING)


def test_gpio_card_takes_its_lines_and_its_interrupt_along() -> None:
    with (
        Serving(gpio.GpioDevice) as one,
        Serving(gpio.GpioDevice) as two,
        Client.connect(one.path) as source,
        Client.connect(two.path) as destination,
        eventfds(1) as [fd],
    ):
        source.region_write(CONFIG, 4, b"\3\0")
        source.region_read(BAR2, gpio.ENABLE, 1)
        source.region_write(BAR2, gpio.LOW_OUTPUTS, b"\x5a")
        source.region_write(BAR2, gpio.HIGH_OUTPUTS, b"\xa5")
        destination.set_irqs(INTX, TRIGGER, eventfds=[fd])
        move(source, destination)
        assert rung(fd) == 1
        assert destination.region_read(CONFIG, 4, 4) == source.region_read(CONFIG, 4, 2) + b"\x08\0"
        ports = destination.region_read(BAR2, 0, 8)
        assert (ports[gpio.LOW_INPUTS], ports[gpio.HIGH_INPUTS], ports[gpio.STATUS]) == (0x5A, 0xA5, 7)
        destination.region_write(BAR2, gpio.CLEAR, b"\0")
        destination.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
        assert rung(fd) == 0


def test_a_card_at_rest_is_quiet_until_it_works_again() -> None:
    with Serving(gpio.GpioDevice) as serving, Client.connect(serving.path) as card, eventfds(1) as [fd]:
        card.set_irqs(INTX, TRIGGER, eventfds=[fd])
        card.region_read(BAR2, gpio.ENABLE, 1)
        card.set_device_state(DeviceState.STOP)
        card.region_write(BAR2, gpio.LOW_OUTPUTS, b"\1")
        assert rung(fd) == 0
        card.set_device_state(DeviceState.RUNNING)
        assert rung(fd) == 1


def test_serial_port_takes_what_it_received_along_and_leaves_the_terminal_alone_at_rest(tmp_path: Path) -> None:
    """What the terminal says meanwhile is heard when the port works again; it is not lost between the two."""
    with (
        unix.listen(tmp_path / "line") as line,
        Serving(lambda: serial.SerialDevice(line)) as one,
        Serving(serial.SerialDevice) as two,
        Client.connect(one.path) as source,
        Client.connect(two.path) as destination,
        socket.socket(socket.AF_UNIX) as terminal,
        eventfds(2) as [event, resumed],
    ):
        terminal.connect(str(tmp_path / "line"))
        source.set_irqs(INTX, TRIGGER, eventfds=[event])
        source.region_write(BAR0, serial.FCR, b"\1")
        source.region_write(BAR0, serial.SCRATCH, b"\x77")
        source.region_write(BAR0, serial.IER, bytes([serial.ON_DATA]))
        terminal.sendall(b"ab")
        assert wait(event)
        source.set_device_state(DeviceState.STOP)
        terminal.sendall(b"cd")
        destination.set_irqs(INTX, TRIGGER, eventfds=[resumed])
        move(source, destination)
        assert wait(resumed)
        assert received(destination) in (b"ab", b"a")
        assert destination.region_read(BAR0, serial.SCRATCH, 1) == b"\x77"
        source.set_device_state(DeviceState.RUNNING)
        source.set_irqs(INTX, IrqSetFlags.ACTION_UNMASK)
        heard = b""
        while not heard.endswith(b"d"):
            heard += received(source)
        assert heard == b"abcd"


def wait(event: int) -> bool:
    """Wait for an eventfd to be signalled."""
    return bool(select.select([event], [], [], 10)[0]) and os.eventfd_read(event) > 0


def received(port: Client) -> bytes:
    """What is in the FIFO."""
    data = b""
    while port.region_read(BAR0, serial.LSR, 1)[0] & serial.DATA_READY:
        data += port.region_read(BAR0, serial.DATA, 1)
    return data


GPIO_STATE = bytes(CONFIG_SIZE) + b"\1\2\1\5"
SERIAL_STATE = bytes(CONFIG_SIZE + serial.PORTS + 2) + b"\1\0\xb0"


@pytest.mark.parametrize(
    ("make", "good", "bad"),
    [
        (gpio.GpioDevice, GPIO_STATE, [b"", GPIO_STATE[:-1], GPIO_STATE + b"\0", GPIO_STATE[:-1] + b"\1"]),
        (gpio.GpioDevice, GPIO_STATE, [GPIO_STATE[:-2] + b"\2\5"]),
        (serial.SerialDevice, SERIAL_STATE + bytes(16), [b"", SERIAL_STATE[:-1], SERIAL_STATE + bytes(17)]),
        (serial.SerialDevice, SERIAL_STATE, [SERIAL_STATE[:-3] + b"\0\0\xb0ab"]),
        (serial.SerialDevice, SERIAL_STATE, [bytes(256 + 1) + b"\x10" + SERIAL_STATE[258:]]),
        (serial.SerialDevice, SERIAL_STATE, [bytes(256 + 4) + b"\x20" + SERIAL_STATE[261:]]),
    ],
)
def test_what_is_no_state_of_the_card_is_refused(make: Callable[[], Device], good: bytes, bad: list[bytes]) -> None:
    device = make()
    try:
        device.load(good)
        assert device.save()[CONFIG_SIZE:] == good[CONFIG_SIZE:]
        for state in bad:
            with pytest.raises(ValueError, match="no state of a"):
                device.load(state)
    finally:
        device.close()


def test_a_state_of_another_device_ends_in_error() -> None:
    with (
        Serving(gpio.GpioDevice) as one,
        Serving(serial.SerialDevice) as two,
        Client.connect(one.path) as source,
        Client.connect(two.path) as destination,
    ):
        with pytest.raises(ErrorReply, match="EINVAL"):
            move(source, destination)
        assert destination.device_state() == DeviceState.ERROR
        destination.reset()
        assert destination.device_state() == DeviceState.RUNNING
