"""The Rust module, compiled: its assertions hold for every offset and size, and no warning is left."""

import shutil
import subprocess
from pathlib import Path

import pytest

from vfio_user_proto import wire
from vfio_user_proto.export import rust, tables
from vfio_user_proto.messages import CapabilityHeader, Command, Header, RegionCapability
from vfio_user_proto.model import Record

pytestmark = pytest.mark.interop
RUSTC = shutil.which("rustc")
EDITION = ("--edition", "2021", "-D", "warnings")


def compiled(source: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What rustc says to the file; the test is skipped where there is none."""
    if RUSTC is None:
        pytest.skip("rustc is not installed")
    command = [RUSTC, *EDITION, *options, "--out-dir", str(source.parent), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """The exported file."""
    path = tmp_path / "vfio_user.rs"
    path.write_text(rust.text())
    return path


def test_every_offset_and_size_is_asserted() -> None:
    """One line per record and one per field; a word of the language keeps its name."""
    text = rust.text()

    for record in tables.declared(Record):
        assert f"size_of::<{record.__name__}>() == {record.fixed_size});" in text
        for field in tables.fields(record):
            name = "r#type" if field.name == "type" else field.name
            assert f"offset_of!({record.__name__}, {name}) == {field.offset});" in text


def test_the_module_compiles_as_a_library_without_a_warning(module: Path) -> None:
    """Warnings are errors."""
    done = compiled(module, "--crate-type", "lib", "--emit", "metadata")

    assert done.returncode == 0, done.stderr


def test_a_wrong_offset_does_not_compile(module: Path) -> None:
    """The assertions are worth something."""
    right = "offset_of!(DmaMapRequest, address) == 16"
    assert right in module.read_text()
    module.write_text(module.read_text().replace(right, "offset_of!(DmaMapRequest, address) == 12"))

    assert compiled(module, "--crate-type", "lib", "--emit", "metadata").returncode == 1


def test_a_program_writes_the_bytes_that_the_codec_writes(module: Path) -> None:
    """Structures and constants used as a Rust program would."""
    program = module.with_name("main.rs")
    program.write_text("""
        #[allow(dead_code)]
        mod vfio_user;
        use vfio_user::*;
        fn main() {
            let header = Header {
                message_id: 7, command: VFIO_USER_DEVICE_GET_REGION_INFO, message_size: 16,
                flags: VFIO_USER_HEADER_FLAGS_NO_REPLY, error: 3,
            };
            let capability = CapabilityHeader { id: VFIO_REGION_INFO_CAP_TYPE, version: 1, next: 64 };
            let header: [u8; 16] = unsafe { core::mem::transmute(header) };
            let capability: [u8; 8] = unsafe { core::mem::transmute(capability) };
            for byte in header.iter().chain(capability.iter()) {
                print!("{byte:02x}");
            }
        }
    """)

    done = compiled(program)
    assert done.returncode == 0, done.stderr
    output = subprocess.run([program.with_suffix("")], capture_output=True, text=True, check=True, timeout=60).stdout

    command = Command.DEVICE_GET_REGION_INFO
    header = Header(message_id=7, command=command, message_size=16, flags=1 << 4, error=3)
    capability = CapabilityHeader(id=RegionCapability.TYPE, version=1, next=64)
    assert output == (wire.encode_record(header) + wire.encode_record(capability)).hex()


def test_the_form_is_that_of_rustfmt(module: Path) -> None:
    """So that it can stand in a project that checks it."""
    rustfmt = shutil.which("rustfmt")
    if rustfmt is None:
        pytest.skip("rustfmt is not installed")

    done = subprocess.run(
        [rustfmt, "--check", "--edition", "2021", module], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stdout
