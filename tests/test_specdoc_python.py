"""Generated modules: the committed one is up to date and formatted, its names are those that code relies on."""

import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from spec_text import layout, section, simple

from vfio_user_proto import messages
from vfio_user_proto.errors import SpecError
from vfio_user_proto.model import Bits, Codes, JsonTable, Record, ValueTable
from vfio_user_proto.specdoc import overlay, project
from vfio_user_proto.specdoc.declare import declare
from vfio_user_proto.specdoc.layout import WIDTH, Group, Text, flat, lines
from vfio_user_proto.specdoc.python import python
from vfio_user_proto.specdoc.reader import read_text

pytestmark = pytest.mark.usefixtures("read_once")
RUFF = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
needs_ruff = pytest.mark.skipif(RUFF is None, reason="needs ruff")


def formatted(text: str) -> str:
    """The text as ruff leaves it, with the project's settings."""
    command = [str(RUFF), "format", "--config", str(project.ROOT / "pyproject.toml"), "--stdin-filename", "x.py", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def generate(text: str, entries: str = "") -> str:
    return python(declare(read_text(text, "x.rst"), overlay.read_text(entries, "x.toml")))


def test_committed_module_is_up_to_date() -> None:
    """messages.py is what the document and its overlay give now."""
    for path, text in project.module_texts().items():
        assert path.read_text() == text


@needs_ruff
def test_committed_module_is_formatted() -> None:
    """The formatter changes nothing in what is generated."""
    for text in project.module_texts().values():
        assert formatted(text) == text


LONG = "VFIO_USER_" + "VERY_" * 14 + "LONG"
AWKWARD = {
    "long names": section(
        LONG,
        layout(("a" * 60, "0", "4"), ("b" * 110, "4", "4"), ("c" * 90, "8", f"variable {'and so on ' * 4}".strip())),
    ),
    "long notes": section(
        "States", simple(("Name", "State", "Description"), ("X_ON", "1", "word " * 22), ("X_OFF", "2", "word " * 40))
    ),
    "long titles": section(
        "Codes",
        simple(("Name", "Index", "Another title", "And yet another title", "Still more"), ("X_A", "1", "a", "b", "c")),
    ),
    "labels": section("Types", simple(("Name", "Value"), *((f"Name {'x' * at}", str(at)) for at in range(30)))),
    "quotes": section(
        "Members",
        simple(
            ("Name", "Type", "Description"), ("a", "number", 'It\'s "quoted" \\\\ here.'), ("b", "object", '"x" ' * 40)
        ),
    ),
    "values": section(
        "Values", simple(("Name", "Value"), ("id", "<id>"), ("size", "16 + table " * 12), ("next", "it's"))
    ),
    "titles": section('A "quoted" title, \\\\ and """more""" of it', layout(("a", "0", "4"))),
    "bytes": section("Odd sizes", layout(("a", "0", "3"), ("b", "3", "1"), ("c", "4", "variable"))),
}


@needs_ruff
@pytest.mark.parametrize("text", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_documents_are_formatted(text: str) -> None:
    """Long names, long words and quotes: the formatter still changes nothing, and the module can be run."""
    generated = generate(text)

    assert formatted(generated) == generated
    exec(compile(generated, "x.py", "exec"), types.ModuleType("x").__dict__ | {"__name__": "x"})


def test_words_survive_being_broken() -> None:
    """A literal over several lines has the same words as on one."""
    text = 'It\'s a "long" text, \\ and more of it; ' * 9
    broken = "\n".join(lines(Group("f(", [Text(text)], ")"), 8))

    assert eval(f"({broken})", {"f": str}) == text
    assert max(len(line) for line in broken.splitlines()) <= WIDTH
    assert flat(Text(text)) not in broken


def test_import_lines_follow_use() -> None:
    """A module imports what it uses and nothing else."""
    text = generate(section("Only codes", simple(("Name", "Value"), ("X_A", "1"), ("X_B", "2"))))

    assert [line for line in text.splitlines() if line.startswith("from")] == [
        "from vfio_user_proto.model import Codes"
    ]


CONTRACT = {
    Record: """
        Header VersionRequest DmaMapRequest DmaUnmapRequest DeviceGetInfoRequest DeviceGetInfoReply
        DeviceGetRegionInfoRequest DeviceGetRegionInfoReply CapabilityHeader SparseMmapArea SparseMmap RegionType
        DeviceGetRegionIoFdsRequest IoeventfdSubRegion IoregionfdSubRegion ShadowIoeventfdSubRegion
        DeviceGetRegionIoFdsReply DeviceGetIrqInfoRequest DeviceGetIrqInfoReply DeviceSetIrqsRequest RegionReadRequest
        RegionReadReply RegionWriteRequest RegionWriteReply DmaReadRequest DmaReadReply DmaWriteRequest DmaWriteReply
        DeviceWrite RegionWriteMultiRequest RegionWriteMultiReply DeviceFeatureRequest FeatureMigration
        FeatureMigDeviceState DmaLoggingRange FeatureDmaLoggingStart FeatureDmaLoggingReport MigDataReadRequest
        MigDataReadReply MigDataWriteRequest
    """,
    Bits: """
        HeaderFlags DmaMapFlags DeviceFlags RegionInfoFlags IoeventfdFlags IoregionFlags IrqInfoFlags IrqSetFlags
        DeviceFeatureFlags MigrationFlags
    """,
    Codes: "Command MessageType PciRegion RegionCapability IoFdType PciIrq DeviceFeature DeviceState",
}


@pytest.mark.parametrize("kind", CONTRACT, ids=lambda kind: kind.__name__)
def test_names(kind: type) -> None:
    """The names of the generated classes are a contract: a new one is added here, none changes by accident."""
    declared = [name for name, value in vars(messages).items() if isinstance(value, type) and issubclass(value, kind)]

    assert sorted(name for name in declared if name != kind.__name__) == sorted(CONTRACT[kind].split())


def test_constants() -> None:
    """So are those of the mappings and tables."""
    declared = {name for name in vars(messages) if name.isupper()}

    assert declared == {
        *("VERSION", "REQUESTS", "REPLIES", "FEATURES", "REGION_CAPABILITIES", "SUB_REGIONS"),
        *("VERSION_DATA", "CAPABILITIES", "TWIN_SOCKET", "SPARSE_MMAP_HEADER"),
    }
    assert messages.VERSION == "0.9.2"
    assert isinstance(messages.CAPABILITIES, JsonTable)
    assert isinstance(messages.SPARSE_MMAP_HEADER, ValueTable)


def test_document_names() -> None:
    """Members know how the document writes them."""
    assert messages.Command.DMA_MAP.document_name == "VFIO_USER_DMA_MAP"
    assert messages.PciRegion.BAR0.document_name == "VFIO_PCI_BAR0_REGION_INDEX"
    assert messages.HeaderFlags.NO_REPLY.document_name == "No_reply"
    assert messages.DeviceFeatureFlags.INDEX.document_name == "Feature index"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (section("X", layout(("class", "0", "4"))), "'class' cannot be a field of X"),
        (section("X", layout(("a b", "0", "4"), ("a-b", "4", "4"))), "'a-b' cannot be a field of X"),
        (section("X", simple(("Name", "Value"), ("A-B", "0"), ("A B", "1"))), "'A B' cannot be the name of a member"),
        (section("3 things", layout(("a", "0", "4"))), "'3Things' is no name for Python; [[names]] gives another"),
        (
            section("X", simple(("_RESUMING", "_RUNNING", "Description"), ("0", "1", "Running"))),
            "a table of zeros and ones has no form in Python",
        ),
    ],
)
def test_no_form_in_python(text: str, message: str) -> None:
    """What Python cannot name, or the model not hold, is an error with the line of the document."""
    with pytest.raises(SpecError) as caught:
        generate(text)

    assert message in str(caught.value)
    assert caught.value.file == "x.rst"
    assert caught.value.line > 0
