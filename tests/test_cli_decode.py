"""``vfio-user decode`` and ``encode``: every form of input, both ways, and what they say about bad input."""

import io
import json
import sys
from pathlib import Path

import pytest

from vfio_user_proto import cli, messages, trace
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command

RESET = craft(Command.DEVICE_RESET, message_id=1)
MAP = craft(Command.DMA_MAP, messages.DmaMapRequest(flags=3, size=4096), message_id=2)
BROKEN = craft(Command.DMA_MAP, b"abc")
Capfd = pytest.CaptureFixture[str]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What the command reads from standard input; to be filled by the test."""
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    return content


def fill(stdin: io.BytesIO, data: bytes) -> None:
    stdin.write(data)
    stdin.seek(0)


HEX = [
    [RESET.hex()],
    [RESET.hex(" ")],
    [RESET.hex(":").upper()],
    [f"0x{RESET.hex()}"],
    [", ".join(f"0x{byte:02X}" for byte in RESET)],
    ["\n".join([RESET[:8].hex(), RESET[8:].hex(), ""])],
    [RESET[:4].hex(), "0x" + RESET[4:].hex(" ", 2)],
    RESET.hex(" ").split(),
]


@pytest.mark.parametrize("arguments", HEX, ids=range(len(HEX)))
def test_hexadecimal_digits_in_any_dress(arguments: list[str], capsys: Capfd) -> None:
    assert cli.main(["decode", *arguments]) == 0
    assert capsys.readouterr().out == f"argument\n{trace.describe(RESET)}\n"


@pytest.mark.parametrize(
    "data", [RESET + MAP, (RESET + MAP).hex().encode(), b"\n" + RESET.hex(" ").encode() + b"\n" + MAP.hex().encode()]
)
def test_several_messages_in_a_file_of_bytes_or_digits(data: bytes, tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "messages"
    path.write_bytes(data)

    assert cli.main(["decode", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"{path}, byte 0\n{trace.describe(RESET)}\n\n{path}, byte 16\n{trace.describe(MAP)}\n"
    )


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_standard_input(arguments: list[str], stdin: io.BytesIO, capsys: Capfd) -> None:
    fill(stdin, MAP)

    assert cli.main(["decode", *arguments]) == 0
    assert capsys.readouterr().out == f"standard input\n{trace.describe(MAP)}\n"


def test_captured_traffic_and_evidence(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "evidence.jsonl"
    fd = {"kind": "memfd", "size": 4096}
    trace.write_capture(
        path,
        trace.Capture(
            {"vfio-user-evidence": 1, "case": "a/b", "stderr": "first\n\033[31msecond"},
            (trace.Captured("client", MAP, (fd,), 0.5), trace.Captured("server", RESET, 2)),
        ),
    )

    assert cli.main(["decode", str(path)]) == 0
    assert capsys.readouterr().out == (
        f"{path}:1: evidence\n  vfio-user-evidence  1\n  case                a/b\n"
        "  stderr              first\n                      \\x1b[31msecond\n\n"
        f"{path}:2: from client, 1 descriptor, {json.dumps(fd)}, after 0.5 s\n{trace.describe(MAP)}\n\n"
        f"{path}:3: from server, 2 descriptors\n{trace.describe(RESET)}\n"
    )


def test_json_for_programs(tmp_path: Path, capsys: Capfd) -> None:
    """One object per line and message; what a capture knows besides stands first."""
    path = tmp_path / "capture.jsonl"
    trace.write_capture(path, trace.Capture({"vfio-user-evidence": 1}, (trace.Captured("client", RESET, 1, 0.5),)))

    assert cli.main(["decode", "--json", str(path), MAP.hex()]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "from": "client",
            "fds": 1,
            "t": 0.5,
            "message_id": 1,
            "command": "VFIO_USER_DEVICE_RESET",
            "message_size": 16,
            "flags": "COMMAND",
            "error": 0,
        },
        {
            "message_id": 2,
            "command": "VFIO_USER_DMA_MAP",
            "message_size": 48,
            "flags": "COMMAND",
            "error": 0,
            "payload": {"argsz": 32, "flags": "READABLE|WRITEABLE", "offset": 0, "address": 0, "size": 4096},
        },
    ]


def test_decode_then_encode_gives_the_same_bytes(shared: Path, stdin: io.BytesIO, capsys: Capfd) -> None:
    """A whole capture of real traffic through both commands."""
    (file,) = (shared / "captures").glob("qemu*.jsonl")
    assert cli.main(["decode", "--json", str(file)]) == 0
    fill(stdin, capsys.readouterr().out.encode())

    assert cli.main(["encode"]) == 0
    assert capsys.readouterr().out.split() == [message.data.hex() for message in trace.read_capture(file).messages]


def test_encode_writes_bytes(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "messages.json"
    path.write_text('[{"command": "DEVICE_RESET", "message_id": 1}]')

    assert cli.main(["encode", "--binary", str(path)]) == 0
    assert capfdbinary.readouterr().out == RESET


@pytest.mark.parametrize(
    "text",
    [
        '{"command": "DEVICE_RESET", "message_id": 1} {"command": 13, "message_id": 1}',
        '[{"command": "DEVICE_RESET", "message_id": 1}, {"command": 13, "message_id": "1"}]',
        '{\n  "command": "VFIO_USER_DEVICE_RESET",\n  "message_id": 1\n}\n\n{"command": 13, "message_id": 1}\n',
    ],
)
def test_encode_takes_objects_in_a_row_or_an_array(text: str, stdin: io.BytesIO, capsys: Capfd) -> None:
    fill(stdin, text.encode())

    assert cli.main(["encode", "--hex"]) == cli.main(["encode", text]) == 0
    assert capsys.readouterr().out.split() == [RESET.hex()] * 4


WRONG_DECODE = {
    "a letter": (["0100zz"], "argument: character 5: 'z' is not a hexadecimal digit"),
    "a letter on another line": (["0100\n0d00 1x"], "argument: line 2, character 7: 'x' is not a hexadecimal digit"),
    "a letter beyond ASCII": (["01é"], "argument: character 3: '\\xe9' is not a hexadecimal digit"),
    "a prefix within digits": (["010x00"], "argument: character 4: 'x' is not a hexadecimal digit"),
    "an odd digit": (["010"], "argument: an odd number of hexadecimal digits (3)"),
    "no such file": (["missing.bin"], "missing.bin: no such file, and not hexadecimal digits"),
    "nothing": ([""], "nothing to decode: the input is empty"),
    "too short": (["0100"], "argument, byte 0: Header.command at byte 2: 2 bytes are due, 0 are there"),
    "a folder": (["/"], "/: Is a directory"),
    "a size of 4 GiB": (
        [craft(13, message_size=0xFFFFFFFF).hex()],
        "argument, byte 0: Header.message_size at byte 4: says 4294967295 bytes, the message has 16",
    ),
    "a size of 0": (
        [craft(13, message_size=0).hex()],
        "argument, byte 0: Header.message_size at byte 4: says 0 bytes, the message has 16",
    ),
    "a cut field": (
        [BROKEN.hex()],
        "argument: VFIO_USER_DMA_MAP command.DmaMapRequest.argsz at byte 16: 4 bytes are due, 3 are there",
    ),
}


@pytest.mark.parametrize(("arguments", "problem"), WRONG_DECODE.values(), ids=WRONG_DECODE)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_wrong_input_gives_one_sentence_and_status_2(
    arguments: list[str], problem: str, form: list[str], capsys: Capfd
) -> None:
    assert cli.main(["decode", *form, *arguments]) == 2
    output = capsys.readouterr()
    assert output.err == f"vfio-user: {problem}\n"
    assert not (form and output.out)


def test_a_file_for_wireshark_is_told_from_messages(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "x.pcapng"
    assert cli.main(["decode", craft(13).hex(), "--pcapng", str(path)]) == 0

    assert cli.main(["decode", str(path)]) == 2
    assert "a pcapng file is for Wireshark" in capsys.readouterr().err


@pytest.mark.parametrize(("variables", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_colours_unless_it_wants_none(
    variables: dict[str, str], colored: bool, monkeypatch: pytest.MonkeyPatch, capsys: Capfd
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert cli.main(["decode", RESET.hex()]) == 0
    assert capsys.readouterr().out == f"argument\n{trace.describe(RESET, color=colored)}\n"


def test_a_captured_message_without_bytes_is_shown_as_none(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "capture.jsonl"
    path.write_text('{"from": "client", "hex": ""}')

    assert cli.main(["decode", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == f"{path}:1: from client\n{trace.describe(b'')}\n"
    assert output.err == f"vfio-user: {path}:1: Header.message_id at byte 0: 2 bytes are due, 0 are there\n"


def test_a_broken_message_is_shown_as_far_as_it_goes(capsys: Capfd) -> None:
    assert cli.main(["decode", BROKEN.hex()]) == 2
    assert capsys.readouterr().out == f"argument\n{trace.describe(BROKEN)}\n"


def test_good_messages_around_a_bad_one_are_printed(tmp_path: Path, capsys: Capfd) -> None:
    """In a capture every line stands for itself."""
    path = tmp_path / "capture.jsonl"
    lines = [
        json.dumps({"from": "client", "hex": RESET.hex()}),
        '{"from": "client", "hex": "0"}',
        json.dumps({"from": "client", "hex": BROKEN.hex()}),
        json.dumps({"from": "server", "hex": MAP.hex()}),
    ]
    path.write_text("\n".join(lines))

    assert cli.main(["decode", "--json", str(path)]) == 2
    output = capsys.readouterr()
    assert [json.loads(line)["message_id"] for line in output.out.splitlines()] == [1, 2]
    assert output.err.splitlines() == [
        f'vfio-user: {path}:2: "hex" does not hold pairs of hexadecimal digits',
        f"vfio-user: {path}:3: VFIO_USER_DMA_MAP command.DmaMapRequest.argsz at byte 16: 4 bytes are due, 3 are there",
    ]


def test_a_stream_that_breaks_keeps_what_came_before(capsys: Capfd) -> None:
    assert cli.main(["decode", "--json", (RESET + MAP[:20]).hex()]) == 2
    output = capsys.readouterr()
    assert json.loads(output.out)["command"] == "VFIO_USER_DEVICE_RESET"
    assert output.err == (
        "vfio-user: argument, byte 16: Header.message_size at byte 4: says 48 bytes, the message has 20\n"
    )


@pytest.mark.parametrize("data", [b"", b" \n"])
def test_nothing_on_standard_input(data: bytes, stdin: io.BytesIO, capsys: Capfd) -> None:
    fill(stdin, data)
    assert cli.main(["decode"]) == 2
    fill(stdin, data)
    assert cli.main(["encode"]) == 2
    assert capsys.readouterr().err == (
        "vfio-user: nothing to decode: the input is empty\nvfio-user: nothing to encode: the input is empty\n"
    )


WRONG_ENCODE = {
    "no JSON": ("{", "argument:1:2: not JSON: Expecting property name enclosed in double quotes"),
    "no JSON on another line": ('{"command": 13}\n{"x" 1}', "argument:2:6: not JSON: Expecting ':' delimiter"),
    "deep": ("[" * 100_000, "argument:1: JSON nested too deep, or a number of too many digits"),
    "many digits": (
        '{"command": ' + "1" * 5000 + "}",
        "argument:1: JSON nested too deep, or a number of too many digits",
    ),
    "no object": ("[1]", "argument:1: element 0: not a JSON object"),
    "a misspelt name": ('\n{"comand": 13}', "argument:2: comand: no such field; did you mean command?"),
    "no such file": ("missing.json", "missing.json: No such file or directory"),
    "an empty list": ("[]", "nothing to encode: the input is empty"),
}


@pytest.mark.parametrize(("text", "problem"), WRONG_ENCODE.values(), ids=WRONG_ENCODE)
def test_what_cannot_be_encoded_gives_one_sentence_and_status_2(text: str, problem: str, capsys: Capfd) -> None:
    assert cli.main(["encode", text]) == 2
    assert capsys.readouterr().err == f"vfio-user: {problem}\n"


def test_objects_around_a_bad_one_are_encoded(capsys: Capfd) -> None:
    good = '{"command": "DEVICE_RESET", "message_id": 1}'

    assert cli.main(["encode", f'[{good}, {{"command": "X"}}, 5, {good}]']) == 2
    output = capsys.readouterr()
    assert output.out.split() == [RESET.hex()] * 2
    assert output.err.splitlines() == [
        "vfio-user: argument:1: element 1: command: 'X' is no name of Command",
        "vfio-user: argument:1: element 2: not a JSON object",
    ]


def test_bytes_that_are_no_text_cannot_be_encoded(stdin: io.BytesIO, capsys: Capfd) -> None:
    fill(stdin, b'{"command": \xff}')

    assert cli.main(["encode"]) == 2
    assert capsys.readouterr().err == "vfio-user: standard input: not UTF-8 text at byte 12\n"
