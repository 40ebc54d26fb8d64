"""Bytes written by hand from the document's tables, so that one mistake cannot hide in both encoder and decoder."""

import pytest

from vfio_user_proto import messages as m
from vfio_user_proto import wire
from vfio_user_proto.messages import Command, Header
from vfio_user_proto.wire import Message

# Written by hand from the document's tables, so that one mistake cannot hide in both encoder and decoder.
LITERAL = {
    # header: id 2, command 2 DMA_MAP, size 48, command, no error; argsz 32, flags, offset, address, size
    "0200 0200 30000000 00000000 00000000  20000000 03000000 0010000000000000 0000000001000000 0000200000000000": Message(
        Header(message_id=2, command=Command.DMA_MAP, message_size=48),
        m.DmaMapRequest(argsz=32, flags=3, offset=0x1000, address=0x1_0000_0000, size=0x20_0000),
    ),
    # error reply to it: header only, reply and error bits, EEXIST
    "0200 0200 10000000 21000000 11000000": Message(
        Header(message_id=2, command=Command.DMA_MAP, message_size=16, flags=0x21, error=17)
    ),
    # VERSION 0.1 with '{}' and NUL
    "0000 0100 17000000 00000000 00000000  0000 0100 7b7d00": Message(
        Header(command=Command.VERSION, message_size=23),
        m.VersionRequest(version_major=0, version_minor=1, version_data=b"{}\0"),
    ),
    # REGION_READ reply of 4 bytes at offset 0x10 of region 7
    "3412 0900 24000000 01000000 00000000  1000000000000000 07000000 04000000 deadbeef": Message(
        Header(message_id=0x1234, command=Command.REGION_READ, message_size=36, flags=1),
        m.RegionReadReply(offset=0x10, region=7, count=4, data=b"\xde\xad\xbe\xef"),
    ),
    # SET_IRQS: BOOL | UNMASK = 0x12, index 2, start 1, count 3, three bytes of data
    "0000 0800 27000000 00000000 00000000  17000000 12000000 02000000 01000000 03000000 010001": Message(
        Header(command=Command.DEVICE_SET_IRQS, message_size=39),
        m.DeviceSetIrqsRequest(argsz=23, flags=0x12, index=2, start=1, count=3, data=b"\x01\x00\x01"),
    ),
    # DMA_WRITE request: 8-byte count
    "0100 0b00 20000000 00000000 00000000  0040000000000000 1000000000000000": Message(
        Header(message_id=1, command=Command.DMA_READ, message_size=32), m.DmaReadRequest(address=0x4000, count=16)
    ),
    # REGION_WRITE_MULTI of one write: 8-byte counter, then 24 bytes
    "0000 0f00 30000000 10000000 00000000  0100000000000000 2000000000000000 01000000 02000000 3412000000000000": Message(
        Header(command=Command.REGION_WRITE_MULTI, message_size=48, flags=0x10),
        m.RegionWriteMultiRequest(wr_cnt=1, wrs=[m.DeviceWrite(offset=0x20, region=1, count=2, data=0x1234)]),
    ),
    # GET_REGION_IO_FDS reply: one 40-byte ioeventfd record, datamatch at 32
    "0500 0600 48000000 01000000 00000000  38000000 00000000 02000000 01000000"
    "  0010000000000000 0400000000000000 00000000 00000000 01000000 00000000 7856341200000000": Message(
        Header(message_id=5, command=Command.DEVICE_GET_REGION_IO_FDS, message_size=72, flags=1),
        m.DeviceGetRegionIoFdsReply(
            argsz=56,
            index=2,
            count=1,
            sub_regions=[m.IoeventfdSubRegion(offset=0x1000, size=4, flags=1, datamatch=0x12345678)],
        ),
    ),
    # the same with a 48-byte record of type 2: shadow fd index at 28, shadow offset at 32, datamatch at 40
    "0500 0600 50000000 01000000 00000000  40000000 00000000 02000000 01000000"
    "  0010000000000000 0400000000000000 00000000 02000000 00000000 01000000 0800000000000000 0900000000000000": Message(
        Header(message_id=5, command=Command.DEVICE_GET_REGION_IO_FDS, message_size=80, flags=1),
        m.DeviceGetRegionIoFdsReply(
            argsz=64,
            index=2,
            count=1,
            sub_regions=[
                m.ShadowIoeventfdSubRegion(
                    offset=0x1000, size=4, type=2, shadow_mem_fd_index=1, shadow_offset=8, datamatch=9
                )
            ],
        ),
    ),
    # DEVICE_FEATURE: SET (bit 17) of feature 2, data_fd 0, state STOP_COPY
    "0700 1000 20000000 00000000 00000000  10000000 02000200 03000000 00000000": Message(
        Header(message_id=7, command=Command.DEVICE_FEATURE, message_size=32),
        m.DeviceFeatureRequest(argsz=16, flags=0x20002, data=b"\x03\0\0\0\0\0\0\0"),
    ),
    # an unknown command and a reserved message type keep all their bytes
    "0000 ff00 12000000 00000000 00000000 abcd": Message(Header(command=255, message_size=18), None, b"\xab\xcd"),
    "0000 0200 12000000 02000000 00000000 abcd": Message(
        Header(command=2, message_size=18, flags=2), None, b"\xab\xcd"
    ),
}


@pytest.mark.parametrize(("text", "message"), LITERAL.items(), ids=lambda part: getattr(part, "name", None))
def test_messages_are_these_bytes_both_ways(text: str, message: Message) -> None:
    data = bytes.fromhex(text)

    assert wire.decode(data) == message
    assert wire.encode(message) == data
