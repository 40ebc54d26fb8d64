"""Steps that make the device act, in the way that the profile of the target tells; and what it says of itself then."""

import select
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Problem
from vfio_user_conformance.facts import Facts, NotApplicable, resolve
from vfio_user_conformance.needs import NO_DMA
from vfio_user_conformance.recipes import ALGORITHMS, Dma, Poke, Register
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Gone, NotReached, Session
from vfio_user_conformance.words import plural, shown
from vfio_user_proto.messages import Command, RegionReadReply, RegionReadRequest

Operation = Literal["write", "read"]


def recipe(facts: Facts, operation: Operation) -> Dma:
    """How to make the device do this with client memory. Raises NotApplicable where the profile does not say."""
    found = [each for each in facts.profile.dma if each.operation == operation]
    if not found:
        raise NotApplicable(NO_DMA)
    return found[0]


@dataclass(frozen=True)
class Transfer:
    """Make the device write or read ``length`` bytes of client memory at ``address``.

    The reply to the last of the writes that this takes is left to be expected: a device may ask for the memory before it.
    Nothing else may be due when it begins. With ``in_vain`` the device need not take the writes.
    """

    operation: Operation
    address: int
    length: int
    in_vain: bool = False

    def perform(self, session: Session) -> None:
        steps = recipe(session.facts, self.operation).steps
        _do(session, steps, self.address, self.length, in_vain=self.in_vain)

    def __str__(self) -> str:
        return f"make the device {self.operation} {plural(self.length, 'byte')} at {self.address:#x}"


@dataclass(frozen=True)
class Raise:
    """Make the device raise an interrupt; the reply to the last write that this takes is left to be expected.

    With ``in_vain`` the device need not take the writes.
    """

    index: int
    vector: int
    in_vain: bool = False

    def perform(self, session: Session) -> None:
        index, vector = resolve((self.index, self.vector), session.facts)
        found = [each for each in session.facts.profile.irqs if (each.index, each.vector) == (index, vector)]
        if not found:
            raise NotApplicable(f"the profile does not say how to raise interrupt {vector} of index {index}")
        _do(session, found[0].steps, in_vain=self.in_vain)

    def __str__(self) -> str:
        return f"make the device raise interrupt {shown(self.vector)} of index {shown(self.index)}"


def _do(session: Session, pokes: Sequence[Poke], iova: int = 0, length: int = 0, *, in_vain: bool = False) -> None:
    try:
        writes = [each.register.write(each.data(iova, length)) for each in pokes]
    except ValueError as error:
        raise NotApplicable(f"the device takes no such place: {error}") from None
    session.make_ready()
    for write in writes[:-1]:
        try:
            refused = session.ask(Command.REGION_WRITE, write) is None
        except Gone:
            raise NotReached(f"the connection was closed at {Send(write)}") from None
        if refused and not in_vain:
            raise NotReached(f"a step of the profile was refused: {Send(write)}")
    session.send((Send(writes[-1]),))


def read(session: Session, register: Register) -> int | None:
    """What a register holds; None where it cannot be read, since the target has closed the connection for instance."""
    if not session.negotiated:
        return None
    request = RegionReadRequest(region=register.region, offset=register.offset, count=register.width)
    try:
        reply = session.ask(Command.REGION_READ, request)
    except Gone:
        return None
    return int.from_bytes(reply.data, "little") if isinstance(reply, RegionReadReply) else None


def completed(session: Session, operation: Operation) -> bool:
    """Whether the device says now that its transfer is done."""
    how = recipe(session.facts, operation)
    return read(session, how.completion) == how.done


def _shows(session: Session, operation: Operation) -> str:
    """What the completion of a transfer reads as, where it can be read."""
    how = recipe(session.facts, operation)
    value = read(session, how.completion) if session.negotiated else None
    where = f"{how.completion.offset:#x} of region {how.completion.region}"
    return "" if value is None else f": {where} reads as {value:#x}, not {how.done:#x}"


@dataclass(frozen=True)
class Completed(AfterCheck):
    """The device comes to say that its transfer is done."""

    operation: Operation = "write"

    def check(self, session: Session) -> list[Problem]:
        seconds = session.timing.reply
        end = None if seconds is None else time.monotonic() + seconds
        idle = select.poll()
        while not completed(session, self.operation):
            if not session.negotiated or (end is not None and time.monotonic() >= end):
                return [Problem(f"the device does not say that the transfer is done{_shows(session, self.operation)}")]
            idle.poll(1)
        return []

    def __str__(self) -> str:
        return "the transfer done"


def result(session: Session) -> int | None:
    """What the device shows of the bytes that it read."""
    how = recipe(session.facts, "read")
    assert how.result is not None
    return read(session, how.result)


def summed(facts: Facts, data: bytes) -> int:
    """What the device has to show when it read ``data``."""
    return ALGORITHMS[recipe(facts, "read").algorithm](data)
