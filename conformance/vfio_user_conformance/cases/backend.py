"""Conventions of backend programs, as far as whoever starts one sees whether they are kept."""

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.header import INFO
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.sending import Send
from vfio_user_conformance.surroundings import Ended, Foreground, Terminate

CASES = [
    Case(
        ident="backend/foreground",
        requirement="backend.no-daemon",
        stimulus=Send(INFO),
        expect=(Reply(), Foreground()),
        catches=("backend-daemon",),
    ),
    Case(
        ident="backend/sigterm",
        requirement="backend.sigterm",
        stimulus=Terminate(),
        expect=Ended(),
        in_step=False,
        catches=("backend-sigterm-ignored",),
    ),
]
