"""Reading documents: every form of table, exact lines, and clear refusals of what is no document."""

import re
from pathlib import Path

import pytest
from spec_text import REVISIONS, layout, needs_shared, own, published, section, simple

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc.files import LONGEST_BLOCK, LONGEST_FILE
from vfio_user_proto.specdoc.project import ROOT
from vfio_user_proto.specdoc.reader import read, read_text
from vfio_user_proto.specdoc.specs import CodesSpec, Document, JsonSpec, LayoutSpec, Source, TruthSpec, ValuesSpec

GRID = """\
``VFIO_USER_X``
===============

Reply
-----

+----------------+--------+-------------+
| Name           | Offset | Size        |
+================+========+=============+
| argsz          | 0      | 4           |
+----------------+--------+-------------+
| Flags          | 4      | 4           |
+----------------+--------+-------------+
|                | +-----+------------+ |
|                | | Bit | Definition | |
|                | +=====+============+ |
|                | | 0-3 | Type       | |
|                | +-----+------------+ |
|                | | 4   | No_reply   | |
|                | +-----+------------+ |
+----------------+--------+-------------+
+----------------+--------+-------------+
| version        | 8      | 2           |
| major          |        |             |
+----------------+--------+-------------+
| rest           | 10     | ...         |
+----------------+--------+-------------+
"""


def only(text: str) -> LayoutSpec:
    """The only layout of a text that has no problems."""
    read = read_text(text, "doc.rst")
    assert read.problems == ()
    return next(iter(read.of(LayoutSpec).values()))


def test_grid_table() -> None:
    """Bits below their field, a doubled separator, words over two lines, dots as a size; each with its line."""
    spec = only(GRID)

    assert spec.key == "VFIO_USER_X / Reply"
    assert [(each.name, each.offset, each.size, each.source.line) for each in spec.fields] == [
        ("argsz", 0, 4, 10),
        ("Flags", 4, 4, 12),
        ("version major", 8, 2, 23),
        ("rest", 10, None, 26),
    ]
    assert [(bit.name, bit.first, bit.last, bit.source.line) for bit in spec.fields[1].bits] == [
        ("Type", 0, 3, 17),
        ("No_reply", 4, 4, 19),
    ]


def test_simple_table() -> None:
    """A simple table is read like a grid table, words over two lines included."""
    text = layout(
        ("version major", "0", "2"), ("version data", "2", "variable (including"), ("", "", "NUL). Optional.")
    )
    spec = only(text)

    assert [(each.name, each.size, each.note, each.source.line) for each in spec.fields] == [
        ("version major", 2, "", 4),
        ("version data", None, "(including NUL). Optional.", 5),
    ]


@pytest.mark.parametrize(
    ("cell", "size", "note"),
    [
        ("4", 4, ""),
        ("4 bytes", 4, ""),
        ("16 + 32", 48, ""),
        ("16 + 32 bytes", 48, ""),
        ("variable", None, ""),
        ("...", None, ""),
        ("32 + subregion info", None, "32 + subregion info"),
        ("8 * count", None, "8 * count"),
    ],
)
def test_sizes(cell: str, size: int | None, note: str) -> None:
    """Sizes are numbers, sums, or variable with what else is said."""
    field = only(layout(("data", "0", cell))).fields[0]

    assert (field.size, field.note) == (size, note)


def test_dots_end_a_layout() -> None:
    """A row of dots says that the rows above are repeated."""
    spec = only(layout(("offset", "0", "8"), ("size", "8", "8"), ("...", "", "")))

    assert spec.repeats
    assert [each.name for each in spec.fields] == ["offset", "size"]


def test_offsets_that_count_the_header() -> None:
    """A layout that begins at 16 is the same as one that begins at 0."""
    counted = only(layout(("argsz", "16", "4"), ("flags", "20", "4")))

    assert counted == only(layout(("argsz", "0", "4"), ("flags", "4", "4")))


def test_payload() -> None:
    """A name in angle brackets is what follows, and no field."""
    fields = only(layout(("error", "0", "4"), ("<message data>", "4", "variable"))).fields

    assert [each.is_payload for each in fields] == [False, True]


def test_codes_and_values() -> None:
    """Names with numbers are codes, also in hexadecimal and with further columns; names with words are values."""
    read = read_text(
        section("A", simple(("Name", "Value"), ("NONE", "0x0"), ("REPLY", "0x1")))
        + section("B", simple(("Name", "State", "Description"), ("STOP", "07", "At rest.")))
        + section("C", simple(("Name", "Value"), ("id", "<ID>"), ("version", "0x1"))),
        "doc.rst",
    )

    assert read.problems == ()
    assert [(code.name, code.value) for code in read.of(CodesSpec)["A"].codes] == [("NONE", 0), ("REPLY", 1)]
    assert [(code.value, code.notes) for code in read.of(CodesSpec)["B"].codes] == [(7, ("At rest.",))]
    assert [(each.name, each.value) for each in read.of(ValuesSpec)["C"].values] == [("id", "<ID>"), ("version", "0x1")]


def test_json_members() -> None:
    """Quotes around names belong to the notation; a collection of pairs is an object."""
    read = read_text(
        simple(("Name", "Type", "Description"), ('``"migration"``', "collection of name/value pairs", "Optional.")),
        "doc.rst",
    )

    assert [(each.name, each.type) for table in read.of(JsonSpec).values() for each in table.members] == [
        ("migration", "object")
    ]


def test_keys() -> None:
    """A key begins at the nearest section named after a symbol; the second table of a kind in a section is numbered."""
    table = layout(("argsz", "0", "4"))
    request = section("Request", table, table, section("Record Format", table, mark="^"), mark="-")
    text = section("Chapter", section("``VFIO_USER_X``", request, mark='"')) + section(
        "Other", section("Header", table, mark='"')
    )

    assert list(read_text(text, "doc.rst").of(LayoutSpec)) == [
        "VFIO_USER_X / Request",
        "VFIO_USER_X / Request #2",
        "VFIO_USER_X / Request / Record Format",
        "Header",
    ]


def test_requirement() -> None:
    """A requirement has its options, its words on one line, its section and its line."""
    read = read_text(
        f"{GRID}\n.. requirement:: x.first\n   :level: must\n   :side: server\n   :section: Header\n"
        "   :quote: must only include\n   :erratum: x-first\n\n   An *error* reply\n   has no payload.\n",
        "doc.rst",
    )

    assert read.problems == ()
    assert [each.as_dict() for each in read.requirements] == [
        {
            "id": "x.first",
            "level": "must",
            "side": "server",
            "section": "VFIO_USER_X / Reply",
            "text": "An error reply has no payload.",
            "anchor": "Header",
            "quote": "must only include",
            "erratum": "x-first",
            "file": "doc.rst",
            "line": 29,
        }
    ]


def check_lines(read: Document) -> None:
    """The name of everything stands in the line that it is said to stand in."""
    lines = Path(read.file if Path(read.file).is_file() else ROOT / read.file).read_text().splitlines()

    def stands(words: str, source: Source) -> None:
        line = re.sub(r"[`*\\]", "", lines[source.line - 1])
        assert words.split()[0] in line, (words, source, line)

    for spec in read.of(LayoutSpec).values():
        for field in spec.fields:
            stands(field.name, field.source)
            for bit in field.bits:
                stands(bit.name, bit.source)
    for codes in read.of(CodesSpec).values():
        for code in codes.codes:
            stands(code.name, code.source)
    for values in read.of(ValuesSpec).values():
        for value in values.values:
            stands(value.name, value.source)
    for table in read.of(JsonSpec).values():
        for member in table.members:
            stands(member.name, member.source)
    for each in read.requirements:
        stands(f".. requirement:: {each.id}", each.source)
        stands(each.id, each.source)
    for table in read.tables:
        assert lines[table.source.line - 1].strip()[0] in "+=", table.source


def test_own_document_lines() -> None:
    """Every row and every requirement of our document knows its line."""
    check_lines(own())


@needs_shared
@pytest.mark.parametrize("revision", REVISIONS)
def test_published_lines(revision: str) -> None:
    """Every row of the published documents knows its line."""
    check_lines(published(revision))


@needs_shared
@pytest.mark.parametrize(("revision", "tables"), [*zip(REVISIONS, (40, 39, 44), strict=True)])
def test_published_documents_are_read_whole(revision: str, tables: int) -> None:
    """The published documents, unchanged: each table is modelled, none is left out."""
    read = published(revision)
    text = Path(read.file).read_text()
    nested = sum(len([f for f in spec.fields if f.bits]) for spec in read.of(LayoutSpec).values())

    assert read.problems == ()
    assert len(read.tables) == tables
    # One row of titles per grid table; simple tables have two lines of "=" around their titles and one at the end.
    grids = len(re.findall(r"^[ |]*\+=[=+]*\+", text, re.MULTILINE))
    simples = len(re.findall(r"^=+  =", text, re.MULTILINE)) // 3
    assert tables + nested == grids + simples


@needs_shared
def test_state_tables_of_2021() -> None:
    """Tables of zeros and ones are kept as they stand, with the arrows of <isonum.txt>."""
    states, transitions = published("2021-01-20").of(TruthSpec).values()

    assert states.columns == ("_RESUMING", "_SAVING", "_RUNNING", "Description")
    assert transitions.columns[0] == "↓ From / To →"
    assert transitions.rows[0] == ("Stopped", "-", "0", "0", "0", "0")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "is no text: this line holds the control character 0x7f"),
        (b"Title\n=====\n\n\xff\xfe", ":4: is no text: this line is not UTF-8"),
        (b"x" * (LONGEST_FILE + 1), f"is larger than {LONGEST_FILE} bytes"),
        (
            b"a\n\n" + b"*x " * LONGEST_BLOCK,
            f":3: here begin more than {LONGEST_BLOCK} characters without an empty line",
        ),
        ("\n\n".join(" " * depth + "x" for depth in range(900)).encode(), "is nested too deeply to be read"),
        (b"\n\n".join(b"   " * depth + b".. note::" for depth in range(300)), "is nested too deeply to be read"),
    ],
    ids=["empty", "blank", "binary", "not-utf-8", "large", "one-block", "nested-quotes", "nested-directives"],
)
def test_no_document(tmp_path: Path, data: bytes, message: str) -> None:
    """What is no document is refused in one sentence, at once."""
    path = tmp_path / "doc.rst"
    path.write_bytes(data)

    with pytest.raises(SpecError) as caught:
        read(str(path))

    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_no_file(tmp_path: Path) -> None:
    """A path that leads nowhere, or to a folder, is refused in one sentence."""
    for path, message in ((tmp_path / "none.rst", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SpecError, match=message):
            read(str(path))


def test_no_other_file_is_opened(tmp_path: Path) -> None:
    """A document that includes itself, or a file of the system, gets neither."""
    path = tmp_path / "doc.rst"
    path.write_text(
        f"{GRID}\n.. include:: doc.rst\n\n.. include:: /etc/passwd\n\n.. raw:: html\n   :file: /etc/passwd\n"
    )

    problems = [problem.message for problem in read(str(path)).problems]

    assert problems == ['"include" directive disabled.', '"include" directive disabled.', '"raw" directive disabled.']
