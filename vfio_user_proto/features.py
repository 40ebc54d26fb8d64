"""VFIO_USER_DEVICE_FEATURE: which features a server has, and what is done with each."""

import errno
from collections.abc import Callable
from typing import Final, TypeVar

from vfio_user_proto import wire
from vfio_user_proto.device import Device
from vfio_user_proto.dirty import DirtyLog
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    FeatureMigration,
    MigrationFlags,
)
from vfio_user_proto.migration import Migration
from vfio_user_proto.model import Record

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
# The data that a bitmap follows.
REPORT: Final = FeatureDmaLoggingReport.fixed_size

R = TypeVar("R", bound=Record)


class Features:
    """The features of one client for one device: the log of its writes always, migration where the device can."""

    def __init__(self, device: Device, dma: DmaMap) -> None:
        self.log: Final = DirtyLog()
        dma.wrote = self.log.wrote
        self._device = device
        self._migration = Migration(device) if device.description.migration & MigrationFlags.STOP_COPY else None
        self._gets: dict[int, Callable[[DeviceFeatureRequest], Record]] = {
            DeviceFeature.DMA_LOGGING_REPORT: self._report,
        }
        self._sets: dict[int, Callable[[DeviceFeatureRequest], Record | None]] = {
            DeviceFeature.DMA_LOGGING_START: self._start,
            DeviceFeature.DMA_LOGGING_STOP: self._stop,
        }
        if self._migration is not None:
            self._gets[DeviceFeature.MIGRATION] = self._flags
            self._gets[DeviceFeature.MIG_DEVICE_STATE] = self._state
            self._sets[DeviceFeature.MIG_DEVICE_STATE] = self._go

    @property
    def migration(self) -> Migration:
        """The migration of the device; raises OSError (EOPNOTSUPP) where it has none."""
        if self._migration is None:
            raise OSError(errno.EOPNOTSUPP, "the device does not migrate")
        return self._migration

    def reset(self) -> None:
        """The device was reset; the log goes on."""
        if self._migration is not None:
            self._migration.reset()

    def answer(self, request: DeviceFeatureRequest) -> DeviceFeatureRequest:
        """The payload of the reply. Raises OSError: ENOTTY for a feature or operation that is not there, else EINVAL."""
        feature = request.flags & DeviceFeatureFlags.INDEX
        operation = request.flags & ~DeviceFeatureFlags.INDEX
        if operation & ~(GET | SET | PROBE):
            raise OSError(errno.EINVAL, "flags")
        if (
            (feature not in self._gets and feature not in self._sets)
            or (operation & GET and feature not in self._gets)
            or (operation & SET and feature not in self._sets)
        ):
            raise OSError(errno.ENOTTY, "no such feature, or not for that operation")
        if operation & PROBE:
            return request
        if operation == SET:
            data = self._sets[feature](request)
            return request if data is None else request.replace(data=wire.encode_record(data))
        if operation != GET:
            raise OSError(errno.EINVAL, "neither a get nor a set")
        body = wire.encode_record(self._gets[feature](request))
        if request.argsz < request.fixed_size + len(body):
            raise OSError(errno.EINVAL, "argsz is less than the reply needs")
        return request.replace(argsz=request.fixed_size + len(body), data=body)

    def _flags(self, request: DeviceFeatureRequest) -> Record:
        return FeatureMigration(flags=self.migration.flags)

    def _state(self, request: DeviceFeatureRequest) -> Record:
        return FeatureMigDeviceState(device_state=self._device.state)

    def _go(self, request: DeviceFeatureRequest) -> None:
        self.migration.go(_data(FeatureMigDeviceState, request.data).device_state)

    def _start(self, request: DeviceFeatureRequest) -> Record:
        wanted = _data(FeatureDmaLoggingStart, request.data)
        chosen = self.log.start(wanted.page_size, [(each.iova, each.length) for each in wanted.ranges])
        return wanted.replace(page_size=chosen)

    def _stop(self, request: DeviceFeatureRequest) -> None:
        self.log.stop()

    def _report(self, request: DeviceFeatureRequest) -> Record:
        """The data may go on with room for the bitmap."""
        wanted = _data(FeatureDmaLoggingReport, request.data[:REPORT])
        room = request.argsz - request.fixed_size - REPORT
        return wanted.replace(bitmap=self.log.report(wanted.iova, wanted.length, wanted.page_size, room))


def _data(record: type[R], data: bytes) -> R:
    """The record that the data of a feature are, exactly."""
    try:
        content, rest = wire.decode_record(record, data)
    except DecodeError as problem:
        raise OSError(errno.EINVAL, str(problem)) from None
    if rest:
        raise OSError(errno.EINVAL, "more data than the feature has")
    return content
