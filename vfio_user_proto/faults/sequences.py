"""Faults that no single command shows: only a sequence of them, which the model run finds."""

import errno
import os
from collections.abc import Callable
from typing import Any

from vfio_user_proto import eventfds, wire
from vfio_user_proto.device import Device
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.device_dma import memory
from vfio_user_proto.faults.kit import Fault, asks_for
from vfio_user_proto.iofds import IoFdRegion
from vfio_user_proto.memory import DmaMap, Region
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DeviceState,
    DmaMapRequest,
    DmaUnmapRequest,
    FeatureMigDeviceState,
    HeaderFlags,
    IrqSetFlags,
    RegionWriteRequest,
)
from vfio_user_proto.responder import NOTHING, Answer, Responder

GET, SET = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET
F, S = DeviceFeature, DeviceState
_ASSIGN = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
_DISABLE = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER


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
            raise OSError(errno.EINVAL, "a fault")
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


class _CachesLast(DmaMap):
    """Looks first where it wrote last. What was unmapped since is closed, and its number may be that of another file."""

    def write(self, address: int, data: bytes) -> None:
        last: Region | None = self.__dict__.get("last")
        if last is not None and last.address <= address and address + len(data) <= last.address + last.size:
            assert last.fd is not None
            os.pwrite(last.fd, data, address - last.address + last.offset)
            return
        super().write(address, data)
        self.__dict__["last"] = next(
            (
                each
                for each in self._regions
                if each.fd is not None and each.address <= address < each.address + each.size
            ),
            None,
        )


class _AnswersOnce(_Remembering):
    def device_get_region_io_fds(self, request: DeviceGetRegionIoFdsRequest, fds: list[int]) -> Answer:
        answer, sending = super().device_get_region_io_fds(request, fds)
        return answer, sending if self.times(f"region {request.index}") == 1 else ()


class _Deaf(IoFdRegion):
    """Takes every kick, and rings nobody when the device was reset once."""

    deaf = False

    def _kicked(self, key: str, eventfd: int) -> Callable[[], None]:
        ring = super()._kicked(key, eventfd)

        def ready() -> None:
            if self.deaf:
                eventfds.take(eventfd)
            else:
                ring()

        return ready


class _DeafAfterReset(Responder):
    bells: tuple[Any, ...] = ()

    def __init__(self, device: Device, *more: Any) -> None:
        if isinstance(device, TestDevice):
            for each in device.io_fds.values():
                each.__class__ = _Deaf
            self.bells = tuple(device.io_fds.values())
        super().__init__(device, *more)

    def device_reset(self, request: None, fds: list[int]) -> Answer:
        for each in self.bells:
            each.deaf = True
        return super().device_reset(request, fds)


class _EnablesOnce(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        disables = request.flags == _DISABLE and not request.count
        if disables:
            self.times(f"disabled {request.index}")
        elif fds and self.memory.get(f"disabled {request.index}"):
            raise OSError(errno.EBUSY, "a fault")
        return super().device_set_irqs(request, fds)


class _DisablesEnabled(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        enabled = self.memory.setdefault("enabled", set())
        if request.flags == _DISABLE and not request.count:
            if request.index not in enabled:
                raise OSError(errno.EINVAL, "a fault")
            enabled.remove(request.index)
        elif fds:
            enabled.add(request.index)
        return super().device_set_irqs(request, fds)


class _HoldsMasked(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        masked = self.memory.setdefault("masked", set())
        chosen = {(request.index, vector) for vector in range(request.start, request.start + request.count)}
        if request.flags == _ASSIGN and not fds and chosen & masked:
            raise OSError(errno.EBUSY, "a fault")
        if request.flags & IrqSetFlags.ACTION_MASK:
            masked |= chosen
        if request.flags & IrqSetFlags.ACTION_UNMASK:
            masked -= chosen
        return super().device_set_irqs(request, fds)


class _TriggersAtFirst(_Remembering):
    def device_set_irqs(self, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
        if request.flags == _ASSIGN and not fds:
            self.times(f"taken {request.index}")
        triggers = request.flags & IrqSetFlags.ACTION_TRIGGER and request.flags != _ASSIGN and request.count
        if triggers and self.memory.get(f"taken {request.index}"):
            raise OSError(errno.EINVAL, "a fault")
        return super().device_set_irqs(request, fds)


class _AfterSilence(_Remembering):
    """Takes no write behind one that wanted no reply."""

    def respond(self, event: CommandReceived, fds: list[int]) -> Answer:
        header = event.message.header
        if header.command in (Command.REGION_WRITE, Command.REGION_WRITE_MULTI):
            silent, self.memory["silent"] = self.memory.get("silent"), header.flags & HeaderFlags.NO_REPLY
            if silent and not self.memory["silent"]:
                raise OSError(errno.EBUSY, "a fault")
        return super().respond(event, fds)


class _TellsOnce(_Remembering):
    def device_get_irq_info(self, request: DeviceGetIrqInfoRequest, fds: list[int]) -> Answer:
        answer, sending = super().device_get_irq_info(request, fds)
        if self.times(f"type {request.index}") > 1 and isinstance(answer, DeviceGetIrqInfoReply):
            answer = answer.replace(count=0)
        return answer, sending


class _ReadsForEver(_Remembering):
    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if asks_for(F.DMA_LOGGING_STOP, SET)(request) and self.memory.get("reports"):
            raise OSError(errno.EBUSY, "a fault")
        answer = super().device_feature(request, fds)
        if asks_for(F.DMA_LOGGING_REPORT, GET)(request):
            self.times("reports")
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
    Fault(
        "sequence-last-mapping-cached",
        "The mapping written last is there for ever, with its descriptor's number.",
        responder=memory(_CachesLast),
    ),
    Fault("sequence-io-fds-once", "Descriptors of sub-regions are given away once.", responder=_AnswersOnce),
    Fault("sequence-kick-lost-after-reset", "A reset ends the use of doorbells.", responder=_DeafAfterReset),
    Fault("sequence-irqs-enabled-once", "A type that was disabled stays so.", responder=_EnablesOnce),
    Fault("sequence-disables-enabled-only", "Only what is enabled can be disabled.", responder=_DisablesEnabled),
    Fault("sequence-masked-keeps-eventfd", "What is masked keeps its eventfd.", responder=_HoldsMasked),
    Fault("sequence-triggers-end", "A type that lost an eventfd cannot be triggered.", responder=_TriggersAtFirst),
    Fault("sequence-write-behind-silent-refused", "A write without reply is never done.", responder=_AfterSilence),
    Fault("sequence-irq-info-once", "An interrupt type that was asked for again has none.", responder=_TellsOnce),
    Fault("sequence-log-read-goes-on", "A log that was read cannot be stopped.", responder=_ReadsForEver),
)
