"""The C header, compiled by gcc and g++: without a warning, with its assertions, and equal to the kernel's own headers."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vfio_user_proto.export import c_header, tables
from vfio_user_proto.messages import (
    CapabilityHeader,
    DeviceFeatureRequest,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceSetIrqsRequest,
    DmaLoggingRange,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    FeatureMigration,
    RegionType,
    SparseMmap,
    SparseMmapArea,
)
from vfio_user_proto.model import Bits, Codes, Record

pytestmark = pytest.mark.interop
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
LANGUAGES = {"c": ("gcc", "-std=c11"), "c++": ("g++", "-std=c++11")}
KERNEL = [Path("/usr/include/linux") / name for name in ("vfio.h", "kvm.h")]
# Record -> structure of <linux/vfio.h> and how far into it the record begins.
STRUCTURES: dict[type[Record], tuple[str, int]] = {
    DeviceGetInfoRequest: ("vfio_device_info", 0),
    DeviceGetInfoReply: ("vfio_device_info", 0),
    DeviceGetRegionInfoRequest: ("vfio_region_info", 0),
    DeviceGetRegionInfoReply: ("vfio_region_info", 0),
    CapabilityHeader: ("vfio_info_cap_header", 0),
    SparseMmap: ("vfio_region_info_cap_sparse_mmap", 8),
    SparseMmapArea: ("vfio_region_sparse_mmap_area", 0),
    RegionType: ("vfio_region_info_cap_type", 8),
    DeviceGetIrqInfoRequest: ("vfio_irq_info", 0),
    DeviceGetIrqInfoReply: ("vfio_irq_info", 0),
    DeviceSetIrqsRequest: ("vfio_irq_set", 0),
    DeviceFeatureRequest: ("vfio_device_feature", 0),
    FeatureMigration: ("vfio_device_feature_migration", 0),
    FeatureMigDeviceState: ("vfio_device_feature_mig_state", 0),
    FeatureDmaLoggingStart: ("vfio_device_feature_dma_logging_control", 0),
    FeatureDmaLoggingReport: ("vfio_device_feature_dma_logging_report", 0),
    DmaLoggingRange: ("vfio_device_feature_dma_logging_range", 0),
}
# The kernel's names where they are others, and its fields that hold a pointer where the wire has the thing itself.
RENAMED = {(FeatureDmaLoggingStart, "reserved"): "__reserved"}
POINTERS = {
    (FeatureDmaLoggingStart, "ranges"),
    (FeatureDmaLoggingReport, "bitmap"),
    (DeviceGetRegionInfoReply, "capabilities"),
}
# Structures that go on behind the fields of the document: with such a pointer, or because they have grown.
GROWN = {"vfio_device_info", "vfio_device_feature_dma_logging_control", "vfio_device_feature_dma_logging_report"}


@pytest.fixture
def header(tmp_path: Path) -> Path:
    """The exported file."""
    path = tmp_path / "vfio_user.h"
    path.write_text(c_header.text())
    return path


def compiled(folder: Path, source: str, language: str = "c") -> subprocess.CompletedProcess[str]:
    """What the compiler says to a program; the test is skipped where there is no compiler."""
    compiler, standard = LANGUAGES[language]
    found = shutil.which(compiler)
    if found is None:
        pytest.skip(f"{compiler} is not installed")
    command = [found, standard, *STRICT, "-I", str(folder), "-x", language, "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=False, timeout=120)


def test_every_offset_and_size_is_asserted() -> None:
    """One line per structure, and two per field that has a size."""
    text = c_header.text()

    for record in tables.declared(Record):
        name = c_header.struct_name(record)
        assert f"sizeof({name}) == {record.fixed_size});" in text
        for field in tables.fields(record):
            assert f"offsetof({name}, {field.name}) == {field.offset});" in text
            assert field.size is None or f"sizeof((({name} *)0)->{field.name}) == {field.size});" in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "source",
    [
        '#include "vfio_user.h"\n#include "vfio_user.h"\n',
        '#include "vfio_user.h"\n#include <linux/vfio.h>\n#include <linux/kvm.h>\n',
        '#include <linux/vfio.h>\n#include <linux/kvm.h>\n#include "vfio_user.h"\n',
    ],
    ids=["alone, twice", "before the kernel's", "behind the kernel's"],
)
def test_the_header_compiles_without_a_warning(header: Path, language: str, source: str) -> None:
    """As C11 and C++11, alone and together with the headers whose names it shares, in any order."""
    if "linux" in source and not all(path.exists() for path in KERNEL):
        pytest.skip("the kernel's headers are not installed")

    done = compiled(header.parent, source, language)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_offset_does_not_compile(header: Path, language: str) -> None:
    """The assertions are worth something."""
    right = "offsetof(struct vfio_user_dma_map_request, address) == 16"
    assert right in header.read_text()
    header.write_text(header.read_text().replace(right, right.replace("16", "12")))

    assert compiled(header.parent, '#include "vfio_user.h"\n', language).returncode == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_structures_are_those_of_the_kernel(header: Path, language: str) -> None:
    """Where <linux/vfio.h> has the structure: the same offset and size of every field, and the same size of the whole."""
    if not KERNEL[0].exists():
        pytest.skip("<linux/vfio.h> is not installed")
    known = set(re.findall(r"struct (\w+) \{", KERNEL[0].read_text()))
    checks, compared = [], []
    for record, (theirs, start) in STRUCTURES.items():
        if theirs not in known:
            continue
        compared.append(theirs)
        own, other = c_header.struct_name(record), f"struct {theirs}"
        for field in tables.fields(record):
            if (record, field.name) in POINTERS:
                continue
            name = RENAMED.get((record, field.name), field.name)
            checks.append(f"offsetof({own}, {field.name}) + {start} == offsetof({other}, {name})")
            if field.size is not None:
                checks.append(f"sizeof((({own} *)0)->{field.name}) == sizeof((({other} *)0)->{name})")
        checks.append(f"sizeof({own}) + {start} {'<=' if theirs in GROWN else '=='} sizeof({other})")
    assert {"vfio_device_info", "vfio_region_info", "vfio_irq_set", "vfio_region_info_cap_sparse_mmap"} <= set(compared)

    done = compiled(header.parent, program(checks, language), language)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("language", LANGUAGES)
def test_constants_are_those_of_the_kernel(header: Path, language: str) -> None:
    """Every flag and code that the document takes from the kernel has the kernel's value, where its headers have it."""
    if not all(path.exists() for path in KERNEL):
        pytest.skip("the kernel's headers are not installed")
    words = set(re.findall(r"\w+", "".join(path.read_text() for path in KERNEL)))
    names = [bit.constant for flags in tables.declared(Bits) for bit in tables.bits(flags)]
    names += [
        tables.constant(each, name) for codes in tables.declared(Codes) for name, each in codes.__members__.items()
    ]
    shared = [name for name in names if name in words]
    assert {"VFIO_DEVICE_FLAGS_PCI", "VFIO_PCI_VGA_REGION_INDEX", "KVM_IOEVENTFD_FLAG_PIO"} <= set(shared)

    checks = [f"(uint64_t){c_header.own_name(name)} == (uint64_t){name}" for name in shared]
    done = compiled(header.parent, program(checks, language), language)

    assert done.returncode == 0, done.stderr


def program(checks: list[str], language: str) -> str:
    """A program of assertions over both headers."""
    word = "_Static_assert" if language == "c" else "static_assert"
    lines = "".join(f'{word}({check}, "{check}");\n' for check in checks)
    return f'#include "vfio_user.h"\n#include <linux/vfio.h>\n#include <linux/kvm.h>\n{lines}'
