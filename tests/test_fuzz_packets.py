"""Descriptors as data: each is made as it is described, and closed at the end."""

import os
import select

import pytest

from vfio_user_fuzz.packets import KINDS, ODD_DESCRIPTORS, Descriptor, opened
from vfio_user_proto.errors import LocalProtocolError
from vfio_user_proto.unix import kind_of


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize("descriptor", ODD_DESCRIPTORS, ids=str)
def test_a_descriptor_is_what_it_says(descriptor: Descriptor) -> None:
    """Its kind, and the size where there is one."""
    with opened([descriptor]) as (fd,):
        assert descriptor.kind == kind_of(fd)
        if descriptor.kind in ("memfd", "file"):
            assert descriptor.size == os.fstat(fd).st_size


def test_all_kinds_are_used() -> None:
    """No kind without a descriptor that a fuzzer sends."""
    assert set(KINDS) == {descriptor.kind for descriptor in ODD_DESCRIPTORS}


@pytest.mark.usefixtures("no_leak")
@pytest.mark.parametrize(
    ("descriptor", "writable"),
    [
        (Descriptor("pipe"), True),
        (Descriptor("pipe", 1 << 20), False),
        (Descriptor("eventfd"), True),
        (Descriptor("eventfd", (1 << 64) - 2), False),
    ],
)
def test_a_full_one_would_block_its_writer(descriptor: Descriptor, writable: bool) -> None:
    """A pipe that holds no more, an eventfd at the end of its count."""
    with opened([descriptor]) as (fd,):
        poll = select.poll()
        poll.register(fd, select.POLLOUT)

        assert writable is bool(poll.poll(0))


@pytest.mark.usefixtures("no_leak")
def test_a_kind_that_cannot_be_made_leaves_nothing_open() -> None:
    """Not the ones before it either."""
    with (
        pytest.raises(LocalProtocolError, match="'floppy' cannot be made"),
        opened([Descriptor("memfd", 1), Descriptor("floppy")]),
    ):
        pass
