# GENERATED from spec/ioregionfd.rst and spec/overlay/ioregionfd.toml by "vfio-user spec generate"; do not edit.
"""KVM's descriptors for accesses of a guest: every table of the document as a declaration."""

from construct import Bytes, Int8un, Int32un, Int64un

from vfio_user_proto.model import Bits, Codes, Flags, Record, row


class KvmCapability(Codes, section="Capabilities", prefix="KVM_CAP_", columns=("Name", "Number")):
    """Capabilities."""

    IOEVENTFD = 36
    IOEVENTFD_ANY_LENGTH = 122
    IOREGIONFD = 191


class KvmCall(Codes, section="Calls", prefix="KVM_", columns=("Name", "Number", "Request")):
    """Calls."""

    SET_IOREGION = 73, "0x4040ae49"
    IOEVENTFD = 121, "0x4040ae79"


class ProposalFlags(Bits, section="kvm_ioregionfd", prefix="KVM_IOREGIONFD_"):
    """kvm_ioregionfd, bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1


class KvmIoregionfdProposal(Record, section="kvm_ioregionfd"):
    """kvm_ioregionfd."""

    guest_physical_addr: int = row(0, Int64un)
    memory_size: int = row(8, Int64un)
    fd: int = row(16, Int32un)
    region_id: int = row(20, Int32un)
    flags: ProposalFlags = row(24, Flags(Int32un, ProposalFlags))
    pad: bytes = row(28, Bytes(36))


class EarlyIoregionFlags(Bits, section="kvm_ioregion / Design", prefix="KVM_IOREGION_"):
    """Design, bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1


class KvmIoregionDesign(Record, section="kvm_ioregion / Design"):
    """Design."""

    guest_paddr: int = row(0, Int64un)
    memory_size: int = row(8, Int64un)
    user_data: int = row(16, Int64un)
    fd: int = row(24, Int32un)
    flags: EarlyIoregionFlags = row(28, Flags(Int32un, EarlyIoregionFlags))
    pad: bytes = row(32, Bytes(32))


class KvmIoregionRfdWfd(Record, section="kvm_ioregion / First and second series"):
    """First and second series."""

    guest_paddr: int = row(0, Int64un)
    memory_size: int = row(8, Int64un)
    user_data: int = row(16, Int64un)
    rfd: int = row(24, Int32un)
    wfd: int = row(28, Int32un)
    flags: EarlyIoregionFlags = row(32, Flags(Int32un, EarlyIoregionFlags))
    pad: bytes = row(36, Bytes(28))


class IoregionFlags(Bits, section="kvm_ioregion / Third series", prefix="KVM_IOREGION_"):
    """Third series, bits of flags."""

    PIO = 1 << 0
    POSTED_WRITES = 1 << 1
    DEASSIGN = 1 << 2


class KvmIoregion(Record, section="kvm_ioregion / Third series"):
    """Third series."""

    guest_paddr: int = row(0, Int64un)
    memory_size: int = row(8, Int64un)
    user_data: int = row(16, Int64un)
    read_fd: int = row(24, Int32un)
    write_fd: int = row(28, Int32un)
    flags: IoregionFlags = row(32, Flags(Int32un, IoregionFlags))
    pad: bytes = row(36, Bytes(28))


class IoregionfdCommand(Codes, section="Command values", prefix="IOREGIONFD_CMD_", columns=("Name", "Value")):
    """Command values."""

    READ = 0
    WRITE = 1


class AccessSize(Codes, section="Access sizes", prefix="IOREGIONFD_", columns=("Name", "Value")):
    """Access sizes."""

    SIZE_8BIT = 0
    SIZE_16BIT = 1
    SIZE_32BIT = 2
    SIZE_64BIT = 3


class ProposalCommandInfo(
    Bits, section="ioregionfd_cmd / First proposal", prefix="IOREGIONFD_NEED_", labels={"CMD": "cmd", "SIZE": "size"}
):
    """First proposal, bits of info."""

    CMD = 0xF
    SIZE = 0x3 << 4
    PIO = 1 << 6
    RESPONSE = 1 << 7


class IoregionfdCmdProposal(Record, section="ioregionfd_cmd / First proposal"):
    """First proposal."""

    info: ProposalCommandInfo = row(0, Flags(Int32un, ProposalCommandInfo))
    region_id: int = row(4, Int32un)
    addr: int = row(8, Int64un)
    data: int = row(16, Int64un)
    pad: int = row(24, Int64un)


class CommandInfo(Bits, section="ioregionfd_cmd / Packed word", labels={"CMD": "cmd", "SIZE": "size", "RESP": "resp"}):
    """Packed word, bits of info."""

    CMD = 0xF
    SIZE = 0x3 << 4
    RESP = 1 << 6


class IoregionfdCmdPacked(Record, section="ioregionfd_cmd / Packed word"):
    """Packed word."""

    info: CommandInfo = row(0, Flags(Int32un, CommandInfo))
    padding: int = row(4, Int32un)
    user_data: int = row(8, Int64un)
    offset: int = row(16, Int64un)
    data: int = row(24, Int64un)


class SizeResp(Bits, section="ioregionfd_cmd / Split bytes", labels={"SIZE_EXPONENT": "size_exponent", "RESP": "resp"}):
    """Split bytes, bits of size_resp."""

    SIZE_EXPONENT = 0xF
    RESP = 1 << 4


class IoregionfdCmd(Record, section="ioregionfd_cmd / Split bytes"):
    """Split bytes."""

    cmd: int = row(0, Int8un, codes=IoregionfdCommand)
    size_resp: SizeResp = row(1, Flags(Int8un, SizeResp))
    padding: bytes = row(2, Bytes(6))
    user_data: int = row(8, Int64un)
    offset: int = row(16, Int64un)
    data: int = row(24, Int64un)


class ProposalResponseInfo(Bits, section="ioregionfd_resp / First proposal", prefix="IOREGIONFD_RESP_"):
    """First proposal, bits of info."""

    FAILED = 1 << 0


class IoregionfdRespProposal(Record, section="ioregionfd_resp / First proposal"):
    """First proposal."""

    data: int = row(0, Int64un)
    info: ProposalResponseInfo = row(8, Flags(Int32un, ProposalResponseInfo))
    pad: bytes = row(12, Bytes(20))


class IoregionfdResp(Record, section="ioregionfd_resp / Later form"):
    """Later form."""

    data: int = row(0, Int64un)
    pad: bytes = row(8, Bytes(24))


class IoeventfdFlags(Bits, section="kvm_ioeventfd / Released form", prefix="KVM_IOEVENTFD_FLAG_"):
    """Released form, bits of flags."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    DEASSIGN = 1 << 2
    VIRTIO_CCW_NOTIFY = 1 << 3


class KvmIoeventfd(Record, section="kvm_ioeventfd / Released form"):
    """Released form."""

    datamatch: int = row(0, Int64un)
    addr: int = row(8, Int64un)
    len: int = row(16, Int32un)
    fd: int = row(20, Int32un)
    flags: IoeventfdFlags = row(24, Flags(Int32un, IoeventfdFlags))
    pad: bytes = row(28, Bytes(36))


class ShadowIoeventfdFlags(Bits, section="kvm_ioeventfd / Shadow form", prefix="KVM_IOEVENTFD_FLAG_"):
    """Shadow form, bits of flags."""

    DATAMATCH = 1 << 0
    PIO = 1 << 1
    DEASSIGN = 1 << 2
    VIRTIO_CCW_NOTIFY = 1 << 3
    COMMIT_WRITE = 1 << 5


class KvmIoeventfdShadow(Record, section="kvm_ioeventfd / Shadow form"):
    """Shadow form."""

    datamatch: int = row(0, Int64un)
    addr: int = row(8, Int64un)
    vaddr: int = row(16, Int64un)
    len: int = row(24, Int32un)
    fd: int = row(28, Int32un)
    flags: ShadowIoeventfdFlags = row(32, Flags(Int32un, ShadowIoeventfdFlags))
    pad: bytes = row(36, Bytes(28))
