"""What a client does with the features of a device: it migrates it, and has its writes to memory recorded."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Final

from vfio_user_proto.client.asking import R, check_echo, pieces
from vfio_user_proto.client.queries import Queries
from vfio_user_proto.dirty import bitmap_size
from vfio_user_proto.errors import LocalProtocolError, RemoteProtocolError
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceState,
    DmaLoggingRange,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    FeatureMigration,
    MigDataReadReply,
    MigDataReadRequest,
    MigDataWriteRequest,
    MigrationFlags,
)

GET, SET = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET
# Bytes of the largest bitmap that is asked for at once; it fits into a message of the usual size.
BITMAP: Final = 1 << 19


class Migrating(Queries):
    """Migration, and the log of written pages (sections VFIO_DEVICE_FEATURE_… and VFIO_USER_MIG_DATA_READ and _WRITE).

    The methods raise what those of ``Queries`` do.
    """

    async def migration_flags(self) -> MigrationFlags:
        """Which states the device supports (section VFIO_DEVICE_FEATURE_MIGRATION)."""
        return (await self._get(DeviceFeature.MIGRATION, FeatureMigration)).flags

    async def device_state(self) -> int:
        """The migration state, one of ``DeviceState``."""
        return (await self._get(DeviceFeature.MIG_DEVICE_STATE, FeatureMigDeviceState)).device_state

    async def set_device_state(self, state: DeviceState) -> None:
        """Take the device to a state, all the way."""
        await self.device_feature(DeviceFeature.MIG_DEVICE_STATE, SET, FeatureMigDeviceState(device_state=state))

    async def mig_data_read(self, size: int) -> bytes:
        """The next bytes of the device's state; less than ``size`` where there is no more.

        ``size`` is at most ``exchange.largest_transfer``, or the server refuses it.
        """
        request = MigDataReadRequest(argsz=MigDataReadReply.fixed_size + size, size=size)
        answer = await self.ask(Command.MIG_DATA_READ, request, MigDataReadReply)
        if answer.size > size:
            raise RemoteProtocolError(f"{answer.size} bytes of migration data came, at most {size} were asked for")
        return answer.data

    async def mig_data_write(self, data: bytes) -> None:
        """The next bytes of a state to load, in as many commands as they need."""
        for at, size in pieces(len(data), self.exchange.largest_transfer, "bytes"):
            await self.do(Command.MIG_DATA_WRITE, MigDataWriteRequest(data=data[at : at + size]))

    async def read_migration_data(self) -> AsyncIterator[bytes]:
        """The device's state to the end of what there is now, in parts as they come. The device is in PRE_COPY or STOP_COPY."""
        size = self.exchange.largest_transfer
        if size <= 0:
            raise LocalProtocolError("the server takes no bytes")
        while True:
            data = await self.mig_data_read(size)
            yield data
            if len(data) < size:
                return

    async def write_migration_data(self, parts: Iterable[bytes]) -> None:
        """Write a whole state, in parts cut anywhere. The device is in RESUMING."""
        for part in parts:
            await self.mig_data_write(part)

    async def dma_logging_start(self, page_size: int = 4096, ranges: Iterable[tuple[int, int]] = ()) -> int:
        """Have the device's writes recorded inside ``ranges`` of (IOVA, length), everywhere where there is none.

        Returns the page size, in bytes, that the server chose.
        """
        entries = tuple(DmaLoggingRange(iova=iova, length=length) for iova, length in ranges)
        wanted = FeatureDmaLoggingStart(page_size=page_size, ranges=entries)
        answer = await self.device_feature(DeviceFeature.DMA_LOGGING_START, SET, wanted)
        if not isinstance(answer, FeatureDmaLoggingStart) or answer.page_size.bit_count() != 1:
            raise RemoteProtocolError("the server chose no page size")
        return answer.page_size

    async def dma_logging_stop(self) -> None:
        """End the recording."""
        await self.device_feature(DeviceFeature.DMA_LOGGING_STOP, SET)

    async def dma_logging_report(self, iova: int, length: int, page_size: int = 4096) -> list[int]:
        """The IOVA of each page of ``page_size`` bytes, counted from ``iova`` on, to which the device has written.

        A large range is asked for in several commands.
        """
        if page_size.bit_count() != 1:
            raise LocalProtocolError("the page size is no power of two")
        written = []
        for at, size in pieces(length, BITMAP * 8 * page_size, "bytes"):
            wanted = FeatureDmaLoggingReport(iova=iova + at, length=size, page_size=page_size)
            answer = await self.device_feature(DeviceFeature.DMA_LOGGING_REPORT, GET, wanted)
            pages = -(-size // page_size)
            if not isinstance(answer, FeatureDmaLoggingReport) or len(answer.bitmap) != bitmap_size(pages):
                raise RemoteProtocolError("the bitmap has not one bit per page")
            check_echo(wanted, answer, "iova", "length", "page_size")
            marked = [iova + at + page * page_size for page in _set_bits(answer.bitmap)]
            if marked and marked[-1] >= iova + at + size:
                raise RemoteProtocolError("the bitmap has pages outside the range")
            written += marked
        return written

    async def _get(self, feature: DeviceFeature, record: type[R]) -> R:
        content = await self.device_feature(feature, GET)
        if not isinstance(content, record):
            raise RemoteProtocolError(f"the reply has no data of {feature.name}")
        return content


def _set_bits(bitmap: bytes) -> Iterator[int]:
    """The numbers of the bits that are set, in words of 8 bytes."""
    for at, word in enumerate(memoryview(bitmap).cast("Q")):
        left = word
        while left:
            yield at * 64 + (left & -left).bit_length() - 1
            left &= left - 1
