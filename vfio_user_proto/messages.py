# GENERATED from spec/vfio-user.rst and spec/overlay/vfio-user.toml by "vfio-user spec generate"; do not edit.
"""The vfio-user protocol, version 0.9.2: every table of the document as a declaration."""

from collections.abc import Mapping

from construct import Bytes, GreedyBytes, Int16un, Int32un, Int64un, this

from vfio_user_proto.model import Bits, Codes, Flags, JsonMember, JsonTable, Many, Record, Strided, ValueTable, row


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


class RegionCapability(
    Codes, section="VFIO region capabilities", prefix="VFIO_REGION_INFO_CAP_", columns=("Name", "Value")
):
    """VFIO region capabilities."""

    SPARSE_MMAP = 1
    TYPE = 2
    MSIX_MAPPABLE = 3


class HeaderFlags(Bits, section="Header"):
    """Header, bits of Flags."""

    TYPE = 0xF
    NO_REPLY = 1 << 4
    ERROR = 1 << 5


class MessageType(Codes, section="Header", columns=("Name", "Value")):
    """Header, values of Type."""

    COMMAND = 0
    REPLY = 1


class Header(Record, section="Header"):
    """Header."""

    message_id: int = row(0, Int16un, "Message ID")
    command: int = row(2, Int16un, "Command", codes=Command)
    message_size: int = row(4, Int32un, "Message size")
    flags: HeaderFlags = row(8, Flags(Int32un, HeaderFlags), "Flags")
    error: int = row(12, Int32un, "Error")


class VersionRequest(Record, section="VFIO_USER_VERSION / Request"):
    """VFIO_USER_VERSION, Request; the reply has the same format."""

    version_major: int = row(0, Int16un, "version major")
    version_minor: int = row(2, Int16un, "version minor")
    version_data: bytes = row(4, GreedyBytes, "version data")


class DmaMapFlags(Bits, section="VFIO_USER_DMA_MAP / Request"):
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
    capabilities: bytes = row(32, GreedyBytes, added=True)  # overlay: the table describes the fixed part only


class CapabilityHeader(Record, section="VFIO cap header format"):
    """VFIO cap header format."""

    id: int = row(0, Int16un, codes=RegionCapability)
    version: int = row(2, Int16un)
    next: int = row(4, Int32un)


class SparseMmapArea(Record, section="VFIO region info cap sparse mmap"):
    """One of the areas of VFIO region info cap sparse mmap."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)


class SparseMmap(Record, section="VFIO region info cap sparse mmap"):
    """VFIO region info cap sparse mmap."""

    nr_areas: int = row(0, Int32un, counts="areas")
    reserved: int = row(4, Int32un)
    areas: tuple[SparseMmapArea, ...] = row(8, Many(this.nr_areas, SparseMmapArea))


class RegionType(Record, section="VFIO region info cap type"):
    """VFIO region info cap type."""

    type: int = row(0, Int32un)
    subtype: int = row(4, Int32un)


class DeviceGetRegionIoFdsRequest(Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Request"):
    """VFIO_USER_DEVICE_GET_REGION_IO_FDS, Request."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    index: int = row(8, Int32un)
    count: int = row(12, Int32un)


class IoFdType(Codes, section="IO FD types", prefix="VFIO_USER_IO_FD_TYPE_", columns=("Name", "Value")):
    """IO FD types."""

    IOEVENTFD = 0
    IOREGIONFD = 1
    IOEVENTFD_SHADOW = 2


class IoeventfdFlags(Bits, section="Sub-Region IO FD info format (ioeventfd)", prefix="KVM_IOEVENTFD_FLAG_"):
    """Sub-Region IO FD info format (ioeventfd), bits of flags."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    VIRTIO_CCW_NOTIFY = 1 << 3


class IoeventfdSubRegion(Record, section="Sub-Region IO FD info format (ioeventfd)"):
    """Sub-Region IO FD info format (ioeventfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoeventfdFlags = row(24, Flags(Int32un, IoeventfdFlags))
    padding: int = row(28, Int32un)
    datamatch: int = row(32, Int64un)


class IoregionFlags(Bits, section="Sub-Region IO FD info format (ioregionfd)", prefix="KVM_IOREGION_"):
    """Sub-Region IO FD info format (ioregionfd), bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1


class IoregionfdSubRegion(Record, section="Sub-Region IO FD info format (ioregionfd)"):
    """Sub-Region IO FD info format (ioregionfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoregionFlags = row(24, Flags(Int32un, IoregionFlags))
    padding: int = row(28, Int32un)
    user_data: int = row(32, Int64un)


class ShadowIoeventfdSubRegion(Record, section="Sub-Region IO FD info format (shadow ioeventfd)"):
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


class DeviceWrite(Record, section="Single Device Write Format"):
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


class DeviceFeatureFlags(Bits, section="VFIO_USER_DEVICE_FEATURE / Request", prefix="VFIO_DEVICE_FEATURE_"):
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


class DeviceFeature(Codes, section="Device Features", prefix="VFIO_DEVICE_FEATURE_", columns=("Name", "Feature Index")):
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

    ERROR = 0, "Failed; only a reset helps."
    STOP = 1, "Neither internal nor external state changes."
    RUNNING = 2, "Normal operation."
    STOP_COPY = 3, "Stopped; the state can be read out."
    RESUMING = 4, "Stopped; a new state is being loaded."
    RUNNING_P2P = 5, "(not used in vfio-user)"
    PRE_COPY = 6, "Running; changes are tracked while the state is read out."
    PRE_COPY_P2P = 7, "(not used in vfio-user)"


class FeatureMigDeviceState(Record, section="VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE"):
    """VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE."""

    device_state: int = row(0, Int32un, codes=DeviceState)
    data_fd: int = row(4, Int32un)


class DmaLoggingRange(Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP"):
    """One of the ranges of VFIO_DEVICE_FEATURE_DMA_LOGGING_START."""

    iova: int = row(0, Int64un)
    length: int = row(8, Int64un)


class FeatureDmaLoggingStart(
    Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP"
):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_START."""

    page_size: int = row(0, Int64un)
    num_ranges: int = row(8, Int32un, counts="ranges")
    reserved: int = row(12, Int32un)
    ranges: tuple[DmaLoggingRange, ...] = row(16, Many(this.num_ranges, DmaLoggingRange))


class FeatureDmaLoggingReport(Record, section="VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"):
    """VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT."""

    iova: int = row(0, Int64un)
    length: int = row(8, Int64un)
    page_size: int = row(16, Int64un)
    bitmap: bytes = row(
        24, GreedyBytes, added=True
    )  # overlay: "with the bitmap added on the end at offset 24" of the reply


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
    (JsonMember("capabilities", "object", "Capabilities that the sender has. Optional."),),
)
