# The responder: memory maps, interrupts, and access to regions.
import errno
import os
from collections.abc import Iterator

import pytest
from desk import (
    BOOL,
    EVENTFD,
    MAP,
    MASK,
    NONE,
    SET_IRQS,
    TRIGGER,
    UNMAP,
    UNMASK,
    Desk,
    irqs,
    own,
    said,
    version,
)
from serving import eventfds, memfd, rung

from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import (
    Command,
    DeviceSetIrqsRequest,
    DeviceWrite,
    DmaMapRequest,
    DmaUnmapRequest,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
)
from vfio_user_proto.responder import OFFER


@pytest.fixture
def desk() -> Iterator[Desk]:
    """A responder after VERSION with a client that can do everything."""
    one = Desk(peer=OFFER)
    yield one
    one.dma.clear()
    one.irqs.clear()


# DMA_MAP and DMA_UNMAP (the ranges: test_memory)


def test_map_and_unmap(desk: Desk) -> None:
    assert desk.ask(MAP, DmaMapRequest(flags=3, address=0x10000, size=0x2000)) == (None, ())
    assert len(desk.dma) == 1
    assert desk.ask(UNMAP, DmaUnmapRequest(address=0x10000, size=0x2000)) == (
        DmaUnmapRequest(address=0x10000, size=0x2000),
        (),
    )
    assert len(desk.dma) == 0


def test_map_keeps_its_descriptor_and_unmap_closes_it(desk: Desk) -> None:
    with memfd(8192) as fd:
        kept = os.dup(fd)
        desk.ask(MAP, DmaMapRequest(flags=1, offset=4096, address=0, size=4096), [kept])
        os.fstat(kept)
        desk.ask(UNMAP, DmaUnmapRequest(address=0, size=4096))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(kept)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"argsz": 31}, errno.EINVAL),
        ({"argsz": 33}, errno.EINVAL),
        ({"flags": 4}, errno.EINVAL),
        ({"flags": 0x80000003}, errno.EINVAL),
        ({"size": 0}, errno.EINVAL),
        ({"size": 4095}, errno.EINVAL),
        ({"address": 0x10001}, errno.EINVAL),
        ({"address": (1 << 64) - 4096, "size": 8192}, errno.EINVAL),
        ({"offset": 4096}, errno.EINVAL),
        ({"address": 0x8000}, errno.EEXIST),
    ],
)
def test_wrong_map_is_refused(desk: Desk, changes: dict[str, int], expected: int) -> None:
    desk.ask(MAP, DmaMapRequest(flags=3, address=0x8000, size=0x1000))
    right = DmaMapRequest(flags=3, address=0x10000, size=0x1000)
    assert desk.refusal(MAP, right.replace(**changes)) == expected
    assert len(desk.dma) == 1


def test_map_with_two_descriptors_is_refused(desk: Desk) -> None:
    with memfd(4096) as one, memfd(4096) as two:
        assert desk.refusal(MAP, DmaMapRequest(flags=3, address=0, size=4096), [one, two]) == errno.EINVAL


def test_max_dma_maps_is_what_was_agreed() -> None:
    desk = Desk(offer=Capabilities(max_dma_maps=1), peer=Capabilities())
    desk.ask(MAP, DmaMapRequest(address=0, size=4096))
    assert desk.refusal(MAP, DmaMapRequest(address=4096, size=4096)) == errno.ENOSPC


def test_pages_are_as_large_as_agreed() -> None:
    desk = Desk(offer=Capabilities(pgsizes=0x10000), peer=Capabilities())
    assert desk.refusal(MAP, DmaMapRequest(address=0, size=4096)) == errno.EINVAL
    desk.ask(MAP, DmaMapRequest(address=0, size=0x10000))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"flags": 1}, errno.EINVAL), ({"size": 4096}, errno.ENOENT), ({"address": 4096}, errno.ENOENT)],
)
def test_wrong_unmap_is_refused(desk: Desk, changes: dict[str, int], expected: int) -> None:
    desk.ask(MAP, DmaMapRequest(address=0, size=8192))
    assert desk.refusal(UNMAP, DmaUnmapRequest(address=0, size=8192).replace(**changes)) == expected
    assert len(desk.dma) == 1


# SET_IRQS


def test_eventfds_are_assigned_and_signalled(desk: Desk) -> None:
    with eventfds(3) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, start=1, count=3), own(fds))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, start=2, count=2))
        assert [rung(fd) for fd in fds] == [0, 1, 1]
        desk.ask(SET_IRQS, irqs(BOOL | TRIGGER, start=0, count=4, data=b"\1\2\0\1"))
        assert [rung(fd) for fd in fds] == [1, 0, 1]


def test_eventfds_without_descriptors_are_taken_away(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), own(fds))
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, start=1, count=1))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=2))
        assert [rung(fd) for fd in fds] == [1, 0]


def test_count_zero_disables_all(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), own(fds))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=0))
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER, count=4))
        assert [rung(fd) for fd in fds] == [0, 0]


def test_masking_reaches_the_device_and_its_eventfds(desk: Desk) -> None:
    with eventfds(2) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | MASK, index=0), own(fds[:1]))
        desk.ask(SET_IRQS, irqs(EVENTFD | UNMASK, index=0), own(fds[1:]))
        desk.ask(SET_IRQS, irqs(NONE | MASK, index=0))
        assert [rung(fd) for fd in fds] == [1, 0]
        desk.ask(SET_IRQS, irqs(BOOL | UNMASK, index=0, data=b"\1"))
        assert [rung(fd) for fd in fds] == [0, 1]
    assert desk.device.did == [("irq", 0, 0, MASK, [True]), ("irq", 0, 0, UNMASK, [True])]


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (irqs(TRIGGER), "no data flag"),
        (irqs(NONE), "no action flag"),
        (irqs(NONE | BOOL | TRIGGER, data=b"\1"), "two data flags"),
        (irqs(NONE | MASK | UNMASK), "two action flags"),
        (irqs(NONE | TRIGGER | 0x40), "an unknown flag"),
        (irqs(NONE | TRIGGER, index=5), "an index beyond the last"),
        (irqs(NONE | TRIGGER, index=1), "a kind that the device lacks"),
        (irqs(NONE | TRIGGER, start=4), "a start beyond the last"),
        (irqs(NONE | TRIGGER, start=3, count=2), "an end beyond the last"),
        (irqs(NONE | TRIGGER, start=0xFFFFFFFF, count=2), "an end that wraps at 2^32"),
        (irqs(NONE | TRIGGER, start=1, count=0xFFFFFFFF), "a count that wraps to zero"),
        (irqs(NONE | TRIGGER, data=b"\1"), "data that is not due"),
        (irqs(BOOL | TRIGGER, count=2, data=b"\1"), "too little data"),
        (irqs(BOOL | TRIGGER, count=1, data=b"\1\1"), "too much data"),
        (irqs(EVENTFD | TRIGGER, data=b"\0\0\0\0"), "descriptors by number"),
        (irqs(NONE | TRIGGER).replace(argsz=19), "a small argsz"),
        (irqs(NONE | TRIGGER).replace(argsz=24), "a large argsz"),
        (irqs(NONE | MASK, index=3), "masking what cannot be masked"),
        (irqs(EVENTFD | UNMASK, index=3), "an unmask eventfd for what cannot be masked"),
        (irqs(EVENTFD | TRIGGER, index=4), "an eventfd for what has none"),
        (irqs(NONE | TRIGGER, start=1, count=0), "no count but a start"),
        (irqs(NONE | MASK, count=0), "no count but an action"),
        (irqs(BOOL | TRIGGER, count=0), "no count with booleans"),
        (irqs(EVENTFD | TRIGGER, count=0), "no count with eventfds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_set_irqs_is_refused(desk: Desk, request_: DeviceSetIrqsRequest, why: str) -> None:
    assert desk.refusal(SET_IRQS, request_) == errno.EINVAL


@pytest.mark.parametrize(("count", "given"), [(1, 2), (2, 1), (4, 3)])
def test_another_number_of_eventfds_is_refused(desk: Desk, count: int, given: int) -> None:
    with eventfds(given) as fds:
        assert desk.refusal(SET_IRQS, irqs(EVENTFD | TRIGGER, count=count), fds) == errno.EINVAL


def test_eventfds_where_none_are_due_are_refused(desk: Desk) -> None:
    with eventfds(1) as fds:
        assert desk.refusal(SET_IRQS, irqs(NONE | TRIGGER), fds) == errno.EINVAL


def test_what_is_no_eventfd_is_refused_and_nothing_changes(desk: Desk) -> None:
    pipe = os.pipe()
    with eventfds(1) as fds:
        desk.ask(SET_IRQS, irqs(EVENTFD | TRIGGER), own(fds))
        assert desk.refusal(SET_IRQS, irqs(EVENTFD | TRIGGER, count=2), [*fds, pipe[1]]) == errno.EINVAL
        desk.ask(SET_IRQS, irqs(NONE | TRIGGER))
        assert rung(fds[0]) == 1
    for end in pipe:
        os.close(end)


# Regions


def test_a_read_reaches_the_device(desk: Desk) -> None:
    reply, _ = desk.ask(Command.REGION_READ, RegionReadRequest(region=0, offset=4092, count=4))
    assert (reply.region, reply.offset, reply.count, reply.data) == (0, 4092, 4, bytes(4))
    assert desk.device.did == [("read", 0, 4092, 4)]


def test_a_write_reaches_the_device(desk: Desk) -> None:
    reply, _ = desk.ask(Command.REGION_WRITE, RegionWriteRequest(region=0, offset=1, data=b"abc"))
    assert (reply.region, reply.offset, reply.count) == (0, 1, 3)
    assert desk.device.did == [("write", 0, 1, b"abc")]


def test_zero_count_is_answered_with_no_data(desk: Desk) -> None:
    assert desk.ask(Command.REGION_READ, RegionReadRequest(region=0, offset=4096))[0].data == b""
    assert desk.ask(Command.REGION_WRITE, RegionWriteRequest(region=0))[0].count == 0


@pytest.mark.parametrize(
    ("region", "offset", "count", "expected"),
    [
        (0, 4096, 1, errno.EINVAL),
        (0, 4093, 4, errno.EINVAL),
        (0, (1 << 64) - 2, 4, errno.EINVAL),
        (6, 0, 1, errno.EINVAL),
        (6, 0, 0, errno.EINVAL),
        (9, 0, 1, errno.EINVAL),
        (0xFFFFFFFF, 0, 1, errno.EINVAL),
    ],
)
def test_access_outside_is_refused(desk: Desk, region: int, offset: int, count: int, expected: int) -> None:
    read = RegionReadRequest(region=region, offset=offset, count=count)
    assert desk.refusal(Command.REGION_READ, read) == expected
    write = RegionWriteRequest(region=region, offset=offset, data=bytes(count))
    assert desk.refusal(Command.REGION_WRITE, write) == expected


def test_access_that_the_flags_forbid_is_refused(desk: Desk) -> None:
    assert desk.refusal(Command.REGION_READ, RegionReadRequest(region=2, count=1)) == errno.EACCES
    assert desk.refusal(Command.REGION_WRITE, RegionWriteRequest(region=1, data=b"x")) == errno.EACCES
    multi = RegionWriteMultiRequest(wrs=(DeviceWrite(region=1, count=1),))
    assert desk.refusal(Command.REGION_WRITE_MULTI, multi) == errno.EACCES


def test_more_than_max_data_xfer_size_is_refused() -> None:
    desk = Desk(offer=Capabilities(max_data_xfer_size=8), peer=Capabilities())
    desk.ask(Command.REGION_READ, RegionReadRequest(count=8))
    assert desk.refusal(Command.REGION_READ, RegionReadRequest(count=9)) == errno.EINVAL
    assert desk.refusal(Command.REGION_WRITE, RegionWriteRequest(data=bytes(9))) == errno.EINVAL


def test_count_that_is_not_the_data_is_refused(desk: Desk) -> None:
    short = RegionWriteRequest(data=b"1234").replace(count=5)
    assert desk.refusal(Command.REGION_WRITE, short) == errno.EINVAL


def test_refusal_of_the_device_is_passed_on(desk: Desk) -> None:
    with pytest.raises(PermissionError):
        desk.ask(Command.REGION_WRITE, RegionWriteRequest(data=b"no"))


def test_device_that_gives_too_little_is_an_error(desk: Desk) -> None:
    desk.device.short = True
    with pytest.raises(OSError, match="less than it says") as refused:
        desk.ask(Command.REGION_READ, RegionReadRequest(count=4))
    assert refused.value.errno == errno.EIO


def test_write_multi_does_all_in_order(desk: Desk) -> None:
    writes = (DeviceWrite(offset=8, count=2, data=0x3231), DeviceWrite(region=2, offset=0, count=8, data=1))
    reply, _ = desk.ask(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wrs=writes))
    assert reply.wr_cnt == 2
    assert desk.device.did == [("write", 0, 8, b"12"), ("write", 2, 0, b"\1" + bytes(7))]


@pytest.mark.parametrize("wrong", [{"count": 9}, {"offset": 4096}, {"region": 9}, {"offset": (1 << 64) - 1}])
def test_write_multi_with_one_wrong_write_does_none(desk: Desk, wrong: dict[str, int]) -> None:
    writes = (DeviceWrite(count=4), DeviceWrite(count=4).replace(**wrong))
    assert desk.refusal(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wrs=writes)) == errno.EINVAL


def test_write_multi_needs_to_be_agreed() -> None:
    desk = Desk()
    version(desk, said({}))
    assert desk.refusal(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest()) == errno.EOPNOTSUPP
