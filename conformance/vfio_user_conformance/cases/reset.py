"""VFIO_USER_DEVICE_RESET."""

from errno import EEXIST

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.expect import Either, ErrorReply, Reply
from vfio_user_conformance.facts import RESETTABLE
from vfio_user_conformance.steps import Send
from vfio_user_proto.messages import Command

CASES = [
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
        ident="reset/offered",
        requirement="get-info.reset",
        stimulus=Send(Command.DEVICE_RESET),
        expect=Reply(),
        needs=(RESETTABLE,),
        hazards=frozenset({"reset"}),
        catches=("reset-offered-and-refused",),
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
]
