"""Tables renewed in place: nothing without a change in the schemas, and with one the rows that it calls for, no other byte."""

import shutil
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from commands import VFIO_USER
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_text import REVISIONS, layout, needs_shared, published, section, simple

from vfio_user_proto.cli import main
from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.fromschema import document_of
from vfio_user_proto.specdoc.reader import read_text
from vfio_user_proto.specdoc.specs import BitSpec, Document, FieldSpec, LayoutSpec, Source
from vfio_user_proto.specdoc.tables import files
from vfio_user_proto.specdoc.writeback import renewed

pytestmark = pytest.mark.usefixtures("read_once")
SCHEMAS = document_of(import_module("vfio_user_proto.messages"))
HEAD = """\
from construct import GreedyBytes, Int16un, Int32un, Int64un
from vfio_user_proto.messages import Command as Commands
from vfio_user_proto.model import Bits, Codes, Flags, Record, row
"""
FIELD = """
class DmaUnmapRequest(Record, section="VFIO_USER_DMA_UNMAP / Request"):
    argsz: int = row(0, Int32un, measures=True)
    flags: int = row(4, Int32un)
    address: int = row(8, Int64un)
    size: int = row(16, Int64un)
    color: int = row(24, Int32un)
"""
BIT = """
class DmaMapFlags(Bits, section="VFIO_USER_DMA_MAP / Request", labels={"R": "readable", "W": "writeable", "C": "cached"}):
    R = 1 << 0
    W = 1 << 1
    C = 1 << 2

class DmaMapRequest(Record, section="VFIO_USER_DMA_MAP / Request"):
    argsz: int = row(0, Int32un, measures=True)
    flags: DmaMapFlags = row(4, Flags(Int32un, DmaMapFlags))
    offset: int = row(8, Int64un)
    address: int = row(16, Int64un)
    size: int = row(24, Int64un)
"""
MESSAGE = """
class Command(Codes, section="Commands", prefix="VFIO_USER_", columns=("Name", "Command", "Request Direction")):
    vars().update({each.name: (int(each), *each.notes) for each in Commands if each < 14})
    DEVICE_POWER = 14, "client -> server"
    vars().update({each.name: (int(each), *each.notes) for each in Commands if each > 14})

class DevicePowerRequest(Record, section="VFIO_USER_DEVICE_POWER / Request"):
    state: int = row(0, Int32un)

class DevicePowerReply(Record, section="VFIO_USER_DEVICE_POWER / Reply"):
    state: int = row(0, Int32un)
"""


def with_lines(text: str, *blocks: tuple[int, list[str]]) -> str:
    """The text with lines put in, each block before the line of the old text that has this number."""
    lines = text.split("\n")
    for number, block in reversed(blocks):
        lines[number - 1 : number - 1] = block
    return "\n".join(lines)


@pytest.mark.parametrize("origin", project.ORIGINS, ids=lambda origin: origin.name)
def test_own_documents_do_not_change(origin: project.Origin) -> None:
    """The schemas came from the document, so nothing is there to be renewed."""
    text = (project.ROOT / origin.document).read_text()
    schemas = document_of(import_module(origin.module))

    assert renewed(text, project.document(origin=origin), project.document(origin=origin), schemas) == (text, (), ())


@needs_shared
@pytest.mark.parametrize("revision", REVISIONS)
def test_published_documents_do_not_change(revision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where they differ from ours they stay as they are: only what changes in the schemas is carried over."""
    text = Path(published(revision).file).read_bytes()
    path = tmp_path / "published.rst"
    path.write_bytes(text)

    assert main(["spec", "tables", "--write", str(path)]) == 0
    assert path.read_bytes() == text
    assert capsys.readouterr().out == ""


@pytest.fixture
def published_copy(tmp_path: Path) -> Path:
    path = tmp_path / "published.rst"
    path.write_text(Path(published("2024-04-26").file).read_text())
    return path


def prototype(tmp_path: Path, *parts: str) -> str:
    path = tmp_path / "prototype.py"
    path.write_text("".join([HEAD, *parts]))
    return str(path)


@needs_shared
def test_a_field(published_copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row comes, in the columns that are there; a second time nothing comes."""
    before, schema = published_copy.read_text(), prototype(tmp_path, FIELD)

    assert main(["spec", "tables", "--write", str(published_copy), "--schema", schema, "--check"]) == 1
    assert published_copy.read_text() == before
    assert main(["spec", "tables", "--write", str(published_copy), "--schema", schema]) == 0
    assert capsys.readouterr().out == f"{published_copy}:676: VFIO_USER_DMA_UNMAP / Request: renewed\n" * 2
    rows = ["| color        | 24     | 4                      |", "+--------------+--------+------------------------+"]
    assert published_copy.read_text() == with_lines(before, (687, rows))
    assert main(["spec", "tables", "--write", str(published_copy), "--schema", schema]) == 0
    assert capsys.readouterr().out == ""


@needs_shared
def test_a_bit(published_copy: Path, tmp_path: Path) -> None:
    """A bit goes into the table inside the cell."""
    before = published_copy.read_text()

    assert main(["spec", "tables", "--write", str(published_copy), "--schema", prototype(tmp_path, BIT)]) == 0
    rows = ["|             | | 2   | cached     | |", "|             | +-----+------------+ |"]
    assert published_copy.read_text() == with_lines(before, (623, rows))


@needs_shared
def test_a_message(published_copy: Path, tmp_path: Path) -> None:
    """A command gets its row, in the simple table that is there, and its sections behind the last command."""
    before = published_copy.read_text()

    assert main(["spec", "tables", "--write", str(published_copy), "--schema", prototype(tmp_path, MESSAGE)]) == 0
    sections = [
        *("``VFIO_USER_DEVICE_POWER``", "--------------------------", ""),
        *(
            "Request",
            "^^^^^^^",
            "",
            "+-------+--------+------+",
            "| Name  | Offset | Size |",
            "+=======+========+======+",
        ),
        *("| state | 0      | 4    |", "+-------+--------+------+", ""),
        *("Reply", "^^^^^", "", "+-------+--------+------+", "| Name  | Offset | Size |", "+=======+========+======+"),
        *("| state | 0      | 4    |", "+-------+--------+------+", ""),
    ]
    row = "``VFIO_USER_DEVICE_POWER``              14         client -> server"
    appendices = before.split("\n").index("Appendices") + 1
    assert published_copy.read_text() == with_lines(before, (388, [row]), (appendices, sections))


def test_own_document_takes_all_of_it(tmp_path: Path) -> None:
    """What was written is read as what the prototype says, and generates it."""
    path = tmp_path / "vfio-user.rst"
    path.write_text((project.ROOT / "spec/vfio-user.rst").read_text())
    schema = prototype(tmp_path, FIELD, BIT, MESSAGE)

    assert main(["spec", "tables", "--write", str(path), "--schema", schema]) == 0
    read = read_text(path.read_text(), "x")
    layouts = read.of(LayoutSpec)
    assert read.problems == ()
    assert [field.name for field in layouts["VFIO_USER_DMA_UNMAP / Request"].fields][-1] == "color"
    assert [bit.name for bit in layouts["VFIO_USER_DMA_MAP / Request"].fields[1].bits] == [
        "readable",
        "writeable",
        "cached",
    ]
    assert [field.name for field in layouts["VFIO_USER_DEVICE_POWER / Reply"].fields] == ["state"]


def test_the_way_round(tmp_path: Path) -> None:
    """A field put into messages.py by hand goes into the document, and the document generates messages.py as it is now."""
    for name in ("vfio_user_proto", "spec"):
        shutil.copytree(project.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree((project.ROOT / project.REQUIREMENTS).parent, (tmp_path / project.REQUIREMENTS).parent)
    module = tmp_path / project.PROTOCOL.path
    before, last = module.read_text(), "    size: int = row(16, Int64un)\n\n\nclass DeviceFlags"
    module.write_text(before.replace(last, last.replace("\n", "\n    color: int = row(24, Int32un)\n", 1)))

    def spec_command(*words: str) -> subprocess.CompletedProcess[str]:
        command = [*VFIO_USER, "spec", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert module.read_text() != before
    assert spec_command("generate", "--check").returncode == 1
    written = spec_command("tables", "--write", "spec/vfio-user.rst")
    assert (written.returncode, written.stderr) == (0, "")
    assert spec_command("generate", "--check").returncode == 0


def test_offsets_that_count_the_header(tmp_path: Path) -> None:
    """In a document whose offsets begin at 16, those of new rows do too."""
    path = tmp_path / "region-io-fds-rfc.rst"
    path.write_text((project.ROOT / "spec/region-io-fds-rfc.rst").read_text())
    key = "VFIO_USER_VM_INTERRUPT / Interrupt info format"
    fields = 'sub_index: int = row(0, Int32un, "Sub-index")\n    index: int = row(4, Int32un)'
    schema = prototype(tmp_path, f'\nclass InterruptInfo(Record, section="{key}"):\n    {fields}\n')

    assert main(["spec", "tables", "--write", str(path), "--schema", schema]) == 0
    assert (
        "| Sub-index | 16     | 4    |\n+-----------+--------+------+\n| index     | 20     | 4    |\n"
        in path.read_text()
    )


def test_a_long_name_widens_its_column_alone(tmp_path: Path) -> None:
    """Every line of the table gets the same blanks and dashes; the text around it stays."""
    text = section("VFIO_USER_X", "Before.", "", files_of(spec(("a", 4, "")))["x"], "After.", "")
    new = renewed_text(text, spec(("a", 4, "")), spec(("a", 4, ""), ("a_rather_long_name", 4, "")))

    assert new.splitlines()[3:] == [
        *("Before.", ""),
        *("+--------------------+--------+------+", "| Name               | Offset | Size |"),
        *("+====================+========+======+", "| a                  | 0      | 4    |"),
        *("+--------------------+--------+------+", "| a_rather_long_name | 4      | 4    |"),
        *("+--------------------+--------+------+", "", "After.", ""),
    ]


def spec(*rows: tuple[str, int | None, str], bits: tuple[str, ...] = (), repeats: bool = False) -> LayoutSpec:
    """A layout of fields with their sizes and notes, the first of them with bits."""
    fields, offset = [], 0
    for at, (name, size, note) in enumerate(rows):
        named = tuple(BitSpec(number, number, bit, Source("x", 0)) for number, bit in enumerate(bits)) if not at else ()
        fields.append(FieldSpec(name, offset, size, note, named, Source("x", 0)))
        offset += size or 0
    return LayoutSpec("VFIO_USER_X", tuple(fields), repeats, Source("x", 0))


def files_of(table: LayoutSpec) -> dict[str, str]:
    """The lines of one table, without its file's head."""
    text = next(iter(files(Document("x", "", "", (table,), ()), "x").values()))
    return {"x": text[text.index("+-") :]}


def renewed_text(text: str, old: LayoutSpec, new: LayoutSpec) -> str:
    schemas = [Document("x", "", "", (table,), ()) for table in (old, new)]
    return renewed(text, read_text(text, "x"), *schemas).text


names = st.sampled_from(
    ["a", "flags", "size", "offset_of_all", "pad", "Data", "count of records", "very_long_name_of_a_field"]
)
rows = st.tuples(names, st.sampled_from([1, 4, 8, None]), st.just(""))
fields = st.lists(rows, min_size=1, max_size=6, unique_by=lambda row: row[0])
bit_names = st.lists(
    st.sampled_from(["X_READ", "X_WRITE", "Mappable", "X_A_VERY_LONG_NAME_INDEED"]), max_size=3, unique=True
)


layouts = st.builds(
    lambda rows, bits, repeats: spec(*rows, bits=tuple(bits), repeats=repeats), fields, bit_names, st.booleans()
)


@settings(max_examples=60)
@given(layouts, layouts)
def test_any_change_of_a_layout(old: LayoutSpec, new: LayoutSpec) -> None:
    """Whatever fields and bits come, go, grow or move: the text then says what the new schema says."""
    text = section("VFIO_USER_X", files_of(old)["x"], "After.", "")

    assert next(iter(read_text(renewed_text(text, old, new), "x").of(LayoutSpec).values())) == new
    assert renewed_text(text, old, old) == text


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_endings(ending: str) -> None:
    """New lines end as the others do."""
    text = section("VFIO_USER_X", files_of(spec(("a", 4, "")))["x"], "After.", "").replace("\n", ending)
    new = renewed_text(text, spec(("a", 4, "")), spec(("a", 4, ""), ("b", 4, "")))

    assert new.count("\n") == text.count("\n") + 2
    assert new.count(ending) == new.count("\n")


def test_a_simple_table() -> None:
    """Cells are put below their titles; a column grows with its border; words of other cells stay where they are."""
    text = section("VFIO_USER_X", layout(("a", "0", "4"), ("b", "4", "variable (see below). Optional.")))
    old = next(iter(read_text(text, "x").of(LayoutSpec).values()))
    new = replace(
        old,
        fields=(
            *old.fields[:1],
            FieldSpec("a_longer_name", 4, 2, "", (), old.source),
            replace(old.fields[1], offset=6),
        ),
    )

    assert renewed_text(text, old, new).splitlines()[3:] == [
        "=============  ======  ===============================",
        "Name           Offset  Size",
        "=============  ======  ===============================",
        "a              0       4",
        "a_longer_name  4       2",
        "b              6       variable (see below). Optional.",
        "=============  ======  ===============================",
        "",
    ]


def test_bits_need_a_grid_table() -> None:
    """A simple table cannot hold another one, and nothing is lost in silence."""
    text = section("VFIO_USER_X", layout(("flags", "0", "4")))

    with pytest.raises(SpecError, match="a simple table has no room for bits; make it a grid table first"):
        renewed_text(text, spec(("flags", 4, "")), spec(("flags", 4, ""), bits=("X_READ",)))


def test_blanks_at_the_ends_of_lines_stay() -> None:
    """A line that needs no change keeps what cannot be seen."""
    table = files_of(spec(("a", 4, "")))["x"].replace("| Size |\n", "| Size |  \n")
    new = renewed_text(section("VFIO_USER_X", table), spec(("a", 4, "")), spec(("a", 4, ""), ("b", 4, "")))

    assert "| Size |  \n" in new
    assert "| b    | 4      | 4    |\n" in new


def test_an_indented_table() -> None:
    """A table in a list keeps its place."""
    table = "".join(f"  {line}\n" for line in files_of(spec(("a", 4, "")))["x"].splitlines())
    text = section("VFIO_USER_X", "* Fields:\n", table)

    assert "\n  | b    | 4      | 4    |\n" in renewed_text(text, spec(("a", 4, "")), spec(("a", 4, ""), ("b", 4, "")))


def test_numbers_as_they_are_written_there() -> None:
    """A hexadecimal column gets hexadecimal numbers, a column of literals literals."""
    text = section("Commands", simple(("Name", "Value"), ("``X_A``", "0x1"), ("``X_B``", "0x2")))
    old = read_text(text, "x")
    table = old.tables[0]
    more = replace(table, codes=(*table.codes, replace(table.codes[0], name="X_C", value=10)))  # type: ignore[call-arg, union-attr]

    assert "``X_C``  0xa\n" in renewed(text, old, old, replace(old, tables=(more,))).text


def test_what_no_schema_has_is_left(tmp_path: Path) -> None:
    """A table that is gone from the schemas is told and not touched: its section has words too."""
    text = section("VFIO_USER_X", files_of(spec(("a", 4, "")))["x"])
    old = Document("x", "", "", (spec(("a", 4, "")),), ())

    assert renewed(text, read_text(text, "x"), old, Document("x", "", "", (), ())) == (text, (), ("VFIO_USER_X",))


def test_a_document_without_the_table() -> None:
    """Where the table to be renewed is missing, that is one sentence."""
    text = section("VFIO_USER_Y", files_of(spec(("z", 8, "")))["x"])

    with pytest.raises(SpecError, match="x has no table 'VFIO_USER_X' to be renewed"):
        renewed_text(text, spec(("a", 4, "")), spec(("a", 4, ""), ("b", 4, "")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "FileNotFoundError"),
        ("class:", "SyntaxError: invalid syntax"),
        (f"{HEAD}\nclass X(Record, section='X'):\n    a: int = row(4, Int32un)\n", "TypeError: X.a is declared at 4"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("x = y", "NameError"),
    ],
)
def test_a_wrong_prototype(
    tmp_path: Path, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that Python or the model refuses is one sentence, and no document is touched."""
    document, schema = tmp_path / "x.rst", tmp_path / "prototype.py"
    document.write_text(section("VFIO_USER_X", files_of(spec(("a", 4, "")))["x"]))
    if content is not None:
        schema.write_text(content)

    assert main(["spec", "tables", "--write", str(document), "--schema", str(schema)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"vfio-user: {schema} cannot be used as a schema: {message}")
    assert err.count("\n") == 1


def test_a_schema_without_a_document(capsys: pytest.CaptureFixture[str]) -> None:
    """The option alone would do nothing."""
    assert main(["spec", "tables", "--schema", "x.py"]) == 2
    assert capsys.readouterr().err == "vfio-user: --schema goes with --write\n"
