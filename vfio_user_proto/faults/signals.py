"""Faults of interrupts: who is signalled, and what is masked."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from vfio_user_proto import unix
from vfio_user_proto.device import Device
from vfio_user_proto.faults.dma_messages import session
from vfio_user_proto.faults.kit import Fault, crash, die, instead, method, refuse, right
from vfio_user_proto.interrupts import MASK, TRIGGER, UNMASK, Interrupts
from vfio_user_proto.memory import DmaMap
from vfio_user_proto.messages import DeviceSetIrqsRequest, IrqSetFlags
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.session import Session

NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
# The type of the test device that has several interrupts, and how many.
INDEX, COUNT, INTX = 2, 4, 0


def irqs(name: str, mistake: str, **methods: Any) -> Fault:
    """A server with other interrupts."""
    table = type("Faulty", (Interrupts,), methods)

    class Faulty(Responder):
        replaces = (table,)

        def __init__(self, device: Device, dma: DmaMap, irqs: Interrupts, *rest: Any) -> None:
            super().__init__(device, dma, irqs, *rest)
            irqs.__class__ = table

    return Fault(name, mistake, responder=Faulty)


def _requests(name: str, mistake: str, change: Callable[[DeviceSetIrqsRequest], DeviceSetIrqsRequest]) -> Fault:
    """A server that takes requests for others."""
    return Fault(name, mistake, responder=instead("device_set_irqs", change))


def _dies(name: str, mistake: str, when: Callable[[DeviceSetIrqsRequest], Any]) -> Fault:
    return Fault(name, mistake, responder=crash("device_set_irqs", when))


def _does(request: DeviceSetIrqsRequest, data: IrqSetFlags, action: IrqSetFlags = TRIGGER) -> bool:
    return request.flags == data | action


Descriptors = Sequence[int | None]


def _first_for_all(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    first = fds[0]
    copies = [None if first is None else os.dup(first) for _ in fds]
    unix.close_all(fd for fd in fds if fd is not None)
    Interrupts.assign(self, index, start, action, copies)


def _at_zero(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    Interrupts.assign(self, index, 0, action, fds)


def _clearing(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    self.disable(index)
    Interrupts.assign(self, index, start, action, fds)


def _to_all(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    """A second eventfd for an interrupt replaces those of all."""
    vectors = self._vectors[index]
    fd = fds[0]
    if fd is None or action not in vectors[start].events:
        return Interrupts.assign(self, index, start, action, fds)
    Interrupts.assign(self, index, 0, action, [os.dup(fd) for _ in vectors])
    return os.close(fd)


def _ends_at_count(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    if fds[0] is None:
        for vector in range(start, len(fds)):
            Interrupts.assign(self, index, vector, action, [None])
    else:
        Interrupts.assign(self, index, start, action, fds)


def _takes_one(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    Interrupts.assign(self, index, start, action, fds[:1] if fds[0] is None else fds)


def _takes_all(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    if fds[0] is None:
        self.disable(index)
    else:
        Interrupts.assign(self, index, start, action, fds)


def _takes_for_ever(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    gone = self.__dict__.setdefault("gone", set())
    if fds[0] is None:
        gone.add((index, start))
        Interrupts.assign(self, index, start, action, fds)
    elif (index, start) in gone:
        unix.close_all(fd for fd in fds if fd is not None)
    else:
        Interrupts.assign(self, index, start, action, fds)


def _shares(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    """The vectors of all types are one array."""
    for other in self._vectors:
        if other != index:
            room = len(self._vectors[other]) - start
            Interrupts.assign(
                self, other, start, action, [fd if fd is None else os.dup(fd) for fd in fds[: max(room, 0)]]
            )
    Interrupts.assign(self, index, start, action, fds)


def _takes_of_all(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    for other in self._vectors if fds[0] is None else ():
        Interrupts.assign(self, other, start, action, fds[: max(len(self._vectors[other]) - start, 0)])
    Interrupts.assign(self, index, start, action, fds)


def _all_vectors(self: Any, index: int, vector: int) -> None:
    for each in range(len(self._vectors[index])):
        Interrupts.trigger(self, index, each)


def _all_types(self: Any, index: int, vector: int) -> None:
    for each in self._vectors:
        Interrupts.trigger(self, each, vector)


def _once(self: Any, index: int, vector: int) -> None:
    known = self.__dict__.setdefault("raised", set())
    if (index, vector) not in known:
        known.add((index, vector))
        Interrupts.trigger(self, index, vector)


def _blocking(self: Any, index: int, vector: int) -> None:
    for one in self._vectors[index][vector : vector + 1]:
        if TRIGGER in one.events and not one.masked:
            os.eventfd_write(one.events[TRIGGER], 1)


def _not_without(self: Any, index: int, vector: int) -> None:
    if vector and TRIGGER not in self._vectors[index][vector].events:
        die()
    Interrupts.trigger(self, index, vector)


def _first_vector(self: Any, index: int) -> None:
    Interrupts.assign(self, index, 0, TRIGGER, [None])


def _every_type(self: Any, index: int) -> None:
    for each in self._vectors:
        Interrupts.disable(self, each)


def _disabled_for_ever(self: Any, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
    disabled = self.__dict__.setdefault("disabled", set())
    if not request.count:
        disabled.add(request.index)
    elif request.index in disabled:
        return None, ()
    return right("device_set_irqs", self, request, fds)


def _outliving() -> dict[str, Any]:
    """Keeps the eventfds of clients that left: interrupts of the next one signal them too."""
    old: dict[tuple[int, int], int] = {}

    def clear(self: Any) -> None:
        for index, vectors in self._vectors.items():
            for number, vector in enumerate(vectors):
                if TRIGGER in vector.events:
                    old[index, number] = os.dup(vector.events[TRIGGER])
        Interrupts.clear(self)

    def trigger(self: Any, index: int, vector: int) -> None:
        if (index, vector) in old:
            os.eventfd_write(old[index, vector], 1)
        Interrupts.trigger(self, index, vector)

    return {"clear": clear, "trigger": trigger}


def _all_there(self: Any, request: DeviceSetIrqsRequest, fds: list[int]) -> Answer:
    return die() if 0 < len(fds) < request.count else right("device_set_irqs", self, request, fds)


# Booleans.


def _booleans(change: Callable[[int, bytes], bytes]) -> Callable[[DeviceSetIrqsRequest], DeviceSetIrqsRequest]:
    return lambda r: r.replace(data=change(r.start, r.data)) if r.flags & BOOL else r


def _by_vector(start: int, data: bytes) -> bytes:
    return data[start:].ljust(len(data), b"\0")


def _all_true(*actions: IrqSetFlags) -> Callable[[DeviceSetIrqsRequest], DeviceSetIrqsRequest]:
    return lambda r: r.replace(data=b"\1" * len(r.data)) if any(_does(r, BOOL, action) for action in actions) else r


# Masks.


def _from_zero(request: DeviceSetIrqsRequest) -> DeviceSetIrqsRequest:
    return request.replace(start=0) if _does(request, NONE, MASK) else request


def _of_all(action: IrqSetFlags) -> Callable[[DeviceSetIrqsRequest], DeviceSetIrqsRequest]:
    """Where a type has several interrupts, ``action`` is for all of them."""

    def change(request: DeviceSetIrqsRequest) -> DeviceSetIrqsRequest:
        several = request.index == INDEX and _does(request, NONE, action)
        return request.replace(start=0, count=COUNT) if several else request

    return change


def _mask_ignored(self: Any, index: int, vector: int, masked: bool) -> None:
    return


def _never_unmasked(self: Any, index: int, vector: int, masked: bool) -> None:
    if masked:
        Interrupts.mask(self, index, vector, True)


def _types_share(self: Any, index: int, vector: int, masked: bool) -> None:
    for each, vectors in self._vectors.items():
        if vector < len(vectors):
            Interrupts.mask(self, each, vector, masked)


def _unmask_signals(self: Any, index: int, vector: int, masked: bool) -> None:
    Interrupts.mask(self, index, vector, masked)
    if not masked:
        Interrupts.trigger(self, index, vector)


def _masks_at_once(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    Interrupts.assign(self, index, start, action, fds)
    for vector in range(start, start + len(fds)):
        if action == MASK:
            self.mask(index, vector, True)


def _unmasks_at_once(self: Any, index: int, start: int, action: IrqSetFlags, fds: Descriptors) -> None:
    Interrupts.assign(self, index, start, action, fds)
    for vector in range(start, start + len(fds)):
        if action == UNMASK:
            self.mask(index, vector, False)


# The device.


def _device_all(self: Any, index: int, vector: int) -> None:
    _all_vectors(self._irqs, index, vector)


def _device_any_type(self: Any, index: int, vector: int) -> None:
    _all_types(self._irqs, index, vector)


def _device_once(self: Any, index: int, vector: int) -> None:
    known = self.device.__dict__.setdefault("raised", set())
    if (index, vector) not in known:
        known.add((index, vector))
        Session.trigger(self, index, vector)


def _device_not_without(self: Any, index: int, vector: int) -> None:
    if TRIGGER not in self._irqs._vectors[index][vector].events:
        die()
    Session.trigger(self, index, vector)


def _device_blocking(self: Any, index: int, vector: int) -> None:
    _blocking(self._irqs, index, vector)


def _device_twice(self: Any, index: int, vector: int) -> None:
    Session.trigger(self, index, vector)
    Session.trigger(self, index, vector)


FAULTS: tuple[Fault, ...] = (
    irqs("irq-first-descriptor-for-all", "A message has one eventfd.", assign=_first_for_all),
    irqs("irq-assign-start-ignored", "Eventfds are for the interrupts from 0 on.", assign=_at_zero),
    Fault(
        "irq-last-vector-refused",
        "The last interrupt is the count.",
        responder=refuse("device_set_irqs", 22, lambda r: r.index == INDEX and r.start + r.count >= COUNT),
    ),
    irqs("irq-assign-clears-others", "What is set replaces what was set.", assign=_clearing),
    irqs("irq-replaces-all", "There is one eventfd for all.", assign=_to_all),
    irqs("irq-raised-once-only", "An interrupt that was raised is.", trigger=_once),
    _requests(
        "irq-raise-start-ignored",
        "What is raised begins at 0.",
        lambda r: r.replace(start=0) if _does(r, NONE) and r.count > 1 else r,
    ),
    irqs("irq-raises-all", "All interrupts of a type are one.", trigger=_all_vectors),
    irqs("irq-without-descriptor-crash", "Every interrupt has an eventfd.", trigger=_not_without),
    _requests("irq-first-boolean-for-all", "One byte decides.", _booleans(lambda start, data: data[:1] * len(data))),
    _requests("irq-booleans-by-vector", "Byte i is that of interrupt i.", _booleans(_by_vector)),
    irqs(
        "irq-taking-away-ends-at-count",
        "The end of a range is its count (libvfio-user efd091b).",
        assign=_ends_at_count,
    ),
    irqs("irq-takes-one-away", "One eventfd goes at a time.", assign=_takes_one),
    irqs("irq-takes-all-away", "All eventfds go at a time.", assign=_takes_all),
    irqs("irq-taken-for-ever", "What was taken away is not given again.", assign=_takes_for_ever),
    irqs("irq-disables-first", "A type has one interrupt.", disable=_first_vector),
    Fault("irq-disabled-for-ever", "A type is disabled once.", responder=method("device_set_irqs", _disabled_for_ever)),
    irqs("irq-disables-all-types", "The types share their interrupts (libvfio-user efd091b).", disable=_every_type),
    irqs("irq-types-share-descriptors", "The types share their eventfds (libvfio-user efd091b).", assign=_shares),
    irqs("irq-takes-of-all-types", "What is taken away is taken from all types.", assign=_takes_of_all),
    irqs("irq-type-ignored", "An interrupt is known by its number alone.", trigger=_all_types),
    irqs("irq-outlives-client", "Eventfds are kept for ever.", **_outliving()),
    irqs("irq-full-descriptor-blocks", "An eventfd takes every write (libvfio-user efd091b).", trigger=_blocking),
    _dies(
        "irq-start-alone-checked-crash",
        "A range that begins ends.",
        lambda r: r.index == INDEX and r.start < COUNT < r.start + r.count < 8,
    ),
    _dies("irq-sum-of-32-bits-crash", "The end of a range has 32 bits.", lambda r: r.start + r.count == 1 << 32),
    _dies(
        "irq-sum-wraps-crash",
        "A range lies before 2^32.",
        lambda r: r.start and r.start + r.count > 1 << 32 and r.flags & EVENTFD,
    ),
    _dies("irq-no-eventfds-crash", "There is an eventfd.", lambda r: r.flags & EVENTFD and not r.count),
    _dies("irq-no-booleans-crash", "There is a boolean.", lambda r: r.flags & BOOL and not r.count),
    _dies("irq-empty-at-end-crash", "A range begins in the type.", lambda r: r.start == COUNT and not r.count),
    _dies("irq-more-booleans-crash", "The booleans fit.", lambda r: r.flags & BOOL and len(r.data) > r.count),
    Fault("irq-fewer-eventfds-crash", "The eventfds are there.", responder=method("device_set_irqs", _all_there)),
    irqs("irq-mask-ignored", "Nothing is masked.", mask=_mask_ignored),
    _requests("irq-mask-start-ignored", "What is masked begins at 0.", _from_zero),
    _requests("irq-masks-all", "A mask is for the type.", _of_all(MASK)),
    _requests("irq-mask-booleans-ignored", "What is named is masked (libvfio-user efd091b).", _all_true(MASK)),
    irqs("irq-never-unmasked", "What is masked stays so.", mask=_never_unmasked),
    _requests("irq-unmasks-all", "A mask is lifted for the type.", _of_all(UNMASK)),
    _requests("irq-unmask-booleans-ignored", "What is named is unmasked (libvfio-user efd091b).", _all_true(UNMASK)),
    irqs("irq-mask-types-share", "A mask is for all types.", mask=_types_share),
    irqs("irq-unmask-signals", "What is unmasked is raised.", mask=_unmask_signals),
    irqs(
        "irq-mask-descriptor-masks",
        "With an eventfd, a mask is set at once (libvfio-user efd091b).",
        assign=_masks_at_once,
    ),
    irqs(
        "irq-unmask-descriptor-unmasks",
        "With an eventfd, a mask is lifted at once (libvfio-user efd091b).",
        assign=_unmasks_at_once,
    ),
    _dies(
        "irq-mask-beyond-crash",
        "What is masked exists.",
        lambda r: r.flags & (MASK | UNMASK) and r.start + r.count > COUNT,
    ),
    session("irq-device-silent", "The device raises nothing.", trigger=lambda self, index, vector: None),
    session("irq-device-twice", "To be sure, an interrupt is raised twice.", trigger=_device_twice),
    session("irq-device-once", "The device raises an interrupt once.", trigger=_device_once),
    session("irq-device-raises-all", "The device has one interrupt.", trigger=_device_all),
    session("irq-device-type-ignored", "The device has one type of interrupts.", trigger=_device_any_type),
    session("irq-device-full-descriptor-blocks", "The device's eventfds take every write.", trigger=_device_blocking),
    session("irq-device-without-descriptor-crash", "The device has an eventfd.", trigger=_device_not_without),
)
