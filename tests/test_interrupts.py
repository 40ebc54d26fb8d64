# Interrupts: eventfds per vector and action, masking, pending, and never blocking on what a client gave us.
import errno
import os
from collections.abc import Iterator

import pytest
from serving import eventfds, rung

from vfio_user_proto.device import Irq
from vfio_user_proto.interrupts import MASK, TRIGGER, UNMASK, Interrupts
from vfio_user_proto.messages import IrqInfoFlags

PLAIN, LEVEL, SET = 2, 0, 1


@pytest.fixture
def irqs(no_leak: None) -> Iterator[Interrupts]:
    flags = IrqInfoFlags.EVENTFD | IrqInfoFlags.MASKABLE
    one = Interrupts(
        {
            PLAIN: Irq(4, flags),
            LEVEL: Irq(1, flags | IrqInfoFlags.AUTOMASKED),
            SET: Irq(4, flags | IrqInfoFlags.NORESIZE),
        }
    )
    yield one
    one.clear()


def test_trigger_signals_the_vector_and_no_other(irqs: Interrupts) -> None:
    with eventfds(2) as fds:
        irqs.assign(PLAIN, 1, TRIGGER, [os.dup(fd) for fd in fds])
        irqs.trigger(PLAIN, 2)
        assert [rung(fd) for fd in fds] == [0, 1]


@pytest.mark.parametrize(("index", "vector"), [(PLAIN, 3), (PLAIN, 4), (PLAIN, -1), (7, 0), (PLAIN, 1 << 32)])
def test_trigger_without_eventfd_or_vector_does_nothing(irqs: Interrupts, index: int, vector: int) -> None:
    irqs.trigger(index, vector)


def test_new_eventfd_replaces_the_old_one(irqs: Interrupts) -> None:
    with eventfds(2) as fds:
        for fd in fds:
            irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd)])
        irqs.trigger(PLAIN, 0)
        assert [rung(fd) for fd in fds] == [0, 1]


def test_taken_away_per_vector(irqs: Interrupts) -> None:
    with eventfds(2) as fds:
        irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd) for fd in fds])
        irqs.assign(PLAIN, 1, TRIGGER, [None])
        for vector in (0, 1):
            irqs.trigger(PLAIN, vector)
        assert [rung(fd) for fd in fds] == [1, 0]


def test_masked_interrupt_waits_until_unmasked_and_comes_once(irqs: Interrupts) -> None:
    with eventfds(1) as (fd,):
        irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd)])
        irqs.mask(PLAIN, 0, True)
        irqs.trigger(PLAIN, 0)
        irqs.trigger(PLAIN, 0)
        assert rung(fd) == 0
        irqs.mask(PLAIN, 0, False)
        assert rung(fd) == 1
        irqs.mask(PLAIN, 0, True)
        irqs.mask(PLAIN, 0, False)
        assert rung(fd) == 0


def test_level_interrupt_masks_itself(irqs: Interrupts) -> None:
    with eventfds(2) as (fd, masked):
        irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        irqs.assign(LEVEL, 0, MASK, [os.dup(masked)])
        irqs.trigger(LEVEL, 0)
        irqs.trigger(LEVEL, 0)
        assert (rung(fd), rung(masked)) == (1, 1)
        irqs.mask(LEVEL, 0, False)
        assert (rung(fd), rung(masked)) == (1, 1)


def test_asserted_level_is_raised_at_every_unmasking_until_it_falls(irqs: Interrupts) -> None:
    with eventfds(1) as (fd,):
        irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        irqs.level(LEVEL, 0, True)
        irqs.level(LEVEL, 0, True)
        for _ in range(3):
            assert rung(fd) == 1
            irqs.mask(LEVEL, 0, False)
        irqs.level(LEVEL, 0, False)
        assert rung(fd) == 1
        irqs.mask(LEVEL, 0, False)
        assert rung(fd) == 0
        irqs.level(LEVEL, 0, True)
        assert rung(fd) == 1


def test_level_is_raised_when_it_rises_and_not_while_it_stays(irqs: Interrupts) -> None:
    """Also where nothing masks itself."""
    with eventfds(1) as (fd,):
        irqs.assign(PLAIN, 3, TRIGGER, [os.dup(fd)])
        for asserted in (True, True, False, False, True):
            irqs.level(PLAIN, 3, asserted)
        assert rung(fd) == 2


def test_level_that_rose_and_fell_behind_a_mask_is_not_raised(irqs: Interrupts) -> None:
    with eventfds(1) as (fd,):
        irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        irqs.mask(LEVEL, 0, True)
        irqs.level(LEVEL, 0, True)
        irqs.level(LEVEL, 0, False)
        irqs.mask(LEVEL, 0, False)
        assert rung(fd) == 0


def test_asserted_level_is_raised_as_soon_as_it_has_an_eventfd(irqs: Interrupts) -> None:
    irqs.level(LEVEL, 0, True)
    with eventfds(2) as (fd, other):
        irqs.assign(LEVEL, 0, MASK, [os.dup(other)])
        assert rung(other) == 0
        irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        assert rung(fd) == 1
        irqs.disable(LEVEL)
        irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        assert rung(fd) == 1


def test_eventfd_that_cannot_be_signalled_is_owned_all_the_same(
    irqs: Interrupts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gave it would close it, and its number would be somebody else's when the interrupt is raised again."""

    def fails(fd: int) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    irqs.level(LEVEL, 0, True)
    with eventfds(1) as (fd,):
        with monkeypatch.context() as patched:
            patched.setattr("vfio_user_proto.eventfds.signal", fails)
            irqs.assign(LEVEL, 0, TRIGGER, [os.dup(fd)])
        irqs.level(LEVEL, 0, False)
        irqs.level(LEVEL, 0, True)
        assert rung(fd) == 1


def test_mask_and_unmask_signal_their_eventfds_on_a_change_only(irqs: Interrupts) -> None:
    with eventfds(2) as (masked, unmasked):
        irqs.assign(PLAIN, 0, MASK, [os.dup(masked)])
        irqs.assign(PLAIN, 0, UNMASK, [os.dup(unmasked)])
        for state in (False, True, True, False, False):
            irqs.mask(PLAIN, 0, state)
        assert (rung(masked), rung(unmasked)) == (1, 1)


def test_vectors_that_are_enabled_as_a_set_stay_as_many_until_they_are_disabled(irqs: Interrupts) -> None:
    """As many as the first assignment reaches; within the set eventfds change, and the other actions have none."""
    with eventfds(3) as fds:
        irqs.assign(SET, 3, TRIGGER, [None])
        irqs.assign(SET, 0, TRIGGER, [os.dup(fd) for fd in fds[:2]])
        irqs.assign(SET, 0, TRIGGER, [None, os.dup(fds[2])])
        irqs.assign(SET, 3, MASK, [os.dup(fds[0])])
        irqs.assign(SET, 1, TRIGGER, [None, None, None])
        for start, more in ((2, fds[:1]), (1, fds[:2]), (3, fds[:1])):
            with pytest.raises(OSError, match="beyond the vectors that are enabled") as refused:
                irqs.assign(SET, start, TRIGGER, more)
            assert refused.value.errno == errno.EINVAL
        irqs.disable(SET)
        irqs.assign(SET, 0, TRIGGER, [os.dup(fd) for fd in fds])
        irqs.trigger(SET, 2)
        assert [rung(fd) for fd in fds] == [0, 0, 1]


def test_disable_forgets_eventfds_masks_and_what_is_pending(irqs: Interrupts) -> None:
    with eventfds(1) as (fd,):
        irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd)])
        irqs.mask(PLAIN, 0, True)
        irqs.trigger(PLAIN, 0)
        irqs.disable(PLAIN)
        irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd)])
        irqs.mask(PLAIN, 0, False)
        assert rung(fd) == 0
        irqs.trigger(PLAIN, 0)
        assert rung(fd) == 1


def test_what_is_no_eventfd_is_refused_as_a_whole(irqs: Interrupts) -> None:
    pipe = os.pipe()
    with eventfds(2) as fds:
        irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fds[0])])
        with pytest.raises(OSError) as refused:
            irqs.assign(PLAIN, 0, TRIGGER, [fds[1], pipe[1]])
        assert refused.value.errno == errno.EINVAL
        irqs.trigger(PLAIN, 0)
        assert [rung(fd) for fd in fds] == [1, 0]
    for end in pipe:
        os.close(end)


@pytest.mark.parametrize("flags", [os.EFD_NONBLOCK, 0])
def test_full_eventfd_does_not_block(irqs: Interrupts, flags: int) -> None:
    """The flags of the client's open file stay as they were."""
    fd = os.eventfd(0, flags)
    full = (1 << 64) - 2
    os.eventfd_write(fd, full)
    irqs.assign(PLAIN, 0, TRIGGER, [os.dup(fd)])
    irqs.trigger(PLAIN, 0)
    assert os.get_blocking(fd) is (flags == 0)
    assert os.eventfd_read(fd) >= full
    os.close(fd)
