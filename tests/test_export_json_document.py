"""The JSON document: valid by its published schema, closed in itself, and enough to read every message with."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from export_samples import Sample, captured, integers, samples

from vfio_user_proto.export import json_document, tables
from vfio_user_proto.messages import Command
from vfio_user_proto.model import Bits, Codes, Record

SCHEMA = Path(__file__).resolve().parents[1] / "docs" / "schemas" / "protocol.schema.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as another program gets it."""
    found: dict[str, Any] = json.loads(json_document.text())
    return found


def test_it_is_valid_by_the_published_schema(document: dict[str, Any]) -> None:
    """The schema is itself a valid one."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.Draft202012Validator(schema).validate(document)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), "draft"),
        (("commands", 0, "direction"), "both"),
        (("records", "Header", "fields", 0, "size"), 0),
        (("records", "Header", "fields", 0, "surprise"), 1),
        (("flags", "HeaderFlags", "bits", 0, "low"), 64),
        (("codes", "Command", "values"), []),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_wrong(document: dict[str, Any], path: tuple[str | int, ...], value: object) -> None:
    """A schema that accepts everything would say nothing."""
    jsonschema = pytest.importorskip("jsonschema")
    wrong: Any = json.loads(json.dumps(document))
    place = wrong
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value

    assert not jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(wrong)


def test_all_that_it_names_is_in_it(document: dict[str, Any]) -> None:
    """Every declaration of the protocol, and nothing that leads nowhere."""
    assert list(document["records"]) == [each.__name__ for each in tables.declared(Record)]
    assert list(document["flags"]) == [each.__name__ for each in tables.declared(Bits)]
    assert list(document["codes"]) == [each.__name__ for each in tables.declared(Codes)]
    assert [each["value"] for each in document["commands"]] == [int(each) for each in Command]
    records, json_tables = set(document["records"]), set(document["json"])
    for command in document["commands"]:
        assert {command["request"], command["reply"]} - {None} <= records
    for record in document["records"].values():
        names = {field["name"] for field in record["fields"]}
        for field in record["fields"]:
            contents = field.get("contents", {})
            assert {field["flags"]} <= set(document["flags"]) if "flags" in field else True
            assert {field["codes"]} <= set(document["codes"]) if "codes" in field else True
            assert {field.get("counts"), contents.get("start"), contents.get("field")} - {None} <= names
            chosen = field.get("records", [])
            assert {field.get("record"), *(each["record"] for each in chosen)} - {None} <= records
            assert {contents.get("header"), *contents.get("records", {}).values()} - {None} <= records
            assert {contents.get("table")} - {None} <= json_tables
    for table in document["json"].values():
        assert {member.get("table") for member in table["members"]} - {None} <= json_tables


class Reader:
    """Reads messages by the document alone, as a program in another language would."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.found: list[tuple[str, dict[str, int]]] = []

    def message(self, data: bytes) -> list[tuple[str, dict[str, int]]]:
        """Each record in the message, with its integers."""
        self.found = []
        header = self.record(self.document["header"], data, 0)
        command = next(each for each in self.document["commands"] if each["value"] == header["command"])
        name = command["reply" if self.bits("HeaderFlags", "TYPE", header["flags"]) else "request"]
        if name:
            self.record(name, data[self.document["records"]["Header"]["size"] :], 0)
        return self.found

    def bits(self, flags: str, name: str, value: int) -> int:
        bit = next(each for each in self.document["flags"][flags]["bits"] if each["name"] == name)
        return int(value >> bit["low"] & (1 << bit["width"]) - 1)

    def record(self, name: str, data: bytes, start: int) -> dict[str, int]:
        """Read one record at ``start``; offsets inside a payload count from the start of ``data``."""
        this: dict[str, int] = {}
        self.found.append((name, this))
        for field in self.document["records"][name]["fields"]:
            at = start + field["offset"]
            if field["type"] == "integer":
                this[field["name"]] = int.from_bytes(data[at : at + field["size"]], sys.byteorder)
            elif "record" in field:
                for _ in range(eval(field["length"], {}, this)):
                    self.record(field["record"], data, at)
                    at += self.document["records"][field["record"]]["size"]
            elif "selector" in field:
                self.entries(field, this, data, at)
            elif "contents" in field and at < len(data):
                self.contents(field["contents"], name, this, data, at)
        return this

    def entries(self, field: dict[str, Any], this: dict[str, int], data: bytes, at: int) -> None:
        count = eval(field["length"], {}, this)
        size = eval(field["total"], {}, this) // count if count else 0
        for place in range(at, at + size * count, size or 1):
            for choice in field["records"]:
                fields = self.document["records"][choice["record"]]["fields"]
                selector = next(each for each in fields if each["name"] == field["selector"])
                begin = place + selector["offset"]
                value = int.from_bytes(data[begin : begin + selector["size"]], sys.byteorder)
                if (size, value) == (choice["size"], choice["value"]):
                    self.record(choice["record"], data, place)

    def contents(self, contents: dict[str, Any], name: str, this: dict[str, int], data: bytes, at: int) -> None:
        if contents["kind"] == "choice":
            fields = self.document["records"][name]["fields"]
            flags = next(each["flags"] for each in fields if each["name"] == contents["field"])
            number = self.bits(flags, contents["bits"], this[contents["field"]])
            self.record(contents["records"][str(number)], data, at)
        elif contents["kind"] == "chain":
            place = this[contents["start"]]
            while place:
                header = self.record(contents["header"], data, place)
                if body := contents["records"].get(str(header[contents["selector"]])):
                    self.record(body, data, place + self.document["records"][contents["header"]]["size"])
                place = header[contents["next"]]
        else:
            text, nul, behind = data[at:].partition(b"\0")
            assert (nul, behind) == (b"\0", b"")
            known = {member["name"] for member in self.document["json"][contents["table"]]["members"]}
            assert set(json.loads(text)) <= known


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_it_is_enough_to_read_every_message(document: dict[str, Any], sample: Sample) -> None:
    """Records, in their order, and numbers are those of the codec."""
    expected = [(type(part).__name__, integers(part)) for part in sample.parts]

    assert Reader(document).message(sample.data) == expected


def test_it_is_enough_to_read_a_real_session(document: dict[str, Any], shared: Path) -> None:
    """QEMU against libvfio-user: header and payload of every message."""
    for sample in captured(shared):
        expected = [(type(part).__name__, integers(part)) for part in sample.parts]
        assert Reader(document).message(sample.data)[: len(expected)] == expected
