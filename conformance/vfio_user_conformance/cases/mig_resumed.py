"""The ways out of RESUMING, which need a whole state first."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.mig_data import PART, state_of, taken_back
from vfio_user_conformance.cases.mig_state import HAZARDS, NEEDS, NOW, RESET, S, in_state, to
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import PRE_COPY
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import DeviceState


def out_of_resuming(end: DeviceState) -> Case:
    """A set after a whole state was written."""

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        data = yield from state_of(facts)
        yield from taken_back(facts, data, PART)
        yield exchange((to(end), NOW, RESET), (Reply(), in_state(end), Reply()))

    name = end.name.lower().replace("_", "-")
    return Case(
        ident=f"mig-refused/resuming-to-{name}",
        requirement="mig-state.arcs" if end == S.STOP else "mig-state.complex",
        given=(RESET,),
        stimulus=f"read the state, write it, and set {end.name}",
        expect=f"{end.name}",
        script=script,
        needs=(*NEEDS, *((PRE_COPY,) if end == S.PRE_COPY else ())),
        hazards=HAZARDS,
        catches=(f"mig-state-resuming-to-{name}-refused",),
    )


CASES = [out_of_resuming(end) for end in (S.STOP, S.STOP_COPY, S.PRE_COPY)]
