"""A micro virtual machine: 64 KiB of memory, one processor in real mode, and a bus for everything else."""

import time
from collections import Counter
from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.closing import Closing
from vfio_user_proto.drafts.kvm import KvmExit, KvmExitIo, KvmExitMmio, KvmRun
from vfio_user_proto.errors import KvmError
from vfio_user_proto.kvm.api import Memory, Vcpu, Vm
from vfio_user_proto.kvm.bus import GuestBus, Space
from vfio_user_proto.kvm.program import Program
from vfio_user_proto.kvm.watchdog import Watchdog
from vfio_user_proto.model import name_of

SIZE: Final = 1 << 16
START: Final = 0x1000
# Where an exception would go: into the hole above 1 MiB, so that it ends the run instead of going round in circles.
_VECTORS: Final = b"\xff" * 0x400
_decode_io: Final = wire.plan_of(KvmExitIo).decode
_decode_mmio: Final = wire.plan_of(KvmExitMmio).decode
_MMIO_DATA: Final = KvmRun.fixed_size + KvmExitMmio.rows["data"].offset


class MicroVm(Closing):
    """Runs programs; ``memory`` is at guest address 0, and what lies above it is trapped, as are ports.

    Raises KvmError where KVM does not work here.
    """

    def __init__(self) -> None:
        self.vm: Final = Vm()
        try:
            self.memory: Final[Memory] = self.vm.add_memory(0, SIZE)
            self.memory.view[: len(_VECTORS)] = _VECTORS
            self._vcpu: Final[Vcpu] = self.vm.add_vcpu()
            self._watchdog: Final = Watchdog(self.vm.take_memory_away)
        except KvmError:
            self.vm.close()
            raise

    def load(self, program: Program) -> None:
        """Put ``program`` into memory; it is what ``run`` begins with."""
        self.memory.view[START : START + len(program.code)] = program.code
        self._vcpu.start(START)

    def run(self, bus: GuestBus, *, timeout: float = 60.0) -> Counter[Space]:
        """Run until HLT, the accesses going to ``bus``. Returns how often the processor left the kernel for one.

        Raises KvmError where the processor cannot go on, and what the bus raises. A program that does not end within
        ``timeout`` seconds is stopped with a KvmError, and the machine runs no other.
        """
        self._watchdog.arm(time.monotonic() + timeout)
        try:
            return self._run(bus)
        except KvmError:
            if self._watchdog.barked:
                raise KvmError(f"the guest did not come to its end within {timeout:g} s") from None
            raise
        finally:
            self._watchdog.disarm()

    def _run(self, bus: GuestBus) -> Counter[Space]:
        exits: Counter[Space] = Counter()
        while (reason := self._vcpu.run()) != KvmExit.HLT:
            if self._watchdog.barked or reason not in (KvmExit.MMIO, KvmExit.IO):
                raise KvmError(f"the guest stopped: {name_of(KvmExit, reason)}")
            if reason == KvmExit.MMIO:
                exits[Space.MEMORY] += 1
                self._access_memory(bus)
            else:
                exits[Space.PORTS] += 1
                self._access_port(bus)
        return exits

    def number(self, address: int) -> int:
        """4 bytes of guest memory: what ``Program.keep`` left there."""
        return int.from_bytes(self.memory.view[address : address + 4], "little")

    def close(self) -> None:
        self._watchdog.close()
        self.vm.close()

    def _access_memory(self, bus: GuestBus) -> None:
        shared = self._vcpu.shared
        tells = shared[KvmRun.fixed_size : KvmRun.fixed_size + KvmExitMmio.fixed_size]
        access: KvmExitMmio = _decode_mmio(tells, 0, len(tells))[0]
        value = slice(_MMIO_DATA, _MMIO_DATA + access.len)
        if access.is_write:
            bus.store(Space.MEMORY, access.phys_addr, shared[value])
        else:
            shared[value] = bus.load(Space.MEMORY, access.phys_addr, access.len)

    def _access_port(self, bus: GuestBus) -> None:
        shared = self._vcpu.shared
        tells = shared[KvmRun.fixed_size : KvmRun.fixed_size + KvmExitIo.fixed_size]
        access: KvmExitIo = _decode_io(tells, 0, len(tells))[0]
        for at in range(access.data_offset, access.data_offset + access.size * access.count, access.size):
            if access.direction:
                bus.store(Space.PORTS, access.port, shared[at : at + access.size])
            else:
                shared[at : at + access.size] = bus.load(Space.PORTS, access.port, access.size)
