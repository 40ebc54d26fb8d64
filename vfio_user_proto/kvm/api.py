"""/dev/kvm by ioctls alone: a virtual machine, its memory, its processor, and descriptors for accesses of its guest."""

import ctypes
import errno
import fcntl
import mmap
import os
from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.closing import Closing
from vfio_user_proto.drafts import ioregionfd
from vfio_user_proto.drafts.ioregionfd import (
    IoeventfdFlags,
    IoregionFlags,
    KvmIoeventfd,
    KvmIoeventfdShadow,
    KvmIoregion,
    ShadowIoeventfdFlags,
)
from vfio_user_proto.drafts.kvm import KvmCall, KvmExit, KvmRegs, KvmRun, KvmSegment, KvmSregs, KvmUserspaceMemoryRegion
from vfio_user_proto.errors import KvmError
from vfio_user_proto.model import name_of

DEVICE: Final = "/dev/kvm"
API_VERSION: Final = 12
# Three guest pages that no memory covers, see KVM_SET_TSS_ADDR.
_TSS: Final = 0x7FF00000
_NO_FD: Final = 0xFFFFFFFF
_decode_run: Final = wire.plan_of(KvmRun).decode
_ioctl: Final = ctypes.CDLL(None, use_errno=True).ioctl
_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong)


def why_not() -> str:
    """Why no guest runs on this machine, in a few words; "" where one does: it is tried."""
    try:
        with Vm() as vm:
            vm.add_memory(0, mmap.PAGESIZE).view[0] = 0xF4  # hlt
            vcpu = vm.add_vcpu()
            vcpu.start(0)
            reason = vcpu.run()
    except KvmError as problem:
        return str(problem)
    return "" if reason == KvmExit.HLT else f"{DEVICE}: the guest stopped: {name_of(KvmExit, reason)}"


def call(fd: int, what: KvmCall | ioregionfd.KvmCall, argument: int | bytes | bytearray = 0) -> int:
    """One ioctl; a ``bytearray`` is filled in. Returns what the kernel does. Raises KvmError with the errno."""
    if fd < 0:
        raise KvmError(f"{what.document_name}: the machine is closed", errno.EBADF)
    try:
        result = fcntl.ioctl(fd, _number(what), argument)
    except OSError as problem:
        raise _failed(what, problem.errno or 0) from None
    return result if isinstance(result, int) else 0


def _number(what: KvmCall | ioregionfd.KvmCall) -> int:
    return int(what.notes[0], 16)


def _failed(what: KvmCall | ioregionfd.KvmCall, code: int) -> KvmError:
    return KvmError(f"{what.document_name}: {os.strerror(code)}", code)


class Mapping(Closing):
    """``size`` bytes of a file, seen here as ``view``. Only the kernel should touch memory that is somebody else's."""

    def __init__(self, fd: int, size: int) -> None:
        self.view: Final = mmap.mmap(fd, size)

    @property
    def address(self) -> int:
        """Where it lies in this process."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.view))

    def close(self) -> None:
        self.view.close()


class Memory(Mapping):
    """Memory of a guest, in an anonymous file (``fd``)."""

    def __init__(self, size: int) -> None:
        self.fd: Final = os.memfd_create("guest", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.fd, size)
            super().__init__(self.fd, size)
        except (OSError, ValueError):
            os.close(self.fd)
            raise

    def close(self) -> None:
        super().close()
        os.close(self.fd)


class Vm(Closing):
    """A virtual machine. Its methods raise KvmError: no KVM, or the kernel's refusal with its errno."""

    def __init__(self) -> None:
        try:
            system = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as problem:
            raise KvmError(f"{DEVICE}: {problem.strerror}", problem.errno or 0) from None
        try:
            if call(system, KvmCall.GET_API_VERSION) != API_VERSION:
                raise KvmError(f"{DEVICE}: not version {API_VERSION} of the interface")
            self._run_size = call(system, KvmCall.GET_VCPU_MMAP_SIZE)
            self._fd = call(system, KvmCall.CREATE_VM)
        finally:
            os.close(system)
        self._parts: list[Mapping | Vcpu] = []
        self._slots: list[KvmUserspaceMemoryRegion] = []

    def add_memory(self, address: int, size: int) -> Memory:
        """Put ``size`` bytes, whole pages, at a guest address; closed with the machine."""
        try:
            memory = Memory(size)
        except OSError as problem:
            raise KvmError(f"no memory for a guest: {problem.strerror}", problem.errno or 0) from None
        self._parts.append(memory)
        region = KvmUserspaceMemoryRegion(
            slot=len(self._slots), guest_phys_addr=address, memory_size=size, userspace_addr=memory.address
        )
        call(self._fd, KvmCall.SET_USER_MEMORY_REGION, wire.encode_record(region))
        self._slots.append(region)
        return memory

    def take_memory_away(self) -> None:
        """Take all memory from the guest: a processor that runs finds no instruction any more, and stops for good.

        The one way to stop it from another thread that needs no signal, and so no say in how a program handles signals.
        """
        for region in self._slots:
            call(self._fd, KvmCall.SET_USER_MEMORY_REGION, wire.encode_record(region.replace(memory_size=0)))
        self._slots.clear()

    def add_vcpu(self) -> "Vcpu":
        """Add a processor, in the state of a reset; closed with the machine."""
        call(self._fd, KvmCall.SET_TSS_ADDR, _TSS)
        number = sum(isinstance(part, Vcpu) for part in self._parts)
        vcpu = Vcpu(call(self._fd, KvmCall.CREATE_VCPU, number), self._run_size)
        self._parts.append(vcpu)
        return vcpu

    def extension(self, number: int) -> int:
        """KVM_CHECK_EXTENSION: what the kernel says about a capability, 0 for "no"."""
        return call(self._fd, KvmCall.CHECK_EXTENSION, number)

    def set_ioeventfd(
        self,
        fd: int,
        address: int,
        *,
        size: int = 0,
        port: bool = False,
        match: int | None = None,
        remove: bool = False,
    ) -> None:
        """Let stores of ``size`` bytes (0: of any width) at ``address`` signal ``fd``, with ``match`` only those of that value.

        Refused with EEXIST where another ioeventfd would count the same store, EINVAL for another size or for ``match``
        without a size. ``remove`` undoes a call with the same arguments (ENOENT where there was none).
        """
        call(
            self._fd,
            ioregionfd.KvmCall.IOEVENTFD,
            wire.encode_record(_ioeventfd(fd, address, size, port, match, remove)),
        )

    def commits_writes(self) -> bool:
        """Whether KVM_IOEVENTFD takes KVM_IOEVENTFD_FLAG_COMMIT_WRITE, which no released kernel does.

        Both forms of the structure have one size, so the question must harm neither reader: as the shadow form it is right
        but for its descriptor, EBADF; as the released form it has no flags and a length that does not exist, EINVAL.
        """
        question = KvmIoeventfdShadow(vaddr=mmap.PAGESIZE, fd=_NO_FD, flags=ShadowIoeventfdFlags.COMMIT_WRITE)
        return self._refusal(ioregionfd.KvmCall.IOEVENTFD, question) == errno.EBADF

    def set_shadow_ioeventfd(
        self,
        fd: int,
        address: int,
        memory: int,
        offset: int,
        *,
        size: int,
        port: bool = False,
        match: int | None = None,
    ) -> None:
        """The same as ``set_ioeventfd``, and the value of each store goes to byte ``offset`` of the file ``memory``.

        Only for a kernel that ``commits_writes``: another one would read something else in this structure. Raises KvmError
        with EFAULT where the file is too short.
        """
        plain = _ioeventfd(fd, address, size, port, match, remove=False)
        try:
            mapping = Mapping(memory, offset + (size or 8))
        except (OSError, ValueError, OverflowError) as problem:
            raise KvmError(f"the shadow memory cannot be mapped: {problem}", errno.EFAULT) from None
        self._parts.append(mapping)
        shadow = KvmIoeventfdShadow(
            datamatch=plain.datamatch,
            addr=address,
            vaddr=mapping.address + offset,
            len=size,
            fd=fd,
            flags=int(plain.flags) | ShadowIoeventfdFlags.COMMIT_WRITE,
        )
        call(self._fd, ioregionfd.KvmCall.IOEVENTFD, wire.encode_record(shadow))

    def has_ioregions(self) -> bool:
        """Whether there is KVM_SET_IOREGION, which no released kernel has.

        The numbers of its capability are taken by others since, so the call itself is asked, with a region of size zero that
        every series refuses; a kernel without the call answers ENOTTY.
        """
        question = KvmIoregion(read_fd=_NO_FD, write_fd=_NO_FD)
        return self._refusal(ioregionfd.KvmCall.SET_IOREGION, question) != errno.ENOTTY

    def set_ioregion(
        self, fd: int, address: int, size: int, user_data: int, *, port: bool = False, posted: bool = False
    ) -> None:
        """Send accesses to ``size`` bytes at ``address`` as commands to ``fd``, and read the responses there."""
        flags = IoregionFlags(0)
        if port:
            flags |= IoregionFlags.PIO
        if posted:
            flags |= IoregionFlags.POSTED_WRITES
        region = KvmIoregion(
            guest_paddr=address, memory_size=size, user_data=user_data, read_fd=fd, write_fd=fd, flags=flags
        )
        call(self._fd, ioregionfd.KvmCall.SET_IOREGION, wire.encode_record(region))

    def close(self) -> None:
        """Give back everything; the kernel forgets the descriptors that it was given."""
        for part in self._parts:
            part.close()
        self._parts.clear()
        os.close(self._fd)
        self._fd = -1

    def _refusal(self, what: ioregionfd.KvmCall, argument: KvmIoeventfdShadow | KvmIoregion) -> int:
        """The errno with which the kernel refuses a call that cannot succeed."""
        try:
            call(self._fd, what, wire.encode_record(argument))
        except KvmError as refusal:
            return refusal.errno or 0
        return 0


def _ioeventfd(fd: int, address: int, size: int, port: bool, match: int | None, remove: bool) -> KvmIoeventfd:
    flags = IoeventfdFlags(0)
    if port:
        flags |= IoeventfdFlags.PIO
    if match is not None:
        flags |= IoeventfdFlags.DATAMATCH
    if remove:
        flags |= IoeventfdFlags.DEASSIGN
    return KvmIoeventfd(datamatch=match or 0, addr=address, len=size, fd=fd, flags=flags)


class Vcpu(Closing):
    """A processor. ``shared`` is what it shares with the kernel: ``kvm_run``, then the values of ports."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._reset = fd, bytearray(KvmSregs.fixed_size)
        try:
            call(fd, KvmCall.GET_SREGS, self._reset)
            self.shared: Final = mmap.mmap(fd, size)
        except KvmError:
            os.close(fd)
            raise
        except OSError as problem:
            os.close(fd)
            raise KvmError(f"a processor cannot be mapped: {problem.strerror}", problem.errno or 0) from None

    def start(self, address: int) -> None:
        """As after a reset, in real mode with segments at 0, about to do the instruction at a guest address below 64 KiB."""
        self._finish()
        reset, _ = wire.decode_record(KvmSregs, bytes(self._reset))
        code, _ = wire.decode_record(KvmSegment, reset.cs)
        segment = wire.encode_record(code.replace(base=0, selector=0))
        call(self._fd, KvmCall.SET_SREGS, wire.encode_record(reset.replace(cs=segment)))
        call(self._fd, KvmCall.SET_REGS, wire.encode_record(KvmRegs(rip=address, rflags=2)))

    def run(self) -> int:
        """Run until the guest needs something; returns the exit reason. Signals are handled meanwhile."""
        while not self._enter():
            pass
        run: KvmRun = _decode_run(self.shared[: KvmRun.fixed_size], 0, KvmRun.fixed_size)[0]
        return run.exit_reason

    def close(self) -> None:
        self.shared.close()
        os.close(self._fd)

    def _finish(self) -> None:
        """Complete an access that nobody served, lest it writes to a register of what runs next; the guest does not go on."""
        at = KvmRun.rows["immediate_exit"].offset
        self.shared[at] = 1
        self._enter()
        self.shared[at] = 0

    def _enter(self) -> bool:
        """One KVM_RUN; False where it was interrupted, after which Python's own ioctl may begin it again by itself."""
        if not _ioctl(self._fd, _number(KvmCall.RUN), 0):
            return True
        if (code := ctypes.get_errno()) != errno.EINTR:
            raise _failed(KvmCall.RUN, code)
        return False
