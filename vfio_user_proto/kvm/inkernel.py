"""KVM as the one who serves sub-regions, so that the accesses to them do not leave the kernel."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from vfio_user_proto.device import match_of, shadow_of
from vfio_user_proto.errors import KvmError
from vfio_user_proto.kvm.api import Vm
from vfio_user_proto.kvm.bus import Space
from vfio_user_proto.messages import IoregionfdSubRegion, IoregionFlags, SubRegion


class InKernel:
    """A ``bus.Kernel``: registers with a virtual machine what its kernel offers.

    Ioeventfds are in every kernel; shadow memory and ioregionfds in none that was released, and are tried where they are.
    """

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._ioeventfds: list[Callable[..., None]] = []
        self.commits_writes: Final = vm.commits_writes()
        self.has_ioregions: Final = vm.has_ioregions()

    def take(self, space: Space, address: int, sub_region: SubRegion, fd: int, shadow: int | None) -> str:
        """See ``bus.Kernel``; the reason is the missing feature, or the kernel's refusal."""
        ports = space is Space.PORTS
        record = shadow_of(sub_region)
        if isinstance(sub_region, IoregionfdSubRegion) and not self.has_ioregions:
            return "this kernel has no KVM_SET_IOREGION"
        if record is not None and not self.commits_writes:
            return "this kernel has no KVM_IOEVENTFD_FLAG_COMMIT_WRITE"
        size, match = sub_region.size, match_of(sub_region)
        try:
            if isinstance(sub_region, IoregionfdSubRegion):
                posted = bool(sub_region.flags & IoregionFlags.POSTED_WRITES)
                self._vm.set_ioregion(fd, address, size, sub_region.user_data, port=ports, posted=posted)
            elif record is not None and shadow is not None:
                offset = record.shadow_offset
                self._vm.set_shadow_ioeventfd(fd, address, shadow, offset, size=size, port=ports, match=match)
            else:
                self._set_ioeventfd(fd, address, size=size, port=ports, match=match)
        except KvmError as refusal:
            return str(refusal)
        return ""

    def release(self) -> None:
        """See ``bus.Kernel``; shadow memory and ioregionfds stay with the virtual machine, their series have no way back."""
        for same in self._ioeventfds:
            with contextlib.suppress(KvmError):  # the machine is closed: that has removed them
                same(remove=True)
        self._ioeventfds.clear()

    def _set_ioeventfd(self, fd: int, address: int, *, size: int, port: bool, match: int | None) -> None:
        same = partial(self._vm.set_ioeventfd, fd, address, size=size, port=port, match=match)
        same()
        self._ioeventfds.append(same)
