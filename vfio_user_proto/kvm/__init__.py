"""A guest in miniature: KVM by ioctls, one processor in real mode, and the bus that carries its accesses to a device."""

from vfio_user_proto.kvm.api import Vm, why_not
from vfio_user_proto.kvm.bus import GuestBus, RegionAccess, Space, Via, Wiring
from vfio_user_proto.kvm.inkernel import InKernel
from vfio_user_proto.kvm.micro import MicroVm
from vfio_user_proto.kvm.program import Program

__all__ = ["GuestBus", "InKernel", "MicroVm", "Program", "RegionAccess", "Space", "Via", "Vm", "Wiring", "why_not"]
