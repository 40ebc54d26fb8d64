"""Faults of interrupts whose type has a flag: what masks itself, and what is enabled as a set."""

import errno
from typing import Any

from vfio_user_proto.faults.kit import Fault, die
from vfio_user_proto.faults.signals import Descriptors, irqs
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.messages import IrqSetFlags


def _never_masks_itself(self: Any, index: int, vector: int) -> None:
    one = self._vectors[index][vector]
    masked = one.masked
    Interrupts.trigger(self, index, vector)
    one.masked = masked


def _masked_by_itself_stays(self: Any, index: int, vector: int, masked: bool) -> None:
    if masked or index not in self._automasked:
        Interrupts.mask(self, index, vector, masked)


# Sets.


def _size_kept(self: Any, index: int) -> None:
    size = self._sets.get(index)
    Interrupts.disable(self, index)
    if size:
        self._sets[index] = size


def _not_replaced(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    if self._sets.get(index) and fds[0] is not None:
        raise OSError(errno.EBUSY, "the set is enabled")
    Interrupts.assign(self, index, start, action, fds)


def _no_room(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    if 0 < self._sets.get(index, 0) < start + len(fds):
        die()
    Interrupts.assign(self, index, start, action, fds)


FAULTS: tuple[Fault, ...] = (
    irqs("irq-automask-ignored", "What masks itself is flagged, and not masked.", trigger=_never_masks_itself),
    irqs("irq-automask-stays", "What has masked itself is never unmasked.", mask=_masked_by_itself_stays),
    irqs("irq-set-size-kept", "A set keeps the size that it had first.", disable=_size_kept),
    irqs("irq-set-replaced-refused", "A set that is enabled is not touched.", assign=_not_replaced),
    irqs("irq-set-enlarged-crash", "A set never grows.", assign=_no_room),
)
