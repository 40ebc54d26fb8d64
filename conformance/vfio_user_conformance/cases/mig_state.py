"""VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: every arc, ways of several arcs, and what is no way; each begins with a reset."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.feature import GET, SET, feature, state
from vfio_user_conformance.checks import AfterCheck, under
from vfio_user_conformance.expect import Either, ErrorReply, Expectation, Is, Reply, Unjudged
from vfio_user_conformance.facts import Fact, Facts
from vfio_user_conformance.needs import MIGRATION, NO_PRE_COPY, PRE_COPY, RESETTABLE
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceState,
    MigDataWriteRequest,
)

S = DeviceState
STATE = DeviceFeature.MIG_DEVICE_STATE
RESET = Send(Command.DEVICE_RESET)
NEEDS = (MIGRATION, RESETTABLE)
HAZARDS = frozenset({"migration", "reset"})
NOW = feature(DeviceFeature.MIG_DEVICE_STATE, GET, argsz=16)
DAMAGED = Send(MigDataWriteRequest(data=b"no state of a device"))
TAKEN_OR_NOT = Either(Reply(), ErrorReply())
# Back to RUNNING from wherever the device is, for who comes next; how well that goes is judged elsewhere.
HOME, AT_HOME = (RESET, feature(DeviceFeature.MIG_DEVICE_STATE, SET, state(S.RUNNING))), (Unjudged(), Unjudged())
Asked = tuple[Send, Expectation | AfterCheck]


def to(wanted: int) -> Send:
    """Change the state."""
    return feature(DeviceFeature.MIG_DEVICE_STATE, SET, state(wanted))


def in_state(wanted: DeviceState) -> Reply:
    """The answer to ``NOW``; data_fd has no use."""
    start = state(wanted)[:4]
    return Reply(data=Is(f"that say {wanted.name}", lambda data: len(data) == 8 and data[:4] == start))


def machine(
    what: str,
    requirement: str,
    way: tuple[DeviceState, ...],
    asked: tuple[Asked, ...],
    *catches: str,
    needs: tuple[Fact, ...] = (),
    back: Send | None = None,
) -> Case:
    """A case about a device that went ``way`` after a reset. What brings it ``back`` to RUNNING is judged elsewhere."""
    pre_copy = (PRE_COPY,) if S.PRE_COPY in way or any(step == to(S.PRE_COPY) for step, _ in asked) else ()
    return Case(
        ident=f"mig-state/{what}",
        requirement=requirement,
        given=(RESET, *map(to, way)),
        stimulus=(*(step for step, _ in asked), back or to(S.RUNNING)),
        expect=(*(expected for _, expected in asked), TAKEN_OR_NOT),
        needs=(*NEEDS, *pre_copy, *needs),
        hazards=HAZARDS,
        catches=catches,
    )


def change(start: DeviceState, end: DeviceState, way: tuple[DeviceState, ...], requirement: str) -> Case:
    """A set that is to succeed; ``way`` leads to where it starts."""
    name = f"{start.name}-to-{end.name}".lower().replace("_", "-")
    (there,) = under("mig-state.complete", in_state(end))
    asked = ((to(end), Reply()), (NOW, there))
    back = RESET if end == S.RESUMING else None
    return machine(name, requirement, way, asked, f"mig-state-{name}-refused", back=back)


def refused(what: str, requirement: str, way: tuple[DeviceState, ...], wanted: int, fault: str) -> Case:
    """A set that is to be refused."""
    return machine(what, requirement, way, ((to(wanted), ErrorReply()),), fault)


def recover(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Bring the device into ERROR, where it goes there at all, and out again."""
    yield exchange((DAMAGED, to(S.STOP)), (TAKEN_OR_NOT, TAKEN_OR_NOT))
    seen = yield exchange(NOW, Reply())
    content = seen.message.payload if isinstance(seen, Received) else None
    if isinstance(content, DeviceFeatureRequest) and content.data[:4] == state(S.ERROR)[:4]:
        yield exchange((to(S.RUNNING), NOW), (ErrorReply(), in_state(S.ERROR)))
        yield exchange((RESET, NOW), (Reply(), in_state(S.RUNNING)))
    else:
        yield exchange(RESET, under("get-info.reset", Reply()))


(WORKS,) = under("mig-state.arcs", Reply())
ARC, COMPLEX = "mig-state.arcs", "mig-state.complex"
CASES = [
    change(S.RUNNING, S.STOP, (), ARC),
    change(S.STOP, S.RUNNING, (S.STOP,), ARC),
    change(S.STOP, S.STOP_COPY, (S.STOP,), ARC),
    change(S.STOP_COPY, S.STOP, (S.STOP, S.STOP_COPY), ARC),
    change(S.STOP, S.RESUMING, (S.STOP,), ARC),
    change(S.RUNNING, S.PRE_COPY, (), ARC),
    change(S.PRE_COPY, S.RUNNING, (S.PRE_COPY,), ARC),
    change(S.PRE_COPY, S.STOP_COPY, (S.PRE_COPY,), ARC),
    change(S.RUNNING, S.STOP_COPY, (), COMPLEX),
    change(S.RUNNING, S.RESUMING, (), COMPLEX),
    change(S.STOP, S.PRE_COPY, (S.STOP,), COMPLEX),
    change(S.STOP_COPY, S.RUNNING, (S.STOP, S.STOP_COPY), COMPLEX),
    change(S.STOP_COPY, S.RESUMING, (S.STOP, S.STOP_COPY), COMPLEX),
    change(S.PRE_COPY, S.STOP, (S.PRE_COPY,), COMPLEX),
    change(S.PRE_COPY, S.RESUMING, (S.PRE_COPY,), COMPLEX),
    machine(
        "get-after-set",
        "mig-state.complete",
        (),
        ((to(S.STOP), WORKS), (NOW, in_state(S.STOP)), (to(S.RUNNING), WORKS), (NOW, in_state(S.RUNNING))),
        "mig-state-always-running",
    ),
    machine(
        "set-echoed",
        "feature.reply-same",
        (),
        ((to(S.STOP), Reply(argsz=64, flags=DeviceFeatureFlags(SET | STATE), data=state(S.STOP))),),
        "mig-state-set-reply-empty",
        "mig-state-set-reply-without-flags",
    ),
    Case(
        ident="mig-state/pre-copy-not-offered",
        requirement="mig-state.unsupported",
        given=(RESET,),
        stimulus=(to(S.PRE_COPY), *HOME),
        expect=(ErrorReply(), *AT_HOME),
        needs=(*NEEDS, NO_PRE_COPY),
        hazards=HAZARDS,
        catches=("mig-state-pre-copy-not-offered-taken",),
    ),
    refused("running-p2p-refused", "mig-state.unsupported", (), S.RUNNING_P2P, "mig-state-p2p-accepted"),
    refused("pre-copy-p2p-refused", "mig-state.unsupported", (), S.PRE_COPY_P2P, "mig-state-pre-copy-p2p-accepted"),
    refused("no-such-state", "mig-state.unsupported", (), 8, "mig-state-unknown-accepted"),
    machine(
        "stop-copy-to-pre-copy-refused",
        "mig-state.stop-copy-to-pre-copy",
        (S.STOP, S.STOP_COPY),
        ((to(S.PRE_COPY), ErrorReply()),),
        "mig-state-stop-copy-to-pre-copy-taken",
        needs=(PRE_COPY,),
    ),
    machine(
        "damaged-data-refused",
        "mig-state.bad-data",
        (S.STOP, S.RESUMING),
        ((DAMAGED, TAKEN_OR_NOT), (to(S.STOP), ErrorReply())),
        "mig-state-any-data-taken",
        back=RESET,
    ),
    Case(
        ident="mig-state/reset-recovers",
        requirement="mig-state.reset-recovers",
        given=(RESET, to(S.RESUMING)),
        stimulus="write data that are no state, set STOP, and if that leads to ERROR set RUNNING and reset",
        expect="ERROR until the reset, and then RUNNING",
        script=recover,
        needs=NEEDS,
        hazards=HAZARDS,
        catches=("mig-state-error-kept-by-reset",),
    ),
]
