"""Messages to begin with, for these fuzzers and others: some of every kind from the schemas, and hand-written odd ones."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import construct

from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import (
    FEATURES,
    REPLIES,
    REQUESTS,
    CapabilityHeader,
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceSetIrqsRequest,
    DmaMapFlags,
    DmaMapRequest,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    HeaderFlags,
    IrqSetFlags,
    MessageType,
    RegionCapability,
    RegionInfoFlags,
    RegionReadRequest,
    RegionType,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    SparseMmap,
    SparseMmapArea,
    VersionRequest,
)
from vfio_user_proto.model import Flags, Many, Record, Row, Strided

_TOP: Final = (1 << 64) - 1
_REPLY: Final = int(MessageType.REPLY)
_BOTH: Final = DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE


def corpus() -> dict[str, bytes]:
    """Every message of the corpus by its name, which says what it is."""
    messages = dict(_from_schemas())
    messages.update(_by_hand())
    return messages


def write(folder: str | os.PathLike[str]) -> int:
    """Write the corpus as one file per message, NAME.bin; returns how many. Raises UsageError."""
    messages = corpus()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in messages.items():
            (Path(folder) / f"{name}.bin").write_bytes(data)
    except OSError as error:
        raise UsageError(f"{error.filename or os.fspath(folder)}: {error.strerror}") from None
    return len(messages)


def _from_schemas() -> Iterator[tuple[str, bytes]]:
    """Each command and reply with nothing filled in, and with all filled in."""
    for table, kind in ((REQUESTS, MessageType.COMMAND), (REPLIES, MessageType.REPLY)):
        for code, record in table.items():
            name = f"{_words(Command(code).name)}-{_words(kind.name)}"
            if record is None:
                yield name, craft(code, kind=kind)
                continue
            yield f"{name}-empty", craft(code, record(), kind=kind)
            for variant, value in _full(record):
                yield f"{name}-full{variant}", craft(code, value, kind=kind)
    for code, record in FEATURES.items():
        flags = DeviceFeatureFlags.SET | DeviceFeatureFlags.GET | code
        for variant, value in _full(record):
            feature = DeviceFeatureRequest(flags=flags, data=wire.encode_record(value))
            yield f"device-feature-{_words(DeviceFeature(code).name)}{variant}", craft(Command.DEVICE_FEATURE, feature)


def _words(name: str) -> str:
    return name.lower().replace("_", "-")


def _full(record: type[Record]) -> Iterator[tuple[str, Record]]:
    """``record`` with something in every field: one for each stride of its entries where it has such."""
    fields = {key: _something(key, row) for key, row in record.rows.items() if not (row.counts or row.measures)}
    holds = record.rows[record.tail].holds if record.tail else None
    if not isinstance(holds, Strided):
        yield "", record(**{**fields, **_KNOWN_CONTENT.get(record, {})})
        return
    for stride in sorted({size for size, _ in holds.records}):
        entries = [
            next(_full(part))[1].replace(**{holds.selector: code})
            for (size, code), part in holds.records.items()
            if size == stride
        ]
        yield f"-stride-{stride}", record(**{**fields, str(record.tail): tuple(entries)})


def _something(key: str, row: Row) -> Any:
    """A value that is not zero and may well be right."""
    holds = row.holds
    if isinstance(holds, Flags):
        return sum({int(bits) for bits in holds.bits.__members__.values() if not int(bits) & int(bits) - 1})
    if row.codes is not None:
        return int(next(iter(row.codes)))
    if isinstance(holds, Many):
        return (next(_full(holds.record))[1],) * 2
    if isinstance(holds, construct.FormatField):
        return 0 if key in ("region", "index", "version_major") else 1 if key in ("count", "version_minor") else 0x1000
    return b"" if isinstance(holds, Strided) else bytes(range(16))


_KNOWN_CONTENT: Final[Mapping[type[Record], Mapping[str, Any]]] = {
    VersionRequest: {"version_data": Capabilities(max_msg_fds=8).to_data()},
    DeviceFeatureRequest: {"flags": DeviceFeatureFlags.PROBE | DeviceFeatureFlags.GET | DeviceFeature.MIGRATION},
    DeviceSetIrqsRequest: {"flags": IrqSetFlags.DATA_BOOL | IrqSetFlags.ACTION_TRIGGER, "count": 16},
}


def _capabilities(*parts: tuple[int, Record, int]) -> bytes:
    """Capabilities behind one another; each (id, record, next) with ``next`` as it is to be written."""
    return b"".join(
        wire.encode_record(CapabilityHeader(id=code, version=1, next=following)) + wire.encode_record(record)
        for code, record, following in parts
    )


def _region_info(capabilities: bytes) -> bytes:
    flags = RegionInfoFlags.READ | RegionInfoFlags.WRITE | RegionInfoFlags.MMAP | RegionInfoFlags.CAPS
    reply = DeviceGetRegionInfoReply(flags=flags, cap_offset=32, size=0x2000, capabilities=capabilities)
    return craft(Command.DEVICE_GET_REGION_INFO, reply, kind=_REPLY)


def _version(data: bytes) -> bytes:
    return craft(Command.VERSION, VersionRequest(version_minor=1, version_data=data))


def _by_hand() -> Iterator[tuple[str, bytes]]:
    """Messages that break one thing each, and some that are right and rare."""
    info = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
    sparse = SparseMmap(areas=(SparseMmapArea(size=0x1000), SparseMmapArea(offset=0x1800, size=0x800)))
    yield "header-cut", info[:15]
    yield "header-size-0", craft(Command.DEVICE_RESET, message_size=0)
    yield "header-size-15", craft(Command.DEVICE_RESET, message_size=15)
    yield "header-size-4-gib", craft(Command.DEVICE_RESET, message_size=(1 << 32) - 1)
    yield "header-size-one-less", craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_size=31)
    yield "header-size-one-more", craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_size=33)
    yield "header-type-2", craft(Command.DEVICE_RESET, flags=2)
    yield "header-all-flags", craft(Command.DEVICE_RESET, flags=(1 << 32) - 1)
    yield "header-unknown-bits", craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), flags=0xFFFFFF80)
    yield "header-command-0", craft(0)
    yield "header-command-14-not-in-the-table", craft(14)
    yield "header-command-65535", craft(0xFFFF)
    yield "header-reply-that-nobody-asked-for", craft(Command.DEVICE_RESET, kind=_REPLY)
    yield "header-error-reply", craft(Command.DMA_MAP, flags=_REPLY | HeaderFlags.ERROR, error=17)
    yield "header-error-without-number", craft(Command.DMA_MAP, flags=_REPLY | HeaderFlags.ERROR)
    yield "header-no-reply", craft(Command.DEVICE_RESET, no_reply=True)
    yield "two-messages", info + craft(Command.DEVICE_RESET, message_id=1)
    yield "version-without-data", _version(b"")
    yield "version-not-terminated", _version(b"{}")
    yield "version-nul-inside", _version(b'{"capabilities":\0{}}\0')
    yield "version-not-json", _version(b"capabilities\0")
    yield "version-not-utf-8", _version(b'{"capabilities":{"\xff":1}}\0')
    yield "version-not-an-object", _version(b"[]\0")
    yield "version-deep", _version(b'{"a":' * 500 + b"1" + b"}" * 500 + b"\0")
    yield "version-negative-number", _version(b'{"capabilities":{"max_msg_fds":-1}}\0')
    yield "version-huge-number", _version(b'{"capabilities":{"max_data_xfer_size":' + b"9" * 400 + b"}}\0")
    yield "version-number-as-text", _version(b'{"capabilities":{"pgsizes":"4096"}}\0')
    yield "version-name-twice", _version(b'{"capabilities":{"max_msg_fds":1,"max_msg_fds":2}}\0')
    yield "dma-map-wraps", craft(Command.DMA_MAP, DmaMapRequest(flags=_BOTH, address=_TOP - 0xFFF, size=0x2000))
    yield "dma-map-size-0", craft(Command.DMA_MAP, DmaMapRequest(flags=_BOTH, address=0x1000))
    yield "dma-map-everything", craft(Command.DMA_MAP, DmaMapRequest(flags=_BOTH, size=_TOP))
    yield "region-info-argsz-0", craft(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(argsz=0))
    yield "region-info-index-large", craft(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(index=1 << 31))
    yield "region-info-sparse", _region_info(_capabilities((RegionCapability.SPARSE_MMAP, sparse, 0)))
    yield (
        "region-info-two-capabilities",
        _region_info(
            _capabilities(
                (RegionCapability.SPARSE_MMAP, sparse, 32 + 8 + 40), (RegionCapability.TYPE, RegionType(type=1), 0)
            )
        ),
    )
    yield "region-info-capability-circle", _region_info(_capabilities((RegionCapability.SPARSE_MMAP, sparse, 32)))
    yield (
        "region-info-areas-that-are-not-there",
        _region_info(_capabilities((RegionCapability.SPARSE_MMAP, SparseMmap(nr_areas=(1 << 32) - 1), 0))),
    )
    yield (
        "region-io-fds-count-without-entries",
        craft(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsReply(argsz=16 + 40 * 3, count=3), kind=_REPLY),
    )
    yield (
        "region-io-fds-count-large",
        craft(
            Command.DEVICE_GET_REGION_IO_FDS,
            DeviceGetRegionIoFdsReply(argsz=96, count=1 << 31),
            kind=_REPLY,
            extra=bytes(80),
        ),
    )
    yield (
        "set-irqs-range-wraps",
        craft(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=IrqSetFlags(0x21), start=(1 << 32) - 1, count=2)),
    )
    yield "set-irqs-all-flags", craft(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=IrqSetFlags(0x3F), count=1))
    yield (
        "set-irqs-data-missing",
        craft(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=IrqSetFlags(0x22), count=1)),
    )
    yield "region-read-4-gib", craft(Command.REGION_READ, RegionReadRequest(count=(1 << 32) - 1))
    yield "region-read-wraps", craft(Command.REGION_READ, RegionReadRequest(offset=_TOP - 3, count=8))
    yield "region-read-nothing", craft(Command.REGION_READ, RegionReadRequest())
    yield "region-write-count-lies", craft(Command.REGION_WRITE, RegionWriteRequest(count=64, data=bytes(4)))
    yield "region-write-multi-count-wraps", craft(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wr_cnt=1 << 60))
    logging = FeatureDmaLoggingStart(page_size=4096, num_ranges=(1 << 32) - 1)
    report = FeatureDmaLoggingReport(length=_TOP, page_size=1)
    for name, record, code in (
        ("dma-logging-ranges-that-are-not-there", logging, DeviceFeature.DMA_LOGGING_START),
        ("dma-logging-report-of-everything", report, DeviceFeature.DMA_LOGGING_REPORT),
    ):
        flags = DeviceFeatureFlags.SET if record is logging else DeviceFeatureFlags.GET
        feature = DeviceFeatureRequest(flags=flags | code, data=wire.encode_record(record))
        yield name, craft(Command.DEVICE_FEATURE, feature)
