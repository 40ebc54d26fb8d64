"""The state of a device as a stream: damaged, cut, read in crumbs, left and begun anew, and loaded by another process."""

from collections.abc import Callable, Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.mig_data import (
    EXACT,
    MOST,
    PART,
    RESUMING,
    STOP_COPY,
    Conversation,
    data_read,
    data_write,
    state_of,
    taken_back,
)
from vfio_user_conformance.cases.mig_state import HAZARDS, NEEDS, NOW, RESET, TAKEN_OR_NOT, S, to
from vfio_user_conformance.cases.region_access import PATTERN, read, write
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, ErrorReply, Expectation, Is, Reply, at_least
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.needs import MAX_XFER, PRE_COPY, SCRATCH, SCRATCH_KEEPS, SCRATCH_REGION
from vfio_user_conformance.peer import Received, Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, Restart, exchange
from vfio_user_proto.messages import MigDataReadReply, MigDataReadRequest, MigDataWriteRequest

OTHER = PATTERN[::-1]
LEFT = Is("that say STOP, RESUMING or ERROR", lambda data: len(data) == 8 and data[0] in (S.STOP, S.RESUMING, S.ERROR))
CRUMBS = 40


def stream(
    what: str, requirement: str, script: Callable[[Facts], Conversation], words: tuple[str, str], fault: str
) -> Case:
    """A case that moves a whole state; ``words`` are what is done and what is expected."""
    return Case(
        ident=f"mig-stream/{what}",
        requirement=requirement,
        given=(RESET,),
        stimulus=words[0],
        expect=words[1],
        script=script,
        needs=(*NEEDS, SCRATCH_KEEPS, *((PRE_COPY,) if "pre-copy" in what else ())),
        hazards=HAZARDS,
        catches=(fault,),
    )


def saved(facts: Facts) -> Generator[Exchange, Seen, bytes]:
    """The state of a device whose scratch bytes were written, and that has a state at all."""
    yield exchange(write(PATTERN), Reply())
    data = yield from state_of(facts)
    if len(data) < 2:
        raise NotApplicable("the device has no state that could be cut")
    return data


def holds(wanted: bytes) -> Exchange:
    """The device works, and the scratch bytes are these."""
    steps = (to(S.RUNNING), read(SCRATCH_REGION, SCRATCH, len(wanted)))
    return exchange(steps, (Reply(), Reply(data=wanted)))


def elsewhere(facts: Facts) -> Conversation:
    data = yield from saved(facts)
    yield exchange(Restart(), ())
    yield from taken_back(facts, data, PART)
    yield holds(PATTERN)


def begun_anew(facts: Facts) -> Conversation:
    yield exchange((to(S.STOP_COPY), data_read(100), to(S.STOP)), (Reply(), Reply(), Reply()))
    data = yield from saved(facts)
    yield exchange((to(S.RUNNING), write(OTHER)), (Reply(), Reply()))
    yield from taken_back(facts, data, PART)
    yield holds(PATTERN)


def in_crumbs(facts: Facts) -> Conversation:
    yield exchange((write(PATTERN), to(S.STOP_COPY)), (Reply(), Reply()))
    data = b""
    for _ in range(CRUMBS):
        seen = yield exchange(data_read(1), Reply(size=1))
        content = seen.message.payload if isinstance(seen, Received) else None
        data += content.data if isinstance(content, MigDataReadReply) else b""
    data += yield from the_rest(facts)
    yield exchange((to(S.RUNNING), write(OTHER), to(S.RESUMING)), (Reply(),) * 3)
    for at in range(CRUMBS):
        yield exchange(data_write(data[at : at + 1]), Reply())
    yield from written(facts, data[CRUMBS:])
    yield holds(PATTERN)


def the_rest(facts: Facts) -> Generator[Exchange, Seen, bytes]:
    """What can still be read."""
    size, data = min(PART, MAX_XFER.read(facts)), b""
    for _ in range(MOST):
        seen = yield exchange(data_read(size), Reply())
        content = seen.message.payload if isinstance(seen, Received) else None
        if not isinstance(content, MigDataReadReply):
            return data
        data += content.data
        if content.size < size:
            return data
    raise NotApplicable(f"the state takes more than {MOST} messages of {size} bytes")


def last_part(facts: Facts) -> Conversation:
    size, exact = min(PART, MAX_XFER.read(facts)), Reply(whole=EXACT)
    yield exchange(to(S.STOP_COPY), Reply())
    for _ in range(MOST):
        seen = yield exchange(data_read(size), exact)
        content = seen.message.payload if isinstance(seen, Received) else None
        if not isinstance(content, MigDataReadReply) or content.size < size:
            break
    yield exchange(RESET, Reply())


def written(facts: Facts, data: bytes) -> Conversation:
    """Write in RESUMING."""
    size = min(PART, MAX_XFER.read(facts))
    for at in range(0, len(data), size):
        yield exchange(data_write(data[at : at + size]), Reply())


def changed_in_pre_copy(facts: Facts) -> Conversation:
    yield exchange((write(OTHER), to(S.PRE_COPY)), (Reply(), Reply()))
    data = yield from the_rest(facts)
    yield exchange((write(PATTERN), to(S.STOP_COPY)), (Reply(), Reply()))
    data += yield from the_rest(facts)
    yield exchange((to(S.RUNNING), write(OTHER)), (Reply(), Reply()))
    yield from taken_back(facts, data, PART)
    yield holds(PATTERN)


def truncated(facts: Facts) -> Conversation:
    data = yield from saved(facts)
    for end in sorted({1, len(data) // 4, len(data) // 2, len(data) - len(data) // 8}):
        yield from taken_back(facts, data[:end], PART)
        yield exchange((to(S.STOP), RESET), (ErrorReply(), Reply()))


def nothing(facts: Facts) -> Conversation:
    yield from saved(facts)
    yield exchange((to(S.RESUMING), to(S.STOP), RESET), (Reply(), ErrorReply(), Reply()))


def flipped(facts: Facts) -> Conversation:
    data = yield from saved(facts)
    for at in sorted({0, 20, len(data) // 2, len(data) - 1}):
        if at < len(data):
            yield from taken_back(facts, data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :], PART)
            yield exchange((to(S.STOP), NOW, RESET), (TAKEN_OR_NOT, Reply(data=LEFT), Reply()))


def extended(facts: Facts) -> Conversation:
    data = yield from saved(facts)
    yield from taken_back(facts, data, PART)
    yield exchange(data_write(PATTERN), TAKEN_OR_NOT)
    yield exchange((to(S.STOP), NOW, RESET), (TAKEN_OR_NOT, Reply(data=LEFT), Reply()))


def odd(what: str, step: Send, expect: Expectation, fault: str, way: tuple[S, ...] = STOP_COPY) -> Case:
    """One command whose size is not what it should be, and another one after it."""
    after = data_read(16) if way == STOP_COPY else data_write(b"1")
    return Case(
        ident=f"mig-stream/{what}",
        requirement="security.validate",
        given=(RESET, *map(to, way)),
        stimulus=(step, after, to(S.RUNNING) if way == STOP_COPY else RESET),
        expect=(expect, Reply(size=at_least(1)) if way == STOP_COPY else Reply(), Reply()),
        needs=NEEDS,
        hazards=HAZARDS,
        catches=(fault,),
    )


CASES = [
    stream(
        "resumed-elsewhere",
        "mig-state.arcs",
        elsewhere,
        (
            "write the scratch bytes, read the state, start a fresh program, write the state there, and set RUNNING",
            "the scratch bytes as they were in the other program",
        ),
        "mig-data-stays-in-the-process",
    ),
    stream(
        "begun-anew",
        "mig-state.arcs",
        begun_anew,
        (
            "read 100 bytes of the state and set STOP; then read and write it from the beginning",
            "the state as it was read",
        ),
        "mig-data-read-goes-on",
    ),
    stream(
        "in-crumbs",
        "mig-data-write.stream",
        in_crumbs,
        ("read and write 40 times one byte of the state, then the rest", "the state as it was read"),
        "mig-data-read-rounded-down",
    ),
    stream(
        "changed-in-pre-copy",
        "mig-state.arcs",
        changed_in_pre_copy,
        (
            "read all there is in PRE_COPY, write the scratch bytes, read the rest in STOP_COPY, and write it all",
            "the scratch bytes as they were written last",
        ),
        "mig-data-of-pre-copy-only",
    ),
    stream(
        "truncated",
        "mig-state.bad-data",
        truncated,
        (
            "write 1 byte of the state, then a quarter, half and seven eighths of it",
            "an error reply to each set to STOP",
        ),
        "mig-state-half-taken",
    ),
    stream(
        "nothing-written",
        "mig-state.bad-data",
        nothing,
        ("set RESUMING, and STOP without a byte in between", "an error reply"),
        "mig-state-nothing-taken",
    ),
    stream(
        "flipped",
        "security.validate",
        flipped,
        (
            "write the state with one bit changed, at its beginning, middle and end",
            "STOP, RESUMING or ERROR, and the way out by reset",
        ),
        "mig-data-flipped-crash",
    ),
    stream(
        "extended",
        "security.validate",
        extended,
        ("write the state and then 16 bytes more", "STOP, RESUMING or ERROR, and the way out by reset"),
        "mig-data-extended-crash",
    ),
    stream(
        "last-part",
        "mig-data-read.length",
        last_part,
        ("read the state, asking for more than is left in the end", "a last reply that ends with the data"),
        "mig-data-read-padded",
    ),
    odd("read-size-zero", data_read(0), Either(Reply(size=0), ErrorReply()), "mig-data-read-zero-hangs"),
    odd(
        "read-size-largest",
        Send(MigDataReadRequest(argsz=0xFFFFFFFF, size=0xFFFFFFFF)),
        ANYTHING,
        "mig-data-read-largest-crash",
    ),
    odd("write-nothing", data_write(b""), Either(Reply(), ErrorReply()), "mig-data-write-nothing-crash", RESUMING),
    odd(
        "write-size-largest",
        Send(MigDataWriteRequest(data=b"12345678").replace(size=0xFFFFFFFF)),
        REFUSED,
        "mig-data-write-largest-crash",
        RESUMING,
    ),
]
