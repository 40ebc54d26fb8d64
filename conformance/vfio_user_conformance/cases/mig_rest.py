"""What a device does in each migration state when it is told to act: nothing where it is at rest, all where it works."""

from vfio_user_conformance.acting import Completed, Raise, Transfer
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.mig_state import AT_HOME, HAZARDS, HOME, NEEDS, RESET, S, to
from vfio_user_conformance.cases.server_dma import ALL, BASE, MEMORY, WHATEVER
from vfio_user_conformance.cases.set_irqs import HAZARDS as RAISING
from vfio_user_conformance.cases.set_irqs_device import TO_FIRST, A
from vfio_user_conformance.checks import AfterCheck, Signalled
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.facts import Fact
from vfio_user_conformance.memory import Holds, Piece, WasRead
from vfio_user_conformance.needs import DMA_READ, DMA_WRITE, PRE_COPY, RAISED, RAISED_INDEX
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import exchange
from vfio_user_conformance.story import story
from vfio_user_proto.messages import DeviceState

Way = tuple[DeviceState, ...]
STOP, STOP_COPY, RESUMING = (S.STOP,), (S.STOP, S.STOP_COPY), (S.STOP, S.RESUMING)
AGAIN, SAVING = (S.STOP, S.RUNNING), (S.PRE_COPY,)
PLACE = (BASE + 0x80, 0x140)
PIECE = Piece(0x80, 0x140)
BACK = exchange(HOME, AT_HOME)


def rests(what: str, way: Way, act: Transfer | Raise, check: AfterCheck, given: Send, *needs: Fact) -> Case:
    """The device is told to act where it is at rest, which it may refuse to be told; nothing comes of it."""
    name = way[-1].name.lower().replace("_", "-")
    return story(
        f"mig-rest/{what}-in-{name}",
        "mig-state.at-rest",
        exchange(act, (WHATEVER, check)),
        BACK,
        given=(RESET, given, *map(to, way)),
        needs=(*NEEDS, *needs),
        hazards=HAZARDS | RAISING,
        catches=(f"mig-works-in-{name}",),
    )


def works(
    what: str, way: Way, act: Transfer | Raise, checks: tuple[AfterCheck, ...], given: Send, *needs: Fact
) -> Case:
    """The device is told to act, and does."""
    return story(
        f"mig-rest/{what}",
        "mig-state.at-work",
        exchange(act, (Reply(), *checks)),
        BACK,
        given=(RESET, given, *map(to, way)),
        needs=(*NEEDS, *needs, *((PRE_COPY,) if way == SAVING else ())),
        hazards=HAZARDS | RAISING,
        catches=("mig-rests-in-pre-copy" if way == SAVING else "mig-rests-for-ever",),
    )


VAIN, WRITE, READ = Transfer("write", *PLACE, in_vain=True), Transfer("write", *PLACE), Transfer("read", *PLACE)
IDLE, RAISE = Raise(RAISED_INDEX, RAISED, in_vain=True), Raise(RAISED_INDEX, RAISED)
UNCHANGED, WRITTEN, WAS_READ = Holds(MEMORY), Holds(MEMORY, (PIECE,)), WasRead(((MEMORY, PIECE),))

CASES = [
    *(rests("no-write", way, VAIN, UNCHANGED, ALL, DMA_WRITE) for way in (STOP, STOP_COPY, RESUMING)),
    *(rests("no-interrupt", way, IDLE, Signalled(A, 0), TO_FIRST, RAISED_INDEX) for way in (STOP, STOP_COPY, RESUMING)),
    works("write-in-pre-copy", SAVING, WRITE, (Completed(), WRITTEN), ALL, DMA_WRITE),
    works("read-in-pre-copy", SAVING, READ, (Completed("read"), WAS_READ), ALL, DMA_READ),
    works("interrupt-in-pre-copy", SAVING, RAISE, (Signalled(A),), TO_FIRST, RAISED_INDEX),
    works("write-again", AGAIN, WRITE, (Completed(), WRITTEN), ALL, DMA_WRITE),
    works("interrupt-again", AGAIN, RAISE, (Signalled(A),), TO_FIRST, RAISED_INDEX),
]
