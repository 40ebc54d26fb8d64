"""VFIO_USER_DEVICE_SET_IRQS on a type with the noresize flag: its interrupts are enabled as a set."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.set_irqs import HAZARDS
from vfio_user_conformance.cases.set_irqs_vectors import assign, disable, fire
from vfio_user_conformance.checks import Signalled
from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.expect import REFUSED, Either, Reply
from vfio_user_conformance.needs import AS_A_SET, TWO_FDS

A, B, NEW, SPARE = (EventFd(name=name) for name in ("A", "B", "C", "D"))
ONE, BOTH = assign(0, A, index=AS_A_SET), assign(0, A, B, index=AS_A_SET)

CASES = [
    Case(
        ident="set-irqs-sets/enabled-anew",
        requirement="get-irq-info.set-anew",
        given=(ONE,),
        stimulus=(disable(AS_A_SET), assign(0, NEW, B, index=AS_A_SET), fire(1, index=AS_A_SET)),
        expect=(Reply(), Reply(), Reply(), Signalled(B), Signalled(A, 0), Signalled(NEW, 0)),
        needs=(AS_A_SET, TWO_FDS),
        hazards=HAZARDS,
        catches=("irq-set-size-kept",),
    ),
    Case(
        ident="set-irqs-sets/one-replaced",
        requirement="set-irqs.eventfd",
        given=(BOTH,),
        stimulus=(assign(1, NEW, index=AS_A_SET), fire(1, index=AS_A_SET)),
        expect=(Reply(), Reply(), Signalled(NEW), Signalled(B, 0)),
        needs=(AS_A_SET, TWO_FDS),
        hazards=HAZARDS,
        catches=("irq-set-replaced-refused",),
        note="What is enabled already is no further interrupt; Linux's vfio-pci replaces it too.",
    ),
    Case(
        ident="set-irqs-sets/enlarged",
        requirement="get-irq-info.set-enlarged",
        given=(ONE,),
        stimulus=(assign(1, SPARE, index=AS_A_SET), fire(0, index=AS_A_SET)),
        expect=(Either(REFUSED, Reply()), Reply(), Signalled(A)),
        needs=(AS_A_SET,),
        hazards=HAZARDS,
        catches=("irq-set-enlarged-crash",),
    ),
]
