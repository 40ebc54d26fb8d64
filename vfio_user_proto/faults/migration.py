"""Faults of features: migration states and migration data."""

import errno
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    accept,
    asks_for,
    feature_answers,
    longer,
    method,
    outgoing,
    payload,
    refuse,
    right,
)
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceState,
    FeatureMigDeviceState,
    FeatureMigration,
    MigDataReadReply,
    MigrationFlags,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import NOTHING, Answer, Responder

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
F, S = DeviceFeature, DeviceState


# States.


def wanted_state(request: DeviceFeatureRequest) -> int:
    """The state that a request asks for, -1 where it does not."""
    if not asks_for(F.MIG_DEVICE_STATE, SET)(request) or len(request.data) != FeatureMigDeviceState.fixed_size:
        return -1
    return wire.decode_record(FeatureMigDeviceState, request.data)[0].device_state


def way_refused(start: DeviceState, end: DeviceState) -> Fault:
    def feature(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        if (self.device.state, wanted_state(request)) == (start, end):
            raise OSError(errno.EINVAL, "a fault")
        return right("device_feature", self, request, fds)

    name = f"{start.name}-to-{end.name}".lower().replace("_", "-")
    mistake = f"No way leads from {start.name} to {end.name}."
    return Fault(f"mig-state-{name}-refused", mistake, responder=method("device_feature", feature))


def _settable(name: str, mistake: str, *states: int) -> Fault:
    when = {*states}
    responder = accept("device_feature", lambda request: request, lambda request: wanted_state(request) in when)
    return Fault(name, mistake, responder=responder)


def _longer_way(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    if (self.device.state, wanted_state(request)) == (S.STOP_COPY, S.PRE_COPY):
        self.features.migration.go(S.STOP)
    return right("device_feature", self, request, fds)


def _taken(wrong: Callable[[str], bool]) -> type[Responder]:
    """Leaves RESUMING for STOP though the data are wrong, where ``wrong`` says so of the problem."""

    def feature(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        resuming, problem = self.device.state == S.RESUMING, self.features.migration._loading._problem
        try:
            return right("device_feature", self, request, fds)
        except OSError:
            if not resuming or wanted_state(request) != S.STOP or not wrong(problem):
                raise
            self.device.state = S.STOP
            return request, ()

    return method("device_feature", feature)


class _Doomed(Responder):
    """Goes to ERROR where data are wrong, and stays there."""

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        try:
            return super().device_feature(request, fds)
        except OSError:
            if self.device.state == S.RESUMING:
                self.device.state = S.ERROR
            raise

    def device_reset(self, request: None, fds: list[int]) -> Answer:
        state = self.device.state
        super().device_reset(request, fds)
        if state == S.ERROR:
            self.device.state = state
        return NOTHING


def _with_payload(data: bytes, fds: tuple[int, ...], answers: CommandReceived | None) -> tuple[bytes, tuple[int, ...]]:
    """Refused features carry the request, as libvfio-user's do."""
    message = wire.decode(data) if data else None
    if answers is None or message is None or not message.is_error or not answers.message.payload:
        return data, fds
    if answers.message.header.command != Command.DEVICE_FEATURE:
        return data, fds
    body = wire.encode_record(answers.message.payload)
    return wire.encode_record(message.header.replace(message_size=16 + len(body))) + body, fds


# Data.


def _few(self: Any, request: Any, fds: list[int]) -> Answer:
    """Takes only a part of what there is, and less than was asked for."""
    return right("mig_data_read", self, request.replace(size=min(request.size, 1000)), fds)


def _last_message(self: Any, request: Any, fds: list[int]) -> Answer:
    """Forgets what came before."""
    self.features.migration._end()
    return right("mig_data_write", self, request, fds)


def _more_than_asked(data: bytes, answers: CommandReceived) -> bytes:
    record = wire.decode(data).payload
    assert isinstance(record, MigDataReadReply)
    return payload(data, wire.encode_record(MigDataReadReply(data=record.data + bytes(64))))


def in_state(name: str, state: DeviceState, answer: Record | None) -> type[Responder]:
    """Answers a command in a state in which it is not allowed."""

    def anyway(self: Any, request: Any, fds: list[int]) -> Answer:
        return (answer, ()) if self.device.state == state else right(name, self, request, fds)

    return method(name, anyway)


class _OldState(Responder):
    """Takes data, and keeps the state that it had."""

    def device_feature(self, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        kept = self.device.save() if self.device.state == S.RESUMING else b""
        answer = super().device_feature(request, fds)
        if kept and self.device.state != S.RESUMING:
            self.device.load(kept)
        return answer


FAULTS: tuple[Fault, ...] = (
    Fault(
        "feature-probe-always",
        "Every probe succeeds.",
        responder=accept("device_feature", lambda r: r, lambda r: r.flags & PROBE),
    ),
    Fault(
        "feature-no-operation-accepted",
        "A request for nothing succeeds.",
        responder=accept("device_feature", lambda r: r, lambda r: not r.flags >> 16),
    ),
    Fault(
        "migration-without-stop-copy",
        "STOP_COPY is not offered.",
        responder=feature_answers(
            F.MIGRATION, GET, lambda r, data: wire.encode_record(FeatureMigration(flags=MigrationFlags.PRE_COPY))
        ),
    ),
    Fault(
        "migration-probe-answers-data",
        "A probe is answered like a get.",
        responder=feature_answers(F.MIGRATION, GET | PROBE, lambda r, data: bytes(8)),
    ),
    Fault(
        "feature-get-argsz-echoed",
        "argsz of the reply to a get is that of the request.",
        outgoing=outgoing(
            lambda data, to: (
                payload(data, wire.encode_record(to.message.payload)[:4] + data[20:]) if to.message.payload else data
            ),
            Command.DEVICE_FEATURE,
            error=False,
        ),
    ),
    Fault(
        "migration-refusal-with-payload",
        "A refused feature carries a payload (libvfio-user efd091b).",
        outgoing=_with_payload,
    ),
    _settable("migration-error-settable", "ERROR can be asked for.", S.ERROR),
    way_refused(S.RUNNING, S.STOP),
    way_refused(S.STOP, S.RUNNING),
    way_refused(S.STOP, S.STOP_COPY),
    way_refused(S.STOP_COPY, S.STOP),
    way_refused(S.STOP, S.RESUMING),
    way_refused(S.RUNNING, S.PRE_COPY),
    way_refused(S.PRE_COPY, S.RUNNING),
    way_refused(S.PRE_COPY, S.STOP_COPY),
    way_refused(S.RUNNING, S.STOP_COPY),
    way_refused(S.RUNNING, S.RESUMING),
    way_refused(S.STOP, S.PRE_COPY),
    way_refused(S.STOP_COPY, S.RUNNING),
    way_refused(S.STOP_COPY, S.RESUMING),
    way_refused(S.PRE_COPY, S.STOP),
    way_refused(S.PRE_COPY, S.RESUMING),
    Fault(
        "mig-state-always-running",
        "The state that is told is always RUNNING.",
        responder=feature_answers(F.MIG_DEVICE_STATE, GET, lambda r, data: b"\2" + data[1:]),
    ),
    Fault(
        "mig-state-set-reply-empty",
        "The reply to a set has no data.",
        responder=feature_answers(F.MIG_DEVICE_STATE, SET, lambda r, data: b""),
    ),
    _settable("mig-state-p2p-accepted", "RUNNING_P2P can be asked for.", S.RUNNING_P2P),
    _settable("mig-state-pre-copy-p2p-accepted", "PRE_COPY_P2P can be asked for.", S.PRE_COPY_P2P),
    _settable("mig-state-unknown-accepted", "States that the table lacks can be asked for.", 8),
    Fault(
        "mig-state-stop-copy-to-pre-copy-taken",
        "The way from STOP_COPY to PRE_COPY is taken.",
        responder=method("device_feature", _longer_way),
    ),
    Fault("mig-state-any-data-taken", "Nobody looks at data.", responder=_taken(lambda told: "incomplete" not in told)),
    Fault("mig-state-incomplete-taken", "The end is not missed.", responder=_taken(lambda told: "incomplete" in told)),
    Fault("mig-state-error-kept-by-reset", "Nothing leads out of ERROR.", responder=_Doomed),
    Fault(
        "mig-data-read-anywhere",
        "Data can be read when the device runs.",
        responder=in_state("mig_data_read", S.RUNNING, MigDataReadReply(data=b"1")),
    ),
    Fault(
        "mig-data-read-resuming",
        "Data can be read in RESUMING.",
        responder=in_state("mig_data_read", S.RESUMING, MigDataReadReply(data=b"1")),
    ),
    Fault(
        "mig-data-read-more-than-asked",
        "More is read than was asked for.",
        outgoing=outgoing(_more_than_asked, Command.MIG_DATA_READ, error=False),
    ),
    Fault(
        "mig-data-read-bytes-behind",
        "Bytes follow the data (libvfio-user efd091b).",
        outgoing=longer(Command.MIG_DATA_READ, 8),
    ),
    Fault(
        "mig-data-read-short-in-between",
        "A short read is not the end.",
        responder=method("mig_data_read", _few),
    ),
    Fault(
        "mig-data-write-anywhere",
        "Data can be written when the device runs.",
        responder=in_state("mig_data_write", S.RUNNING, None),
    ),
    Fault("mig-data-write-reply-count", "The reply has a payload.", outgoing=longer(Command.MIG_DATA_WRITE, 8)),
    Fault(
        "mig-data-write-argsz-checked",
        "argsz is to cover the data (libvfio-user efd091b).",
        responder=refuse("mig_data_write", errno.EINVAL, lambda r: r.argsz < r.fixed_size + r.size),
    ),
    Fault(
        "mig-data-write-last-message-only",
        "Every message is a whole state.",
        responder=method("mig_data_write", _last_message),
    ),
    Fault("mig-data-write-ignored", "Data do not become the state.", responder=_OldState),
)
