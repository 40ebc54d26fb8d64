# Runs tshark with the exported dissector, for the tests of it.
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from vfio_user_proto import wire
from vfio_user_proto.export import wireshark
from vfio_user_proto.export.pcapng import Packet, write
from vfio_user_proto.messages import Header, HeaderFlags
from vfio_user_proto.model import Record

Layers = dict[str, list[str]]
Shark = Callable[..., list[Layers]]
MISTAKES = (
    "message_size message_cut short trailing not_captured not_shown error_reply unknown_command unknown_value "
    "undefined_bits wrong_direction no_command other_command bad_chain bad_json"
)
NOTES = [f"vfio_user.note.{name}" for name in MISTAKES.split(" ")]
# What must never be seen: a mistake in the dissector, a read past the end, a message that never became whole.
BROKEN = ["_ws.lua.error", "_ws.malformed.expert", "_ws.unreassembled"]
REPLY = int(HeaderFlags.TYPE) & 1
ERROR = REPLY | HeaderFlags.ERROR


def start(folder: Path) -> Shark:
    """A function that dissects packets, or a whole file, in two passes: per packet the values of each field asked for.

    The names of the fields come back in small letters, since those of columns are written differently by versions.
    The test is skipped where tshark is not there or runs no scripts.
    """
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    if sys.byteorder != "little":
        pytest.skip("the dissector takes messages for little-endian unless it is told otherwise")
    script, capture = folder / "vfio_user.lua", folder / "capture"
    environment = {**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "LC_ALL": "C"}

    def tshark(*options: str) -> str:
        command = ["tshark", "-2", "-n", "-X", f"lua_script:{script}", "-r", str(capture), *options]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "Lua" not in done.stderr, done.stderr
        return done.stdout

    script.write_text("print('Lua runs')")
    capture.write_bytes(write([]))
    if "Lua runs" not in tshark():
        pytest.skip("this tshark runs no Lua scripts (as root, from version 4.4 on)")
    script.write_text(wireshark.text())

    def run(packets: Iterable[Packet] | bytes, fields: Sequence[str], *options: str) -> list[Layers]:
        capture.write_bytes(packets if isinstance(packets, bytes) else write(packets))
        asked = [word for field in (*fields, *BROKEN) for word in ("-e", field)]
        found = json.loads(tshark(*options, "-T", "json", *asked))
        rows = [{key.lower(): each for key, each in row["_source"].get("layers", {}).items()} for row in found]
        assert not [row for row in rows if set(BROKEN) & set(row)]
        return rows

    return run


def notes(row: Layers) -> set[str]:
    return {field.rpartition(".")[2] for field in row if field.startswith("vfio_user.note.")}


def message(
    command: int, payload: Record | None = None, *, flags: int = 0, message_id: int = 1, **header: int
) -> bytes:
    data = wire.build(command, payload, message_id=message_id, flags=flags)
    return wire.encode_record(wire.decode_header(data).replace(**header)) + data[Header.fixed_size :]


def segments(stream: bytes, cuts: Sequence[int]) -> bytes:
    """A capture file of a TCP connection to port 5555 over which the client sends ``stream``, cut at these bytes."""
    file = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        tcp = struct.pack(">HHIIBBHHH", 40000, 5555, 1 + start, 1, 0x50, 0x18, 65535, 0, 0) + stream[start:stop]
        host = bytes([127, 0, 0, 1])
        packet = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + host + host + tcp
        file += struct.pack("=IIII", start, 0, len(packet), len(packet)) + packet
    return file
