"""Files in and out: texts read within limits, generated files written whole or not at all."""

import re
import tomllib
from itertools import zip_longest
from pathlib import Path
from typing import Any

from vfio_user_proto.errors import SpecError, UsageError

LONGEST_FILE = 1 << 20
LONGEST_BLOCK = 16 << 10  # lines without a blank one between; docutils needs the square of that in time
# What str.splitlines takes for the end of a line, and an editor does not, is here too: line numbers must agree.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029]")


def load(path: str) -> str:
    """The text of a document; SpecError where it cannot be one."""
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(LONGEST_FILE + 1)
    except OSError as error:
        raise SpecError(path, 0, f"cannot be read: {error.strerror}") from error
    if len(data) > LONGEST_FILE:
        raise SpecError(path, 0, f"is larger than {LONGEST_FILE} bytes; no document of tables is")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SpecError(path, data.count(b"\n", 0, error.start) + 1, "is no text: this line is not UTF-8") from error
    if control := CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        raise SpecError(path, line, f"is no text: this line holds the control character {ord(control[0]):#04x}")
    for block in re.finditer(r"(?:[^\n]*\S[^\n]*(?:\n|\Z))+", text):
        if len(block[0]) > LONGEST_BLOCK:
            line = text.count("\n", 0, block.start()) + 1
            raise SpecError(path, line, f"here begin more than {LONGEST_BLOCK} characters without an empty line")
    if not text.strip():
        raise SpecError(path, 0, "is empty")
    return text


def toml(text: str, path: str) -> dict[str, Any]:
    """What a TOML file says; SpecError with the line where it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise SpecError(path, int(line[1]) if line else 0, f"is not TOML: {error}") from error
    except RecursionError as error:
        raise SpecError(path, 0, "is nested too deeply to be read") from error


def write(path: Path, text: str) -> bool:
    """Put ``text`` into the file, whole or not at all; whether that changed anything. UsageError where it cannot be."""
    if current(path) == text:
        return False
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    return True


def current(path: Path) -> str | None:
    """What the file holds; None where there is none, or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def first_difference(path: Path, text: str) -> tuple[int, str, str] | None:
    """The first line in which the file is not ``text``: its number, what is there, what should be. None if none is."""
    there = current(path)
    if there == text:
        return None
    pairs = zip_longest((there or "").splitlines(), text.splitlines(), fillvalue="(nothing)")
    return next(
        ((number, is_, ought) for number, (is_, ought) in enumerate(pairs, 1) if is_ != ought),
        (text.count("\n") + 1, "(another end of the file)", ""),
    )
