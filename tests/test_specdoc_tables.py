"""Tables written back: reading them gives the specs that they were written from, for every kind of table."""

import re
import subprocess
from importlib import import_module
from itertools import pairwise

import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from spec_text import REVISIONS, needs_shared, published

from vfio_user_proto import messages
from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.fromschema import document_of
from vfio_user_proto.specdoc.reader import read_text
from vfio_user_proto.specdoc.specs import (
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
    TruthSpec,
    ValueSpec,
    ValuesSpec,
)
from vfio_user_proto.specdoc.tables import escape, files

NOWHERE = Source("x", 0)


def by_key(tables: tuple[TableSpec, ...]) -> dict[tuple[type, str], TableSpec]:
    return {(type(table), table.key): table for table in tables}


def written_and_read(document: Document) -> dict[tuple[type, str], TableSpec]:
    """The tables of all files that are written for a document, read again."""
    found: dict[tuple[type, str], TableSpec] = {}
    for name, text in files(document, "x").items():
        again = read_text(text, name)
        assert (again.problems, again.remarks) == ((), ()), text
        found |= by_key(again.tables)
    return found


def test_committed_tables_are_up_to_date() -> None:
    """spec/tables/ holds what the schemas give now, a folder per document, and nothing else."""
    folder = project.ROOT / project.TABLES

    assert {path: path.read_text() for path in folder.rglob("*") if path.is_file()} == project.table_texts()


@pytest.mark.parametrize("origin", project.ORIGINS, ids=lambda origin: origin.name)
def test_schemas_say_what_the_document_says(origin: project.Origin) -> None:
    """Nothing that a table says is lost on the way into a module."""
    schemas = document_of(import_module(origin.module))

    assert by_key(schemas.tables) == by_key(project.document(origin=origin).tables)


@pytest.mark.parametrize("origin", project.ORIGINS, ids=lambda origin: origin.name)
def test_round_trip_of_the_schemas(origin: project.Origin) -> None:
    """Document, schemas, tables, document: the specs are the same all around."""
    schemas = document_of(import_module(origin.module))

    assert written_and_read(schemas) == by_key(project.document(origin=origin).tables)


def test_each_table_names_its_declaration() -> None:
    """Above each table stands the class or constant that it was written from."""
    for path, text in project.table_texts().items():
        names = re.findall(r"^From ``(\w+)``:\n\n\+-", text, re.MULTILINE)
        tables = re.findall(r"^\+-.*\+\n\|.*\n\+=", text, re.MULTILINE)
        origin = next(each for each in project.ORIGINS if each.name == path.parent.name)

        assert len(names) == len(tables) > 0
        assert [name for name in names if not hasattr(import_module(origin.module), name)] == []


@needs_shared
def test_tables_are_no_copied_text() -> None:
    """Titles one below the other make no sentence of the published document."""
    command = [str(SHARED / "tools" / "copied-text"), *(str(path) for path in project.table_texts())]

    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == ""


@needs_shared
@pytest.mark.parametrize("revision", REVISIONS)
def test_round_trip_of_published_documents(revision: str) -> None:
    """Any table that can be read can be written, those of zeros and ones too."""
    document = published(revision)

    assert written_and_read(document) == by_key(document.tables)


words = st.lists(
    st.text(st.characters(categories=("L", "N", "P", "S"), max_codepoint=0x2FF), min_size=1, max_size=9),
    min_size=1,
    max_size=14,
).map(" ".join)
names = words.filter(lambda text: text != "..." and not text.startswith('"') and not text.endswith('"'))
symbols = st.from_regex(r"[A-Z]{1,6}(_[A-Z0-9]{1,6}){1,3}", fullmatch=True)
sizes = st.one_of(
    st.integers(0, 99).map(lambda size: (size, "")), st.just((None, "")), words.map(lambda text: (None, text))
)


@st.composite
def layouts(draw: st.DrawFn) -> LayoutSpec:
    fields = []
    for name, (size, note) in draw(st.lists(st.tuples(names, sizes), min_size=1, max_size=4)):
        pairs = draw(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), names), max_size=3))
        bits = tuple(BitSpec(min(a, b), max(a, b), bit, NOWHERE) for a, b, bit in pairs)
        fields.append(FieldSpec(name, 0 if not fields else draw(st.integers(0, 9999)), size, note, bits, NOWHERE))
    return LayoutSpec(draw(symbols), tuple(fields), draw(st.booleans()), NOWHERE)


codes = st.builds(
    lambda key, rows: CodesSpec(key, ("Name", "Value", "Description"), tuple(rows), NOWHERE),
    symbols,
    st.lists(
        st.builds(
            lambda name, value, note: CodeSpec(name, value, (note,), NOWHERE), names, st.integers(0, 2**64 - 1), words
        ),
        min_size=1,
        max_size=4,
    ),
)
values = st.builds(
    lambda key, rows: ValuesSpec(key, tuple(rows), NOWHERE),
    symbols,
    st.lists(
        st.builds(lambda name, value: ValueSpec(name, f"is {value}", NOWHERE), names, words), min_size=1, max_size=4
    ),
)
members = st.builds(
    lambda key, rows: JsonSpec(key, tuple(rows), NOWHERE),
    symbols,
    st.lists(
        st.builds(
            lambda name, kind, text: MemberSpec(name, kind, text, NOWHERE),
            names,
            st.sampled_from(["object", "number"]),
            words,
        ),
        min_size=1,
        max_size=4,
    ),
)
truths = st.builds(
    lambda key, rows: TruthSpec(key, ("_A", "_B", "Description"), tuple((*bits, text) for bits, text in rows), NOWHERE),
    symbols,
    st.lists(st.tuples(st.tuples(st.sampled_from("01-"), st.sampled_from("01-")), words), min_size=1, max_size=4),
)


@given(st.one_of(layouts(), codes, values, members, truths))
def test_round_trip_of_any_table(table: TableSpec) -> None:
    """Whatever words and numbers a table holds, reading what was written gives them back."""
    assert written_and_read(Document("x", "", "", (table,), ())) == by_key((table,))


@given(words)
def test_escaped_words_are_words(text: str) -> None:
    """No text is taken for markup once it is escaped."""
    read = read_text(f"{escape(text)}\n", "x")

    assert read.remarks == ()
    assert [each.text for each in read.prose] == [text]


def test_sections_become_headings() -> None:
    """A file has the command as its title and the sections of the key below it, each once."""
    text = files(document_of(messages), "vfio_user_proto/messages.py")["vfio-user-device-get-region-io-fds.rst"]
    headings = [above for above, line in pairwise(text.splitlines()) if line and set(line) in ({"="}, {"-"}, {"^"})]

    assert headings == [
        "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
        "Request",
        "Reply",
        "Sub-Region IO FD types",
        "Sub-Region IO FD info format (ioeventfd)",
        "Sub-Region IO FD info format (ioregionfd)",
        "Sub-Region IO FD info format (shadow ioeventfd)",
    ]
