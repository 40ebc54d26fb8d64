"""The way back: from the schemas of a generated module to the specs of the tables that they came from."""

from collections.abc import Iterator
from types import ModuleType

from vfio_user_proto.model import Bits, Codes, Flags, JsonTable, Record, Row, ValueTable
from vfio_user_proto.specdoc.specs import (
    DOTS,
    BitSpec,
    CodeSpec,
    CodesSpec,
    Document,
    FieldSpec,
    JsonSpec,
    LayoutSpec,
    MemberSpec,
    Source,
    TableSpec,
    ValueSpec,
    ValuesSpec,
)


def document_of(module: ModuleType) -> Document:
    """What the declarations of ``module`` say of tables; a field that the overlay added is in no table.

    The source of a table is the name of its declaration: "DmaMapRequest".
    """
    return Document(module.__name__, "", "", tuple(_tables(module)), ())


def _tables(module: ModuleType) -> Iterator[TableSpec]:
    declared = {
        name: value
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ or _is_constant(value)
    }
    records = [value for value in declared.values() if isinstance(value, type) and issubclass(value, Record)]
    parts = {row.holds.record for record in records for row in record.rows.values() if row.label == DOTS}
    for name, value in declared.items():
        source = Source(name, 0)
        if isinstance(value, JsonTable):
            members = tuple(MemberSpec(each.name, each.type, each.description, source) for each in value.members)
            yield JsonSpec(value.section, members, source)
        elif isinstance(value, ValueTable):
            yield ValuesSpec(value.section, tuple(ValueSpec(label, text, source) for label, text in value.rows), source)
        elif value in parts:
            continue
        elif isinstance(value, type) and issubclass(value, Record):
            if not value.rows or not all(row.added for row in value.rows.values()):
                yield _layout(value, source)
        elif isinstance(value, type) and issubclass(value, Codes):
            codes = tuple(CodeSpec(each.document_name, int(each), each.notes, source) for each in value)
            yield CodesSpec(value.section, value.columns, codes, source)


def _is_constant(value: object) -> bool:
    return isinstance(value, JsonTable | ValueTable)


def _layout(record: type[Record], source: Source) -> LayoutSpec:
    fields, repeats = [], False
    for name, row in record.rows.items():
        if row.label == DOTS:
            repeats = True
            fields += [
                _field(inner, row.offset + each.offset, each, source) for inner, each in row.holds.record.rows.items()
            ]
        elif not row.added:
            fields.append(_field(name, row.offset, row, source))
    if record.payload:
        fields.append(FieldSpec(record.payload, record.fixed_size, None, "", (), source))
    return LayoutSpec(record.section, tuple(fields), repeats, source)


def _field(name: str, offset: int, row: Row, source: Source) -> FieldSpec:
    bits = (
        tuple(_bit(bit, source) for bit in row.holds.bits.__members__.values()) if isinstance(row.holds, Flags) else ()
    )
    return FieldSpec(row.label or name, offset, row.fixed_size, row.note, bits, source)


def _bit(bit: Bits, source: Source) -> BitSpec:
    mask = int(bit)
    return BitSpec((mask & -mask).bit_length() - 1, mask.bit_length() - 1, bit.document_name, source)
