"""Sets of the migration state that fail."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.feature import SET, feature, state
from vfio_user_conformance.cases.mig_state import (
    AT_HOME,
    HAZARDS,
    HOME,
    NEEDS,
    NOW,
    RESET,
    TAKEN_OR_NOT,
    S,
    in_state,
    to,
)
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import REFUSED, ErrorReply, Is, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import PRE_COPY
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.steps import Exchange, Script, exchange
from vfio_user_proto import wire
from vfio_user_proto.messages import DeviceFeature, DeviceState, FeatureMigDeviceState

WRONG = (S.ERROR, S.RUNNING_P2P, S.PRE_COPY_P2P, 8, 0xFFFFFFFF)
NO_ERROR = Reply(data=Is("that do not say ERROR", lambda data: len(data) == 8 and any(data[:4])))
REFUSAL = under("mig-state.unsupported", ErrorReply())
WHOLE = state(S.STOP)


def refusals(way: tuple[DeviceState, ...]) -> Script:
    """Sets that no device can follow, from the end of ``way``; the device is in a valid state, and remains in one."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        yield exchange((RESET, *map(to, way)), (Reply(),) * (1 + len(way)))
        for wanted in WRONG:
            yield exchange((to(wanted), NOW), (*REFUSAL, NO_ERROR))
        yield exchange(RESET, Reply())

    return script


def refused_in(start: DeviceState, *way: DeviceState) -> Case:
    """Sets that fail in a state."""
    name = start.name.lower().replace("_", "-")
    return Case(
        ident=f"mig-refused/in-{name}",
        requirement="mig-state.to-error",
        stimulus=f"in {start.name}, sets to ERROR, RUNNING_P2P, PRE_COPY_P2P and to states that do not exist",
        expect="an error reply to each, and a state other than ERROR",
        script=refusals(way),
        needs=(*NEEDS, *((PRE_COPY,) if start == S.PRE_COPY else ())),
        hazards=HAZARDS,
        catches=(f"mig-refused-in-{name}-is-error",),
    )


def same_state(facts: Facts) -> Generator[Exchange, Seen, None]:
    """A set to the state that the device is in, which the text neither has nor excludes."""
    seen = yield exchange(to(S.STOP), TAKEN_OR_NOT)
    taken = isinstance(seen, Received) and not seen.message.is_error
    there = (in_state(S.STOP),) if taken else under("mig-state.to-error", NO_ERROR)
    yield exchange((NOW, *HOME), (*there, *AT_HOME))


def short_states(facts: Facts) -> Generator[Exchange, Seen, None]:
    """A set with each number of bytes that is too few."""
    for end in range(len(WHOLE)):
        yield exchange(feature(DeviceFeature.MIG_DEVICE_STATE, SET, WHOLE[:end]), REFUSED)
    yield exchange((NOW, RESET), (in_state(S.RUNNING), Reply()))


def with_fd(number: int) -> bytes:
    """The data of a set to STOP with something in data_fd."""
    return wire.encode_record(FeatureMigDeviceState(device_state=S.STOP, data_fd=number))


CASES = [
    refused_in(S.RUNNING),
    refused_in(S.STOP, S.STOP),
    refused_in(S.STOP_COPY, S.STOP, S.STOP_COPY),
    refused_in(S.RESUMING, S.STOP, S.RESUMING),
    refused_in(S.PRE_COPY, S.PRE_COPY),
    Case(
        ident="mig-refused/same-state",
        requirement="mig-state.complete",
        given=(RESET, to(S.STOP)),
        stimulus="in STOP, a set to STOP",
        expect="STOP where it succeeds, and no ERROR where it is refused",
        script=same_state,
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("mig-state-again-is-back",),
    ),
    Case(
        ident="mig-refused/short-data",
        requirement="security.short-payload",
        given=(RESET,),
        stimulus="a set to STOP with 0 to 7 of its 8 bytes of data",
        expect=f"{REFUSED}, and RUNNING as before",
        script=short_states,
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("mig-state-short-data-taken",),
        note="libvfio-user efd091b reads behind the data and obeys 2 bytes of them (lib/libvfio-user.c:1039).",
    ),
    Case(
        ident="mig-refused/data-fd",
        requirement="mig-state.arcs",
        given=(RESET,),
        stimulus=(
            feature(DeviceFeature.MIG_DEVICE_STATE, SET, with_fd(0xFFFFFFFF)),
            NOW,
            to(S.RUNNING),
        ),
        expect=(Reply(), in_state(S.STOP), Reply()),
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("mig-state-data-fd-used",),
    ),
]
