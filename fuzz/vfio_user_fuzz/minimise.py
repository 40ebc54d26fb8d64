"""A failing session made small: fewer messages, fewer descriptors, fewer bytes, more zeros."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from vfio_user_fuzz.mutations import framed
from vfio_user_fuzz.packets import Packet
from vfio_user_proto.wire import HEADER_SIZE

Session = tuple[Packet, ...]
Item = TypeVar("Item")
# The shortest run of bytes that is set to zero on its own.
_GRAIN: Final = 4


def minimise(session: Session, fails: Callable[[Session], bool], *, attempts: int) -> Session:
    """The smallest session found within so many ``attempts`` for which ``fails`` still holds; ``session`` at worst.

    Whatever is left out is whole messages first, so that what remains can be read.
    """
    left = attempts
    improved = True
    while improved and left > 0:
        improved = False
        for candidates in (without, _without_descriptors, _shorter, _emptier):
            progress = True
            while progress and left > 0:
                progress = False
                for candidate in candidates(session):
                    if left <= 0:
                        break
                    left -= 1
                    if fails(candidate):
                        session, progress, improved = candidate, True, True
                        break
    return session


def without(items: tuple[Item, ...]) -> Iterator[tuple[Item, ...]]:
    """Without a half, a quarter, … of the items; never without all."""
    size = len(items)
    while size > 1:
        size = (size + 1) // 2
        for start in range(0, len(items), size):
            rest = items[:start] + items[start + size :]
            if rest:
                yield rest
        if size == 1:
            return


def _without_descriptors(session: Session) -> Iterator[Session]:
    """Without all descriptors of one packet, or half of them, or one."""
    for number, packet in enumerate(session):
        for keep in sorted({0, len(packet.fds) // 2, len(packet.fds) - 1} & set(range(len(packet.fds)))):
            yield _with(session, number, packet._replace(fds=packet.fds[:keep]))


def _shorter(session: Session) -> Iterator[Session]:
    """One packet without its end; its header still fits where it did before."""
    for number, packet in enumerate(session):
        whole = framed(packet.data) == packet.data
        shortest = HEADER_SIZE if whole else 1
        size = len(packet.data) - shortest
        while size > 0:
            data = packet.data[:-size]
            yield _with(session, number, packet._replace(data=framed(data) if whole else data))
            size //= 2


def _emptier(session: Session) -> Iterator[Session]:
    """One packet with a run of bytes behind its header set to zero."""
    for number, packet in enumerate(session):
        size = len(packet.data) - HEADER_SIZE
        while size > 0:
            for start in range(HEADER_SIZE, len(packet.data), size):
                run = packet.data[start : start + size]
                if any(run):
                    data = packet.data[:start] + bytes(len(run)) + packet.data[start + len(run) :]
                    yield _with(session, number, packet._replace(data=data))
            size = size // 2 if size > _GRAIN else 0


def _with(session: Sequence[Packet], number: int, packet: Packet) -> Session:
    return (*session[:number], packet, *session[number + 1 :])
