"""Property 3: after any legal session the model of the client and the server agree."""

import errno
import os
import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random

import pytest
from conftest import open_descriptors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from serving import Serving

from vfio_user_fuzz import strategies
from vfio_user_fuzz.packets import open_descriptor
from vfio_user_fuzz.sessions import Model, Offer, Step, legal, packets_of, proposal
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Client
from vfio_user_proto.device import Description
from vfio_user_proto.devices.testdev import RAM, SCRATCH, TestDevice
from vfio_user_proto.errors import ErrorReply
from vfio_user_proto.messages import (
    Command,
    IrqInfoFlags,
    RegionReadReply,
    RegionReadRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.responder import OFFER


def make_offer() -> Offer:
    """What the test device offers: scratch RAM in BAR0, all of BAR2 and of the region of its own type."""
    device = TestDevice()
    description = device.description
    device.close()
    proposed = Capabilities(max_msg_fds=8, write_multiple=True)
    scratch = {0: range(SCRATCH, 4096), 2: range(16384), RAM: range(4096)}
    return Offer(description, OFFER, scratch, proposed)


TEST_DEVICE = make_offer()


class Follower:
    """Runs a session with a server, step by step, beside its model."""

    def __init__(self, client: Client, offer: Offer, stack: ExitStack) -> None:
        self.client, self.offer, self.stack = client, offer, stack
        self.model = Model(offer)
        self.eventfds: dict[tuple[int, int], int] = {}

    def follow(self, number: int, step: Step) -> None:
        """Do one step, which must succeed; only a feature may be refused, and only for not being there."""
        fds = [open_descriptor(each, self.stack) for each in step.fds]
        self.eventfds.update({(number, place): fd for place, fd in enumerate(fds) if step.fds[place].kind == "eventfd"})
        sent = self.client.send(step.command, step.payload, fds=fds, no_reply=step.no_reply)
        if not step.no_reply:
            try:
                reply = self.client.wait(sent)
            except ErrorReply as refusal:
                if (refusal.errno, step.command) != (errno.ENOTTY, Command.DEVICE_FEATURE):
                    raise
            else:
                reply.close()
                self.check_read(step.payload, reply.message.payload)
        self.model.take(step)

    def check_read(self, asked: Record | None, answer: Record | None) -> None:
        """What was read is what the model believes to stand there."""
        if isinstance(asked, RegionReadRequest):
            assert isinstance(answer, RegionReadReply)
            assert self.believed(asked.region, asked.offset, asked.count) == answer.data

    def believed(self, region: int, offset: int, count: int) -> bytes:
        """What the model says that a region holds."""
        return bytes(self.model.written.get((region, at), 0) for at in range(offset, offset + count))

    def refused(self, call: Callable[[int, int], None], address: int, size: int) -> int:
        """The errno with which a call is refused."""
        with pytest.raises(ErrorReply) as refusal:
            call(address, size)
        return refusal.value.errno

    def check(self) -> None:
        """Ask the server for everything that the model believes."""
        for region, span in self.offer.scratch.items():
            assert self.believed(region, span.start, len(span)) == self.client.region_read(
                region, span.start, len(span)
            )
        for address, size in self.model.maps.items():
            assert self.refused(self.client.dma_map, address, size) == errno.EEXIST
        for address, size in self.model.maps.items():
            self.client.dma_unmap(address, size)
            assert self.refused(self.client.dma_unmap, address, size) == errno.ENOENT
        assert self.model.signals == {owner: count for owner, fd in self.eventfds.items() if (count := signals_of(fd))}


@contextmanager
def following() -> Iterator[Follower]:
    """A client of a fresh server, and the model of what it believes."""
    with ExitStack() as stack:
        path = stack.enter_context(Serving()).path
        client = stack.enter_context(Client.connect(path, offer=TEST_DEVICE.proposal))
        yield Follower(client, TEST_DEVICE, stack)


def signals_of(fd: int) -> int:
    """How often an eventfd was signalled."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return os.eventfd_read(fd) if poll.poll(0) else 0


@settings(max_examples=60)
@given(strategies.sessions(TEST_DEVICE, max_steps=20))
@example(legal(Random(1), TEST_DEVICE, steps=200))
def test_model_and_server_agree(session: tuple[Step, ...]) -> None:
    """Over a real socket, with real memory and eventfds: every reply, and in the end every fact."""
    before = open_descriptors()
    with following() as follower:
        for number, step in enumerate(session):
            follower.follow(number, step)
        follower.check()

    assert before == open_descriptors()


def test_a_model_that_missed_a_step_is_noticed() -> None:
    """The property can fail: a write that the model was not told of is a difference."""
    with following() as follower:
        follower.client.region_write(0, SCRATCH, b"\x01")

        with pytest.raises(AssertionError):
            follower.check()


@given(st.integers(0, 1 << 32))
def test_a_seed_says_it_all(seed: int) -> None:
    """The same source of choices gives the same session."""
    assert legal(Random(seed), TEST_DEVICE, steps=5) == legal(Random(seed), TEST_DEVICE, steps=5)


def test_a_session_has_every_kind_of_step() -> None:
    """None of the makers is dead."""
    session = legal(Random(2), TEST_DEVICE, steps=500)
    reached = {step.command for step in session}

    assert reached == set(Command) - {
        Command.VERSION,
        Command.DMA_READ,
        Command.DMA_WRITE,
        Command.MIG_DATA_READ,
        Command.MIG_DATA_WRITE,
    }
    assert any(step.no_reply for step in session)
    assert any(step.fds for step in session if step.command == Command.DMA_MAP)
    assert any(step.fds for step in session if step.command == Command.DEVICE_SET_IRQS)


def test_a_server_that_offers_nothing_still_gets_legal_sessions() -> None:
    """No region, no interrupt, no capability: queries and maps remain."""
    poor = Offer(
        Description(regions={}, num_regions=0, num_irqs=0, resettable=False),
        Capabilities(max_msg_fds=0, max_data_xfer_size=0, max_dma_maps=0, pgsizes=0),
        {},
    )
    session = legal(Random(3), poor, steps=50)

    assert {Command.DEVICE_GET_INFO, Command.DEVICE_FEATURE} == {step.command for step in session}


def test_messages_of_a_session_are_numbered_and_decode() -> None:
    """Message ids count from 0; every message is whole."""
    packets = packets_of([proposal(TEST_DEVICE), *legal(Random(4), TEST_DEVICE, steps=100)])

    messages = [wire.decode(packet.data) for packet in packets]

    assert list(range(101)) == [message.header.message_id for message in messages]
    assert not any(message.trailing for message in messages)


def test_masking_is_only_for_what_can_be_masked() -> None:
    """ERR and REQ of the test device cannot be masked, and no session tries."""
    for step in legal(Random(5), TEST_DEVICE, steps=500):
        if step.command == Command.DEVICE_SET_IRQS:
            irq = TEST_DEVICE.device.irqs[step.payload.index]
            assert irq.flags & IrqInfoFlags.MASKABLE or not step.payload.flags & 0x18
