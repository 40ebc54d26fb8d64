"""The client's side of the interrupts: which eventfd is signalled when, what is masked, what is pending."""

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from typing import Final

from vfio_user_proto import eventfds, unix
from vfio_user_proto.device import Irq
from vfio_user_proto.messages import IrqInfoFlags, IrqSetFlags

MASK, UNMASK, TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER


class Vector:
    """One interrupt: an eventfd per action (ours, or None), and whether it is masked, was raised meanwhile, is asserted."""

    __slots__ = ("asserted", "events", "masked", "pending")

    def __init__(self) -> None:
        self.events: dict[IrqSetFlags, int] = {}
        self.masked = self.pending = self.asserted = False


class Interrupts:
    """All interrupts of one device, by kind and vector (section VFIO_USER_DEVICE_SET_IRQS)."""

    def __init__(self, irqs: Mapping[int, Irq]) -> None:
        self._automasked: Final = {index for index, irq in irqs.items() if irq.flags & IrqInfoFlags.AUTOMASKED}
        # Of each kind that is enabled as one set how many vectors that has; 0 while it is disabled.
        self._sets: Final = {index: 0 for index, irq in irqs.items() if irq.flags & IrqInfoFlags.NORESIZE}
        self._vectors: Final = {index: [Vector() for _ in range(irq.count)] for index, irq in irqs.items()}

    def trigger(self, index: int, vector: int) -> None:
        """Raise one interrupt: signal its eventfd, or remember it while it is masked. One that does not exist is ignored."""
        vectors = self._vectors.get(index, ())
        if not 0 <= vector < len(vectors):
            return
        one = vectors[vector]
        if one.masked:
            one.pending = True
            return
        _signal(one.events.get(TRIGGER))
        if index in self._automasked and TRIGGER in one.events:
            self.mask(index, vector, True)

    def level(self, index: int, vector: int, asserted: bool) -> None:
        """Assert one interrupt, which must exist, or take that back: then it is neither pending nor raised again."""
        one = self._vectors[index][vector]
        rises = asserted and not one.asserted
        one.asserted = asserted
        if rises:
            self.trigger(index, vector)
        elif not asserted:
            one.pending = False

    def mask(self, index: int, vector: int, masked: bool) -> None:
        """Mask or unmask one interrupt; on a change its eventfd is signalled, and what is pending or asserted is raised."""
        one = self._vectors[index][vector]
        if one.masked == masked:
            return
        one.masked = masked
        _signal(one.events.get(MASK if masked else UNMASK))
        if not masked and (one.pending or one.asserted):
            one.pending = False
            self.trigger(index, vector)

    def assign(self, index: int, start: int, action: IrqSetFlags, fds: Sequence[int | None]) -> None:
        """Set the eventfd of ``action`` for the vectors from ``start`` on, and own it; None takes the present one away.

        A vector that is asserted is raised with its new eventfd at once. Of a kind with NORESIZE the first call for TRIGGER
        enables the vectors up to its last one as a set, which has this size until the kind is disabled. Raises OSError
        (EINVAL) for what is no eventfd, and beyond that set; nothing is changed then and the descriptors stay the caller's.
        """
        for fd in fds:
            if fd is not None and unix.kind_of(fd) != "eventfd":
                raise OSError(errno.EINVAL, "no eventfd")
        if index in self._sets and action == TRIGGER and any(fd is not None for fd in fds):
            if 0 < self._sets[index] < start + len(fds):
                raise OSError(errno.EINVAL, "beyond the vectors that are enabled")
            self._sets[index] = self._sets[index] or start + len(fds)
        pairs = list(zip(self._vectors[index][start:], fds, strict=False))
        for vector, fd in pairs:
            before = vector.events.pop(action, None)
            if before is not None:
                os.close(before)
            if fd is not None:
                vector.events[action] = fd
        # They are ours by now: an eventfd that cannot be signalled is no reason to refuse them.
        for number, (vector, fd) in enumerate(pairs, start):
            if fd is not None and vector.asserted and action == TRIGGER:
                with contextlib.suppress(OSError):
                    self.trigger(index, number)

    def disable(self, index: int) -> None:
        """Take every eventfd of one kind away, and what is masked and pending with it."""
        if index in self._sets:
            self._sets[index] = 0
        for vector in self._vectors[index]:
            unix.close_all(vector.events.values())
            vector.events.clear()
            vector.masked = vector.pending = False

    def clear(self) -> None:
        """Disable all kinds."""
        for index in self._vectors:
            self.disable(index)


def _signal(fd: int | None) -> None:
    """Signal an eventfd that is the client's too; one that is full has been signalled already."""
    if fd is not None:
        eventfds.signal(fd)
