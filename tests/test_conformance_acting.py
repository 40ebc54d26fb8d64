# What the device does for a case: transfers and interrupts by its registers, and what memory holds afterwards.
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from judging import QUICK, Threaded, plain, refusal, reply, texts

from vfio_user_conformance.acting import Completed, Raise, Transfer
from vfio_user_conformance.facts import Facts, NotApplicable
from vfio_user_conformance.memory import Holds, NotRead, Pages, Piece, Refill, WasRead
from vfio_user_conformance.needs import RAISED_AGAIN, RAISED_INDEX
from vfio_user_conformance.peer import Received
from vfio_user_conformance.profile import Profile, Scratch
from vfio_user_conformance.recipes import IOVA, LENGTH, Dma, Doorbell, Interrupt, Pattern, Poke, Register
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import PROPOSAL, NoSession, NotReached, Session
from vfio_user_proto.messages import (
    DeviceGetInfoReply,
    DeviceGetIrqInfoReply,
    DeviceGetRegionInfoReply,
    IrqInfoFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteReply,
    RegionWriteRequest,
)
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

BASE = 0x100000
MEMORY = Pages(0x2000)
DONE, SUM = Register(0, 0x20, 4), Register(0, 0x24, 4)
STEPS = (Poke(Register(0, 0x10, 8), IOVA), Poke(Register(0, 0x18, 4), LENGTH), Poke(Register(0, 0x1C, 4), 1))
PROFILE = Profile(
    dma=(
        Dma("write", STEPS, DONE, 1, pattern=Pattern("i + 7")),
        Dma("read", STEPS, DONE, 1, result=SUM, algorithm="crc32"),
    ),
    irqs=(Interrupt(2, 1, STEPS[2:]),),
)


class Registers(Threaded):
    """A target with 64 bytes of registers; ``refused`` is an offset that takes no write."""

    def __init__(self, refused: int = -1) -> None:
        super().__init__(self._answer)
        self.memory, self.writes, self.refused = bytearray(64), list[tuple[int, bytes]](), refused

    def _answer(self, message: Message) -> bytes | None:
        asked = message.payload
        if isinstance(asked, RegionWriteRequest):
            if asked.offset == self.refused:
                return refusal(message)
            self.writes.append((asked.offset, asked.data))
            return reply(message, RegionWriteReply(offset=asked.offset, region=asked.region, count=asked.count))
        if isinstance(asked, RegionReadRequest):
            data = bytes(self.memory[asked.offset : asked.offset + asked.count])
            return reply(message, RegionReadReply(offset=asked.offset, region=asked.region, data=data))
        return plain(message)


@pytest.fixture
def device() -> Iterator[tuple[Session, Registers]]:
    target = Registers()
    session = Session(target, Facts(profile=PROFILE), QUICK)
    session.connect()
    session.greet()
    yield session, target
    session.close()
    target.close()


def test_a_transfer_is_the_writes_of_the_profile_and_leaves_the_last_reply(device: tuple[Session, Registers]) -> None:
    session, target = device

    Transfer("write", BASE, 0x40).perform(session)

    assert isinstance(session.observe(), Received)
    assert target.writes == [(0x10, BASE.to_bytes(8, "little")), (0x18, b"\x40\0\0\0"), (0x1C, b"\1\0\0\0")]


def test_an_interrupt_is_raised_by_those_of_its_table(device: tuple[Session, Registers]) -> None:
    session, target = device

    Raise(2, 1).perform(session)

    assert isinstance(session.observe(), Received)
    assert target.writes == [(0x1C, b"\1\0\0\0")]
    with pytest.raises(NotApplicable, match="how to raise interrupt 3 of index 2"):
        Raise(2, 3).perform(session)


def test_a_step_that_is_refused_is_before_the_case(device: tuple[Session, Registers]) -> None:
    session, target = device
    target.refused = 0x18

    with pytest.raises(NotReached, match="a step of the profile was refused: VFIO_USER_REGION_WRITE"):
        Transfer("write", BASE, 0x40).perform(session)


def test_what_the_profile_does_not_tell_does_not_apply(device: tuple[Session, Registers]) -> None:
    session, _ = device
    narrow = replace(PROFILE.dma[0], steps=(Poke(Register(0, 0, 4), IOVA),))
    session.facts.profile = Profile(dma=(narrow,))

    with pytest.raises(NotApplicable, match="does not fit into 4 bytes"):
        Transfer("write", 1 << 32, 4).perform(session)
    with pytest.raises(NotApplicable, match="how to make the device do DMA"):
        Transfer("read", 0, 4).perform(session)


def test_a_transfer_is_done_when_the_register_says_so(device: tuple[Session, Registers]) -> None:
    session, target = device

    late = "the device does not say that the transfer is done: 0x20 of region 0 reads as 0x0, not 0x1"
    assert texts(Completed().check(session)) == [late]
    target.memory[0x20] = 1
    assert Completed().check(session) == []


def test_memory_is_compared_byte_by_byte(device: tuple[Session, Registers]) -> None:
    session, target = device
    ours = session.handle(MEMORY).ours
    piece = Piece(0x100, 4, first=2)

    assert Holds(MEMORY).check(session) == []
    assert Holds(MEMORY, (piece,), partly=True).check(session) == []
    assert Holds(MEMORY, (piece,), if_done=True).check(session) == []
    target.memory[0x20] = 1
    assert texts(Holds(MEMORY, (piece,), if_done=True).check(session)) == [
        "byte 0x100 of memory 0 of 0x2000 bytes is not what the device was to write, 4 bytes in all"
    ]
    os.pwrite(ours, bytes([9, 10, 11, 12]), 0x100)
    assert Holds(MEMORY, (piece,)).check(session) == []
    assert "byte 0x100 of memory 0 of 0x2000 bytes was overwritten" in texts(Holds(MEMORY).check(session))[0]
    os.pwrite(ours, b"x", 0x2000)
    assert texts(Holds(MEMORY, (piece,)).check(session)) == [
        "the file behind memory 0 of 0x2000 bytes is 0x2001 bytes long now"
    ]


def test_what_was_read_is_known_by_its_sum(device: tuple[Session, Registers]) -> None:
    session, target = device
    pieces = ((MEMORY, Piece(0x10, 4)), (MEMORY, Piece(0x40, 2)))
    data = MEMORY.background()
    target.memory[0x20] = 1
    assert "the device read something else" in texts(WasRead(pieces).check(session))[0]
    assert NotRead(pieces).check(session) == []

    target.memory[0x24:0x28] = zlib.crc32(data[0x10:0x14] + data[0x40:0x42]).to_bytes(4, "little")

    assert WasRead(pieces).check(session) == []
    assert texts(NotRead(pieces).check(session)) == ["the device read the memory"]
    Refill(MEMORY).perform(session)
    assert WasRead(pieces).check(session) != []


def test_no_two_pages_of_memory_are_alike_nor_two_memories() -> None:
    pages = [Pages(0x10000).background()[at : at + 256] for at in range(0, 0x10000, 256)]

    assert len(set(pages)) == len(pages)
    assert Pages(0x2000, seed=1).background() != MEMORY.background()


def test_a_device_is_made_ready_once_on_each_connection() -> None:
    target = Registers()
    session = Session(target, Facts(profile=replace(PROFILE, setup=STEPS[2:])), QUICK)
    ready = (0x1C, b"\1\0\0\0")

    session.connect()
    session.greet()
    assert target.writes == [ready]
    Raise(2, 1).perform(session)
    assert isinstance(session.observe(), Received)
    assert target.writes == [ready] * 2
    session.reconnect()
    assert target.writes == [ready] * 3
    session.close()
    target.close()


def test_a_case_that_negotiates_by_itself_has_the_device_made_ready_before_it_acts() -> None:
    target = Registers()
    session = Session(target, Facts(profile=replace(PROFILE, setup=(Poke(Register(0, 8, 4), 5),))), QUICK)

    session.connect()
    session.send((Send(PROPOSAL),))
    assert isinstance(session.observe(), Received)
    assert target.writes == []
    Raise(2, 1).perform(session)
    assert isinstance(session.observe(), Received)
    assert target.writes == [(8, b"\5\0\0\0"), (0x1C, b"\1\0\0\0")]
    session.close()
    target.close()


def test_a_device_that_is_not_made_ready_is_not_judged() -> None:
    target = Registers(refused=0x1C)
    session = Session(target, Facts(profile=replace(PROFILE, setup=STEPS[2:])), QUICK)

    session.connect()
    with pytest.raises(NoSession, match=r"\[\[setup\]\]: VFIO_USER_REGION_WRITE .*EINVAL"):
        session.greet()
    session.close()
    target.close()


def test_an_interrupt_that_masks_itself_is_raised_only_where_there_is_no_other() -> None:
    """Once signalled it stays silent until the client lifts that, so a second time would say nothing."""
    intx, msix = (Interrupt(index, 0, ()) for index in (0, 2))
    kinds = {
        0: DeviceGetIrqInfoReply(count=1, flags=IrqInfoFlags.AUTOMASKED),
        2: DeviceGetIrqInfoReply(index=2, count=1),
    }
    both, alone = (Facts(profile=Profile(irqs=irqs), irqs=kinds) for irqs in ((intx, msix), (intx,)))

    assert (RAISED_INDEX.read(both), RAISED_AGAIN.read(both), RAISED_INDEX.read(alone)) == (2, 1, 0)
    with pytest.raises(NotApplicable, match="masks itself"):
        RAISED_AGAIN.read(alone)


def test_what_the_profile_names_and_the_target_has_not_is_told() -> None:
    regions = {0: DeviceGetRegionInfoReply(size=0x100)}
    irqs = {2: DeviceGetIrqInfoReply(index=2, count=4)}
    device = DeviceGetInfoReply(num_regions=9)
    beyond = (Poke(Register(0, 0xFC, 8), 1), Poke(Register(9, 0, 4), 1), Poke(Register(1, 0x9000, 4), 1))
    fits = replace(PROFILE, scratch=Scratch(0, 0xC0, 0x40))
    wrong = Profile(
        scratch=Scratch(0, 0xF0, 0x20), irqs=(Interrupt(2, 4, beyond),), doorbells=(Doorbell(0, 0, None, DONE, None),)
    )

    assert list(Facts(profile=fits, regions=regions, irqs=irqs, device=device).misfits()) == []
    assert list(Facts(profile=wrong).misfits()) == []
    assert list(Facts(profile=wrong, regions=regions, irqs=irqs, device=device).misfits()) == [
        "[scratch] has bytes 0xf0 to 0x110 of region 0, which has 0x100",
        "[[irq]] has bytes 0xfc to 0x104 of region 0, which has 0x100",
        "[[irq]] has region 9, and there are 9",
        "[[irq]] has vector 4 of index 2, which has 4",
    ]
