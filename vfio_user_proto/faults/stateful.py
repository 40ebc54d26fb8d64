"""Faults of migration that need a whole state to be seen: streams that are cut, damaged, or lead nowhere."""

import errno
from typing import Any

from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import Fault, asks_for, crash, die, method, payload, refuse, respond, right, stuck
from vfio_user_proto.faults.migration import in_state, wanted_state, way_refused
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceState,
    DmaMapRequest,
    MigDataReadReply,
)
from vfio_user_proto.responder import NOTHING, Answer, Responder

SET = DeviceFeatureFlags.SET
F, S = DeviceFeature, DeviceState
_sets_state = asks_for(F.MIG_DEVICE_STATE, SET)


def _refusal_is_error(state: DeviceState) -> Fault:
    """Fails where it is asked for what it cannot do."""

    def feature(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        before = self.device.state
        try:
            return right("device_feature", self, request, fds)
        except OSError:
            if before == state and _sets_state(request):
                self.device.state = S.ERROR
            raise

    name = state.name.lower().replace("_", "-")
    mistake = f"A set that fails in {state.name} is a failure of the device."
    return Fault(f"mig-refused-in-{name}-is-error", mistake, responder=method("device_feature", feature))


def _back(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    again = self.device.state == S.STOP == wanted_state(request)
    answer = right("device_feature", self, request, fds)
    if again:
        self.device.state = S.RUNNING
    return answer


def _padded(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    if _sets_state(request) and 0 < len(request.data) < 8:
        right("device_feature", self, request.replace(data=request.data.ljust(8, b"\0")), fds)
        return request, ()
    return right("device_feature", self, request, fds)


def _with_fd(request: Any) -> bool:
    return _sets_state(request) and any(request.data[4:8])


class _Local(Responder):
    """Moves nothing: the stream stands for what this process remembers."""

    kept = b""

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        before = self.device.state
        now = self.device.save() if before == S.RESUMING else b""
        answer = super().device_feature(request, fds)
        if self.device.state == S.STOP_COPY:
            _Local.kept = self.device.save()
        elif before == S.RESUMING != self.device.state:
            self.device.load(_Local.kept or now)
        return answer


class _GoesOn(Responder):
    """Goes on with the stream that a client left."""

    left: Any = None

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        migration = self.features.migration
        before, saving = self.device.state, migration._saving
        answer = super().device_feature(request, fds)
        if before == S.STOP_COPY != self.device.state and self.left is None:
            self.left = saving
        elif before != S.STOP_COPY == self.device.state and self.left is not None:
            migration._saving, self.left = self.left, None
        return answer


def _rounded(self: Any, request: Any, fds: list[int]) -> Answer:
    """Reads words of 8 bytes only."""
    return right("mig_data_read", self, request.replace(size=request.size & ~7), fds)


class _Early(Responder):
    """Has read its state when PRE_COPY begins."""

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        answer = super().device_feature(request, fds)
        if self.device.state == S.PRE_COPY and _sets_state(request):
            early = self.device.save()
            self.features.migration._saving._save = lambda: early
        return answer


class _Counted(Responder):
    """Counts the bytes that are written, and knows what to do when they are no state."""

    written = 0

    def mig_data_write(self, request: Any, fds: list[int]) -> Answer:
        self.written += len(request.data)
        return super().mig_data_write(request, fds)

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        leaving = self.device.state == S.RESUMING and wanted_state(request) == S.STOP
        written = self.written
        if leaving or wanted_state(request) == S.RESUMING:
            self.written = 0
        problem = self.features.migration._loading._problem
        try:
            return super().device_feature(request, fds)
        except OSError:
            if not leaving or not self.picks(written, problem):
                raise
            return self.instead(request)

    def picks(self, written: int, problem: str) -> bool:
        raise NotImplementedError

    def instead(self, request: DeviceFeatureRequest) -> Answer:
        self.device.state = S.STOP
        return request, ()


class _Half(_Counted):
    """Takes half a state for a whole one."""

    def picks(self, written: int, problem: str) -> bool:
        return 1 << 20 < written < 15 << 17


class _Nothing(_Counted):
    """Keeps the state that it has where no other comes."""

    def picks(self, written: int, problem: str) -> bool:
        return not written


class _Flipped(_Counted):
    """Believes what a stream says."""

    def picks(self, written: int, problem: str) -> bool:
        return written > 1 << 20 and "damaged" in problem

    def instead(self, request: DeviceFeatureRequest) -> Answer:
        return die()


class _Extended(_Counted):
    """Has no room behind the end of a stream."""

    def picks(self, written: int, problem: str) -> bool:
        return "follow" in problem

    def instead(self, request: DeviceFeatureRequest) -> Answer:
        return die()


def _largest(self: Any, event: CommandReceived, fds: list[int]) -> Answer:
    written = event.message.header.command == Command.MIG_DATA_WRITE
    return die() if written and event.problem else Responder.respond(self, event, fds)


def _report(request: Any) -> bytes:
    """The data of a report that is asked for, 24 bytes or more; b"" where none is."""
    asks = asks_for(F.DMA_LOGGING_REPORT, DeviceFeatureFlags.GET)(request)
    return bytes(request.data) if asks and len(request.data) >= 24 else b""


def _log_padded(feature: DeviceFeature, operation: int, size: int) -> type[Responder]:
    """Takes the bytes that the data of a feature lack for zeros."""

    def padded(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if asks_for(feature, operation)(request) and len(request.data) < size:
            request = request.replace(data=request.data.ljust(size, b"\0"))
            if size == 24:
                return request, ()
        return right("device_feature", self, request, fds)

    return method("device_feature", padded)


def _page_above(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    if asks_for(F.DMA_LOGGING_START, SET)(request):
        page = int.from_bytes(request.data[:8], "little")
        if any(region.size < page for region in self.dma._regions):
            raise OSError(errno.EINVAL, "a mapping of less than a page")
    return right("device_feature", self, request, fds)


def _map_below(self: Any, request: DmaMapRequest, fds: list[int]) -> Answer:
    if request.size < self.features.log.page_size:
        raise OSError(errno.EINVAL, "less than a page of the log")
    return right("dma_map", self, request, fds)


def _two_mappings(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    """Has a bitmap for each mapping, and none for two of them; yet there is no error."""
    answer = right("device_feature", self, request, fds)
    if asks_for(F.DMA_LOGGING_REPORT, DeviceFeatureFlags.GET)(request):
        begin = int.from_bytes(request.data[:8], "little")
        end = begin + int.from_bytes(request.data[8:16], "little")
        if sum(each.address < end and each.address + each.size > begin for each in self.dma._regions) > 1:
            return NOTHING
    return answer


def _stale(data: bytes, fds: tuple[int, ...], to: CommandReceived | None) -> tuple[bytes, tuple[int, ...]] | None:
    """The end of the stream, with what was in the buffer behind it."""
    if to is None or to.message.header.command != Command.MIG_DATA_READ or not data or to.message.payload is None:
        return data, fds
    missing = to.message.payload.as_dict()["size"] + 24 - len(data)
    if not 0 < missing < 1 << 21 or len(data) < 24:
        return data, fds
    return payload(data, data[16:] + bytes(missing)), fds


def _reset_in(state: DeviceState) -> Fault:
    """Dies of a reset in a state."""

    def reset(self: Any, request: None, fds: list[int]) -> Answer:
        return die() if self.device.state == state else right("device_reset", self, request, fds)

    name = state.name.lower().replace("_", "-")
    return Fault(
        f"reset-in-{name}-crash", f"Nothing is reset in {state.name}.", responder=method("device_reset", reset)
    )


FAULTS: tuple[Fault, ...] = (
    *map(_reset_in, (S.STOP, S.PRE_COPY, S.STOP_COPY, S.RESUMING)),
    *map(_refusal_is_error, (S.RUNNING, S.STOP, S.STOP_COPY, S.RESUMING, S.PRE_COPY)),
    way_refused(S.RESUMING, S.STOP),
    way_refused(S.RESUMING, S.STOP_COPY),
    way_refused(S.RESUMING, S.PRE_COPY),
    Fault("mig-state-again-is-back", "A set to STOP toggles.", responder=method("device_feature", _back)),
    Fault(
        "mig-state-short-data-taken",
        "Data that a state lacks are zero (libvfio-user efd091b).",
        responder=method("device_feature", _padded),
    ),
    Fault(
        "mig-state-data-fd-used",
        "data_fd is a descriptor.",
        responder=refuse("device_feature", errno.EBADF, _with_fd),
    ),
    Fault("mig-data-stays-in-the-process", "The stream stands for a file of this process.", responder=_Local),
    Fault("mig-data-read-goes-on", "A session begins where the last one ended.", responder=_GoesOn),
    Fault(
        "mig-data-read-rounded-down",
        "The state consists of words of 8 bytes.",
        responder=method("mig_data_read", _rounded),
    ),
    Fault("mig-data-of-pre-copy-only", "What changes after PRE_COPY began is lost.", responder=_Early),
    Fault("mig-state-half-taken", "Half a state is a state.", responder=_Half),
    Fault("mig-state-nothing-taken", "No data are the state that there is.", responder=_Nothing),
    Fault("mig-data-flipped-crash", "A stream is what it says.", responder=_Flipped),
    Fault("mig-data-extended-crash", "A stream ends where it should.", responder=_Extended),
    Fault(
        "mig-data-read-zero-hangs",
        "Something is read.",
        responder=stuck("mig_data_read", lambda request: not request.size),
    ),
    Fault(
        "mig-data-read-largest-crash",
        "There is memory for any size.",
        responder=crash("mig_data_read", lambda request: request.size >= 1 << 31),
    ),
    Fault(
        "mig-data-write-nothing-crash",
        "Something is written (libvfio-user's gpio sample, efd091b).",
        responder=crash("mig_data_write", lambda request: not request.size),
    ),
    Fault("mig-data-write-largest-crash", "size is believed.", responder=respond(_largest)),
    Fault(
        "mig-data-read-stopped",
        "Data can be read when the device is at rest.",
        responder=in_state("mig_data_read", S.STOP, MigDataReadReply(data=b"1")),
    ),
    Fault(
        "mig-data-write-stopped",
        "Data can be written when the device is at rest.",
        responder=in_state("mig_data_write", S.STOP, None),
    ),
    Fault(
        "mig-data-write-saving",
        "Data can be written when others are read.",
        responder=in_state("mig_data_write", S.STOP_COPY, None),
    ),
    Fault(
        "dma-logging-report-of-two-mappings-empty",
        "A report over two mappings is empty, and no error (libvfio-user efd091b).",
        responder=method("device_feature", _two_mappings),
    ),
    Fault(
        "dma-logging-much-finer-hangs",
        "Bits are counted in a byte (libvfio-user efd091b).",
        responder=stuck(
            "device_feature",
            lambda request: _report(request)[8:11] == b"\0\0\x10",
        ),
    ),
    Fault(
        "dma-logging-page-size-largest-refused",
        "Page sizes have 32 bits.",
        responder=refuse(
            "device_feature", errno.EINVAL, lambda r: asks_for(F.DMA_LOGGING_START, SET)(r) and r.data[7] & 0x80
        ),
    ),
    Fault(
        "dma-logging-wrap-from-the-start-crash",
        "Ends are compared in 64 bits (libvfio-user efd091b).",
        responder=crash("device_feature", lambda r: _report(r)[8:16] == b"\xff" * 8 and any(_report(r)[20:24])),
    ),
    Fault(
        "dma-logging-one-page-hangs",
        "A log has several pages (libvfio-user efd091b).",
        responder=stuck("device_feature", lambda request: _report(request)[8:16] == b"\0\0\1" + bytes(5)),
    ),
    Fault(
        "dma-logging-page-above-mapping-refused",
        "A mapping has a page of the log at least (libvfio-user efd091b).",
        responder=method("device_feature", _page_above),
    ),
    Fault(
        "map-below-log-page-refused",
        "A mapping has a page of the log at least (libvfio-user efd091b).",
        responder=method("dma_map", _map_below),
    ),
    Fault(
        "dma-logging-start-cut-padded",
        "Data that a start lacks are zero (libvfio-user efd091b).",
        responder=_log_padded(F.DMA_LOGGING_START, SET, 16),
    ),
    Fault(
        "dma-logging-report-cut-padded",
        "Data that a report lacks are zero (libvfio-user efd091b).",
        responder=_log_padded(F.DMA_LOGGING_REPORT, DeviceFeatureFlags.GET, 24),
    ),
    Fault("mig-data-read-padded", "A reply has the size that was asked for (libvfio-user efd091b).", outgoing=_stale),
)
