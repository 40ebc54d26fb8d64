"""Devices from a file of the user's: the one of the tutorial, and files that cannot be used."""

import errno
import re
from pathlib import Path

import pytest
from commands import vfio_user
from serving import Serving

from vfio_user_proto.client import Client
from vfio_user_proto.devices.fromfile import from_file, why_not_made
from vfio_user_proto.errors import ErrorReply, UsageError

IMPORT = "from vfio_user_proto.device import Device\n"
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
        (".:Thing", r"\.: Is a directory"),
        ("bad.py:Thing", "bad.py:2: the file cannot be run: ZeroDivisionError: division by zero"),
        ("calls.py:Thing", "calls.py:2: the file cannot be run: JSONDecodeError: Expecting value: line 1 .*"),
        ("leaves.py:Thing", "leaves.py:1: the file cannot be run: SystemExit: 3"),
        ("lacks.py:Thing", r"lacks.py:1: the file cannot be run: FileNotFoundError: .* 'nowhere'"),
        ("silent.py:Thing", "silent.py:1: the file cannot be run: KeyError"),
        ("syntax.py:Thing", "syntax.py:3: the file cannot be run: SyntaxError: invalid syntax"),
        ("nul.py:Thing", "nul.py: the file cannot be run: SyntaxError: source code string cannot contain null bytes"),
        ("other.py:Thing", "other.py has no class Thing that inherits from Device; it has One, Two"),
        ("other.py:number", "other.py has no class number that inherits from Device; it has One, Two"),
        ("other.py:Device", "other.py has no class Device that inherits from Device; it has One, Two"),
        ("empty.py:Thing", "empty.py has no class Thing that inherits from Device"),
        ("empty.py:", "empty.py:' is not of the form FILE.py:CLASS"),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_one_sentence(tmp_path: Path, name: str, problem: str) -> None:
    for path, text in {
        "bad.py": "\n1 / 0",
        "calls.py": "import json\njson.loads('')",
        "leaves.py": "raise SystemExit(3)",
        "lacks.py": "open('nowhere')",
        "silent.py": "raise KeyError",
        "syntax.py": "number = 1\n\nclass",
        "nul.py": "a\0b",
        "other.py": f"{IMPORT}number = 1\nclass One(Device): ...\nclass Two(One): ...",
        "empty.py": "",
    }.items():
        (tmp_path / path).write_text(text)

    with pytest.raises(UsageError, match=f"{problem}$"):
        from_file(f"{tmp_path}/{name}")


def test_a_device_of_ours_that_cannot_be_made_has_no_place() -> None:
    problem = OSError(errno.EMFILE, "Too many open files")

    assert why_not_made("testdev", problem) == "no device testdev can be made: OSError: [Errno 24] Too many open files"


def test_the_command_line_says_it_too(tmp_path: Path) -> None:
    end = vfio_user("serve", "--socket-path", "x", "--device", "nowhere.py:Thing", cwd=tmp_path)
    assert (end.returncode, end.stderr) == (2, "vfio-user: nowhere.py: No such file or directory\n")
