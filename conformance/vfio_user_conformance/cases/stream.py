"""The stream of bytes: messages cut anywhere, descriptors beside them, and bytes that nobody has read yet."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.connection import LET_GO, MAPPED
from vfio_user_conformance.cases.dma_map import request
from vfio_user_conformance.cases.dma_unmap import unmap
from vfio_user_conformance.cases.header import BAIT, CONFIG, INFO, WHOLE
from vfio_user_conformance.checks import Released, under
from vfio_user_conformance.descriptors import Memfd, Pipe
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, HangUp, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import MAX_XFER
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import PROPOSAL
from vfio_user_conformance.steps import Afresh, Disconnect, Exchange, HalfClose, Raw, each, exchange
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, RegionWriteRequest

SIZE = 16 + CONFIG.fixed_size
RANGE = request(0x20000)
OTHER, PIPE = Memfd(), Pipe()
# More than a socket holds, so that a single read hardly ever brings it; that none does is what the cut is for.
LARGE = 1 << 18


def large(facts: Facts) -> Generator[Exchange, Seen, None]:
    """A write that no region has room for, of bytes that are commands if they are taken for messages."""
    count = min(LARGE, MAX_XFER.read(facts)) // len(BAIT) * len(BAIT)
    data = BAIT * (count // len(BAIT))
    yield exchange(
        Send(RegionWriteRequest(region=CONFIG.index, offset=0, data=data), cuts=(count // 2,)),
        under("read-write.bad-range", REFUSED),
    )


def lost(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Clients that leave after each byte of a command with a descriptor."""
    whole = craft(Command.DMA_MAP, RANGE)
    for end in range(1, len(whole)):
        pipe = Pipe()
        yield exchange((Afresh(), Raw(whole[:end], (pipe,)), Disconnect()), Released(pipe))


CASES = [
    Case(
        ident="stream/cut-at-every-byte",
        requirement="stream.cut-message",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO in two pieces, cut at each byte in turn",
        expect="a reply to each",
        script=each([Send(CONFIG, cuts=(at,)) for at in range(1, SIZE)], WHOLE),
        catches=("cut-in-first-word-fails",),
    ),
    Case(
        ident="stream/byte-by-byte",
        requirement="stream.cut-message",
        stimulus=Send(CONFIG, cuts=tuple(range(1, SIZE))),
        expect=WHOLE,
        catches=("cut-in-many-fails",),
    ),
    Case(
        ident="stream/version-cut",
        requirement="stream.cut-message",
        stimulus=Send(PROPOSAL, cuts=(10, 30)),
        expect=Reply(),
        greet=False,
        catches=("version-cut-fails",),
    ),
    Case(
        ident="stream/map-cut",
        requirement="stream.cut-message",
        stimulus=(Send(RANGE, fds=(OTHER,), cuts=(8,)), unmap(RANGE.address)),
        expect=(Reply(), Reply(), *under("dma-unmap.released", Released(OTHER))),
        catches=("cut-header-keeps-descriptor",),
        note="libvfio-user efd091b never closes the descriptors of a header that is cut (lib/tran_sock.c:164).",
    ),
    Case(
        ident="stream/large-payload",
        requirement="stream.cut-message",
        stimulus="VFIO_USER_REGION_WRITE past the end of a region, in two pieces, of all the target takes, at most 256 KiB",
        expect=f"{REFUSED}",
        script=large,
        catches=("large-payload-left",),
        note="libvfio-user efd091b reads a payload once, and takes what comes later for messages (lib/tran_sock.c:533).",
    ),
    Case(
        ident="stream/late-descriptor",
        requirement="stream.descriptors-of-message",
        stimulus=(Send(RANGE, fds=(OTHER,), cuts=(16,), late=True), unmap(RANGE.address)),
        expect=(ANYTHING, ANYTHING, *under("security.validate", Released(OTHER))),
        catches=("late-descriptor-kept",),
    ),
    Case(
        ident="stream/half-close",
        requirement="disconnect.survived",
        given=(MAPPED,),
        stimulus=(Send(INFO), HalfClose()),
        expect=(Either(Reply(), HangUp()), *LET_GO),
        in_step=False,
        catches=("end-of-stream-waited-out",),
    ),
    Case(
        ident="stream/descriptor-of-a-lost-message",
        requirement="disconnect.survived",
        stimulus=(Raw(craft(Command.DMA_MAP, RANGE)[:9], (PIPE,)), Disconnect()),
        expect=Released(PIPE),
        catches=("lost-message-keeps-descriptor",),
        note="Seen in libvfio-user efd091b (lib/tran_sock.c:164).",
    ),
    Case(
        ident="stream/lost-at-every-byte",
        requirement="disconnect.survived",
        stimulus="VFIO_USER_DMA_MAP with a pipe, and the client gone after each byte in turn",
        expect="the pipe let go of, and the next client to be served, each time",
        script=lost,
        catches=("client-lost-in-first-word-crash",),
    ),
]
