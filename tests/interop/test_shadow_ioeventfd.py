# A doorbell of another implementation: libvfio-user's sample of a shadow ioeventfd, rung by our client and bus.
import contextlib
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from shadow_sample import ID, KINDS, REPLY, SIZE

from vfio_user_proto import launch, wire
from vfio_user_proto.client import Client
from vfio_user_proto.device import IoFds
from vfio_user_proto.devices.pci import BAR0, CONFIG
from vfio_user_proto.kvm import GuestBus, InKernel, MicroVm, Program, Space, Via, why_not
from vfio_user_proto.messages import IoFdType, ShadowIoeventfdSubRegion

VARIABLE = "LIBVFIO_USER_SHADOW_SERVER"
SAMPLE = os.environ.get(VARIABLE, "")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.usefixtures("no_leak"),
    pytest.mark.skipif(not SAMPLE, reason=f"{VARIABLE} does not name a built samples/shadow_ioeventfd_server"),
]
BASE = 0xD0000


class Sample:
    """The running sample, the client of it, and what can be seen of the sample from outside."""

    def __init__(self, process: launch.Process, client: Client) -> None:
        self.process, self.client = process, client
        with client.region_io_fds(BAR0, SIZE) as found:
            self.sub_regions = found.sub_regions
            self.kinds = [fd.kind for fd in found.fds]
            self.fds = tuple(os.dup(fd.fileno()) for fd in found.fds)

    @property
    def io_fds(self) -> IoFds:
        return IoFds(self.sub_regions, self.fds)

    def memory(self) -> bytes:
        """The shadow memory through the sample's own descriptor of it."""
        own = Path(f"/proc/{self.process.pid}/fd")
        [fd] = [each for each in own.iterdir() if os.readlink(each).startswith("/memfd:BAR0")]
        return fd.read_bytes()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs the sample does not."""
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            os.kill(self.process.pid, signal.SIGCONT)

    def let_it_look(self) -> None:
        """Two round trips: in each turn of its loop the sample serves a message, then its eventfd.

        With the second reply a turn is over that began after the kick.
        """
        for _ in range(2):
            self.client.device_info()

    def pending(self) -> int:
        """Kicks that the sample has not taken from the eventfd."""
        info = Path(f"/proc/self/fdinfo/{self.fds[self.sub_regions[0].fd_index]}").read_text()
        return int(info.partition("eventfd-count:")[2].split()[0], 16)


@pytest.fixture
def sample() -> Iterator[Sample]:
    with launch.spawn(f"{SAMPLE} {{socket}}") as process, Client.connect(process.connect()) as client:
        made = Sample(process, client)
        yield made
        assert process.poll() is None, process.exit_text()
        for fd in made.fds:
            os.close(fd)


def test_its_answer_is_the_one_that_our_device_gives(sample: Sample) -> None:
    """Byte by byte: what tests/test_shadow_sample.py expects of our server is what the sample does."""
    with sample.client.region_io_fds(BAR0, SIZE) as found:
        assert wire.encode_record(found.reply) == REPLY
        assert [fd.kind for fd in found.fds] == KINDS
        assert found.fds[1].size == SIZE
    assert sample.client.region_info(BAR0).size == SIZE
    assert sample.client.region_read(CONFIG, 0, 4) == ID


def test_its_record_has_48_bytes_and_both_descriptors(sample: Sample) -> None:
    [record] = sample.sub_regions
    assert isinstance(record, ShadowIoeventfdSubRegion)
    assert (record.offset, record.size, record.type) == (0, 4, IoFdType.IOEVENTFD_SHADOW)
    assert sample.kinds[record.fd_index] == "eventfd"
    assert sample.kinds[record.shadow_mem_fd_index] == "memfd"


def test_a_store_puts_the_value_into_its_memory_and_wakes_it(sample: Sample) -> None:
    """The value is in the sample's own memory, and the sample has taken the kick from its eventfd."""
    with GuestBus(sample.client) as bus:
        bus.place(BAR0, SIZE, BASE, io_fds=sample.io_fds)
        assert [wiring.via for wiring in bus.wirings] == [Via.BUS]
        for value in (0x11223344, 0xA5A5A5A5):
            with sample.held():
                bus.store(Space.MEMORY, BASE, struct.pack("=I", value))
                assert sample.pending() == 1
            sample.let_it_look()
            assert sample.pending() == 0
            assert sample.memory() == struct.pack("=I", value) + bytes(SIZE - 4)


def test_what_its_record_does_not_cover_goes_by_message(sample: Sample) -> None:
    """The next register, and another width at the same place; neither reaches the memory."""
    with GuestBus(sample.client) as bus:
        bus.place(BAR0, SIZE, BASE, io_fds=sample.io_fds)
        bus.store(Space.MEMORY, BASE + 4, struct.pack("=I", 7))
        bus.store(Space.MEMORY, BASE, b"\7")
        assert len(bus.load(Space.MEMORY, BASE, 4)) == 4
        assert sample.memory() == bytes(SIZE)


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_guest_rings_it(sample: Sample) -> None:
    """A processor under KVM stores; the kernel's part, where it has none, is the bus's."""
    with MicroVm() as machine, GuestBus(sample.client, InKernel(machine.vm)) as bus:
        bus.place(BAR0, SIZE, BASE, io_fds=sample.io_fds)
        machine.load(Program().segment(BASE).value(1).repeat(100, Program().store(0, 4).add_one()))
        machine.run(bus)
        sample.let_it_look()
        assert sample.pending() == 0
        assert sample.memory()[:4] == struct.pack("=I", 100)
