# Our server under the expectations that libvfio-user's sample of a shadow ioeventfd meets: who can drive that, can drive this.
import os
import struct
from collections.abc import Iterator

import pytest
from guests import needs_kvm
from serving import Serving
from shadow_sample import BY_MESSAGE, ID, KINDS, REPLY, SHADOWED, SIZE, VALUE, ShadowSample

from vfio_user_proto import wire
from vfio_user_proto.client import Client
from vfio_user_proto.devices.pci import BAR0, CONFIG
from vfio_user_proto.kvm import GuestBus, InKernel, MicroVm, Program, Space, Via
from vfio_user_proto.messages import Command, DeviceGetRegionIoFdsRequest

pytestmark = pytest.mark.usefixtures("no_leak")
BASE = 0xD0000


@pytest.fixture
def serving() -> Iterator[Serving]:
    with Serving(ShadowSample) as made:
        yield made


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    with Client.connect(serving.path) as made:
        yield made


def device(serving: Serving) -> ShadowSample:
    made = serving.devices[0]
    assert isinstance(made, ShadowSample)
    return made


def place(client: Client, bus: GuestBus) -> None:
    with client.region_io_fds(BAR0, SIZE) as found:
        bus.place(BAR0, SIZE, BASE, io_fds=found.io_fds)


def settle(client: Client, serving: Serving, count: int) -> None:
    """The server serves kicks and messages in turn; after a few questions it has seen what was kicked before."""
    while sum(times for _, times in device(serving).rung) < count:
        client.device_info()


def test_the_answer_is_the_samples_byte_by_byte(client: Client) -> None:
    with client.region_io_fds(BAR0, SIZE) as found:
        assert wire.encode_record(found.reply) == REPLY
        assert [fd.kind for fd in found.fds] == KINDS
        assert found.fds[1].size == SIZE
    assert client.region_info(BAR0).size == SIZE
    assert client.region_read(CONFIG, 0, 4) == ID


def test_too_small_an_answer_says_what_is_needed_and_brings_nothing(serving: Serving) -> None:
    """As the sample has it: room for the fixed part alone gets the fixed part."""
    raw = serving.client()
    reply = raw.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(argsz=16))
    assert (reply.argsz, reply.sub_regions, raw.fds) == (len(REPLY), (), ())


def test_a_value_and_a_kick_are_all_it_takes(client: Client, serving: Serving) -> None:
    """By hand, as the sample's documentation tells it of KVM: the value at shadow_offset, then 1 to the eventfd."""
    with client.region_io_fds(BAR0, SIZE) as found:
        eventfd, memory = (fd.fileno() for fd in found.fds)
        os.pwrite(memory, struct.pack("=I", VALUE), 0)
        os.eventfd_write(eventfd, 1)
        settle(client, serving, 1)
    assert device(serving).rung == [(VALUE, 1)]


@needs_kvm
def test_the_guests_program(client: Client, serving: Serving) -> None:
    """Its stores at 0 arrive by kicks with their value, those at 8 as messages, none of either is lost."""
    count = 500
    with MicroVm() as machine, GuestBus(client, InKernel(machine.vm)) as bus:
        place(client, bus)
        assert [wiring.via for wiring in bus.wirings] in ([Via.BUS], [Via.KERNEL])
        for offset in (SHADOWED, BY_MESSAGE):
            machine.load(Program().segment(BASE).value(VALUE).repeat(count, Program().store(offset, 4)))
            machine.run(bus)
    settle(client, serving, count)
    seen = device(serving)
    assert {value for value, _ in seen.rung} == {VALUE}
    assert sum(times for _, times in seen.rung) == count
    assert seen.written == [(BY_MESSAGE, struct.pack("=I", VALUE))] * count


def test_another_width_goes_by_message(client: Client, serving: Serving) -> None:
    with GuestBus(client) as bus:
        place(client, bus)
        bus.store(Space.MEMORY, BASE, b"\xef\xbe")
        bus.store(Space.MEMORY, BASE, struct.pack("=I", VALUE))
    settle(client, serving, 1)
    assert device(serving).written == [(SHADOWED, b"\xef\xbe")]
    assert device(serving).rung == [(VALUE, 1)]
