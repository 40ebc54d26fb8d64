"""Faults of argsz, of the edges of region info, and of features that are probed, got and set."""

import errno
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import wire
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.faults.kit import (
    Fault,
    accept,
    asks_for,
    crash,
    feature_answers,
    fields,
    instead,
    method,
    outgoing,
    payload,
    refuse,
    right,
    stuck,
)
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    IrqSetFlags,
    RegionInfoFlags,
)
from vfio_user_proto.responder import Answer, Responder

GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
F = DeviceFeature
REGION, FEATURE = Command.DEVICE_GET_REGION_INFO, Command.DEVICE_FEATURE
EVENTFD, MASK = IrqSetFlags.DATA_EVENTFD, IrqSetFlags.ACTION_MASK
BIG = 1 << 31
# What the test device has: the faults are about its edges.
MAPPABLE, ABSENT, EXTRA, ERR = 2, 1, 9, 3


def _roomy(name: str, when: Callable[[Any], Any] = lambda request: True) -> type[Responder]:
    """Does not look at the argsz of requests that ``when`` picks."""
    return instead(name, lambda request: request.replace(argsz=1 << 24) if when(request) else request)


# Regions.


def _areas(more: int) -> Callable[[DeviceGetRegionInfoReply], bytes]:
    """Another number of areas, where there are some."""

    def change(reply: DeviceGetRegionInfoReply) -> bytes:
        chain = reply.capabilities
        areas = int.from_bytes(chain[8:12], sys.byteorder)
        return chain[:8] + (areas + more).to_bytes(4, sys.byteorder) + chain[12:] if len(chain) > 24 else chain

    return change


def _bare(index: int, larger: int) -> Any:
    """The info of one region without capabilities, and with a size so many times its own."""

    def change(data: bytes, answers: CommandReceived) -> bytes:
        reply = wire.decode(data).payload
        assert isinstance(reply, DeviceGetRegionInfoReply)
        if reply.index != index:
            return data
        flags = reply.flags & ~RegionInfoFlags.CAPS
        other = reply.replace(argsz=32, cap_offset=0, capabilities=b"", flags=flags, size=reply.size * larger)
        return payload(data, wire.encode_record(other))

    return outgoing(change, REGION, error=False)


# Features.


def _refused(what: str, feature: DeviceFeature, operations: int) -> Fault:
    wrong = refuse("device_feature", errno.ENOTTY, asks_for(feature, operations | PROBE))
    return Fault(f"probe-{what}-refused", "A probe for what is there is refused.", responder=wrong)


def _echo(request: DeviceFeatureRequest) -> DeviceFeatureRequest:
    return request


def _succeeds(what: str, feature: DeviceFeature, operations: int) -> Fault:
    wrong = accept("device_feature", _echo, asks_for(feature, operations | PROBE))
    return Fault(f"probe-{what}-succeeds", "A probe for what is not there succeeds.", responder=wrong)


def _done(what: str, feature: int, operations: int) -> Fault:
    wrong = accept("device_feature", _echo, lambda request: int(request.flags) == feature | operations)
    return Fault(f"feature-{what}-succeeds", "What does nothing succeeds.", responder=wrong)


def _carried_out(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
    answer = right("device_feature", self, request, fds)
    if asks_for(F.MIG_DEVICE_STATE, SET | PROBE)(request) and request.data:
        right("device_feature", self, request.replace(flags=request.flags & ~PROBE), fds)
    return answer


FAULTS: tuple[Fault, ...] = (
    Fault("region-areas-miscounted", "nr_areas counts from 0.", outgoing=fields(REGION, capabilities=_areas(-1))),
    Fault("region-areas-overcounted", "An empty area ends the list.", outgoing=fields(REGION, capabilities=_areas(1))),
    Fault("region-file-shorter", "The file ends where the areas do.", outgoing=_bare(MAPPABLE, 2)),
    Fault("region-without-type", "A region of the device's own has no type.", outgoing=_bare(EXTRA, 1)),
    Fault(
        "region-info-cut-in-the-first-crash",
        "A capability is cut behind its header only.",
        responder=crash("device_get_region_info", lambda request: 32 < request.argsz < 40),
    ),
    Fault(
        "absent-region-crash",
        "Every region has a device behind it.",
        responder=crash("region_read", lambda request: request.region == ABSENT),
    ),
    Fault(
        "region-info-argsz-largest-refused",
        "argsz is positive.",
        responder=refuse("device_get_region_info", errno.EINVAL, lambda request: request.argsz >= BIG),
    ),
    Fault(
        "region-info-cap-offset-believed",
        "cap_offset of a request points into it.",
        responder=crash("device_get_region_info", lambda request: request.cap_offset),
    ),
    Fault(
        "irq-flag-eventfd-in-vain",
        "Only message-signalled interrupts take eventfds.",
        responder=refuse("device_set_irqs", errno.EINVAL, lambda r: r.index == ERR and r.flags & EVENTFD),
    ),
    Fault(
        "irq-flag-maskable-in-vain",
        "Message-signalled interrupts are masked in their table.",
        responder=refuse("device_set_irqs", errno.EINVAL, lambda r: r.flags & MASK),
    ),
    Fault(
        "feature-argsz-ignored",
        "There is room for what a device can do.",
        responder=_roomy("device_feature", asks_for(F.MIGRATION, GET)),
    ),
    Fault(
        "log-report-argsz-ignored",
        "There is room for every bitmap.",
        responder=_roomy("device_feature", asks_for(F.DMA_LOGGING_REPORT, GET)),
    ),
    Fault("mig-data-read-argsz-ignored", "size says all there is to say.", responder=_roomy("mig_data_read")),
    Fault(
        "device-info-argsz-zero-crash",
        "argsz has room for itself.",
        responder=crash("device_get_info", lambda request: not request.argsz),
    ),
    Fault(
        "region-info-argsz-zero-crash",
        "argsz has room for itself.",
        responder=crash("device_get_region_info", lambda request: not request.argsz),
    ),
    Fault(
        "irq-info-argsz-largest-refused",
        "argsz is positive.",
        responder=refuse("device_get_irq_info", errno.EINVAL, lambda request: request.argsz >= BIG),
    ),
    Fault(
        "io-fds-fixed-part-refused",
        "There is room for one record at least.",
        responder=refuse("device_get_region_io_fds", errno.EINVAL, lambda request: request.argsz == 16),
    ),
    Fault(
        "irq-info-index-signed",
        "An index is a signed number.",
        responder=crash("device_get_irq_info", lambda request: request.index >= BIG),
    ),
    Fault(
        "io-fds-index-signed",
        "An index is a signed number.",
        responder=crash("device_get_region_io_fds", lambda request: request.index >= BIG),
    ),
    Fault(
        "feature-argsz-largest-hangs",
        "Room is cleared before it is used.",
        responder=stuck("device_feature", lambda request: request.argsz >= BIG and asks_for(F.MIGRATION, GET)(request)),
    ),
    _refused("migration", F.MIGRATION, 0),
    _refused("state", F.MIG_DEVICE_STATE, GET | SET),
    _refused("log-report", F.DMA_LOGGING_REPORT, GET),
    _succeeds("migration-set", F.MIGRATION, SET),
    _succeeds("migration-get-and-set", F.MIGRATION, GET | SET),
    _succeeds("log-start-get", F.DMA_LOGGING_START, GET),
    _succeeds("log-stop-get", F.DMA_LOGGING_STOP, GET | SET),
    _succeeds("log-report-set", F.DMA_LOGGING_REPORT, SET),
    Fault("probe-carried-out", "A probe does what it asks for.", responder=method("device_feature", _carried_out)),
    _done("get-of-nothing", 0x7FFF, GET),
    _done("set-of-nothing", 0x7FFF, SET),
    _done("set-of-migration", F.MIGRATION, SET),
    _done("get-of-log-start", F.DMA_LOGGING_START, GET),
    _done("set-of-log-report", F.DMA_LOGGING_REPORT, SET),
    _done("get-and-set", F.MIG_DEVICE_STATE, GET | SET),
    Fault(
        "feature-undefined-flags-crash",
        "Operations are known.",
        responder=crash("device_feature", lambda request: int(request.flags) >> 19),
    ),
    Fault(
        "feature-state-of-four-bytes",
        "data_fd has no use, and is not sent.",
        responder=feature_answers(F.MIG_DEVICE_STATE, GET, lambda request, data: data[:4]),
    ),
    Fault(
        "feature-get-without-flags",
        "The reply says which feature it is, not what was done.",
        outgoing=fields(FEATURE, flags=lambda reply: reply.flags if reply.flags & PROBE else reply.flags & ~GET),
    ),
)
