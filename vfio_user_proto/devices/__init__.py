"""The reference devices, by the names that ``vfio-user serve --device`` takes, and devices from a file of the user's."""

import runpy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vfio_user_proto.device import Device
from vfio_user_proto.devices.doorbell import DoorbellDevice
from vfio_user_proto.devices.gpio import GpioDevice
from vfio_user_proto.devices.minimal import MinimalDevice
from vfio_user_proto.devices.serial import SerialDevice
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.errors import UsageError

DEVICES: Final[Mapping[str, Callable[[], Device]]] = {
    "testdev": TestDevice,
    "minimal": MinimalDevice,
    "doorbell": DoorbellDevice,
    "gpio": GpioDevice,
    "serial": SerialDevice,
}


def from_file(name: str) -> Callable[[], Device]:
    """The class that ``name`` says as ``FILE.py:CLASS``. The file is run; UsageError where there is no such class in it."""
    path, _, attribute = name.rpartition(":")
    try:
        found = runpy.run_path(path, run_name=Path(path).stem).get(attribute)
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    except (Exception, SystemExit) as problem:  # whatever the user's code raises
        raise UsageError(f"{path} cannot be run: {type(problem).__name__}: {problem}") from problem
    if not (isinstance(found, type) and Device in found.__mro__):
        raise UsageError(f"{path} has no class {attribute} that inherits from Device")
    return found
