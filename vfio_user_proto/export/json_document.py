"""The whole protocol as one JSON document; its form is docs/schemas/protocol.schema.json."""

import json
from typing import Any

from vfio_user_proto.export.tables import (
    Bit,
    Chain,
    Choice,
    Contents,
    Field,
    bits,
    constant,
    declared,
    direction,
    expression,
    fields,
    json_tables,
    payloads,
    version,
)
from vfio_user_proto.messages import VERSION_DATA, Header
from vfio_user_proto.model import Bits, Codes, JsonTable, Record


def text() -> str:
    """The document, indented, with a line end."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    """The document as lists, dictionaries, texts and numbers."""
    return {
        "protocol": "vfio-user",
        "version": version(),
        "byte_order": "host",
        "header": Header.__name__,
        "commands": [
            {
                "name": command.document_name,
                "value": int(command),
                "direction": direction(command),
                "request": request.__name__ if request else None,
                "reply": reply.__name__ if reply else None,
            }
            for command, request, reply in payloads()
        ],
        "records": {each.__name__: _record(each) for each in declared(Record)},
        "flags": {
            each.__name__: {"section": each.section, "bits": [_bit(bit) for bit in bits(each)]}
            for each in declared(Bits)
        },
        "codes": {each.__name__: {"section": each.section, "values": _values(each)} for each in declared(Codes)},
        "json": {name: _json(table) for name, table in json_tables().items()},
    }


def _record(record: type[Record]) -> dict[str, Any]:
    return {
        "section": record.section,
        "size": record.fixed_size,
        "open": record.tail is not None,
        "fields": [_field(field) for field in fields(record)],
    }


def _field(field: Field) -> dict[str, Any]:
    kind = "bytes" if field.raw else "records" if field.record or field.strided else "integer"
    what: dict[str, Any] = {
        "name": field.name,
        "label": field.label,
        "offset": field.offset,
        "size": field.size,
        "type": kind,
    }
    if field.bits:
        what["flags"] = field.bits.__name__
    if field.codes:
        what["codes"] = field.codes.__name__
    if field.row.counts:
        what["counts"] = field.row.counts
    if field.row.measures:
        what["measures"] = True
    if field.row.added:
        what["added"] = True
    if field.length is not None and field.size is None:
        what["length"] = expression(field.length, str)
    if field.record:
        what["record"] = field.record.__name__
    if field.strided:
        what["total"] = expression(field.strided.total, str)
        what["selector"] = field.strided.selector
        what["records"] = [
            {"size": size, "value": int(value), "record": record.__name__}
            for (size, value), record in field.strided.records.items()
        ]
    if field.contents:
        what["contents"] = _contents(field.contents)
    return what


def _contents(contents: Contents) -> dict[str, Any]:
    if isinstance(contents, Chain):
        return {
            "kind": "chain",
            "start": contents.start,
            "header": contents.header.__name__,
            "selector": contents.selector,
            "next": contents.next,
            "records": {str(int(value)): record.__name__ for value, record in contents.records.items()},
        }
    if isinstance(contents, Choice):
        return {
            "kind": "choice",
            "field": contents.field,
            "bits": contents.member,
            "records": {str(int(value)): record.__name__ for value, record in contents.records.items()},
        }
    return {"kind": "json", "table": next(name for name, table in json_tables().items() if table is VERSION_DATA)}


def _bit(bit: Bit) -> dict[str, Any]:
    what = {"name": bit.name, "label": bit.label, "constant": bit.constant, "low": bit.low, "width": bit.width}
    return {**what, "codes": bit.codes.__name__} if bit.codes else what


def _values(codes: type[Codes]) -> list[dict[str, Any]]:
    notes = codes.columns[2:]
    return [
        {
            "name": name,
            "label": member.document_name,
            "constant": constant(member, name),
            "value": int(member),
            "notes": dict(zip(notes, member.notes, strict=True)),
        }
        for name, member in codes.__members__.items()
    ]


def _json(table: JsonTable) -> dict[str, Any]:
    """A table of members; one that is an object has its own table under the same name in capitals."""
    return {
        "section": table.section,
        "members": [
            {
                "name": member.name,
                "type": member.type,
                "description": member.description,
                **({"table": member.name.upper()} if member.name.upper() in json_tables() else {}),
            }
            for member in table.members
        ],
    }
