"""What the exports are written from: every row of every table comes out, in order, with what its construct type says."""

import pytest
from construct import Byte, Bytes, Int32un, PascalString, this

from vfio_user_proto import messages
from vfio_user_proto.export import FORMATS, tables
from vfio_user_proto.messages import Command, DeviceFeature, DmaMapFlags, HeaderFlags, MessageType, PciRegion
from vfio_user_proto.model import Bits, Codes, Record, row


def test_every_declaration_of_messages_is_found_once_and_in_order() -> None:
    """Classes of each kind as they stand in the module, without those of the model that it imports."""
    for kind in (Record, Bits, Codes):
        own = [each for each in vars(messages).values() if isinstance(each, type) and kind in each.__mro__[1:]]
        assert own == list(tables.declared(kind))
        assert own


@pytest.mark.parametrize("record", tables.declared(Record), ids=lambda record: record.__name__)
def test_every_row_of_a_record_is_a_field(record: type[Record]) -> None:
    """Same names, offsets and sizes; only the last field is open, and whoever counts it comes before."""
    fields = tables.fields(record)

    assert [(key, each.offset, each.fixed_size) for key, each in record.rows.items()] == [
        (each.name, each.offset, each.size) for each in fields
    ]
    assert [each.name for each in fields if each.size is None] == [record.tail][: record.tail is not None]
    assert all(each.label and each.label != tables.DOTS for each in fields)


def test_a_row_of_a_kind_that_no_export_knows_is_an_error() -> None:
    """Nothing is left out without a word."""

    class Odd(Record, section="Odd"):
        size: int = row(0, Int32un)
        name: bytes = row(4, PascalString(Byte, "ascii"))

    with pytest.raises(TypeError, match=r"Odd\.name"):
        tables.fields(Odd)


def test_bytes_of_a_fixed_number_are_a_field_of_that_size() -> None:
    """They are no integer."""

    class Padded(Record, section="Padded"):
        size: int = row(0, Int32un)
        pad: bytes = row(4, Bytes(6))

    assert [(each.size, each.raw) for each in tables.fields(Padded)] == [(4, False), (6, True)]


def test_an_expression_is_written_in_the_words_of_another_language() -> None:
    """The fields it speaks of are put as the language wants them."""
    assert tables.expression(this.argsz - 16, "this.{}".format) == "(this.argsz - 16)"
    assert tables.expression(this.count, str) == "count"


def test_bits_tell_where_they_stand() -> None:
    """A mask counts something; what no row names is told too."""
    found = [(bit.name, bit.label, bit.low, bit.width, bit.mask, bit.codes) for bit in tables.bits(HeaderFlags)]

    assert found == [
        ("TYPE", "Type", 0, 4, 0xF, MessageType),
        ("NO_REPLY", "No_reply", 4, 1, 0x10, None),
        ("ERROR", "Error", 5, 1, 0x20, None),
    ]
    assert tables.undefined(HeaderFlags, 4) == 0xFFFFFFC0


def test_names_for_programs_are_those_of_the_document_where_it_has_some() -> None:
    """Others are made of table and member; no two are equal."""
    assert tables.constant(Command.DMA_MAP, "DMA_MAP") == "VFIO_USER_DMA_MAP"
    assert tables.constant(PciRegion.BAR0, "BAR0") == "VFIO_PCI_BAR0_REGION_INDEX"
    assert tables.constant(DmaMapFlags.READABLE, "READABLE") == "VFIO_USER_DMA_MAP_FLAGS_READABLE"
    every = [bit.constant for flags in tables.declared(Bits) for bit in tables.bits(flags)]
    every += [
        tables.constant(each, name) for codes in tables.declared(Codes) for name, each in codes.__members__.items()
    ]
    assert len(every) == len(set(every))


def test_a_table_is_as_wide_as_the_fields_that_hold_its_numbers() -> None:
    """4 bytes where no field says so."""
    assert [tables.width_of(each) for each in (Command, HeaderFlags, DeviceFeature)] == [2, 4, 4]


def test_the_version_is_that_of_the_document() -> None:
    """As its head says it."""
    assert f"version {tables.version()}" in (messages.__doc__ or "")


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_the_same_each_time_and_ends_with_a_line(form: str) -> None:
    """No dates, no orders that change, no lines with blanks at their end."""
    text = FORMATS[form]()

    assert text == FORMATS[form]()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    assert tables.version() in text
