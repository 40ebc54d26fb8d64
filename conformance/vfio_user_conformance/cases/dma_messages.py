"""VFIO_USER_DMA_READ and DMA_WRITE: the device in client memory that has no descriptor, and what else passes meanwhile."""

from collections.abc import Generator

from vfio_user_conformance.acting import Completed, Transfer
from vfio_user_conformance.answers import (
    RIGHT,
    Answer,
    Asides,
    Commands,
    LeaveUnanswered,
    NoCommands,
    OnTwin,
    Serve,
    TakeTwin,
)
from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.dma_map import PAGE, READ_WRITE, request
from vfio_user_conformance.cases.dma_unmap import unmap
from vfio_user_conformance.cases.server_dma import BASE, READABLE, WHATEVER, WRITEABLE, mapped, read, write
from vfio_user_conformance.checks import AfterCheck, under
from vfio_user_conformance.expect import Expectation, Reply
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.memory import Holds, NotRead, Pages, Piece, WasRead
from vfio_user_conformance.needs import DMA_READ, DMA_WRITE
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Disconnect, Exchange, Reconnect, exchange
from vfio_user_conformance.story import story
from vfio_user_proto import capabilities
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import DeviceGetInfoRequest, RegionReadRequest, VersionRequest

CONFIG = 7
MEMORY, OTHER = Pages(8 * PAGE), Pages(8 * PAGE, seed=1)
LARGE = Pages(0x101000)
SERVED = Serve(((BASE, MEMORY),))
INFO = Send(DeviceGetInfoRequest())
CONFIG_READ = Send(RegionReadRequest(region=CONFIG, offset=0, count=4))


def announced(address: int = BASE, size: int = MEMORY.size, *, flags: int = READ_WRITE) -> Send:
    """Map memory without a descriptor."""
    return Send(request(address, size, flags=flags))


def proposal(*, limit: int | None = None, twin: bool = False) -> Send:
    """A proposal of a client that takes so many bytes at once, and maybe commands on a second socket."""
    named = {"max_msg_fds", *({"max_data_xfer_size"} if limit else ()), *({"twin_socket"} if twin else ())}
    offer = Capabilities(max_msg_fds=16, max_data_xfer_size=limit or 0, twin_socket=twin)
    return Send(VersionRequest(version_minor=2, version_data=offer.to_data(named)))


def moves(
    what: str,
    requirement: str,
    step: Transfer,
    *checks: Expectation | AfterCheck,
    fault: str,
    given: tuple[Send, ...] = (announced(),),
    serve: Serve = SERVED,
    greet: bool = True,
) -> Case:
    """A transfer by messages that succeeds; that it does is no must, whatever the case is about."""
    return Case(
        ident=f"dma-messages/{what}",
        requirement=requirement,
        given=given,
        stimulus=(serve, step),
        expect=(*under("dma-map.without-descriptor", Reply(), Completed(step.operation)), *checks),
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        greet=greet,
        catches=(fault,),
    )


def limited(what: str, step: Transfer, limit: int, fault: str) -> Case:
    """A transfer to a client that takes at most ``limit`` bytes with one message."""
    piece = Piece(step.address - BASE, step.length)
    moved = Holds(MEMORY, (piece,)) if step.operation == "write" else WasRead(((MEMORY, piece),))
    return moves(
        what,
        "read-write.limit",
        step,
        *under("dma-map.without-descriptor", moved),
        Commands(step.operation, BASE, MEMORY.size, limit),
        given=(proposal(limit=limit), announced()),
        greet=False,
        fault=fault,
    )


def moves_nothing(
    what: str,
    requirement: str,
    step: Transfer,
    fault: str,
    *,
    given: tuple[Send, ...] = (announced(),),
    before: tuple[Exchange, ...] = (),
) -> Case:
    """A transfer that cannot be: the device asks for none of the memory."""
    untouched = (
        NotRead(((MEMORY, Piece(step.address - BASE, step.length)),)) if step.operation == "read" else Holds(MEMORY)
    )
    return story(
        f"dma-messages/{what}",
        requirement,
        *before,
        exchange((SERVED, step), (WHATEVER, NoCommands(), untouched)),
        given=given,
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        catches=(fault,),
    )


def between(what: str, fault: str, *asides: Send, step: Transfer, requirement: str = "concurrency.interleaved") -> Case:
    """Commands of ours that come while the device waits for client memory."""
    piece = Piece(step.address - BASE, step.length)
    moved = Holds(MEMORY, (piece,)) if step.operation == "write" else WasRead(((MEMORY, piece),))
    return moves(
        f"between-{what}",
        requirement,
        step,
        Asides(),
        *under("dma-map.without-descriptor", moved),
        serve=Serve(((BASE, MEMORY),), Answer(asides=asides), only=1),
        fault=fault,
    )


def on_twin(step: Transfer, answer: Answer) -> "Generator[Exchange, Seen, None]":
    """A transfer in twin-socket mode."""
    agreed = yield exchange(proposal(twin=True), Reply())
    assert isinstance(agreed, Received)
    assert isinstance(agreed.message.payload, VersionRequest)
    said = capabilities.parse(agreed.message.payload.version_data)
    if not said.twin_socket or said.twin_socket_fd_index is None or said.twin_socket_fd_index >= len(agreed.fds):
        raise NotApplicable("it does not take up twin-socket mode")
    yield exchange(announced(), Reply())
    piece = Piece(step.address - BASE, step.length)
    moved = Holds(MEMORY, (piece,)) if step.operation == "write" else WasRead(((MEMORY, piece),))
    yield exchange(
        (TakeTwin(agreed.fds[said.twin_socket_fd_index]), Serve(((BASE, MEMORY),), answer), step),
        (*under("twin-socket.used", Reply(), Completed(step.operation), OnTwin(), moved), Asides()),
    )


def twin(what: str, step: Transfer, fault: str, answer: Answer = RIGHT, requirement: str = "twin-socket.used") -> Case:
    """A transfer in twin-socket mode."""

    def script(_facts: Facts) -> "Generator[Exchange, Seen, None]":
        return on_twin(step, answer)

    return Case(
        ident=f"dma-messages/twin-{what}",
        requirement=requirement,
        stimulus=f"VFIO_USER_VERSION with twin_socket; then {announced()}; then {step}",
        expect="a reply to each; the commands for the memory on the second socket, and none on the first",
        script=script,
        greet=False,
        needs=(DMA_WRITE if step.operation == "write" else DMA_READ,),
        catches=(fault,),
    )


WRITE, READ = write(BASE + 0x80, 0x140), read(BASE + 0x80, 0x140)
WRITTEN, WAS_READ = Holds(MEMORY, (Piece(0x80, 0x140),)), WasRead(((MEMORY, Piece(0x80, 0x140)),))
LEFT = exchange(unmap(BASE, MEMORY.size), Reply())
RECONNECTED = Exchange((Reconnect(),), ())

CASES = [
    moves("command-type", "header.type", WRITE, Commands("write", BASE, MEMORY.size), fault="message-as-reply"),
    moves("write", "dma-map.without-descriptor", WRITE, WRITTEN, fault="message-write-lost"),
    moves("read", "dma-map.without-descriptor", READ, WAS_READ, fault="message-read-zeros"),
    moves(
        "write-odd-place",
        "dma-map.without-descriptor",
        write(BASE + 0xFFD, 0x135),
        Holds(MEMORY, (Piece(0xFFD, 0x135),)),
        fault="message-address-of-page",
    ),
    moves(
        "write-several-mappings",
        "dma-map.without-descriptor",
        write(BASE + 0x10020, 0x40),
        Holds(OTHER, (Piece(0x20, 0x40),)),
        Holds(MEMORY),
        given=(announced(), announced(BASE + 0x10000)),
        serve=Serve(((BASE, MEMORY), (BASE + 0x10000, OTHER))),
        fault="message-into-first-mapping",
    ),
    moves(
        "write-command",
        "dma-read.mapped",
        WRITE,
        Commands("write", BASE, MEMORY.size),
        fault="message-behind-the-place",
    ),
    moves("read-command", "dma-read.mapped", READ, Commands("read", BASE, MEMORY.size), fault="message-read-as-write"),
    moves(
        "command-errno",
        "header.error-reserved",
        WRITE,
        Commands("write", BASE, MEMORY.size),
        fault="message-with-errno",
    ),
    moves("command-size", "header.message-size", READ, Commands("read", BASE, MEMORY.size), fault="message-longer"),
    limited("write-limit", write(BASE + 0x10, 10000), 4096, "message-limit-ignored"),
    limited("read-limit", read(BASE + 0x10, 10000), 4096, "message-read-limit-ignored"),
    limited("write-limit-odd", write(BASE + 0x10, 2500), 1000, "message-last-chunk-padded"),
    limited("write-limit-one-over", write(BASE, 4097), 4096, "message-last-byte-lost"),
    limited("read-limit-exact", read(BASE, 4096), 4096, "message-limit-one-more"),
    moves(
        "read-limit-default",
        "read-write.limit",
        read(BASE, LARGE.size),
        Commands("read", BASE, LARGE.size, 1 << 20),
        *under("dma-map.without-descriptor", WasRead(((LARGE, Piece(0, LARGE.size)),))),
        given=(proposal(), announced(size=LARGE.size)),
        serve=Serve(((BASE, LARGE),)),
        greet=False,
        fault="message-default-limit-unknown",
    ),
    Case(
        ident="dma-messages/write-over-the-end",
        requirement="dma-map.before-access",
        given=(announced(size=2 * PAGE),),
        stimulus=(SERVED, write(BASE + 2 * PAGE - 0x80, 0x100)),
        expect=(WHATEVER, Holds(MEMORY, (Piece(2 * PAGE - 0x80, 0x80),), partly=True)),
        needs=(DMA_WRITE,),
        catches=("dma-end-unchecked",),
    ),
    Case(
        ident="dma-messages/write-into-both-kinds",
        requirement="dma-map.before-access",
        given=(mapped(MEMORY, BASE, 4 * PAGE), announced(BASE + 4 * PAGE, 4 * PAGE)),
        stimulus=(Serve(((BASE + 4 * PAGE, OTHER),)), write(BASE + 3 * PAGE, 2 * PAGE)),
        expect=(
            WHATEVER,
            Holds(MEMORY, (Piece(3 * PAGE, PAGE),), partly=True),
            *under(
                "dma-map.without-descriptor",
                Holds(MEMORY, (Piece(3 * PAGE, PAGE),), if_done=True),
                Holds(OTHER, (Piece(0, PAGE, PAGE),), if_done=True),
            ),
        ),
        needs=(DMA_WRITE,),
        catches=("dma-runs-on-in-file",),
        note="A device need not be able to do this; where it does, the bytes are in both memories.",
    ),
    moves_nothing(
        "write-unmapped", "dma-map.before-access", write(BASE + 0x800000, 0x40), "dma-falls-back-to-a-mapping"
    ),
    moves_nothing("write-behind", "dma-map.before-access", write(BASE + 8 * PAGE, 0x40), "dma-end-belongs-to-it"),
    moves_nothing(
        "write-read-only", "dma-map.access", WRITE, "dma-writes-read-only", given=(announced(flags=READABLE),)
    ),
    moves_nothing(
        "read-write-only", "dma-map.access", READ, "dma-reads-write-only", given=(announced(flags=WRITEABLE),)
    ),
    moves_nothing("write-after-unmap", "dma-unmap.released", WRITE, "dma-after-unmap", before=(LEFT,)),
    moves_nothing("read-after-unmap", "dma-unmap.released", READ, "dma-read-after-unmap", before=(LEFT,)),
    moves_nothing("write-after-reconnect", "disconnect.unmap-all", WRITE, "dma-after-reconnect", before=(RECONNECTED,)),
    twin("write", WRITE, "message-on-first-socket"),
    twin("read", READ, "message-on-both-sockets"),
    between("query", "message-between-taken-for-reply", INFO, step=WRITE),
    between("region-read", "message-between-region-dropped", CONFIG_READ, step=READ),
    between("many", "message-between-one-kept", *[INFO] * 40, step=WRITE, requirement="socket.no-stall"),
    twin("between", READ, "message-twin-stalls-main", Answer(asides=(INFO, CONFIG_READ)), "socket.no-stall"),
    between("map", "message-between-map-hangs", announced(BASE + 0x100000), step=READ),
    Case(
        ident="dma-messages/between-unmap",
        requirement="dma-unmap.released",
        given=(announced(),),
        stimulus=(Serve(((BASE, MEMORY),), Answer(asides=(unmap(BASE, MEMORY.size),)), only=1), WRITE),
        expect=(WHATEVER, Asides()),
        needs=(DMA_WRITE,),
        catches=("message-between-unmap-hangs",),
    ),
    Case(
        ident="dma-messages/client-leaves",
        requirement="disconnect.survived",
        given=(announced(),),
        stimulus=(WRITE, LeaveUnanswered(), Disconnect()),
        expect=(),
        needs=(DMA_WRITE,),
        catches=("message-client-leaves-crash",),
    ),
    story(
        "dma-messages/client-leaves-and-returns",
        "disconnect.survived",
        Exchange((READ, LeaveUnanswered(), Reconnect()), ()),
        exchange(announced(), Reply()),
        exchange((SERVED, READ), (Reply(), Completed("read"), WAS_READ)),
        given=(announced(),),
        needs=(DMA_READ,),
        catches=("message-device-busy-for-ever",),
    ),
]
