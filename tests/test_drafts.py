"""Messages and records of the drafts: literal bytes, both ways, and the same codec as for those of today."""

import inspect
import io

import construct
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfio_user_proto import messages, trace, wire
from vfio_user_proto.cli import main
from vfio_user_proto.drafts import ioregionfd, kvm, region_io_fds_rfc
from vfio_user_proto.drafts.region_io_fds_rfc import (
    Command,
    DmaMapEntry,
    DmaMapTable,
    IoeventfdSubRegion,
    RegionIoFdInfo,
)
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.model import Record

RFC = wire.dialect_of(region_io_fds_rfc)
ASK = bytes.fromhex("0900060020000000000000000000000010000000000000000200000000000000")
ANSWER = bytes.fromhex(
    "09000600480000000100000000000000380000000000000002000000010000000010000000000000040000000000000000000000000000000100000000000000feca000000000000"
)
INTERRUPT = bytes.fromhex("0a000d0014000000000000000000000003000000")
# The same write of 32 bits at 0x1004, to be answered, in both forms of the record.
PACKED = bytes.fromhex("610000000000000088776655443322110410000000000000efbeadde00000000")
SPLIT = bytes.fromhex("011200000000000088776655443322110410000000000000efbeadde00000000")

RECORDS = [
    value
    for module in (region_io_fds_rfc, ioregionfd, kvm)
    for _, value in inspect.getmembers(module, inspect.isclass)
    if issubclass(value, Record) and value is not Record
]
few = settings(max_examples=30)  # per record


@pytest.mark.parametrize(
    ("data", "name", "payload"),
    [
        (ASK, "VFIO_USER_DEVICE_GET_REGION_IO_FDS command", RegionIoFdInfo(argsz=16, index=2, count=0)),
        (
            ANSWER,
            "VFIO_USER_DEVICE_GET_REGION_IO_FDS reply",
            RegionIoFdInfo(
                argsz=56,
                index=2,
                subregions=(IoeventfdSubRegion(offset=4096, size=4, fd_index=0, type=0, flags=1, datamatch=0xCAFE),),
            ),
        ),
        (INTERRUPT, "VFIO_USER_VM_INTERRUPT command", region_io_fds_rfc.InterruptInfo(sub_index=3)),
    ],
    ids=["ask", "answer", "interrupt"],
)
def test_messages_of_the_rfc(data: bytes, name: str, payload: Record) -> None:
    """Command 6 with its records, and the interrupt that has gone since: bytes to values, and back."""
    message = wire.decode(data, RFC)

    assert RFC.name(message.header) == name
    assert (message.payload, message.trailing) == (payload, b"")
    assert wire.encode(message) == data
    assert (
        wire.build(message.header.command, payload, message_id=message.header.message_id, flags=message.header.flags)
        == data
    )


def test_a_region_record_of_the_rfc_has_32_bytes() -> None:
    """region_id is the last field, of 4 bytes; the stride that argsz tells chooses the record."""
    record = region_io_fds_rfc.IoregionfdSubRegion(offset=1, size=2, fd_index=3, type=1, flags=1, region_id=4)
    info = RegionIoFdInfo(argsz=16 + 32, index=1, subregions=(record,))

    assert wire.decode_record(RegionIoFdInfo, wire.encode_record(info)) == (info, b"")
    assert wire.encode_record(record).hex() == "01000000000000000200000000000000030000000100000001000000" + "04000000"


def test_dma_maps_come_by_the_dozen() -> None:
    """A map of the RFC has as many entries as there is room for; what is left over stays behind."""
    table = DmaMapTable(entries=tuple(DmaMapEntry(address=at << 12, size=4096) for at in range(12)))
    data = wire.build(Command.DMA_MAP, table)

    assert len(data) == 16 + 12 * 32
    assert wire.decode(data, RFC).payload == table
    assert wire.decode_record(DmaMapTable, data[16:] + b"rest") == (table, b"rest")
    assert wire.decode_record(DmaMapTable, b"") == (DmaMapTable(), b"")


def test_both_forms_of_the_command_record() -> None:
    """The packed word of the early patches, and the split bytes of the later ones."""
    packed, split = ioregionfd.IoregionfdCmdPacked, ioregionfd.IoregionfdCmd
    info, size = ioregionfd.CommandInfo, ioregionfd.SizeResp
    rest = {"user_data": 0x1122334455667788, "offset": 0x1004, "data": 0xDEADBEEF}

    assert wire.decode_record(packed, PACKED) == (packed(info=1 | 2 << 4 | info.RESP, **rest), b"")
    assert wire.decode_record(split, SPLIT) == (split(cmd=1, size_resp=2 | size.RESP, **rest), b"")
    assert wire.encode_record(wire.decode_record(packed, PACKED)[0]) == PACKED
    assert wire.encode_record(wire.decode_record(split, SPLIT)[0]) == SPLIT


def test_sizes_that_the_kernel_relies_on() -> None:
    """Structures of ioctls have 64 bytes in every form, records 32."""
    structures = [
        ioregionfd.KvmIoregion,
        ioregionfd.KvmIoregionRfdWfd,
        ioregionfd.KvmIoeventfd,
        ioregionfd.KvmIoeventfdShadow,
    ]
    records = [ioregionfd.IoregionfdCmd, ioregionfd.IoregionfdCmdPacked, ioregionfd.IoregionfdResp]

    assert {each.fixed_size for each in structures} == {64}
    assert {each.fixed_size for each in records} == {32}
    assert ioregionfd.KvmIoeventfdShadow.rows["vaddr"].offset == 16
    assert ioregionfd.ShadowIoeventfdFlags.COMMIT_WRITE == 1 << 5


def test_short_names_are_names() -> None:
    """A name is cut only so far that Python takes what is left."""
    assert ioregionfd.AccessSize.SIZE_8BIT.document_name == "IOREGIONFD_SIZE_8BIT"


def test_versions() -> None:
    """A module has the version that its document states, if it states one."""
    assert (messages.VERSION, region_io_fds_rfc.VERSION) == ("0.9.2", "0.1")
    assert not hasattr(kvm, "VERSION")


def test_the_header_is_the_same() -> None:
    """So that one header serves for every revision."""
    facts = [(key, row.offset, row.fixed_size) for key, row in region_io_fds_rfc.Header.rows.items()]

    assert facts == [(key, row.offset, row.fixed_size) for key, row in messages.Header.rows.items()]


def test_errors_name_the_command_of_the_draft() -> None:
    """Number 13 is another command today."""
    cut = INTERRUPT[:-1].replace(b"\x14", b"\x13")

    with pytest.raises(
        DecodeError, match=r"^VFIO_USER_VM_INTERRUPT command\.InterruptInfo\.sub_index at byte 16: 4 bytes"
    ):
        wire.decode(cut, RFC)


@pytest.mark.parametrize("command", Command)
def test_every_message_of_the_rfc(command: Command) -> None:
    """Each command and reply, all zero, goes to bytes and back; it can be described."""
    for flags, records in ((0, region_io_fds_rfc.REQUESTS), (1, region_io_fds_rfc.REPLIES)):
        record = records[command]
        payload = record() if record else None
        data = wire.build(command, payload, flags=flags)

        assert wire.decode(data, RFC).payload == payload
        assert trace.describe(data, dialect=RFC).startswith(command.document_name)


@pytest.mark.parametrize(
    "record", RECORDS, ids=lambda record: f"{record.__module__.rpartition('.')[2]}-{record.__name__}"
)
@few
@given(data=st.binary(max_size=200))
def test_plan_and_construct_agree(record: type[Record], data: bytes) -> None:
    """Both read the same from any bytes, leave the same behind, and write the same again."""
    stream = io.BytesIO(data)
    try:
        by_construct = record.from_container(record.schema.parse_stream(stream)), stream.read()
    except construct.ConstructError:
        by_construct = None
    try:
        by_plan = wire.decode_record(record, data)
    except DecodeError:
        by_plan = None

    assert by_plan == by_construct
    assert by_plan is None or wire.encode_record(by_plan[0]) + by_plan[1] == data


def test_decode_a_draft(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line reads them too, as text."""
    assert main(["decode", "--draft", "region-io-fds-rfc", ANSWER.hex(), INTERRUPT.hex()]) == 0
    out = capsys.readouterr().out
    assert "0x40    datamatch    51966 (0xcafe)" in out
    assert "VFIO_USER_VM_INTERRUPT command, 20 bytes" in out
    assert main(["decode", "--draft", "region-io-fds-rfc", "--json", ASK.hex()]) == 2
    assert "--draft goes without --json" in capsys.readouterr().err
