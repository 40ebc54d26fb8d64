# What cases are made of: messages that are right unless told otherwise, and numbers that a target will give.
import pytest

from vfio_user_conformance.descriptors import Memfd
from vfio_user_conformance.facts import Facts, NotApplicable, resolve
from vfio_user_conformance.needs import MAX_XFER, NUM_REGIONS, SCRATCH, size_of
from vfio_user_conformance.profile import Profile, Scratch
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Together
from vfio_user_conformance.words import listed
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceWrite,
    DmaMapRequest,
    HeaderFlags,
    RegionReadRequest,
    RegionWriteMultiRequest,
)

FACTS = Facts(
    profile=Profile(scratch=Scratch(3, 0x80, 16)),
    device=DeviceGetInfoReply(num_regions=9),
    capabilities=Capabilities(max_data_xfer_size=4096),
    regions={7: DeviceGetRegionInfoReply(size=256)},
)


def test_a_message_is_right_unless_told_otherwise() -> None:
    request = DmaMapRequest(address=0x1000, size=0x1000)

    assert Send(request).build(9, FACTS) == wire.build(Command.DMA_MAP, request, message_id=9)
    assert Send(Command.DEVICE_RESET).build(9, FACTS) == wire.build(Command.DEVICE_RESET, message_id=9)


def test_each_deviation_is_on_the_wire_and_in_the_words() -> None:
    odd = Send(DmaMapRequest(), command=99, kind=1, no_reply=True, error=5, message_size=3, extra=b"xy", cut=4)
    header = wire.decode_header(odd.build(0, FACTS))

    assert (header.command, header.message_size, header.error) == (99, 3, 5)
    assert header.flags == HeaderFlags.NO_REPLY | 1
    assert str(odd) == (
        "command 99 (argsz 32) with error 5, message_size 3, extra 2 bytes 7879, cut 4 as a reply and No_reply"
    )


def test_descriptors_and_pieces_are_in_the_words() -> None:
    step = Send(DeviceGetInfoRequest(), fds=(Memfd(), Memfd(8192, read_only=True)), cuts=(4, 8))

    assert str(step) == (
        "VFIO_USER_DEVICE_GET_INFO (argsz 16) in pieces, cut at bytes 4, 8"
        " and a memfd of 0x1000 bytes and a read-only memfd of 0x2000 bytes"
    )


def test_what_is_alike_is_counted() -> None:
    query = Send(DeviceGetInfoRequest())
    words = "VFIO_USER_DEVICE_GET_INFO (argsz 16)"

    assert str(Together((query,) * 3)) == f"in one write: 3 times {words}"
    assert str(Together((query,), cuts=(9,))) == f"in one write in pieces, cut at byte 9: {words}"
    assert listed([query, Send(Command.DEVICE_RESET), query]) == f"{words}; VFIO_USER_DEVICE_RESET; {words}"


def test_facts_stand_for_numbers_until_a_case_runs() -> None:
    request = RegionReadRequest(region=NUM_REGIONS, offset=size_of(7) - 2, count=MAX_XFER + 1)

    assert str(Send(request)) == (
        "VFIO_USER_REGION_READ (offset <size of region 7 - 2>, region <num_regions>, count <max_data_xfer_size + 1>)"
    )
    assert resolve(request, FACTS) == RegionReadRequest(region=9, offset=254, count=4097)


def test_facts_are_found_inside_arrays_too() -> None:
    request = RegionWriteMultiRequest(wrs=(DeviceWrite(offset=SCRATCH + 4, count=4),))

    assert resolve(request, FACTS).wrs == (DeviceWrite(offset=0x84, count=4),)


def test_what_a_target_lacks_is_said() -> None:
    with pytest.raises(NotApplicable, match="region 2 has no size"):
        resolve(size_of(2), FACTS)
    with pytest.raises(NotApplicable, match="names no scratch bytes"):
        resolve(SCRATCH, Facts())
