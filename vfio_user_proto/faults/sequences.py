"""Faults that no single command shows: only a sequence of them, which the model run finds."""

import errno
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.faults.kit import Fault, asks_for
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceSetIrqsRequest,
    DeviceState,
    DmaMapRequest,
    DmaUnmapRequest,
    FeatureMigDeviceState,
    IrqSetFlags,
    RegionWriteRequest,
)
from vfio_user_proto.responder import NOTHING, Answer, Responder

GET, SET = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET
F, S = DeviceFeature, DeviceState
_ASSIGN = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
_DISABLE = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER
_REFUSED = OSError(errno.EINVAL, "a fault")


class _Remembering(Responder):
    """A responder that keeps ``memory`` of what was before."""

    @property
    def memory(self) -> dict[str, Any]:
        memory: dict[str, Any] = self.__dict__.setdefault("_memory", {})
        return memory

    def times(self, what: str) -> int:
        """How often something has happened, this time included."""
        self.memory[what] = self.memory.get(what, 0) + 1
        count: int = self.memory[what]
        return count


class _LeaksSlots(_Remembering):
    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        if self.memory.get("unmaps", 0) >= 3:
            raise OSError(errno.ENOSPC, "no slot was ever given back")
        return super().dma_map(request, fds)

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        answer = super().dma_unmap(request, fds)
        self.times("unmaps")
        return answer


class _TakesTheNext(Responder):
    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        regions = list(self.dma._regions)
        answer = super().dma_unmap(request, fds)
        if len(regions) > 1 and regions[0].address == request.address:
            self.dma.unmap(regions[1].address, regions[1].size)
        return answer


class _Swaps(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        if request.flags == _ASSIGN and len(fds) > 1 and self.times(f"assigned {request.index}") > 1:
            fds.reverse()
        return super().device_set_irqs(request, fds)


class _DisablesOnce(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        if request.flags == _DISABLE and not request.count and self.times("disabled") > 1:
            return NOTHING
        return super().device_set_irqs(request, fds)


class _StartsAgain(Responder):
    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        answer = super().dma_map(request, fds)
        if self.device.state == S.STOP:
            self.device.state = S.RUNNING
        return answer


class _StaleLog(_Remembering):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if asks_for(F.DMA_LOGGING_REPORT, GET)(request) and self.memory.get("unmaps"):
            raise _REFUSED
        return super().device_feature(request, fds)

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        answer = super().dma_unmap(request, fds)
        if self.features.log.page_size:
            self.times("unmaps")
        return answer


class _LogsOnce(_Remembering):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        starts = asks_for(F.DMA_LOGGING_START, SET)(request)
        if starts and not self.features.log.page_size and self.times("starts") > 1:
            raise OSError(errno.EBUSY, "a fault")
        return super().device_feature(request, fds)


class _BusyLogging(Responder):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if asks_for(F.MIG_DEVICE_STATE, SET)(request) and self.features.log.page_size:
            wanted = wire.decode_record(FeatureMigDeviceState, request.data)[0].device_state
            if (self.device.state, wanted) == (S.RUNNING, S.STOP):
                raise OSError(errno.EBUSY, "a fault")
        return super().device_feature(request, fds)


class _Undoes(_Remembering):
    def region_write(self, request: RegionWriteRequest, fds: list[int]) -> Answer:
        before = self.device.region_read(request.region, request.offset, request.count)
        self.memory["undo"] = request.replace(data=before)
        return super().region_write(request, fds)

    def dma_unmap(self, request: DmaUnmapRequest, fds: list[int]) -> Answer:
        answer = super().dma_unmap(request, fds)
        if undo := self.memory.pop("undo", None):
            super().region_write(undo, [])
        return answer


class _SavesEarly(_Remembering):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        before = self.device.state
        answer = super().device_feature(request, fds)
        if before != S.STOP_COPY and self.device.state == S.STOP_COPY:
            self.memory.setdefault("state", self.device.save())
        if before == S.RESUMING != self.device.state and "state" in self.memory:
            self.device.load(self.memory["state"])
        return answer


class _LeavesError(Responder):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if asks_for(F.MIG_DEVICE_STATE, SET)(request) and self.device.state == S.ERROR:
            self.device.state = S.STOP
        try:
            return super().device_feature(request, fds)
        except OSError:
            if self.device.state == S.RESUMING:
                self.device.state = S.ERROR
            raise


class _OneOffset(_Remembering):
    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        if fds:
            first = self.memory.setdefault("offset", request.offset)
            request = request.replace(offset=min(first, request.offset))
        return super().dma_map(request, fds)


class _ForgetsWrites(Responder):
    def dma_map(self, request: DmaMapRequest, fds: list[int]) -> Answer:
        answer = super().dma_map(request, fds)
        self.features.log._pages.clear()
        return answer


FAULTS: tuple[Fault, ...] = (
    Fault("sequence-slots-leak", "After three unmaps nothing can be mapped any more.", responder=_LeaksSlots),
    Fault("sequence-unmap-takes-the-next", "Unmapping the lowest mapping forgets the next.", responder=_TakesTheNext),
    Fault("sequence-vectors-swapped", "Eventfds that are assigned again come in reverse.", responder=_Swaps),
    Fault("sequence-disabled-once", "Only the first disabling of interrupts disables them.", responder=_DisablesOnce),
    Fault("sequence-state-lost-by-map", "A mapping made in STOP sets the device going.", responder=_StartsAgain),
    Fault("sequence-report-after-unmap-refused", "The log does not outlive an unmapping.", responder=_StaleLog),
    Fault("sequence-log-starts-once", "A log that was stopped cannot be started again.", responder=_LogsOnce),
    Fault("sequence-stop-refused-with-log", "A device whose writes are recorded cannot stop.", responder=_BusyLogging),
    Fault("sequence-unmap-undoes-write", "An unmapping undoes the write before it.", responder=_Undoes),
    Fault("sequence-first-state-loaded", "Whatever is loaded, it is the first state saved.", responder=_SavesEarly),
    Fault("sequence-error-left-by-set", "ERROR is left by any set, as STOP is.", responder=_LeavesError),
    Fault("sequence-offset-of-the-first", "Files are used from the first one's offset on.", responder=_OneOffset),
    Fault("sequence-log-cleared-by-map", "A new mapping empties the log of writes.", responder=_ForgetsWrites),
)
