"""Files of captured traffic."""

from pathlib import Path

import pytest

from vfio_user_proto import trace
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import UsageError


def test_a_capture_file_is_read_and_written(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    capture = trace.Capture(
        {"vfio-user-evidence": 1, "case": "dma-map/overlap", "seed": 5},
        (
            trace.Captured("client", craft(13), ({"kind": "memfd", "size": 4096, "seals": 0},), 0.25),
            trace.Captured("server", b"", 2),
        ),
    )
    trace.write_capture(path, capture)
    found = trace.read_capture(path)

    assert found == capture
    assert [(message.line, message.fd_count) for message in found.messages] == [(2, 1), (3, 2)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_capture_without_head_or_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_text('\n{"from": "client", "fds": 0, "hex": "00 01"}\r\n\n')

    assert trace.read_capture(path) == trace.Capture({}, (trace.Captured("client", b"\0\1"),))


BAD_LINES = {
    '{"from": "client", "hex": "0"}': '"hex" does not hold pairs of hexadecimal digits',
    '{"from": "client"}': '"hex" is not a text',
    '{"from": "me", "hex": ""}': '"from" is neither "client" nor "server"',
    '{"from": "client", "hex": "", "fds": -1}': '"fds" is neither a number nor a list of objects',
    '{"from": "client", "hex": "", "fds": [1]}': '"fds" is neither a number nor a list of objects',
    '{"from": "client", "hex": "", "fds": true}': '"fds" is neither a number nor a list of objects',
    '{"from": "client", "hex": "", "t": "now"}': '"t" is not a number of seconds',
    '{"from": "client", "hex": "", "t": true}': '"t" is not a number of seconds',
    '{"from": "client", "hex": "", "t": -1}': '"t" is not a number of seconds',
    '{"from": "client", "hex": "", "t": NaN}': '"t" is not a number of seconds',
    '{"from": "client", "hex": "", "t": 1e12}': '"t" is not a number of seconds',
    "[]": "not a JSON object",
    "{": "not JSON: Expecting property name enclosed in double quotes at character 2",
    "[" * 100_000: "JSON that is nested too deep or has a number of too many digits",
    '{"fds": ' + "9" * 5000 + "}": "JSON that is nested too deep or has a number of too many digits",
    '{"vfio-user-evidence": 1}': "a second head",
}


@pytest.mark.parametrize(("line", "problem"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_text('{"from": "client", "hex": ""}\n\n' + line + "\n")
    with pytest.raises(UsageError) as caught:
        trace.read_capture(path)

    assert str(caught.value) == f"{path}:3: {problem}"


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    missing, binary = tmp_path / "missing", tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, problem in ((missing, "No such file or directory"), (binary, "not UTF-8 text"), (tmp_path, "Is a dir")):
        with pytest.raises(UsageError, match=problem):
            trace.read_capture(path)
    with pytest.raises(UsageError, match="No such file or directory"):
        trace.write_capture(tmp_path / "no" / "where", trace.Capture({}, ()))
    with pytest.raises(UsageError, match="Is a directory"):
        trace.write_capture(tmp_path, trace.Capture({}, ()))
    assert sorted(tmp_path.iterdir()) == [binary]
