# KVM itself: which stores an eventfd counts, what collides, what is refused, and what this kernel does not have.
import errno
import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import suppress

import pytest
from guests import Recorder, needs_kvm
from serving import eventfds, memfd, rung

from vfio_user_proto import wire
from vfio_user_proto.drafts.ioregionfd import (
    IoeventfdFlags,
    KvmCapability,
    KvmIoeventfd,
    KvmIoeventfdShadow,
    KvmIoregion,
)
from vfio_user_proto.errors import KvmError
from vfio_user_proto.kvm import GuestBus, MicroVm, Program, Space, Vm, api, why_not

pytestmark = pytest.mark.usefixtures("no_leak")
HOLE, PORT = 0xD0000, 0x510


def test_kvm_is_called_absent_only_where_it_is() -> None:
    """Asked without our code: a defect in what starts a guest must fail here, or it would skip every other test."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        assert why_not()
        return
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.close(fcntl.ioctl(kvm, 0xAE01, 0))  # KVM_CREATE_VM
        makes_machines = True
    except OSError:
        makes_machines = False
    os.close(kvm)

    assert (why_not() == "") is makes_machines


class Trapped:
    """A machine whose accesses, where no eventfd counts them, are written down."""

    def __init__(self) -> None:
        self.machine = MicroVm()
        self.vm = self.machine.vm
        self.server = Recorder()
        self.bus = GuestBus(self.server)
        self.bus.place(0, 0x1000, HOLE)
        self.bus.place(2, 0x10, PORT, space=Space.PORTS)

    def run(self, program: Program) -> list[tuple[int, int, bytes | int]]:
        """What left the kernel, as (region, offset, data)."""
        self.server.accesses.clear()
        self.machine.load(program)
        self.machine.run(self.bus)
        return self.server.accesses

    def close(self) -> None:
        self.bus.close()
        self.machine.close()


@pytest.fixture
def trapped() -> Iterator[Trapped]:
    made = Trapped()
    yield made
    made.close()


def stores(*sizes: int) -> Program:
    program = Program().segment(HOLE).value(7)
    for size in sizes:
        program.store(0, size)
    return program


@needs_kvm
def test_without_an_eventfd_every_store_is_an_exit(trapped: Trapped) -> None:
    assert [len(data) for _, _, data in trapped.run(stores(1, 2, 4, 8)) if isinstance(data, bytes)] == [1, 2, 4, 8]


@needs_kvm
@pytest.mark.parametrize("size", [0, 1, 2, 4, 8])
def test_a_store_to_memory_counts_by_its_width(trapped: Trapped, size: int) -> None:
    """Width 0 counts all; the others leave the stores of another width to exits."""
    with eventfds(1) as [fd]:
        trapped.vm.set_ioeventfd(fd, HOLE, size=size)
        left = trapped.run(stores(1, 2, 4, 8))
        assert rung(fd) == (4 if size == 0 else 1)
        assert [len(data) for _, _, data in left if isinstance(data, bytes)] == [
            each for each in (1, 2, 4, 8) if size not in (0, each)
        ]


@needs_kvm
@pytest.mark.parametrize("size", [0, 1, 2, 4])
def test_a_write_to_a_port_counts_by_its_width(trapped: Trapped, size: int) -> None:
    with eventfds(1) as [fd]:
        trapped.vm.set_ioeventfd(fd, PORT, size=size, port=True)
        left = trapped.run(Program().value(7).port(PORT).out(1).out(2).out(4))
        assert rung(fd) == (3 if size == 0 else 1)
        assert len(left) == (0 if size == 0 else 2)


@needs_kvm
@pytest.mark.parametrize("port", [False, True])
def test_several_eventfds_at_one_address_tell_values_apart(trapped: Trapped, port: bool) -> None:
    """The question that was asked of iosignalfd in 2009: one address, different cookies."""
    address = PORT if port else HOLE
    access = (lambda p: p.out(4)) if port else (lambda p: p.store(0, 4))
    program = Program().segment(HOLE).port(PORT)
    for value in (1, 2, 2, 3):
        access(program.value(value))
    with eventfds(2) as [one, two]:
        trapped.vm.set_ioeventfd(one, address, size=4, port=port, match=1)
        trapped.vm.set_ioeventfd(two, address, size=4, port=port, match=2)
        left = trapped.run(program)
        assert (rung(one), rung(two)) == (1, 2)
        assert [data for _, _, data in left] == [b"\3\0\0\0"]


@needs_kvm
@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        ({"size": 4}, {"size": 4}, True),
        ({"size": 4}, {"size": 4, "match": 1}, True),
        ({"size": 4, "match": 1}, {"size": 4}, True),
        ({"size": 4, "match": 1}, {"size": 4, "match": 1}, True),
        ({"size": 4, "match": 1}, {"size": 4, "match": 2}, False),
        ({"size": 4}, {"size": 2}, False),
        ({"size": 0}, {"size": 2}, True),
        ({"size": 2, "match": 1}, {"size": 0}, True),
    ],
)
def test_two_that_could_count_the_same_store_collide(
    trapped: Trapped, first: dict[str, int], second: dict[str, int], collide: bool
) -> None:
    """EEXIST: a wildcard with everything of its width, width 0 with every width."""
    with eventfds(2) as [one, two]:
        trapped.vm.set_ioeventfd(one, HOLE, **first)
        if collide:
            with pytest.raises(KvmError) as refusal:
                trapped.vm.set_ioeventfd(two, HOLE, **second)
            assert refusal.value.errno == errno.EEXIST
        else:
            trapped.vm.set_ioeventfd(two, HOLE, **second)


@needs_kvm
def test_one_eventfd_serves_many_addresses_and_both_spaces(trapped: Trapped) -> None:
    with eventfds(1) as [fd]:
        trapped.vm.set_ioeventfd(fd, HOLE, size=4)
        trapped.vm.set_ioeventfd(fd, HOLE + 4, size=4)
        trapped.vm.set_ioeventfd(fd, PORT, size=4, port=True)
        assert trapped.run(Program().segment(HOLE).port(PORT).store(0, 4).store(4, 4).out(4)) == []
        assert rung(fd) == 3


@needs_kvm
def test_what_was_assigned_can_be_taken_away_once(trapped: Trapped) -> None:
    """By the same arguments; then stores are exits again."""
    with eventfds(2) as [fd, other]:
        trapped.vm.set_ioeventfd(fd, HOLE, size=4, match=7)
        for wrong in ({"size": 4}, {"size": 4, "match": 8}, {"size": 2, "match": 7}):
            with pytest.raises(KvmError) as refusal:
                trapped.vm.set_ioeventfd(fd, HOLE, **wrong, remove=True)
            assert refusal.value.errno == errno.ENOENT
        with pytest.raises(KvmError):
            trapped.vm.set_ioeventfd(other, HOLE, size=4, match=7, remove=True)
        trapped.vm.set_ioeventfd(fd, HOLE, size=4, match=7, remove=True)
        assert len(trapped.run(stores(4))) == 1
        assert rung(fd) == 0
        trapped.vm.set_ioeventfd(fd, HOLE, size=4)
        assert trapped.run(stores(4)) == []
        assert rung(fd) == 1


@needs_kvm
def test_what_is_no_ioeventfd_is_refused(trapped: Trapped) -> None:
    """A width that there is not, a value of any width, an end beyond the address space, a descriptor that is none."""
    with eventfds(1) as [fd], memfd(4096) as file:
        for arguments, code in (
            ((fd, HOLE, 3, None), errno.EINVAL),
            ((fd, HOLE, 0, 1), errno.EINVAL),
            ((fd, (1 << 64) - 1, 4, None), errno.EINVAL),
            ((file, HOLE, 4, None), errno.EINVAL),
        ):
            number, address, size, match = arguments
            with pytest.raises(KvmError, match="KVM_IOEVENTFD") as refusal:
                trapped.vm.set_ioeventfd(number, address, size=size, match=match)
            assert refusal.value.errno == code


@needs_kvm
def test_a_machine_that_lacks_descriptors_is_a_kvm_error_and_leaves_none_open(no_leak: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    machine = None
    try:
        for limit in range(200):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            with suppress(KvmError):
                machine = MicroVm()
                break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert machine is not None
    machine.close()


@needs_kvm
def test_the_kernel_keeps_what_it_was_given() -> None:
    """The caller may close the eventfd; the machine lets it go when it is closed."""
    vm = Vm()
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    vm.set_ioeventfd(fd, HOLE, size=4)
    os.close(fd)
    vm.close()


@needs_kvm
def test_the_kernel_counts_any_length() -> None:
    with Vm() as vm:
        assert vm.extension(KvmCapability.IOEVENTFD)
        assert vm.extension(KvmCapability.IOEVENTFD_ANY_LENGTH)


@needs_kvm
def test_asking_for_what_is_not_there_changes_nothing() -> None:
    """After both questions every address is free, and the answer of the kernel is what a real call gets."""
    with Vm() as vm, eventfds(1) as [fd], memfd(4096) as shadow:
        commits, ioregions = vm.commits_writes(), vm.has_ioregions()
        for address in (0, 0x1000):
            vm.set_ioeventfd(fd, address)
            vm.set_ioeventfd(fd, address, port=True)
        if not ioregions:
            with pytest.raises(KvmError, match="KVM_SET_IOREGION") as refusal:
                vm.set_ioregion(fd, HOLE, 4, 0)
            assert refusal.value.errno == errno.ENOTTY
        if commits:
            vm.set_shadow_ioeventfd(fd, HOLE, shadow, 0, size=4)


class Kernel:
    """An ioctl that reads ``kvm_ioeventfd`` as one kernel or another does, and keeps what it would register."""

    def __init__(self, form: type[KvmIoeventfd] | type[KvmIoeventfdShadow], known: int, ioregions: bool) -> None:
        self.form, self.known, self.ioregions = form, known, ioregions
        self.registered: list[object] = []

    def __call__(self, fd: int, request: int, argument: bytes) -> int:
        if request == 0x4040AE49:
            region = wire.decode_record(KvmIoregion, argument)[0]
            raise OSError(errno.EINVAL if self.ioregions and not region.memory_size else errno.ENOTTY, "")
        record = wire.decode_record(self.form, argument)[0]
        if record.flags & IoeventfdFlags.DEASSIGN:
            raise OSError(errno.ENOENT, "")
        if record.len not in (0, 1, 2, 4, 8) or record.flags & ~self.known:
            raise OSError(errno.EINVAL, "")
        if record.fd == 0xFFFFFFFF:
            raise OSError(errno.EBADF, "")
        self.registered.append(record)
        return 0


@needs_kvm
@pytest.mark.parametrize(
    ("kernel", "commits", "ioregions"),
    [
        (Kernel(KvmIoeventfd, 0xF, False), False, False),
        (Kernel(KvmIoeventfd, 0x2F, True), False, True),
        (Kernel(KvmIoeventfdShadow, 0x2F, False), True, False),
    ],
    ids=["released", "post-write and ioregionfd", "commit-write"],
)
def test_the_questions_are_safe_whoever_reads_them(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, commits: bool, ioregions: bool
) -> None:
    """Both forms of the structure have the same size: neither reader registers or removes anything."""
    with Vm() as vm, memfd(4096) as shadow, eventfds(1) as [fd], monkeypatch.context() as patch:
        patch.setattr(fcntl, "ioctl", kernel)
        assert (vm.commits_writes(), vm.has_ioregions()) == (commits, ioregions)
        assert kernel.registered == []
        if commits:
            vm.set_shadow_ioeventfd(fd, HOLE, shadow, 8, size=4, match=5)
            [record] = kernel.registered
            assert isinstance(record, KvmIoeventfdShadow)
            assert (record.datamatch, record.addr, record.len, record.fd) == (5, HOLE, 4, fd)
            assert record.flags == 0x21
            assert record.vaddr % 4096 == 8


@needs_kvm
@pytest.mark.parametrize("offset", [8, (1 << 64) - 1])
def test_memory_that_is_too_short_for_its_shadow_is_refused(offset: int) -> None:
    with Vm() as vm, memfd(4) as shadow, eventfds(1) as [fd], pytest.raises(KvmError, match="shadow memory") as refusal:
        vm.set_shadow_ioeventfd(fd, HOLE, shadow, offset, size=4)
    assert refusal.value.errno == errno.EFAULT


def test_a_machine_without_kvm_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "DEVICE", "/nonexistent/kvm")
    assert why_not() == "/nonexistent/kvm: No such file or directory"
    with pytest.raises(KvmError) as problem:
        MicroVm()
    assert problem.value.errno == errno.ENOENT


def test_a_device_that_is_not_kvm_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "DEVICE", "/dev/null")
    assert why_not() == "KVM_GET_API_VERSION: Inappropriate ioctl for device"
