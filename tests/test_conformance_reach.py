# What cases reach on the right server, and what a fault replaces: where the two do not meet the case cannot find the fault.
import pytest

from vfio_user_conformance.case import catalogue
from vfio_user_conformance.proof import unhurried
from vfio_user_conformance.reach import PLACES, Place, Reach, replaced
from vfio_user_proto.cli.judged import serving
from vfio_user_proto.dirty import DirtyLog
from vfio_user_proto.faults import FAULTS, Fault
from vfio_user_proto.faults.kit import refuse
from vfio_user_proto.interrupts import Interrupts
from vfio_user_proto.responder import Responder
from vfio_user_proto.session import Session


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("read-odd-width-refused", {(Responder, "region_read")}),
        ("irq-device-silent", {(Session, "trigger")}),
        ("irq-raised-once-only", {(Interrupts, "trigger")}),
    ],
)
def test_a_fault_replaces_functions(name: str, places: set[Place]) -> None:
    assert replaced(FAULTS[name]) == frozenset(places)


@pytest.mark.parametrize("name", ["cut-in-many-fails", "write-echoes-nothing"])
def test_a_fault_of_messages_can_show_anywhere(name: str) -> None:
    assert replaced(FAULTS[name]) is None


def test_a_fault_that_does_more_when_it_is_made_can_show_anywhere() -> None:
    begins = type("Begins", (refuse("dma_map", 22),), {"__init__": lambda self, *rest: Responder.__init__(self, *rest)})

    places = replaced(Fault("x", "Y.", responder=begins))

    assert places == frozenset({(Responder, "__init__"), (Responder, "dma_map")})


def test_cases_reach_what_their_commands_call(capfd: pytest.CaptureFixture[str]) -> None:
    every = catalogue()

    with capfd.disabled():  # the server is a fork of this process, with its standard output
        reach = Reach(unhurried, serving(()))
        info, raised, logged = (
            reach.of(every[ident]) for ident in ("device-info/reply", "set-irqs/raised-by-client", "dma-logging/report")
        )
        reach.close()

    assert {(Responder, "__init__"), (Responder, "version"), (Responder, "device_get_info")} <= info
    assert not info & {(Responder, "dma_map"), (Interrupts, "trigger")}
    assert {(Responder, "device_set_irqs"), (Interrupts, "trigger")} <= raised
    assert (DirtyLog, "report") in logged
    assert {*info, *raised, *logged} <= set(PLACES)
