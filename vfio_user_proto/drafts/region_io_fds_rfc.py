# GENERATED from spec/region-io-fds-rfc.rst and spec/overlay/region-io-fds-rfc.toml by "vfio-user spec generate"; do not edit.
"""vfio-user with the first RFC on region I/O by descriptors, version 0.1: every table of the document as a declaration."""

from collections.abc import Mapping

from construct import Bytes, GreedyBytes, Int16un, Int32un, Int64un, this

from vfio_user_proto.model import Bits, Codes, Flags, JsonMember, JsonTable, Many, Record, Strided, ValueTable, row

VERSION = "0.1"


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
    VM_INTERRUPT = 13, "server -> client"
    DEVICE_RESET = 14, "client -> server"
    DIRTY_PAGES = 15, "client -> server"


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


class VersionHeader(Record, section="VFIO_USER_VERSION / Version Header Format"):
    """Version Header Format."""

    version_major: int = row(0, Int16un, "version major")
    version_minor: int = row(2, Int16un, "version minor")
    version_data: bytes = row(4, GreedyBytes, "version data", note="(including terminating NUL). Optional.")


class DmaMapFlags(Bits, section="VFIO_USER_DMA_MAP / Table entry format", labels={"MAPPABLE": "Mappable"}):
    """VFIO_USER_DMA_MAP, Table entry format, bits of Flags."""

    MAPPABLE = 1 << 0


class DmaMapEntry(Record, section="VFIO_USER_DMA_MAP / Table entry format"):
    """One of the entries of VFIO_USER_DMA_MAP, Table entry format."""

    address: int = row(0, Int64un, "Address")
    size: int = row(8, Int64un, "Size")
    offset: int = row(16, Int64un, "Offset")
    protections: int = row(24, Int32un, "Protections")
    flags: DmaMapFlags = row(28, Flags(Int32un, DmaMapFlags), "Flags")


class DmaMapTable(Record, section="VFIO_USER_DMA_MAP / Table entry format"):
    """VFIO_USER_DMA_MAP, Table entry format."""

    # The payload is a table of entries, as many as the message has room for.
    entries: tuple[DmaMapEntry, ...] = row(0, Many(None, DmaMapEntry), added=True)


class DmaUnmapFlags(Bits, section="VFIO_USER_DMA_UNMAP / Table entry format", prefix="VFIO_DMA_UNMAP_FLAG_GET_DIRTY_"):
    """VFIO_USER_DMA_UNMAP, Table entry format, bits of Flags."""

    BITMAP = 1 << 0


class DmaUnmapEntry(Record, section="VFIO_USER_DMA_UNMAP / Table entry format"):
    """VFIO_USER_DMA_UNMAP, Table entry format."""

    address: int = row(0, Int64un, "Address")
    size: int = row(8, Int64un, "Size")
    offset: int = row(16, Int64un, "Offset")
    protections: int = row(24, Int32un, "Protections")
    flags: DmaUnmapFlags = row(28, Flags(Int32un, DmaUnmapFlags), "Flags")
    vfio_bitmaps: bytes = row(32, GreedyBytes, "VFIO Bitmaps")


class VfioBitmap(Record, section="VFIO_USER_DMA_UNMAP / VFIO bitmap format"):
    """VFIO bitmap format."""

    pgsize: int = row(0, Int64un)
    size: int = row(8, Int64un)
    data: int = row(16, Int64un)


class DeviceFlags(Bits, section="VFIO_USER_DEVICE_GET_INFO / VFIO device info format", prefix="VFIO_DEVICE_FLAGS_"):
    """VFIO device info format, bits of flags."""

    RESET = 1 << 0
    PCI = 1 << 1


class DeviceInfo(Record, section="VFIO_USER_DEVICE_GET_INFO / VFIO device info format"):
    """VFIO device info format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DeviceFlags = row(4, Flags(Int32un, DeviceFlags))
    num_regions: int = row(8, Int32un)
    num_irqs: int = row(12, Int32un)


class RegionInfoFlags(
    Bits, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region info format", prefix="VFIO_REGION_INFO_FLAG_"
):
    """VFIO region info format, bits of flags."""

    READ = 1 << 0
    WRITE = 1 << 1
    MMAP = 1 << 2
    CAPS = 1 << 3


class RegionInfo(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region info format"):
    """VFIO region info format."""

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
    section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region capability ids",
    prefix="VFIO_REGION_INFO_CAP_",
    columns=("Name", "Value"),
):
    """VFIO region capability ids."""

    SPARSE_MMAP = 1
    TYPE = 2


class CapabilityHeader(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO cap header format"):
    """VFIO cap header format."""

    id: int = row(0, Int16un, codes=RegionCapability)
    version: int = row(2, Int16un)
    next: int = row(4, Int32un)


class SparseMmapArea(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region info cap sparse mmap"):
    """One of the areas of VFIO region info cap sparse mmap."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)


class SparseMmap(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region info cap sparse mmap"):
    """VFIO region info cap sparse mmap."""

    nr_areas: int = row(0, Int32un, counts="areas")
    reserved: int = row(4, Int32un)
    areas: tuple[SparseMmapArea, ...] = row(8, Many(this.nr_areas, SparseMmapArea), "...")


class RegionType(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO region info type"):
    """VFIO region info type."""

    type: int = row(0, Int32un)
    subtype: int = row(4, Int32un)


class MigrationBits(
    Bits, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO Device Migration Info", prefix="VFIO_DEVICE_STATE_"
):
    """VFIO Device Migration Info, bits of device_state."""

    RUNNING = 1 << 0
    SAVING = 1 << 1
    RESUMING = 1 << 2


class MigrationInfo(Record, section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO Device Migration Info"):
    """VFIO Device Migration Info."""

    device_state: MigrationBits = row(0, Flags(Int32un, MigrationBits))
    reserved: int = row(4, Int32un)
    pending_bytes: int = row(8, Int64un)
    data_offset: int = row(16, Int64un)
    data_size: int = row(24, Int64un)


class MigrationState(
    Codes,
    section="VFIO_USER_DEVICE_GET_REGION_INFO / VFIO Device Migration Info",
    labels={
        "STOPPED": "Stopped",
        "RUNNING": "Running",
        "STOP_AND_COPY": "Stop-and-copy",
        "PRE_COPY": "Pre-copy",
        "RESUMING": "Resuming",
        "ERROR": "Error",
    },
    columns=("Name", "State"),
):
    """VFIO Device Migration Info."""

    STOPPED = 0
    RUNNING = 1
    STOP_AND_COPY = 2
    PRE_COPY = 3
    RESUMING = 4
    ERROR = 6


class IoFdType(
    Codes,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD types",
    prefix="VFIO_USER_IO_FD_TYPE_",
    columns=("Name", "Value"),
):
    """Sub-Region IO FD types."""

    IOEVENTFD = 0
    IOREGIONFD = 1


class IoeventfdFlags(
    Bits,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD info format (ioeventfd)",
    prefix="KVM_IOEVENTFD_FLAG_",
):
    """Sub-Region IO FD info format (ioeventfd), bits of flags."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    VIRTIO_CCW_NOTIFY = 1 << 3


class IoeventfdSubRegion(
    Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD info format (ioeventfd)"
):
    """Sub-Region IO FD info format (ioeventfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoeventfdFlags = row(24, Flags(Int32un, IoeventfdFlags))
    padding: int = row(28, Int32un)
    datamatch: int = row(32, Int64un)


class IoregionfdFlags(
    Bits,
    section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD info format (ioregionfd)",
    prefix="KVM_IOREGIONFD_FLAG_",
):
    """Sub-Region IO FD info format (ioregionfd), bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1


class IoregionfdSubRegion(
    Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD info format (ioregionfd)"
):
    """Sub-Region IO FD info format (ioregionfd)."""

    offset: int = row(0, Int64un)
    size: int = row(8, Int64un)
    fd_index: int = row(16, Int32un)
    type: int = row(20, Int32un, codes=IoFdType)
    flags: IoregionfdFlags = row(24, Flags(Int32un, IoregionfdFlags))
    region_id: int = row(28, Int32un)


SubRegion = IoregionfdSubRegion | IoeventfdSubRegion
SUB_REGIONS: Mapping[tuple[int, int], type[SubRegion]] = {
    (32, IoFdType.IOREGIONFD): IoregionfdSubRegion,
    (40, IoFdType.IOEVENTFD): IoeventfdSubRegion,
}


class RegionIoFdInfo(Record, section="VFIO_USER_DEVICE_GET_REGION_IO_FDS / Region IO FD info format"):
    """Region IO FD info format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    index: int = row(8, Int32un)
    count: int = row(12, Int32un, counts="subregions")
    subregions: tuple[SubRegion | bytes, ...] = row(16, Strided(this.argsz - 16, this.count, "type", SUB_REGIONS))


class IrqInfoFlags(Bits, section="VFIO_USER_DEVICE_GET_IRQ_INFO / VFIO IRQ info format", prefix="VFIO_IRQ_INFO_"):
    """VFIO IRQ info format, bits of flags."""

    EVENTFD = 1 << 0
    MASKABLE = 1 << 1
    AUTOMASKED = 1 << 2
    NORESIZE = 1 << 3


class IrqInfo(Record, section="VFIO_USER_DEVICE_GET_IRQ_INFO / VFIO IRQ info format"):
    """VFIO IRQ info format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: IrqInfoFlags = row(4, Flags(Int32un, IrqInfoFlags))
    index: int = row(8, Int32un)
    count: int = row(12, Int32un)


class IrqSetFlags(Bits, section="VFIO_USER_DEVICE_SET_IRQS / VFIO IRQ set format", prefix="VFIO_IRQ_SET_"):
    """VFIO IRQ set format, bits of flags."""

    DATA_NONE = 1 << 0
    DATA_BOOL = 1 << 1
    DATA_EVENTFD = 1 << 2
    ACTION_MASK = 1 << 3
    ACTION_UNMASK = 1 << 4
    ACTION_TRIGGER = 1 << 5


class IrqSet(Record, section="VFIO_USER_DEVICE_SET_IRQS / VFIO IRQ set format"):
    """VFIO IRQ set format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: IrqSetFlags = row(4, Flags(Int32un, IrqSetFlags))
    index: int = row(8, Int32un)
    start: int = row(12, Int32un)
    count: int = row(16, Int32un)
    data: bytes = row(20, GreedyBytes)


class RegionData(Record, section="REGION Read/Write Data"):
    """REGION Read/Write Data."""

    offset: int = row(0, Int64un, "Offset")
    region: int = row(8, Int32un, "Region")
    count: int = row(12, Int32un, "Count")
    data: bytes = row(16, GreedyBytes, "Data")


class DmaData(Record, section="DMA Read/Write Data"):
    """DMA Read/Write Data."""

    address: int = row(0, Int64un, "Address")
    count: int = row(8, Int32un, "Count")
    data: bytes = row(12, GreedyBytes, "Data")


class InterruptInfo(Record, section="VFIO_USER_VM_INTERRUPT / Interrupt info format"):
    """Interrupt info format."""

    sub_index: int = row(0, Int32un, "Sub-index")


class DirtyPagesFlags(
    Bits, section="VFIO_USER_DIRTY_PAGES / VFIO Dirty Bitmap Format", prefix="VFIO_IOMMU_DIRTY_PAGES_FLAG_"
):
    """VFIO Dirty Bitmap Format, bits of flags."""

    START = 1 << 0
    STOP = 1 << 1
    GET_BITMAP = 1 << 2


class DirtyBitmap(Record, section="VFIO_USER_DIRTY_PAGES / VFIO Dirty Bitmap Format"):
    """VFIO Dirty Bitmap Format."""

    argsz: int = row(0, Int32un, measures=True)
    flags: DirtyPagesFlags = row(4, Flags(Int32un, DirtyPagesFlags))
    data: int = row(8, Int32un)
    # With VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP a range follows in the command, a range and its bits in the reply.
    range: bytes = row(12, GreedyBytes, added=True)


class DirtyBitmapGet(Record, section="VFIO_USER_DIRTY_PAGES / VFIO Dirty Bitmap Get Format"):
    """VFIO Dirty Bitmap Get Format."""

    iova: int = row(0, Int64un)
    size: int = row(8, Int64un)
    bitmap: bytes = row(16, Bytes(24))


# What each command carries; None where it carries nothing.
REQUESTS: Mapping[int, type[Record] | None] = {
    Command.VERSION: VersionHeader,
    Command.DMA_MAP: DmaMapTable,
    Command.DMA_UNMAP: DmaUnmapEntry,
    Command.DEVICE_GET_INFO: None,
    Command.DEVICE_GET_REGION_INFO: RegionInfo,
    Command.DEVICE_GET_REGION_IO_FDS: RegionIoFdInfo,
    Command.DEVICE_GET_IRQ_INFO: IrqInfo,
    Command.DEVICE_SET_IRQS: IrqSet,
    Command.REGION_READ: RegionData,
    Command.REGION_WRITE: RegionData,
    Command.DMA_READ: DmaData,
    Command.DMA_WRITE: DmaData,
    Command.VM_INTERRUPT: InterruptInfo,
    Command.DEVICE_RESET: None,
    Command.DIRTY_PAGES: DirtyBitmap,
}

# What each reply carries; None where it carries nothing.
REPLIES: Mapping[int, type[Record] | None] = {
    Command.VERSION: VersionHeader,
    Command.DMA_MAP: None,
    Command.DMA_UNMAP: None,
    Command.DEVICE_GET_INFO: DeviceInfo,
    Command.DEVICE_GET_REGION_INFO: RegionInfo,
    Command.DEVICE_GET_REGION_IO_FDS: RegionIoFdInfo,
    Command.DEVICE_GET_IRQ_INFO: IrqInfo,
    Command.DEVICE_SET_IRQS: None,
    Command.REGION_READ: RegionData,
    Command.REGION_WRITE: RegionData,
    Command.DMA_READ: DmaData,
    Command.DMA_WRITE: DmaData,
    Command.VM_INTERRUPT: None,
    Command.DEVICE_RESET: None,
    Command.DIRTY_PAGES: None,
}

# What follows the header of each capability of a region.
REGION_CAPABILITIES: Mapping[int, type[Record]] = {
    RegionCapability.SPARSE_MMAP: SparseMmap,
    RegionCapability.TYPE: RegionType,
}

VERSION_DATA = JsonTable(
    "VFIO_USER_VERSION / Version Data Format",
    (JsonMember("capabilities", "object", "What the sender can do; see the next table. Optional."),),
)

CAPABILITIES = JsonTable(
    "VFIO_USER_VERSION / Version Data Format #2",
    (
        JsonMember(
            "max_fds", "number", "How many descriptors the sender takes with one message. Optional, 1 if absent."
        ),
        JsonMember(
            "max_msg_size",
            "number",
            "The largest message that the sender takes, header included. Optional, 4096 if absent.",
        ),
        JsonMember(
            "migration",
            "object",
            "Parameters of migration; see the next table. Optional: without it the sender cannot migrate.",
        ),
    ),
)

MIGRATION = JsonTable(
    "VFIO_USER_VERSION / Version Data Format #3",
    (JsonMember("pgsize", "number", "The page size of a dirty bitmap; the smaller one of both sides is used."),),
)

VERSION_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_VERSION / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "1"),
        ("Message size", "16 + version header + version data length"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Version", "version header"),
    ),
)

DMA_MAP_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DMA_MAP / Message Format",
    (
        ("Message ID", "<ID>"),
        ("Command", "2"),
        ("Message size", "16 + table size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Table", "array of table entries"),
    ),
)

DMA_UNMAP_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DMA_UNMAP / Message Format",
    (
        ("Message ID", "<ID>"),
        ("Command", "3"),
        ("Message size", "16 + table size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Table", "array of table entries"),
    ),
)

DEVICE_GET_INFO_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_GET_INFO / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "4"),
        ("Message size", "16 in command, 32 in reply"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Device info", "VFIO device info"),
    ),
)

DEVICE_GET_REGION_INFO_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_GET_REGION_INFO / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "5"),
        ("Message size", "48 + any caps"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Region info", "VFIO region info"),
    ),
)

SPARSE_MMAP_HEADER = ValueTable(
    "VFIO_USER_DEVICE_GET_REGION_INFO / VFIO sparse mmap",
    (
        ("id", "VFIO_REGION_INFO_CAP_SPARSE_MMAP"),
        ("version", "0x1"),
        ("next", "<next>"),
        ("sparse mmap info", "VFIO region info sparse mmap"),
    ),
)

REGION_TYPE_HEADER = ValueTable(
    "VFIO_USER_DEVICE_GET_REGION_INFO / VFIO Region Type",
    (
        ("id", "VFIO_REGION_INFO_CAP_TYPE"),
        ("version", "0x1"),
        ("next", "<next>"),
        ("region info type", "VFIO region info type"),
    ),
)

DEVICE_GET_REGION_IO_FDS_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "6"),
        ("Message size", "32 + subregion info"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Region info", "Region IO FD info"),
    ),
)

DEVICE_GET_IRQ_INFO_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_GET_IRQ_INFO / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "7"),
        ("Message size", "32"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("IRQ info", "VFIO IRQ info"),
    ),
)

DEVICE_SET_IRQS_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_SET_IRQS / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "8"),
        ("Message size", "36 + any data"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("IRQ set", "VFIO IRQ set"),
    ),
)

REGION_READ_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_REGION_READ / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "9"),
        ("Message size", "32 + data size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Read info", "REGION read/write data"),
    ),
)

REGION_WRITE_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_REGION_WRITE / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "10"),
        ("Message size", "32 + data size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Write info", "REGION read/write data"),
    ),
)

DMA_READ_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DMA_READ / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "11"),
        ("Message size", "28 + data size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("DMA info", "DMA read/write data"),
    ),
)

DMA_WRITE_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DMA_WRITE / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "12"),
        ("Message size", "28 + data size"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("DMA info", "DMA read/write data"),
    ),
)

VM_INTERRUPT_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_VM_INTERRUPT / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "13"),
        ("Message size", "20"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("Interrupt info", "<interrupt>"),
    ),
)

DEVICE_RESET_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DEVICE_RESET / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "14"),
        ("Message size", "16"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
    ),
)

DIRTY_PAGES_MESSAGE_FORMAT = ValueTable(
    "VFIO_USER_DIRTY_PAGES / Message format",
    (
        ("Message ID", "<ID>"),
        ("Command", "15"),
        ("Message size", "16 + dirty bitmap"),
        ("Flags", "Reply bit set in reply"),
        ("Error", "0/errno"),
        ("VFIO Dirty bitmap", "<dirty bitmap>"),
    ),
)
