"""Messages as a person reads them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto import messages as m
from vfio_user_proto import trace, wire
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import CapabilityHeader, Command, DeviceGetRegionInfoReply, Header, RegionInfoFlags
from vfio_user_proto.wire import Message


def chain(*links: bytes) -> DeviceGetRegionInfoReply:
    return DeviceGetRegionInfoReply(flags=RegionInfoFlags.CAPS, cap_offset=32, capabilities=b"".join(links))


def link(ident: int, following: int, content: m.Record | None = None) -> bytes:
    head = CapabilityHeader(id=ident, version=1, next=following)
    return wire.encode_record(head) + (wire.encode_record(content) if content is not None else b"")


AREAS = m.SparseMmap(areas=[m.SparseMmapArea(offset=0, size=4096), m.SparseMmapArea(offset=8192, size=4096)])
TYPE = m.RegionType(type=5, subtype=6)


TEXTS = {
    "command": (
        craft(Command.DMA_MAP, m.DmaMapRequest(flags=3, address=1 << 32, size=4096), message_id=258),
        """
VFIO_USER_DMA_MAP command, 48 bytes
  0x00  message_id    258 (0x102)
  0x02  command       2 VFIO_USER_DMA_MAP
  0x04  message_size  48 (0x30)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  argsz         32 (0x20)
  0x14  flags         READABLE|WRITEABLE (0x3)
  0x18  offset        0
  0x20  address       4294967296 (0x100000000)
  0x28  size          4096 (0x1000)""",
    ),
    "error reply": (
        craft(Command.DMA_MAP, flags=0x61, error=17),
        """
VFIO_USER_DMA_MAP error reply, 16 bytes
  0x00  message_id    0
  0x02  command       2 VFIO_USER_DMA_MAP
  0x04  message_size  16 (0x10)
  0x08  flags         REPLY|ERROR|0x40 (0x61)
  0x0c  error         17 EEXIST""",
    ),
    "unknown command": (
        craft(99, b"hello\0world and more"),
        """
99 command, 36 bytes
  0x00  message_id    0
  0x02  command       99 (0x63)
  0x04  message_size  36 (0x24)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  trailing      68 65 6c 6c 6f 00 77 6f 72 6c 64 20 61 6e 64 20  |hello.world and |
  0x20                6d 6f 72 65                                      |more|""",
    ),
    "version": (
        craft(Command.VERSION, m.VersionRequest(version_minor=1, version_data=b'{"capabilities":{"x\xc3\xa9":[]}}\0')),
        """
VFIO_USER_VERSION command, 48 bytes
  0x00  message_id     0
  0x02  command        1 VFIO_USER_VERSION
  0x04  message_size   48 (0x30)
  0x08  flags          COMMAND
  0x0c  error          0
  0x10  version_major  0
  0x12  version_minor  1
  0x14  version_data   28 bytes, with NUL
                       {
                         "capabilities": {
                           "x\\u00e9": []
                         }
                       }""",
    ),
    "version data that is no JSON": (
        craft(Command.VERSION, m.VersionRequest(version_data=b"{,}")),
        """
VFIO_USER_VERSION command, 23 bytes
  0x00  message_id     0
  0x02  command        1 VFIO_USER_VERSION
  0x04  message_size   23 (0x17)
  0x08  flags          COMMAND
  0x0c  error          0
  0x10  version_major  0
  0x12  version_minor  0
  0x14  version_data   7b 2c 7d                                         |{,}|
  ! version_data at byte 21: not JSON: Expecting property name enclosed in double quotes""",
    ),
    "nested records": (
        craft(Command.REGION_WRITE_MULTI, m.RegionWriteMultiRequest(wrs=[m.DeviceWrite(count=4)]), kind=0),
        """
VFIO_USER_REGION_WRITE_MULTI command, 48 bytes
  0x00  message_id    0
  0x02  command       15 VFIO_USER_REGION_WRITE_MULTI
  0x04  message_size  48 (0x30)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  wr_cnt        1
  0x18  wrs[0]
  0x18    offset      0
  0x20    region      0
  0x24    count       4
  0x28    data        0""",
    ),
    "feature": (
        craft(Command.DEVICE_FEATURE, m.DeviceFeatureRequest(flags=0x10002, data=b"\2\0\0\0\0\0\0\0x"), kind=1),
        """
VFIO_USER_DEVICE_FEATURE reply, 33 bytes
  0x00  message_id      0
  0x02  command         16 VFIO_USER_DEVICE_FEATURE
  0x04  message_size    33 (0x21)
  0x08  flags           REPLY (0x1)
  0x0c  error           0
  0x10  argsz           17 (0x11)
  0x14  flags           MIG_DEVICE_STATE|GET (0x10002)
  0x18  data            FeatureMigDeviceState
  0x18    device_state  2 VFIO_DEVICE_STATE_RUNNING
  0x1c    data_fd       0
  0x20                  78                                               |x|""",
    ),
    "sub-regions": (
        craft(
            Command.DEVICE_GET_REGION_IO_FDS,
            m.DeviceGetRegionIoFdsReply(
                sub_regions=[m.IoregionfdSubRegion(size=4, type=1, flags=3, user_data=7), bytes(20) + b"\5" + bytes(19)]
            ),
            kind=1,
        ),
        """
VFIO_USER_DEVICE_GET_REGION_IO_FDS reply, 112 bytes
  0x00  message_id      0
  0x02  command         6 VFIO_USER_DEVICE_GET_REGION_IO_FDS
  0x04  message_size    112 (0x70)
  0x08  flags           REPLY (0x1)
  0x0c  error           0
  0x10  argsz           96 (0x60)
  0x14  flags           0
  0x18  index           0
  0x1c  count           2
  0x20  sub_regions[0]  IoregionfdSubRegion
  0x20    offset        0
  0x28    size          4
  0x30    fd_index      0
  0x34    type          1 VFIO_USER_IO_FD_TYPE_IOREGIONFD
  0x38    flags         PIO|POSTED_WRITES (0x3)
  0x3c    padding       0
  0x40    user_data     7
  0x48  sub_regions[1]  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  |................|
  0x58                  00 00 00 00 05 00 00 00 00 00 00 00 00 00 00 00  |................|
  0x68                  00 00 00 00 00 00 00 00                          |........|""",
    ),
    "broken chain": (
        craft(Command.DEVICE_GET_REGION_INFO, chain(link(2, 20, TYPE), b"zz").replace(cap_offset=32), kind=1),
        """
VFIO_USER_DEVICE_GET_REGION_INFO reply, 66 bytes
  0x00  message_id       0
  0x02  command          5 VFIO_USER_DEVICE_GET_REGION_INFO
  0x04  message_size     66 (0x42)
  0x08  flags            REPLY (0x1)
  0x0c  error            0
  0x10  argsz            50 (0x32)
  0x14  flags            CAPS (0x8)
  0x18  index            0
  0x1c  cap_offset       32 (0x20)
  0x20  size             0
  0x28  offset           0
  0x30  capabilities[0]
  0x30    id             2 VFIO_REGION_INFO_CAP_TYPE
  0x32    version        1
  0x34    next           20 (0x14)
  0x38    type           5
  0x3c    subtype        6
  0x40  capabilities     7a 7a                                            |zz|
  ! DeviceGetRegionInfoReply.capabilities: a capability is said to be at byte 20 of 50""",
    ),
    "cut payload": (
        craft(Command.REGION_WRITE, m.RegionWriteRequest(count=9, data=b"abc")),
        """
VFIO_USER_REGION_WRITE command, broken, 35 bytes
  0x00  message_id    0
  0x02  command       10 VFIO_USER_REGION_WRITE
  0x04  message_size  35 (0x23)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  offset        0
  0x18  region        0
  0x1c  count         9
  0x20  data          61 62 63                                         |abc|
  ! VFIO_USER_REGION_WRITE command.RegionWriteRequest.data at byte 32: 9 bytes are due, 3 are there""",
    ),
    "a wrong size": (
        craft(Command.DEVICE_GET_INFO, m.DeviceGetInfoRequest(), message_size=99, cut=6),
        """
VFIO_USER_DEVICE_GET_INFO command, broken, 26 bytes
  0x00  message_id    0
  0x02  command       4 VFIO_USER_DEVICE_GET_INFO
  0x04  message_size  99 (0x63)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  argsz         16 (0x10)
  0x14  flags         0
  0x18  trailing      00 00                                            |..|
  ! Header.message_size at byte 4: says 99 bytes, the message has 26""",
    ),
    "a cut array": (
        craft(Command.REGION_WRITE_MULTI, m.RegionWriteMultiRequest(wr_cnt=9, wrs=(m.DeviceWrite(),)), extra=b"ab"),
        """
VFIO_USER_REGION_WRITE_MULTI command, broken, 50 bytes
  0x00  message_id    0
  0x02  command       15 VFIO_USER_REGION_WRITE_MULTI
  0x04  message_size  50 (0x32)
  0x08  flags         COMMAND
  0x0c  error         0
  0x10  wr_cnt        9
  0x18  wrs[0]
  0x18    offset      0
  0x20    region      0
  0x24    count       0
  0x28    data        0
  0x30  trailing      61 62                                            |ab|
  ! VFIO_USER_REGION_WRITE_MULTI command.RegionWriteMultiRequest.wrs at byte 24: 216 bytes are due, 26 are there""",
    ),
    "cut sub-regions": (
        craft(
            Command.DEVICE_GET_REGION_IO_FDS,
            m.DeviceGetRegionIoFdsReply(argsz=26, count=2, sub_regions=(b"abcde",)),
            kind=1,
        ),
        """
VFIO_USER_DEVICE_GET_REGION_IO_FDS reply, broken, 37 bytes
  0x00  message_id      0
  0x02  command         6 VFIO_USER_DEVICE_GET_REGION_IO_FDS
  0x04  message_size    37 (0x25)
  0x08  flags           REPLY (0x1)
  0x0c  error           0
  0x10  argsz           26 (0x1a)
  0x14  flags           0
  0x18  index           0
  0x1c  count           2
  0x20  sub_regions[0]  61 62 63 64 65                                   |abcde|
  ! VFIO_USER_DEVICE_GET_REGION_IO_FDS reply.DeviceGetRegionIoFdsReply.sub_regions at byte 32: \
10 bytes are due, 5 are there""",
    ),
    "more than 255 bytes": (
        craft(Command.DEVICE_RESET, extra=bytes(240)),
        "\n".join(
            [
                "",
                "VFIO_USER_DEVICE_RESET command, 256 bytes",
                "  0x000  message_id    0",
                "  0x002  command       13 VFIO_USER_DEVICE_RESET",
                "  0x004  message_size  256 (0x100)",
                "  0x008  flags         COMMAND",
                "  0x00c  error         0",
                f"  0x010  trailing      {bytes(16).hex(' ')}  |{'.' * 16}|",
                *(f"  0x{at:03x}                {bytes(16).hex(' ')}  |{'.' * 16}|" for at in range(32, 256, 16)),
            ]
        ),
    ),
    "less than a header": (
        b"\1\0\2",
        """
no message, 3 bytes
  0x00  message_id  1
  0x02  trailing    02                                               |.|
  ! Header.command at byte 2: 2 bytes are due, 1 are there""",
    ),
    "nothing": (
        b"",
        """
no message, 0 bytes
  ! Header.message_id at byte 0: 2 bytes are due, 0 are there""",
    ),
}


@pytest.mark.parametrize(("data", "text"), TEXTS.values(), ids=TEXTS)
def test_a_message_as_text(data: bytes, text: str) -> None:
    assert trace.describe(data) == text.strip()


def test_a_decoded_message_reads_as_its_bytes_do() -> None:
    data = craft(Command.REGION_WRITE, m.RegionWriteRequest(data=b"abc"))

    assert trace.describe(wire.decode(data)) == trace.describe(data)


def test_colour_adds_nothing_but_escape_sequences() -> None:
    data = craft(Command.REGION_WRITE, m.RegionWriteRequest(count=9))
    plain = trace.describe(data, color=True)
    assert "\033[31m! VFIO_USER_REGION_WRITE" in plain
    for sequence in ("\033[0m", "\033[1m", "\033[2m", "\033[31m"):
        plain = plain.replace(sequence, "")

    assert plain == trace.describe(data)


@given(st.binary(max_size=150), st.integers(0, 20), st.integers(0, 2))
def test_any_bytes_can_be_shown(data: bytes, command: int, kind: int) -> None:
    """No bytes make it raise, and every byte behind the header is accounted for by some line."""
    for each in (data, craft(command, data, kind=kind), craft(command, data, kind=kind, message_size=3)):
        assert trace.describe(each).count("\n") >= len(each) // 17


def test_real_traffic_reads_and_survives(shared: Path) -> None:
    """Every captured message is shown without a remark and comes back from its JSON form."""
    for file in (shared / "captures").glob("*.jsonl"):
        for captured in trace.read_capture(file).messages:
            message = wire.decode(captured.data)
            assert "!" not in trace.describe(message)
            assert trace.from_json(trace.as_json(message)) == captured.data


def test_a_message_that_was_made_wrong_is_shown_all_the_same() -> None:
    message = Message(Header(command=Command.DMA_MAP, message_size=1), m.DmaMapRequest(), b"x")

    assert "! Header.message_size at byte 4: says 1 bytes, the message has 49" in trace.describe(message)
