# A guest in real mode: its loads and stores, of every width, through memory and ports, arrive at the bus.
import os
import signal
import time
from collections.abc import Iterator

import pytest
from guests import Recorder, needs_kvm

from vfio_user_proto.errors import KvmError, TransportError
from vfio_user_proto.kvm import GuestBus, MicroVm, Program, Space

pytestmark = [pytest.mark.usefixtures("no_leak"), needs_kvm]
HOLE, PORT, KEPT = 0xD0000, 0x510, 0x3000


@pytest.fixture
def machine() -> Iterator[MicroVm]:
    with MicroVm() as made:
        yield made


@pytest.fixture
def server() -> Recorder:
    return Recorder()


@pytest.fixture
def bus(server: Recorder) -> Iterator[GuestBus]:
    with GuestBus(server) as made:
        made.place(0, 0x1000, HOLE)
        made.place(2, 0x10, PORT, space=Space.PORTS)
        yield made


class Bytes(Program):
    """Machine code given as bytes."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self._code = bytes.fromhex(code)


def test_a_store_is_a_write_of_the_region(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    machine.load(Program().segment(HOLE).value(0x11223344).store(8, 1).store(8, 2).store(8, 4).store(16, 8))
    assert machine.run(bus) == {Space.MEMORY: 4}
    value = (0x11223344).to_bytes(8, "little")
    assert server.accesses == [(0, 8, value[:1]), (0, 8, value[:2]), (0, 8, value[:4]), (0, 16, value)]


def test_a_load_is_a_read_of_the_region(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    program = Program().segment(HOLE).value(0)
    machine.load(program.load(4, 1).keep(KEPT).load(5, 2).keep(KEPT + 4).load(8, 4).keep(KEPT + 8))
    assert machine.run(bus) == {Space.MEMORY: 3}
    assert server.accesses == [(0, 4, 1), (0, 5, 2), (0, 8, 4)]
    assert [machine.number(KEPT + at) for at in (0, 4, 8)] == [0x04, 0x0605, 0x0B0A0908]


def test_ports_are_read_and_written(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    program = Program().port(PORT + 4).value(0x11223344).out(1).out(2).out(4)
    machine.load(program.value(0).load_port(1).keep(KEPT).load_port(2).keep(KEPT + 4).load_port(4).keep(KEPT + 8))
    assert machine.run(bus) == {Space.PORTS: 6}
    assert server.accesses[:3] == [(2, 4, b"\x44"), (2, 4, b"\x44\x33"), (2, 4, b"\x44\x33\x22\x11")]
    assert server.accesses[3:] == [(2, 4, 1), (2, 4, 2), (2, 4, 4)]
    assert [machine.number(KEPT + at) for at in (0, 4, 8)] == [0x04, 0x0504, 0x07060504]


def test_a_string_instruction_is_as_many_accesses(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    """It may be one exit with a count."""
    code = (
        "be 0012"  # mov si, 0x1200
        "b9 0500"  # mov cx, 5
        "ba 1005"  # mov dx, PORT
        "f3 6e"  # rep outsb
        "bf 0030"  # mov di, KEPT
        "b9 0300"  # mov cx, 3
        "f3 6d"  # rep insw
    )
    machine.memory.view[0x1200:0x1205] = b"hello"
    machine.load(Bytes(code))
    machine.run(bus)
    assert server.accesses == [(2, 0, bytes([byte])) for byte in b"hello"] + [(2, 0, 2)] * 3
    assert machine.memory.view[KEPT : KEPT + 6] == b"\0\1" * 3


def test_where_nothing_is_loads_are_all_ones_and_stores_vanish(
    machine: MicroVm, bus: GuestBus, server: Recorder
) -> None:
    program = Program().segment(0xE0000).value(0).store(0, 4).load(0, 4).keep(KEPT)
    machine.load(program.port(0x700).value(0).load_port(2).keep(KEPT + 4))
    machine.run(bus)
    assert (machine.number(KEPT), machine.number(KEPT + 4)) == (0xFFFFFFFF, 0xFFFF)
    assert server.accesses == []


def test_a_loop_counts(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    machine.load(Program().segment(HOLE).value(1).repeat(300, Program().store(0, 4).add_one()))
    assert machine.run(bus).total() == 300
    assert server.accesses == [(0, 0, number.to_bytes(4, "little")) for number in range(1, 301)]


def test_an_access_that_failed_does_not_reach_into_the_next_program(
    machine: MicroVm, bus: GuestBus, server: Recorder
) -> None:
    """The bus raises in the middle of a load; what runs next begins with clean registers and completes."""
    server.refusal = TransportError("the server is gone")
    machine.load(Program().segment(HOLE).load(4, 4).keep(KEPT))
    with pytest.raises(TransportError):
        machine.run(bus)
    machine.load(Program().keep(KEPT).segment(HOLE).value(9).keep(KEPT + 4))
    machine.run(bus)
    assert (machine.number(KEPT), machine.number(KEPT + 4)) == (0, 9)


def test_a_signal_does_not_end_a_run(machine: MicroVm, bus: GuestBus) -> None:
    """KVM_RUN is interrupted, Python's handler is called, and the guest goes on."""
    taken = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: taken.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        while len(taken) < 10:
            machine.load(Program().value(0).repeat(20_000, Program().add_one()).keep(KEPT))
            assert machine.run(bus).total() == 0
            assert machine.number(KEPT) == 20_000
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "code",
    [
        "0f0b",  # ud2
        "ea000000d0",  # jmp 0xd000:0, where there is no memory
    ],
)
def test_a_guest_that_cannot_go_on_is_an_error(machine: MicroVm, bus: GuestBus, code: str) -> None:
    """An exception, or code where there is none, ends the run."""
    machine.load(Bytes(code))
    with pytest.raises(KvmError, match="the guest stopped: KVM_EXIT_"):
        machine.run(bus)


@pytest.mark.parametrize(
    "code",
    [
        "ebfe",  # jmp to itself
        "bb00d0 8edb a10000 ebfb",  # mov bx, 0xd000; mov ds, bx; mov ax, [0]; jmp back to that: with exits
    ],
    ids=["in the kernel", "with exits"],
)
def test_a_guest_without_end_is_stopped(machine: MicroVm, bus: GuestBus, code: str) -> None:
    """After its time, and for good: its memory is gone."""
    machine.load(Bytes(code))
    with pytest.raises(KvmError, match=r"the guest did not come to its end within 0\.05 s"):
        machine.run(bus, timeout=0.05)
    machine.load(Program())
    with pytest.raises(KvmError):
        machine.run(bus)


def test_a_short_deadline_is_over_with_its_run(machine: MicroVm, bus: GuestBus) -> None:
    """What runs later has its own."""
    machine.load(Program())
    machine.run(bus, timeout=0.05)
    end = time.monotonic() + 0.1
    while time.monotonic() < end:
        machine.load(Program().value(0).repeat(20_000, Program().add_one()).keep(KEPT))
        machine.run(bus)
        assert machine.number(KEPT) == 20_000


def test_memory_can_be_added_where_the_hole_is(machine: MicroVm, bus: GuestBus, server: Recorder) -> None:
    """Stores there are no exits any more; the first memory stays."""
    more = machine.vm.add_memory(HOLE, 0x1000)
    machine.load(Program().segment(HOLE).value(0x11223344).store(8, 4).keep(KEPT))
    assert machine.run(bus).total() == 0
    assert more.view[8:12] == b"\x44\x33\x22\x11"
    assert machine.number(KEPT) == 0x11223344
    assert server.accesses == []


def test_the_memory_is_a_file_of_its_own(machine: MicroVm) -> None:
    """So that a server can be given it: what is written to the file, the guest has."""
    os.pwrite(machine.memory.fd, b"\x2a\0\0\0", KEPT)
    assert machine.number(KEPT) == 42
