"""The reference devices, by the names that ``vfio-user serve --device`` takes."""

from collections.abc import Callable, Mapping
from typing import Final

from vfio_user_proto.device import Device
from vfio_user_proto.devices.doorbell import DoorbellDevice
from vfio_user_proto.devices.gpio import GpioDevice
from vfio_user_proto.devices.minimal import MinimalDevice
from vfio_user_proto.devices.serial import SerialDevice
from vfio_user_proto.devices.testdev import TestDevice

DEVICES: Final[Mapping[str, Callable[[], Device]]] = {
    "testdev": TestDevice,
    "minimal": MinimalDevice,
    "doorbell": DoorbellDevice,
    "gpio": GpioDevice,
    "serial": SerialDevice,
}
