"""Devices from a file of the user's: the one of the tutorial, and files that cannot be used."""

import re
from pathlib import Path

import pytest
from serving import Serving
from test_cli_serve import run

from vfio_user_proto.client import Client
from vfio_user_proto.devices import from_file
from vfio_user_proto.errors import ErrorReply, UsageError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorials" / "device.md"


@pytest.fixture
def summer(tmp_path: Path) -> Path:
    """The file of the tutorial."""
    found = re.search(r"^```python\n(# summer\.py\n.*?)^```\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    path = tmp_path / "summer.py"
    path.write_text(found[1])
    return path


def test_the_device_of_the_tutorial_has_thirty_lines(summer: Path) -> None:
    lines = [line for line in summer.read_text().splitlines() if line and not line.startswith(("#", "from "))]
    assert len(lines) <= 30


def test_the_device_of_the_tutorial_refuses_memory_that_is_not_there_and_resets(no_leak: None, summer: Path) -> None:
    with Serving(from_file(f"{summer}:Summer")) as serving, Client.connect(serving.path) as client:
        client.region_write(0, 8, b"\xff\xff\xff\xff")
        with pytest.raises(ErrorReply, match="EFAULT"):
            client.region_write(0, 12, b"\1")
        client.reset()
        assert client.region_read(0, 8, 4) == bytes(4)
        client.region_write(7, 0x10, b"\xff\xff\xff\xff")
        assert client.region_read(7, 0x10, 4) == b"\x00\xf0\xff\xff"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nowhere.py:Thing", "nowhere.py: No such file or directory"),
        ("bad.py:Thing", "bad.py cannot be run: ZeroDivisionError: division by zero"),
        ("leaves.py:Thing", "leaves.py cannot be run: SystemExit: 3"),
        ("syntax.py:Thing", r"syntax.py cannot be run: SyntaxError: .*"),
        ("other.py:Thing", "other.py has no class Thing that inherits from Device"),
        ("other.py:number", "other.py has no class number that inherits from Device"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, name: str, problem: str) -> None:
    for path, text in {
        "bad.py": "1 / 0",
        "leaves.py": "raise SystemExit(3)",
        "syntax.py": "class",
        "other.py": "number = 1",
    }.items():
        (tmp_path / path).write_text(text)

    with pytest.raises(UsageError, match=f"{problem}$"):
        from_file(f"{tmp_path}/{name}")


def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    end = run("serve", "--socket-path", "x", "--device", "nowhere.py:Thing", cwd=tmp_path)
    assert (end.returncode, end.stderr) == (2, "vfio-user: nowhere.py: No such file or directory\n")
