# Mechanisms in the kernel: what KVM is told for each record, and what a guest's stores do where it serves them.
import os
import socket
import struct

import pytest
from guests import BASE, MEMORY, PORTS, Recorder, event, ioregion, needs_kvm, shadow, word
from serving import eventfds, memfd, rung

from vfio_user_proto.device import IoFds
from vfio_user_proto.errors import KvmError
from vfio_user_proto.kvm import GuestBus, InKernel, MicroVm, Program, Via, Vm
from vfio_user_proto.messages import IoeventfdFlags

pytestmark = pytest.mark.usefixtures("no_leak")
COMMAND = struct.Struct("=BB6xQQQ")


class AbleVm(Vm):
    """A machine whose kernel has everything; writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def commits_writes(self) -> bool:
        return True

    def has_ioregions(self) -> bool:
        return True

    def set_ioeventfd(self, fd: int, address: int, **how: object) -> None:
        if how["size"] == 0:
            raise KvmError("KVM_IOEVENTFD: Invalid argument", 22)
        self.told.append((fd, address, how))

    def set_shadow_ioeventfd(self, fd: int, address: int, memory: int, offset: int, **how: object) -> None:
        self.told.append((fd, address, memory, offset, how))

    def set_ioregion(self, fd: int, address: int, size: int, user_data: int, **how: object) -> None:
        self.told.append((fd, address, size, user_data, how))


def test_each_mechanism_moves_into_a_kernel_that_has_it() -> None:
    """Nothing changes for the device: the same records, told to the kernel by its own calls."""
    vm = AbleVm()
    kernel = InKernel(vm)
    match = event(8, match=3).replace(flags=IoeventfdFlags.DATAMATCH | IoeventfdFlags.PIO)
    with eventfds(1) as [fd]:
        assert kernel.take(PORTS, 0x508, match, fd, None) == ""
        assert kernel.take(MEMORY, BASE + 4, shadow(4, 0x20), 12, 13) == ""
        assert kernel.take(MEMORY, BASE + 16, ioregion(16, 8, 5, posted=False), 14, None) == ""
        assert kernel.take(MEMORY, BASE, event(size=0), fd, None) == "KVM_IOEVENTFD: Invalid argument"
    copy = vm.told[0][0]
    assert vm.told == [
        (copy, 0x508, {"size": 4, "port": True, "match": 3}),
        (12, BASE + 4, 13, 0x20, {"size": 4, "port": False, "match": None}),
        (14, BASE + 16, 8, 5, {"port": False, "posted": False}),
    ]
    kernel.release()
    assert vm.told[3:] == [(copy, 0x508, {"size": 4, "port": True, "match": 3, "remove": True})]


@needs_kvm
@pytest.mark.parametrize("match", [None, 7])
def test_a_bus_that_is_closed_leaves_nothing_in_the_kernel(match: int | None) -> None:
    """So that a server which comes back has the same place for its new descriptors."""
    server = Recorder()
    program = Program().segment(BASE).value(7).store(0, 4)
    with MicroVm() as machine:
        for _ in range(2):
            with eventfds(1) as [fd], GuestBus(server, InKernel(machine.vm)) as bus:
                bus.place(0, 0x1000, BASE, io_fds=IoFds((event(match=match),), (fd,)))
                assert [wiring.via for wiring in bus.wirings] == [Via.KERNEL]
                machine.load(program)
                assert machine.run(bus).total() == 0
                assert rung(fd) == 1
        with GuestBus(server) as bus:
            bus.place(0, 0x1000, BASE)
            machine.load(program)
            assert machine.run(bus).total() == 1


@needs_kvm
def test_a_machine_that_is_closed_first_is_no_harm() -> None:
    with eventfds(1) as [fd]:
        machine = MicroVm()
        bus = GuestBus(Recorder(), InKernel(machine.vm))
        bus.place(0, 0x1000, BASE, io_fds=IoFds((event(),), (fd,)))
        machine.close()
        bus.close()


@needs_kvm
def test_kvm_serves_ioeventfds_and_says_what_it_has_not() -> None:
    """A guest's stores: those that count never leave the kernel; shadow memory and windows work where they are served."""
    server = Recorder()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, MicroVm() as machine, eventfds(2) as fds, memfd(4096) as memory:
        kernel = InKernel(machine.vm)
        with GuestBus(server, kernel) as bus:
            bus.place(
                0, 0x1000, BASE, io_fds=IoFds((event(match=1), ioregion(0x10, 4, 9, fd=1)), (fds[0], theirs.fileno()))
            )
            bus.place(4, 0x1000, BASE + 0x1000, io_fds=IoFds((shadow(0, 0),), (fds[1], memory)))
            program = Program().segment(BASE).value(1).store(0, 4).store(0x10, 4).store(0x1000, 4).add_one().store(0, 4)
            machine.load(program)
            exits = machine.run(bus).total()
            assert [w.via for w in bus.wirings] == [
                Via.KERNEL,
                Via.KERNEL if kernel.has_ioregions else Via.BUS,
                Via.KERNEL if kernel.commits_writes else Via.BUS,
            ]
            assert exits == 1 + sum(w.via is Via.BUS for w in bus.wirings)
            assert all(w.reason.startswith("this kernel has no KVM_") for w in bus.wirings if w.via is Via.BUS)
        assert (rung(fds[0]), rung(fds[1]), os.pread(memory, 4, 0)) == (1, 1, word(1))
        assert COMMAND.unpack(ours.recv(64)) == (1, 2, 9, 0, 1)
    assert server.accesses == [(0, 0, word(2))]
