"""VFIO_USER_MIG_DATA_READ and MIG_DATA_WRITE: where they are allowed, what they look like, and that the data are a stream."""

from collections.abc import Callable, Generator, Sequence

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.mig_state import HAZARDS, NEEDS, RESET, S, to
from vfio_user_conformance.cases.region_access import PATTERN, read, write
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import Either, ErrorReply, Expectation, Reply, Whole, at_most
from vfio_user_conformance.facts import Fact, Facts, NotApplicable
from vfio_user_conformance.needs import MAX_XFER, PRE_COPY, SCRATCH, SCRATCH_KEEPS, SCRATCH_REGION
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import DeviceState, MigDataReadReply, MigDataReadRequest, MigDataWriteRequest

# Bytes per message where a case reads all there is, and messages after which it gives up.
PART, MOST = 1 << 20, 1 << 8
STOP_COPY, RESUMING = (S.STOP, S.STOP_COPY), (S.STOP, S.RESUMING)
Conversation = Generator[Exchange, Seen, None]


def data_read(size: int) -> Send:
    """Read from the device's state."""
    return Send(MigDataReadRequest(argsz=MigDataReadReply.fixed_size + size, size=size))


def data_write(data: bytes, argsz: int | None = None) -> Send:
    """Write to the device's state."""
    request = MigDataWriteRequest(data=data)
    return Send(request if argsz is None else request.replace(argsz=argsz))


def one(what: str, requirement: str, way: Sequence[DeviceState], step: Send, expect: Expectation, fault: str) -> Case:
    """One command in a state."""
    return Case(
        ident=f"mig-data/{what}",
        requirement=requirement,
        given=(RESET, *map(to, way)),
        stimulus=(step, RESET if way == RESUMING else to(S.RUNNING)),
        expect=(expect, Reply()),
        needs=(*NEEDS, *((PRE_COPY,) if S.PRE_COPY in way else ())),
        hazards=HAZARDS,
        catches=(fault,),
    )


def several(
    what: str,
    requirement: str,
    script: Callable[[Facts], Conversation],
    words: tuple[str, str],
    fault: str,
    needs: tuple[Fact, ...] = (),
) -> Case:
    """A case that reads the whole state."""
    return Case(
        ident=f"mig-data/{what}",
        requirement=requirement,
        given=(RESET,),
        stimulus=words[0],
        expect=words[1],
        script=script,
        needs=(*NEEDS, *needs),
        hazards=HAZARDS,
        catches=(fault,),
    )


def state_of(facts: Facts) -> Generator[Exchange, Seen, bytes]:
    """All that can be read in STOP_COPY."""
    size = min(PART, MAX_XFER.read(facts))
    yield exchange(to(S.STOP_COPY), Reply())
    data = b""
    for _ in range(MOST):
        seen = yield exchange(data_read(size), under("mig-data-read.data", Reply(size=at_most(size))))
        content = seen.message.payload if isinstance(seen, Received) else None
        if not isinstance(content, MigDataReadReply):
            break
        data += content.data
        if content.size < size:
            break
    else:
        raise NotApplicable(f"the state takes more than {MOST} messages of {size} bytes")
    return data


def taken_back(facts: Facts, data: bytes, cut: int) -> Conversation:
    """Write ``data`` in parts of ``cut`` bytes."""
    yield exchange(to(S.RESUMING), Reply())
    size = min(cut, MAX_XFER.read(facts))
    for at in range(0, len(data), size):
        yield exchange(data_write(data[at : at + size]), Reply())


def read_again(facts: Facts) -> Conversation:
    yield from state_of(facts)
    yield exchange(data_read(64), Either(Reply(size=0), ErrorReply()))
    yield exchange(to(S.RUNNING), Reply())


def cut_otherwise(facts: Facts) -> Conversation:
    data = yield from state_of(facts)
    yield from taken_back(facts, data, 99_991)
    yield exchange(to(S.RUNNING), Reply())


def one_byte_less(facts: Facts) -> Conversation:
    data = yield from state_of(facts)
    yield from taken_back(facts, data[:-1], PART)
    yield exchange(to(S.STOP), ErrorReply())
    yield exchange(RESET, Reply())


def becomes_the_state(facts: Facts) -> Conversation:
    yield exchange(write(PATTERN), Reply())
    data = yield from state_of(facts)
    yield exchange((to(S.RUNNING), write(bytes(len(PATTERN)))), (Reply(), Reply()))
    yield from taken_back(facts, data, PART)
    yield exchange(to(S.RUNNING), Reply())
    yield exchange(read(SCRATCH_REGION, SCRATCH, len(PATTERN)), Reply(data=PATTERN))


def length_problem(seen: Received) -> str:
    """Compare size with what came."""
    content = seen.message.payload
    assert isinstance(content, MigDataReadReply)
    came = seen.message.header.message_size - 16 - content.fixed_size
    return "" if came == content.size else f"{came} bytes follow, size is {content.size}"


def argsz_problem(seen: Received) -> str:
    """Compare argsz with size."""
    content = seen.message.payload
    assert isinstance(content, MigDataReadReply)
    right = content.argsz == content.fixed_size + content.size
    return "" if right else f"argsz is {content.argsz}, size is {content.size}"


EXACT = Whole("a payload of 8 + size bytes", length_problem)

CASES = [
    one("read-when-running", "mig-data-read.state", (), data_read(64), ErrorReply(), "mig-data-read-anywhere"),
    one("read-when-resuming", "mig-data-read.state", RESUMING, data_read(64), ErrorReply(), "mig-data-read-resuming"),
    one(
        "read",
        "mig-data-read.data",
        STOP_COPY,
        data_read(16),
        Reply(size=at_most(16), fds=0),
        "mig-data-read-more-than-asked",
    ),
    one(
        "read-length",
        "mig-data-read.length",
        STOP_COPY,
        data_read(16),
        Reply(argsz=at_most(24), whole=EXACT),
        "mig-data-read-bytes-behind",
    ),
    several(
        "read-again-after-the-end",
        "mig-data-read.end",
        read_again,
        ("read in STOP_COPY until a reply is short; then read again", "nothing more to be read"),
        "mig-data-read-short-in-between",
    ),
    one("write-when-running", "mig-data-write.state", (), data_write(b"1"), ErrorReply(), "mig-data-write-anywhere"),
    one("read-when-stopped", "mig-data-read.state", (S.STOP,), data_read(64), ErrorReply(), "mig-data-read-stopped"),
    one(
        "write-when-stopped",
        "mig-data-write.state",
        (S.STOP,),
        data_write(b"1"),
        ErrorReply(),
        "mig-data-write-stopped",
    ),
    one(
        "write-when-saving", "mig-data-write.state", STOP_COPY, data_write(b"1"), ErrorReply(), "mig-data-write-saving"
    ),
    one(
        "write-in-pre-copy",
        "mig-data-write.state",
        (S.PRE_COPY,),
        data_write(b"1"),
        ErrorReply(),
        "mig-data-write-pre-copy",
    ),
    one(
        "read-argsz",
        "mig-data-read.length",
        STOP_COPY,
        data_read(16),
        Reply(whole=Whole("argsz 8 + size", argsz_problem)),
        "mig-data-read-argsz-of-data",
    ),
    one(
        "write",
        "mig-data-write.reply-empty",
        RESUMING,
        data_write(b"1"),
        Either(Reply(), ErrorReply()),
        "mig-data-write-reply-count",
    ),
    one(
        "write-argsz-zero",
        "mig-data-write.argsz",
        RESUMING,
        data_write(b"12345678", 0),
        Reply(),
        "mig-data-write-argsz-checked",
    ),
    several(
        "cut-otherwise",
        "mig-data-write.stream",
        cut_otherwise,
        (
            "read the state, write it in messages of 99991 bytes, and set RUNNING",
            "every command to succeed",
        ),
        "mig-data-write-last-message-only",
    ),
    several(
        "one-byte-less",
        "mig-state.bad-data",
        one_byte_less,
        ("read the state, write it without its last byte, and set STOP", "an error reply to the last command"),
        "mig-state-incomplete-taken",
    ),
    several(
        "becomes-the-state",
        "mig-state.arcs",
        becomes_the_state,
        (
            "write the scratch bytes, read the state, clear the scratch bytes, write the state, and set RUNNING",
            "the scratch bytes as they were written first",
        ),
        "mig-data-write-ignored",
        (SCRATCH_KEEPS,),
    ),
]
