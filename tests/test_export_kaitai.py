"""The Kaitai Struct definition: YAML that says what was meant, compiled by Kaitai's compiler, reading what the codec reads."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from export_samples import Sample, captured, integers, samples

from vfio_user_proto.export import kaitai, tables
from vfio_user_proto.model import Bits, Flags, Record

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the definition is for little-endian hosts")
COMPILE = """
const compiler = require("kaitai-struct-compiler"), fs = require("fs"), folder = process.argv[1];
const definition = JSON.parse(fs.readFileSync(folder + "/definition.json"));
compiler.compile(process.argv[2], definition, null, false).then(
  (files) => Object.entries(files).forEach(([name, text]) => fs.writeFileSync(folder + "/" + name, text)),
  (error) => { console.error(String(error.message || error)); process.exit(1); });
"""


def node(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run node with the modules that are installed for all users."""
    npm, program = shutil.which("npm"), shutil.which("node")
    if npm is None or program is None:
        pytest.skip("node and npm are not installed")
    root = subprocess.run([npm, "root", "-g"], capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NODE_PATH": root},
        timeout=120,
    )


def compiled(folder: Path, language: str) -> Path:
    """The folder with what Kaitai's compiler makes of the exported text; the test is skipped where it is not installed."""
    yaml = pytest.importorskip("yaml")
    if node("-e", 'require("kaitai-struct-compiler")').returncode:
        pytest.skip("kaitai-struct-compiler is not installed (npm install -g kaitai-struct-compiler)")
    (folder / "definition.json").write_text(json.dumps(yaml.safe_load(kaitai.text())))
    done = node("-e", COMPILE, str(folder), language)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_text_is_yaml_that_says_what_was_meant() -> None:
    """Nothing changes its type on the way through YAML."""
    yaml = pytest.importorskip("yaml")

    assert yaml.safe_load(kaitai.text()) == kaitai.definition()


def test_every_table_has_its_type() -> None:
    """Records with all fields in order, flags with as many bits as their field, codes with all values."""
    definition = kaitai.definition()

    for record in tables.declared(Record):
        made = definition["types"][tables.snake(record.__name__)]
        assert [each["id"] for each in made["seq"]] == list(record.rows)
        for row in record.rows.values():
            if isinstance(row.holds, Flags):
                parts = definition["types"][tables.snake(row.holds.bits.__name__)]["seq"]
                assert sum(int(part["type"].removeprefix("b")) for part in parts) == 8 * (row.fixed_size or 0)


@pytest.mark.interop
@pytest.mark.parametrize("language", ["javascript", "cpp_stl", "rust"])
def test_it_compiles_for_other_languages(tmp_path: Path, language: str) -> None:
    """Kaitai's compiler finds no mistake in types and expressions."""
    (tmp_path / "src").mkdir()

    assert list(compiled(tmp_path, language).iterdir())


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The class that Kaitai's compiler makes for Python."""
    pytest.importorskip("kaitaistruct")
    folder = compiled(tmp_path_factory.mktemp("kaitai"), "python")
    spec = importlib.util.spec_from_file_location("vfio_user_of_kaitai", folder / "vfio_user.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.VfioUser


def fields(read: Any) -> dict[str, Any]:
    """What Kaitai read of one type, in the order of reading."""
    return {name: each for name, each in vars(read).items() if not name.startswith("_")}


def number(value: Any) -> int:
    """An integer, a code, or flags put together again from their bits."""
    if not hasattr(value, "_io"):
        return int(value.value if isinstance(value, IntEnum) else value)
    flags = next(
        each for each in tables.declared(Bits) if tables.snake(each.__name__) == tables.snake(type(value).__name__)
    )
    made = fields(value)
    known = sum(number(made[bit.name.lower()]) << bit.low for bit in tables.bits(flags))
    return known + sum(
        each << int(name.partition("_")[2]) for name, each in made.items() if name.startswith("undefined_")
    )


def records(read: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """Each record of a message with its numbers, in the order in which the samples list them."""
    name = tables.snake(type(read).__name__)
    if hasattr(read, "record"):  # an entry of one size, whose type tells the record
        yield from records(read.record)
        return
    record = next(each for each in tables.declared(Record) if tables.snake(each.__name__) == name)
    made = fields(read)
    yield record.__name__, {field: number(made[field]) for field in integers(record())}
    content = made.get(record.tail or "")
    for each in content if isinstance(content, list) else [content]:
        if hasattr(each, "_io"):
            yield from records(each)
    link = getattr(read, "first_capability", None)
    while link:
        yield from records(link.header)
        if hasattr(link, "body"):
            yield from records(link.body)
        link = link.next


def parts(read: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """Header and payload of a message."""
    yield from records(read.header)
    payload = getattr(read, "request", None) or getattr(read, "reply", None)
    if hasattr(payload, "_io"):
        yield from records(payload)


@pytest.mark.interop
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_every_message_is_read_as_the_codec_reads_it(reader: Any, sample: Sample) -> None:
    """Records in their order with all their numbers, through arrays, lists and choices."""
    (message,) = reader.from_bytes(sample.data).messages

    assert list(parts(message)) == [(type(part).__name__, integers(part)) for part in sample.parts]


@pytest.mark.interop
def test_a_real_session_is_read_as_one_stream(reader: Any, shared: Path) -> None:
    """All messages of QEMU's session with libvfio-user, one after the other."""
    every = captured(shared)

    read = reader.from_bytes(b"".join(each.data for each in every)).messages

    assert len(read) == len(every)
    for message, sample in zip(read, every, strict=True):
        expected = [(type(part).__name__, integers(part)) for part in sample.parts]
        assert list(parts(message))[: len(expected)] == expected


@pytest.mark.interop
def test_undefined_bits_and_unknown_numbers_are_kept(reader: Any) -> None:
    """What the tables do not know does not stop the reading."""
    data = samples()[0].data
    strange = data[:2] + b"\x63\0" + data[4:8] + b"\0\0\0\x80" + data[12:]

    (message,) = reader.from_bytes(strange).messages

    assert message.header.command == 0x63
    assert number(message.header.flags) == 1 << 31
    assert message.request == data[16:]
