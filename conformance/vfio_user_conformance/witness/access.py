"""Checks of the commands that use the device: region access, reset, features, migration."""

from vfio_user_conformance.witness.check import Check, none_of, of
from vfio_user_conformance.witness.seen import Known, Seen
from vfio_user_conformance.words import plural
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceWrite,
    FeatureDmaLoggingReport,
    MigDataWriteRequest,
    RegionInfoFlags,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)
from vfio_user_proto.wire import decode_record

_GET, _SET, _PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE


# Regions.


def _limit(now: Seen, known: Known) -> str | None:
    if not now.is_command or not isinstance(now.payload, RegionReadRequest | RegionWriteRequest):
        return None
    most = 1048576 if known.agreed is None else known.agreed.max_data_xfer_size
    return f"count is {now.payload.count}, max_data_xfer_size is {most}" if now.payload.count > most else ""


def _range(now: Seen, known: Known) -> str | None:
    request = now.payload
    if not now.is_command or not isinstance(request, RegionReadRequest | RegionWriteRequest) or known.device is None:
        return None
    if request.region >= known.device.num_regions:
        return f"region {request.region} does not exist"
    region = known.regions.get(request.region)
    if region is None:
        return None
    way = RegionInfoFlags.READ if isinstance(request, RegionReadRequest) else RegionInfoFlags.WRITE
    if not region.flags & way:
        return f"region {request.region} does not allow {now.name}"
    if request.offset + request.count > region.size:
        return f"{request.count} bytes at {request.offset:#x} of region {request.region}, which has {region.size:#x}"
    return ""


def _write_data(now: Seen, known: Known) -> str | None:
    if not now.is_command or not now.whole or now.header.command != Command.REGION_WRITE:
        return None
    if isinstance(now.payload, RegionWriteRequest) and not now.trailing:
        return ""
    return f"{plural(len(now.body), 'byte')} of payload" + (
        f": {now.problem}" if now.problem else ", more than count says"
    )


def _multi_count(now: Seen, known: Known) -> str | None:
    if not now.is_command or not now.whole or now.header.command != Command.REGION_WRITE_MULTI:
        return None
    if not isinstance(now.payload, RegionWriteMultiRequest) or now.trailing:
        return f"{plural(len(now.body), 'byte')} of payload, which 8 + {DeviceWrite.fixed_size} times wr_cnt are not"
    largest = max((write.count for write in now.payload.wrs), default=0)
    return f"a record has a count of {largest}" if largest > 8 else ""


def _multi_agreed(now: Seen, known: Known) -> str | None:
    if not now.is_command or now.header.command != Command.REGION_WRITE_MULTI:
        return None
    return "" if known.agreed and known.agreed.write_multiple else "the server did not state write_multiple"


def _reset(now: Seen, known: Known) -> str | None:
    if not now.is_command or not now.whole or now.header.command != Command.DEVICE_RESET:
        return None
    return f"{plural(len(now.body), 'byte')} of payload" if now.body else ""


# Features.


def _one_operation(request: DeviceFeatureRequest, now: Seen, known: Known) -> str | None:
    if request.flags & _PROBE:
        return None
    if bool(request.flags & _GET) != bool(request.flags & _SET):
        return ""
    return f"flags {int(request.flags):#x} ask for both get and set, or for neither"


def _no_data(request: DeviceFeatureRequest, now: Seen, known: Known) -> str | None:
    index = int(request.flags & DeviceFeatureFlags.INDEX)
    get = request.flags & _GET and index != DeviceFeature.DMA_LOGGING_REPORT
    if not (request.flags & _PROBE or get):
        return None
    return f"{plural(len(request.data), 'byte')} of data" if request.data else ""


def _report_pages(request: DeviceFeatureRequest, now: Seen, known: Known) -> str | None:
    index = int(request.flags & DeviceFeatureFlags.INDEX)
    if index != DeviceFeature.DMA_LOGGING_REPORT or not request.flags & _GET or request.flags & _PROBE:
        return None
    try:
        size = decode_record(FeatureDmaLoggingReport, request.data)[0].page_size
    except DecodeError as problem:
        return str(problem)
    return "" if size.bit_count() == 1 else f"page_size is {size}"


def _mig_argsz(request: MigDataWriteRequest, now: Seen, known: Known) -> str:
    due = MigDataWriteRequest.fixed_size + request.size
    return "" if request.argsz == due else f"argsz is {request.argsz}, 8 + size is {due}"


_NO_FEATURE = none_of(Command.DEVICE_FEATURE)
_NO_ACCESS = f"{none_of(Command.REGION_READ)}, and {none_of(Command.REGION_WRITE)}"
_NO_MULTI = none_of(Command.REGION_WRITE_MULTI)

CHECKS = (
    Check(
        "region-access/limit",
        "read-write.limit",
        "a count of at most max_data_xfer_size",
        _limit,
        _NO_ACCESS,
        ("read-too-much",),
    ),
    Check(
        "region-access/range",
        "read-write.bad-range",
        "bytes inside a region that allows it",
        _range,
        f"{_NO_ACCESS}, to a region that was asked about",
        ("read-beyond-region",),
    ),
    Check(
        "region-write/data",
        "region-write.data",
        "16 + count bytes of payload",
        _write_data,
        none_of(Command.REGION_WRITE),
        ("write-data-cut",),
    ),
    Check(
        "write-multi/count",
        "write-multi.count",
        "8 + 24 times wr_cnt bytes, and counts of at most 8",
        _multi_count,
        _NO_MULTI,
        ("multi-count-9", "multi-cut"),
    ),
    Check(
        "write-multi/agreed",
        "version.write-multiple",
        "sent only where the server stated write_multiple",
        _multi_agreed,
        _NO_MULTI,
        ("multi-not-agreed",),
    ),
    Check(
        "reset/empty", "reset.empty", "a header alone", _reset, none_of(Command.DEVICE_RESET), ("reset-with-payload",)
    ),
    Check(
        "feature/one-operation",
        "feature.one-operation",
        "one of get and set, where nothing is probed",
        of(DeviceFeatureRequest, _one_operation),
        f"{_NO_FEATURE} that was no probe",
        ("feature-get-and-set",),
    ),
    Check(
        "feature/no-data",
        "feature.probe-no-data",
        "no data with a probe or a get",
        of(DeviceFeatureRequest, _no_data),
        f"{_NO_FEATURE} that was a probe or a get",
        ("probe-with-data",),
    ),
    Check(
        "feature/report-pages",
        "dma-logging.report-page-size",
        "a power of two",
        of(DeviceFeatureRequest, _report_pages),
        "no report of logged pages was asked for",
        ("report-page-size-3",),
    ),
    Check(
        "mig-data-write/argsz",
        "mig-data-write.argsz",
        "argsz is 8 + size",
        of(MigDataWriteRequest, _mig_argsz),
        none_of(Command.MIG_DATA_WRITE),
        ("mig-argsz",),
    ),
)
