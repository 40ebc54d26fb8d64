# GENERATED from spec/vfio-user.rst and spec/overlay/vfio-user.toml by "vfio-user spec generate"; do not edit.
"""The vfio-user protocol, version 0.9.2: every table of the document as a declaration."""

from collections.abc import Mapping

from construct import Bytes, GreedyBytes, Int16un, Int32un, Int64un, this

from vfio_user_proto.model import Bits, Codes, Flags, JsonMember, JsonTable, Many, Record, Strided, ValueTable, row

VERSION = "0.9.2"


class Command(Codes, section="Commands", prefix="VFIO_USER_", columns=("Name", "Command", "Request Direction")):
    """Commands."""

    VERSION = 1, "client -> server"
    DMA_MAP = 2, "client -> server"
    DMA_UNMAP = 3, "client -> server"
    DEVICE_GET_INFO = 4, "client -> server"
    DEVICE_GET_REGION_INFO = 5, "client -> server"
    DEVICE_GET_REGION_IO_FDS = 6, "client -> server"
    DEVICE_GET_IRQ_INFO = 7, "client -> server"
    DEVICE_SET_IRQS = 8, "client -> server"
    REGION_READ = 9, "client -> server"
    REGION_WRITE = 10, "client -> server"
    DMA_READ = 11, "server -> client"
    DMA_WRITE = 12, "server -> client"
    DEVICE_RESET = 13, "client -> server"
    REGION_WRITE_MULTI = 15, "client -> server"
    DEVICE_FEATURE = 16, "client -> server"
    MIG_DATA_READ = 17, "client -> server"
    MIG_DATA_WRITE = 18, "client -> server"


class HeaderFlags(Bits, section="Header", labels={"TYPE": "Type", "NO_REPLY": "No_reply", "ERROR": "Error"}):
    """Header, bits of Flags."""

    TYPE = 0xF
    NO_REPLY = 1 << 4
    ERROR = 1 << 5


class Header(Record, section="Header", payload="<message data>"):
    """Header."""

    message_id: int = row(0, Int16un, "Message ID")
    command: int = row(2, Int16un, "Command", codes=Command)
    message_size: int = row(4, Int32un, "Message size")
    flags: HeaderFlags = row(8, Flags(Int32un, HeaderFlags), "Flags")
    error: int = row(12, Int32un, "Error")


class MessageType(
    Codes, section="Type values", labels={"COMMAND": "Command", "REPLY": "Reply"}, columns=("Name", "Value")
):
    """Type values."""

    COMMAND = 0
    REPLY = 1


class VersionRequest(Record, section="VFIO_USER_VERSION / Request"):
    """VFIO_USER_VERSION, Request; the reply has the same format."""

    version_major: int = row(0, Int16un, "version major")
    version_minor: int = row(2, Int16un, "version minor")
    version_data: bytes = row(4, GreedyBytes, "version data", note="(including terminating NUL). Optional.")


class DmaMapFlags(
    Bits, section="VFIO_USER_DMA_MAP / Request", labels={"READABLE": "readable", "WRITEABLE": "writeable"}
):
    """VFIO_USER_DMA_MAP, Request, bits of flags."""

    READABLE = 1 << 0
    WRITEABLE = 1 << 1


class DmaMapRequest(Record, section="VFIO_USER_DMA_MAP / Request"):
    """VFIO_USER_DMA_MAP, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DmaMapFlags = row(4, Flags(Int32un, DmaMapFlags))
    offset: int = row(8, Int64un)
    address: int = row(16, Int64un)
    size: int = row(24, Int64un)


class DmaUnmapRequest(Record, section="VFIO_USER_DMA_UNMAP / Request"):
    """VFIO_USER_DMA_UNMAP, Request; the reply has the same format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    address: int = row(8, Int64un)
    size: int = row(16, Int64un)


class DeviceFlags(Bits, section="VFIO_USER_DEVICE_GET_INFO / Request", prefix="VFIO_DEVICE_FLAGS_"):
    """VFIO_USER_DEVICE_GET_INFO, Request, bits of flags."""

    RESET = 1 << 0
    PCI = 1 << 1


class DeviceGetInfoRequest(Record, section="VFIO_USER_DEVICE_GET_INFO / Request"):
    """VFIO_USER_DEVICE_GET_INFO, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DeviceFlags = row(4, Flags(Int32un, DeviceFlags))
    num_regions: int = row(8, Int32un)
    num_irqs: int = row(12, Int32un)


class DeviceGetInfoReply(Record, section="VFIO_USER_DEVICE_GET_INFO / Reply"):
    """VFIO_USER_DEVICE_GET_INFO, Reply."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DeviceFlags = row(4, Flags(Int32un, DeviceFlags))
    num_regions: int = row(8, Int32un)
    num_irqs: int = row(12, Int32un)


class PciRegion(
    Codes,
    section="VFIO_USER_DEVICE_GET_REGION_INFO / PCI region indexes",
    prefix="VFIO_PCI_",
    suffix="_REGION_INDEX",
    columns=("Name", "Value"),
):
    """PCI region indexes."""

    BAR0 = 0
    BAR1 = 1
    BAR2 = 2
    BAR3 = 3
    BAR4 = 4
    BAR5 = 5
    ROM = 6
    CONFIG = 7
    VGA = 8


class DeviceGetRegionInfoRequest(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Request"):
    """VFIO_USER_DEVICE_GET_REGION_INFO, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    index: int = row(8, Int32un)
    cap_offset: int = row(12, Int32un)
    size: int = row(16, Int64un)
    offset: int = row(24, Int64un)


class RegionInfoFlags(Bits, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply", prefix="VFIO_REGION_INFO_FLAG_"):
    """VFIO_USER_DEVICE_GET_REGION_INFO, Reply, bits of flags."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class DeviceGetRegionInfoReply(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply"):
    """VFIO_USER_DEVICE_GET_REGION_INFO, Reply."""

    argsz: int = row(0, Int32un, measures=True)
    flags: RegionInfoFlags = row(4, Flags(Int32un, RegionInfoFlags))
    index: int = row(8, Int32un)
    cap_offset: int = row(12, Int32un)
    size: int = row(16, Int64un)
    offset: int = row(24, Int64un)
    # The table describes the fixed part only; capabilities follow at cap_offset.
    capabilities: bytes = row(32, GreedyBytes, added=True)


class RegionCapability(
    Codes,
    section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region capability ids",
    prefix="VFIO_REGION_INFO_CAP_",
    columns=("Name", "Value"),
):
    """VFIO region capability ids."""

    SPARSE_MMAP = 1
    TYPE = 2
    MSIX_MAPPABLE = 3


class CapabilityHeader(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO cap header format"):
    """VFIO cap header format."""

    id: int = row(0, Int16un, codes=RegionCapability)
    version: int = row(2, Int16un)
    next: int = row(4, Int32un)


class SparseMmapArea(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap sparse mmap"):
    """One of the areas of VFIO region info cap sparse mmap."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)


class SparseMmap(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap sparse mmap"):
    """VFIO region info cap sparse mmap."""

    nr_areas: int = row(0, Int32un, counts="areas")
    reserved: int = row(4, Int32un)
    areas: tuple[SparseMmapArea, ...] = row(8, Many(this.nr_areas, SparseMmapArea), "...")


class RegionType(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap type"):
    """VFIO region info cap type."""

    type: int = row(0, Int32un)
    subtype: int = row(4, Int32un)


class DeviceGetRegionIoFdsRequest(Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Request"):
    """VFIO_USER_DEVICE_GET_REGION_IO_FDS, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    index: int = row(8, Int32un)
    count: int = row(12, Int32un)


class IoFdType(
    Codes,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD types",
    prefix="VFIO_USER_IO_FD_TYPE_",
    columns=("Name", "Value"),
):
    """Sub-Region IO FD types."""

    IOEVENTFD = 0
    IOREGIONFD = 1
    IOEVENTFD_SHADOW = 2


class IoeventfdFlags(
    Bits,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)",
    prefix="KVM_IOEVENTFD_FLAG_",
):
    """Sub-Region IO FD info format (ioeventfd), bits of flags."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    VIRTIO_CCW_NOTIFY = 1 << 3


class IoeventfdSubRegion(
    Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioeventfd)"
):
    """Sub-Region IO FD info format (ioeventfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoeventfdFlags = row(24, Flags(Int32un, IoeventfdFlags))
    padding: int = row(28, Int32un)
    datamatch: int = row(32, Int64un)


class IoregionFlags(
    Bits,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)",
    prefix="KVM_IOREGION_",
):
    """Sub-Region IO FD info format (ioregionfd), bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1


class IoregionfdSubRegion(
    Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (ioregionfd)"
):
    """Sub-Region IO FD info format (ioregionfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoregionFlags = row(24, Flags(Int32un, IoregionFlags))
    padding: int = row(28, Int32un)
    user_data: int = row(32, Int64un)


class ShadowIoeventfdSubRegion(
    Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply / Sub-Region IO FD info format (shadow ioeventfd)"
):
    """Sub-Region IO FD info format (shadow ioeventfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoeventfdFlags = row(24, Flags(Int32un, IoeventfdFlags))
    shadow_mem_fd_index: int = row(28, Int32un)
    shadow_offset: int = row(32, Int64un)
    datamatch: int = row(40, Int64un)


SubRegion = IoeventfdSubRegion | IoregionfdSubRegion | ShadowIoeventfdSubRegion
SUB_REGIONS: Mapping[tuple[int, int], type[SubRegion]] = {
    (40, IoFdType.IOEVENTFD): IoeventfdSubRegion,
    (40, IoFdType.IOREGIONFD): IoregionfdSubRegion,
    (48, IoFdType.IOEVENTFD): ShadowIoeventfdSubRegion,
    (48, IoFdType.IOEVENTFD_SHADOW): ShadowIoeventfdSubRegion,
}


class DeviceGetRegionIoFdsReply(Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Reply"):
    """VFIO_USER_DEVICE_GET_REGION_IO_FDS, Reply."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    index: int = row(8, Int32un)
    count: int = row(12, Int32un, counts="sub_regions")
    sub_regions: tuple[SubRegion | bytes, ...] = row(
        16, Strided(this.argsz - 16, this.count, "type", SUB_REGIONS), "sub-regions"
    )


class PciIrq(
    Codes,
    section="VFIO_USER_DEVICE_GET_IRQ_INFO / PCI interrupt indexes",
    prefix="VFIO_PCI_",
    suffix="_IRQ_INDEX",
    columns=("Name", "Value"),
):
    """PCI interrupt indexes."""

    INTX = 0
    MSI = 1
    MSIX = 2
    ERR = 3
    REQ = 4


class IrqInfoFlags(Bits, section="VFIO_USER_DEVICE_GET_IRQ_INFO / Request", prefix="VFIO_IRQ_INFO_"):
    """VFIO_USER_DEVICE_GET_IRQ_INFO, Request, bits of flags."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class DeviceGetIrqInfoRequest(Record, section="VFIO_USER_DEVICE_GET_IRQ_INFO / Request"):
    """VFIO_USER_DEVICE_GET_IRQ_INFO, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: IrqInfoFlags = row(4, Flags(Int32un, IrqInfoFlags))
    index: int = row(8, Int32un)
    count: int = row(12, Int32un)


class DeviceGetIrqInfoReply(Record, section="VFIO_USER_DEVICE_GET_IRQ_INFO / Reply"):
    """VFIO_USER_DEVICE_GET_IRQ_INFO, Reply."""

    argsz: int = row(0, Int32un, measures=True)
    flags: IrqInfoFlags = row(4, Flags(Int32un, IrqInfoFlags))
    index: int = row(8, Int32un)
    count: int = row(12, Int32un)


class IrqSetFlags(Bits, section="VFIO_USER_DEVICE_SET_IRQS / Request", prefix="VFIO_IRQ_SET_"):
    """VFIO_USER_DEVICE_SET_IRQS, Request, bits of flags."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class DeviceSetIrqsRequest(Record, section="VFIO_USER_DEVICE_SET_IRQS / Request"):
    """VFIO_USER_DEVICE_SET_IRQS, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: IrqSetFlags = row(4, Flags(Int32un, IrqSetFlags))
    index: int = row(8, Int32un)
    start: int = row(12, Int32un)
    count: int = row(16, Int32un)
    data: bytes = row(20, GreedyBytes)


class RegionReadRequest(Record, section="VFIO_USER_REGION_READ / Request"):
    """VFIO_USER_REGION_READ, Request."""

    offset: int = row(0, Int64un)
    region: int = row(8, Int32un)
    count: int = row(12, Int32un)


class RegionReadReply(Record, section="VFIO_USER_REGION_READ / Reply"):
    """VFIO_USER_REGION_READ, Reply."""

    offset: int = row(0, Int64un)
    region: int = row(8, Int32un)
    count: int = row(12, Int32un, counts="data")
    data: bytes = row(16, Bytes(this.count))


class RegionWriteRequest(Record, section="VFIO_USER_REGION_WRITE / Request"):
    """VFIO_USER_REGION_WRITE, Request."""

    offset: int = row(0, Int64un)
    region: int = row(8, Int32un)
    count: int = row(12, Int32un, counts="data")
    data: bytes = row(16, Bytes(this.count))


class RegionWriteReply(Record, section="VFIO_USER_REGION_WRITE / Reply"):
    """VFIO_USER_REGION_WRITE, Reply."""

    offset: int = row(0, Int64un)
    region: int = row(8, Int32un)
    count: int = row(12, Int32un)


class DmaReadRequest(Record, section="VFIO_USER_DMA_READ / Request"):
    """VFIO_USER_DMA_READ, Request."""

    address: int = row(0, Int64un)
    count: int = row(8, Int64un)


class DmaReadReply(Record, section="VFIO_USER_DMA_READ / Reply"):
    """VFIO_USER_DMA_READ, Reply."""

    address: int = row(0, Int64un)
    count: int = row(8, Int64un, counts="data")
    data: bytes = row(16, Bytes(this.count))


class DmaWriteRequest(Record, section="VFIO_USER_DMA_WRITE / Request"):
    """VFIO_USER_DMA_WRITE, Request."""

    address: int = row(0, Int64un)
    count: int = row(8, Int64un, counts="data")
    data: bytes = row(16, Bytes(this.count))


class DmaWriteReply(Record, section="VFIO_USER_DMA_WRITE / Reply"):
    """VFIO_USER_DMA_WRITE, Reply."""

    address: int = row(0, Int64un)
    count: int = row(8, Int64un)


class DeviceWrite(Record, section="VFIO_USER_REGION_WRITE_MULTI / Request / Single Device Write Format"):
    """Single Device Write Format."""

    offset: int = row(0, Int64un)
    region: int = row(8, Int32un)
    count: int = row(12, Int32un)
    data: int = row(16, Int64un)


class RegionWriteMultiRequest(Record, section="VFIO_USER_REGION_WRITE_MULTI / Request"):
    """VFIO_USER_REGION_WRITE_MULTI, Request."""

    wr_cnt: int = row(0, Int64un, counts="wrs")
    wrs: tuple[DeviceWrite, ...] = row(8, Many(this.wr_cnt, DeviceWrite))


class RegionWriteMultiReply(Record, section="VFIO_USER_REGION_WRITE_MULTI / Reply"):
    """VFIO_USER_REGION_WRITE_MULTI, Reply."""

    wr_cnt: int = row(0, Int64un)


class DeviceFeatureFlags(
    Bits, section="VFIO_USER_DEVICE_FEATURE / Request", prefix="VFIO_DEVICE_FEATURE_", labels={"INDEX": "Feature index"}
):
    """VFIO_USER_DEVICE_FEATURE, Request, bits of flags."""

    INDEX = 0xFFFF
    GET = 1 << 16
    SET = 1 << 17
    PROBE = 1 << 18


class DeviceFeatureRequest(Record, section="VFIO_USER_DEVICE_FEATURE / Request"):
    """VFIO_USER_DEVICE_FEATURE, Request; the reply has the same format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DeviceFeatureFlags = row(4, Flags(Int32un, DeviceFeatureFlags))
    data: bytes = row(8, GreedyBytes)


class DeviceFeature(
    Codes,
    section="VFIO_USER_DEVICE_FEATURE / Device Features",
    prefix="VFIO_DEVICE_FEATURE_",
    columns=("Name", "Feature Index"),
):
    """Device Features."""

    MIGRATION = 1
    MIG_DEVICE_STATE = 2
    DMA_LOGGING_START = 6
    DMA_LOGGING_STOP = 7
    DMA_LOGGING_REPORT = 8


class MigrationFlags(Bits, section="VFIO_DEVICE_FEATURE_MIGRATION", prefix="VFIO_MIGRATION_"):
    """VFIO_DEVICE_FEATURE_MIGRATION, bits of flags."""

    STOP_COPY = 1 << 0
    P2P = 1 << 1
    PRE_COPY = 1 << 2


class FeatureMigration(Record, section="VFIO_DEVICE_FEATURE_MIGRATION"):
    """VFIO_DEVICE_FEATURE_MIGRATION."""

    flags: MigrationFlags = row(0, Flags(Int64un, MigrationFlags))


class DeviceState(
    Codes,
    section="VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
    prefix="VFIO_DEVICE_STATE_",
    columns=("Name", "State", "Description"),
):
    """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE."""

    ERROR = 0, "The device has failed; only a reset helps."
    STOP = 1, "The device is at rest: it changes neither itself nor anything outside."
    RUNNING = 2, "The device works."
    STOP_COPY = 3, "The device is at rest and its state can be read."
    RESUMING = 4, "The device is at rest and takes a state that is written to it."
    RUNNING_P2P = 5, "Not used by vfio-user."
    PRE_COPY = 6, "The device works, and its state and changes to it can be read."
    PRE_COPY_P2P = 7, "Not used by vfio-user."


class FeatureMigDeviceState(Record, section="VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE"):
    """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE."""

    device_state: int = row(0, Int32un, codes=DeviceState)
    data_fd: int = row(4, Int32un)


class DmaLoggingRange(
    Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP #2"
):
    """One of the ranges of VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP."""

    iova: int = row(0, Int64un)
    length: int = row(8, Int64un)


class FeatureDmaLoggingStart(
    Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP"
):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP."""

    page_size: int = row(0, Int64un)
    num_ranges: int = row(8, Int32un, counts="ranges")
    reserved: int = row(12, Int32un)
    ranges: tuple[DmaLoggingRange, ...] = row(16, Many(this.num_ranges, DmaLoggingRange))


class FeatureDmaLoggingReport(Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT."""

    iova: int = row(0, Int64un)
    length: int = row(8, Int64un)
    page_size: int = row(16, Int64un)
    # The table is that of the request; the reply has the bitmap behind it, at offset 24.
    bitmap: bytes = row(24, GreedyBytes, added=True)


class MigDataReadRequest(Record, section="VFIO_USER_MIG_DATA_READ / Request"):
    """VFIO_USER_MIG_DATA_READ, Request."""

    argsz: int = row(0, Int32un, measures=True)
    size: int = row(4, Int32un)


class MigDataReadReply(Record, section="VFIO_USER_MIG_DATA_READ / Reply"):
    """VFIO_USER_MIG_DATA_READ, Reply."""

    argsz: int = row(0, Int32un, measures=True)
    size: int = row(4, Int32un, counts="data")
    data: bytes = row(8, Bytes(this.size))


class MigDataWriteRequest(Record, section="VFIO_USER_MIG_DATA_WRITE / Request"):
    """VFIO_USER_MIG_DATA_WRITE, Request."""

    argsz: int = row(0, Int32un, measures=True)
    size: int = row(4, Int32un, counts="data")
    data: bytes = row(8, Bytes(this.size))


# What each command carries; None where it carries nothing.
REQUESTS: Mapping[int, type[Record] | None] = {
    Command.VERSION: VersionRequest,
    Command.DMA_MAP: DmaMapRequest,
    Command.DMA_UNMAP: DmaUnmapRequest,
    Command.DEVICE_GET_INFO: DeviceGetInfoRequest,
    Command.DEVICE_GET_REGION_INFO: DeviceGetRegionInfoRequest,
    Command.DEVICE_GET_REGION_IO_FDS: DeviceGetRegionIoFdsRequest,
    Command.DEVICE_GET_IRQ_INFO: DeviceGetIrqInfoRequest,
    Command.DEVICE_SET_IRQS: DeviceSetIrqsRequest,
    Command.REGION_READ: RegionReadRequest,
    Command.REGION_WRITE: RegionWriteRequest,
    Command.DMA_READ: DmaReadRequest,
    Command.DMA_WRITE: DmaWriteRequest,
    Command.DEVICE_RESET: None,
    Command.REGION_WRITE_MULTI: RegionWriteMultiRequest,
    Command.DEVICE_FEATURE: DeviceFeatureRequest,
    Command.MIG_DATA_READ: MigDataReadRequest,
    Command.MIG_DATA_WRITE: MigDataWriteRequest,
}

# What each reply carries; None where it carries nothing.
REPLIES: Mapping[int, type[Record] | None] = {
    Command.VERSION: VersionRequest,
    Command.DMA_MAP: None,
    Command.DMA_UNMAP: DmaUnmapRequest,
    Command.DEVICE_GET_INFO: DeviceGetInfoReply,
    Command.DEVICE_GET_REGION_INFO: DeviceGetRegionInfoReply,
    Command.DEVICE_GET_REGION_IO_FDS: DeviceGetRegionIoFdsReply,
    Command.DEVICE_GET_IRQ_INFO: DeviceGetIrqInfoReply,
    Command.DEVICE_SET_IRQS: None,
    Command.REGION_READ: RegionReadReply,
    Command.REGION_WRITE: RegionWriteReply,
    Command.DMA_READ: DmaReadReply,
    Command.DMA_WRITE: DmaWriteReply,
    Command.DEVICE_RESET: None,
    Command.REGION_WRITE_MULTI: RegionWriteMultiReply,
    Command.DEVICE_FEATURE: DeviceFeatureRequest,
    Command.MIG_DATA_READ: MigDataReadReply,
    Command.MIG_DATA_WRITE: None,
}

# What the data of VFIO_USER_DEVICE_FEATURE holds, per feature; the same record in a request and in a reply.
FEATURES: Mapping[int, type[Record]] = {
    DeviceFeature.MIGRATION: FeatureMigration,
    DeviceFeature.MIG_DEVICE_STATE: FeatureMigDeviceState,
    DeviceFeature.DMA_LOGGING_START: FeatureDmaLoggingStart,
    DeviceFeature.DMA_LOGGING_REPORT: FeatureDmaLoggingReport,
}

# What follows the header of each capability of a region.
REGION_CAPABILITIES: Mapping[int, type[Record]] = {
    RegionCapability.SPARSE_MMAP: SparseMmap,
    RegionCapability.TYPE: RegionType,
}

VERSION_DATA = JsonTable(
    "VFIO_USER_VERSION / Request",
    (JsonMember("capabilities", "object", "What the sender can do; see the next table. Optional."),),
)

CAPABILITIES = JsonTable(
    "VFIO_USER_VERSION / Request #2",
    (
        JsonMember(
            "max_msg_fds", "number", "How many descriptors the sender accepts with one message. Optional, 1 if absent."
        ),
        JsonMember(
            "max_data_xfer_size",
            "number",
            "The highest count that the sender accepts in a data transfer, see Read and Write Operations. Optional, "
            "1048576 if absent.",
        ),
        JsonMember(
            "max_dma_maps",
            "number",
            "How many mappings the sender can have in force at a time. Optional, 65535 if absent.",
        ),
        JsonMember(
            "pgsizes",
            "number",
            "The page sizes that DMA mappings can have, each a power of two, added up. Optional, 4096 if absent.",
        ),
        JsonMember("twin_socket", "object", "Parameters of twin-socket mode; see the next table. Optional."),
        JsonMember(
            "write_multiple",
            "boolean",
            "Whether the sender supports VFIO_USER_REGION_WRITE_MULTI. Optional, false if absent.",
        ),
    ),
)

TWIN_SOCKET = JsonTable(
    "VFIO_USER_VERSION / Request #3",
    (
        JsonMember(
            "supported",
            "boolean",
            "Whether the sender supports twin-socket mode; in the reply, whether it is in force. Optional, false if "
            "absent.",
        ),
        JsonMember(
            "fd_index",
            "number",
            "Which of the descriptors sent with this message is the second socket, counted from 0. Optional, for the "
            "reply only.",
        ),
    ),
)

SPARSE_MMAP_HEADER = ValueTable(
    "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO sparse mmap cap header",
    (
        ("id", "VFIO_REGION_INFO_CAP_SPARSE_MMAP"),
        ("version", "0x1"),
        ("next", "<next>"),
        ("sparse mmap info", "VFIO region info sparse mmap"),
    ),
)
