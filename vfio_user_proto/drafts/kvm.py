# GENERATED from spec/kvm.rst and spec/overlay/kvm.toml by "vfio-user spec generate"; do not edit.
"""KVM for a small virtual machine: every table of the document as a declaration."""

from construct import Bytes, Int8un, Int16un, Int32un, Int64un

from vfio_user_proto.model import Codes, Record, row


class KvmCall(Codes, section="Calls", prefix="KVM_", columns=("Name", "Number", "Request")):
    """Calls."""

    GET_API_VERSION = 0, "0x0000ae00"
    CREATE_VM = 1, "0x0000ae01"
    CHECK_EXTENSION = 3, "0x0000ae03"
    GET_VCPU_MMAP_SIZE = 4, "0x0000ae04"
    CREATE_VCPU = 65, "0x0000ae41"
    SET_USER_MEMORY_REGION = 70, "0x4020ae46"
    SET_TSS_ADDR = 71, "0x0000ae47"
    RUN = 128, "0x0000ae80"
    SET_REGS = 130, "0x4090ae82"
    GET_SREGS = 131, "0x8138ae83"
    SET_SREGS = 132, "0x4138ae84"


class KvmExit(Codes, section="Exit reasons", prefix="KVM_EXIT_", columns=("Name", "Value")):
    """Exit reasons."""

    UNKNOWN = 0
    EXCEPTION = 1
    IO = 2
    HLT = 5
    MMIO = 6
    SHUTDOWN = 8
    FAIL_ENTRY = 9
    INTR = 10
    INTERNAL_ERROR = 17


class KvmUserspaceMemoryRegion(Record, section="kvm_userspace_memory_region"):
    """kvm_userspace_memory_region."""

    slot: int = row(0, Int32un)
    flags: int = row(4, Int32un)
    guest_phys_addr: int = row(8, Int64un)
    memory_size: int = row(16, Int64un)
    userspace_addr: int = row(24, Int64un)


class KvmRun(Record, section="kvm_run"):
    """kvm_run."""

    request_interrupt_window: int = row(0, Int8un)
    immediate_exit: int = row(1, Int8un)
    padding1: bytes = row(2, Bytes(6))
    exit_reason: int = row(8, Int32un, codes=KvmExit)
    ready_for_interrupt_injection: int = row(12, Int8un)
    if_flag: int = row(13, Int8un)
    flags: int = row(14, Int16un)
    cr8: int = row(16, Int64un)
    apic_base: int = row(24, Int64un)


class KvmExitIo(Record, section="Access to a port"):
    """Access to a port."""

    direction: int = row(0, Int8un)
    size: int = row(1, Int8un)
    port: int = row(2, Int16un)
    count: int = row(4, Int32un)
    data_offset: int = row(8, Int64un)


class KvmExitMmio(Record, section="Access to trapped memory"):
    """Access to trapped memory."""

    phys_addr: int = row(0, Int64un)
    data: int = row(8, Int64un)
    len: int = row(16, Int32un)
    is_write: int = row(20, Int8un)


class KvmRegs(Record, section="kvm_regs"):
    """kvm_regs."""

    general: bytes = row(0, Bytes(128))
    rip: int = row(128, Int64un)
    rflags: int = row(136, Int64un)


class KvmSregs(Record, section="kvm_sregs"):
    """kvm_sregs."""

    cs: bytes = row(0, Bytes(24))
    rest: bytes = row(24, Bytes(288))


class KvmSegment(Record, section="kvm_segment"):
    """kvm_segment."""

    base: int = row(0, Int64un)
    limit: int = row(8, Int32un)
    selector: int = row(12, Int16un)
    attributes: bytes = row(14, Bytes(10))
