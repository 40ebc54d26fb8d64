"""VFIO_USER_DEVICE_RESET."""

from errno import EEXIST

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.mig_state import NOW, to
from vfio_user_conformance.cases.set_irqs import ASSIGN, RAISE
from vfio_user_conformance.expect import ANYTHING, Either, ErrorReply, Reply
from vfio_user_conformance.needs import MIGRATION, NOT_RESETTABLE, PRE_COPY, RESETTABLE
from vfio_user_conformance.sending import Send
from vfio_user_proto.messages import Command, DeviceState

CASES = [
    Case(
        ident="reset/offered",
        requirement="get-info.reset",
        stimulus=Send(Command.DEVICE_RESET),
        expect=Reply(),
        needs=(RESETTABLE,),
        hazards=frozenset({"reset"}),
        catches=("reset-offered-and-refused",),
    ),
    Case(
        ident="reset/reply",
        requirement="reset.empty",
        stimulus=Send(Command.DEVICE_RESET),
        expect=Reply(fds=0),
        needs=(RESETTABLE,),
        hazards=frozenset({"reset"}),
        catches=("reset-reply-with-payload",),
    ),
    Case(
        ident="reset/not-offered",
        requirement="reset.keeps",
        stimulus=Send(Command.DEVICE_RESET),
        expect=ANYTHING,
        needs=(NOT_RESETTABLE,),
        hazards=frozenset({"reset"}),
        catches=("reset-not-offered-crash",),
    ),
    Case(
        ident="reset/keeps-mappings",
        requirement="reset.keeps",
        given=(Send(request(0x10000)), Send(Command.DEVICE_RESET)),
        stimulus=Send(request(0x10000)),
        expect=Either(ErrorReply(EEXIST), Reply()),
        needs=(RESETTABLE,),
        hazards=frozenset({"reset"}),
        catches=("reset-then-map-crash",),
    ),
    Case(
        ident="reset/keeps-eventfds",
        requirement="reset.keeps",
        given=(ASSIGN, Send(Command.DEVICE_RESET)),
        stimulus=RAISE,
        expect=Either(Reply(), ErrorReply()),
        needs=(RESETTABLE,),
        hazards=frozenset({"reset", "irq"}),
        catches=("reset-then-raise-crash",),
    ),
    *(
        Case(
            ident=f"reset/in-{way[-1].name}".lower().replace("_", "-"),
            requirement="reset.keeps",
            given=(Send(Command.DEVICE_RESET), *map(to, way)),
            stimulus=(Send(Command.DEVICE_RESET), NOW),
            expect=(Either(Reply(), ErrorReply()), ANYTHING),
            needs=(RESETTABLE, MIGRATION, *((PRE_COPY,) if DeviceState.PRE_COPY in way else ())),
            hazards=frozenset({"reset", "migration"}),
            catches=(f"reset-in-{way[-1].name}-crash".lower().replace("_", "-"),),
            note="Whether the state is RUNNING afterwards is said for ERROR only.",
        )
        for way in (
            (DeviceState.STOP,),
            (DeviceState.PRE_COPY,),
            (DeviceState.STOP, DeviceState.STOP_COPY),
            (DeviceState.STOP, DeviceState.RESUMING),
        )
    ),
]
