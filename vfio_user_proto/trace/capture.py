"""Files of captured traffic, one JSON object per line; an evidence file has a line of its own before them."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vfio_user_proto.errors import UsageError

# The name that marks the first line of an evidence file, and its value, the version of the format.
EVIDENCE: Final = "vfio-user-evidence"
FORMAT: Final = 1
# Seconds that no clock has reached; the microseconds of earlier times fit into 8 bytes.
LATEST: Final = 1e12


@dataclass(frozen=True, slots=True)
class Captured:
    """One message: who sent it ("client" or "server"), its bytes, its descriptors, and when, in seconds.

    ``fds`` is how many there were or, where it is known, what each was: {"kind": "memfd", "size": 4096, "seals": 0}.
    ``line`` is where it stands in its file, 0 for none.
    """

    sender: str
    data: bytes
    fds: int | tuple[Mapping[str, Any], ...] = 0
    t: float | None = None
    line: int = field(default=0, compare=False)

    @property
    def fd_count(self) -> int:
        return self.fds if isinstance(self.fds, int) else len(self.fds)


@dataclass(frozen=True, slots=True)
class Capture:
    """Messages in their order; ``head`` is the first line of an evidence file, empty for plain traffic."""

    head: Mapping[str, Any]
    messages: tuple[Captured, ...]


def read_capture(path: str | os.PathLike[str]) -> Capture:
    """Read a file. Raises UsageError with file and line."""
    name = os.fspath(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    head: Mapping[str, Any] = {}
    messages = []
    for number, line in numbered(text):
        found = parse_line(line, name, number)
        if isinstance(found, Captured):
            messages.append(found)
        elif head or messages:
            raise UsageError(f"{name}:{number}: a second head")
        else:
            head = found
    return Capture(head, tuple(messages))


def write_capture(path: str | os.PathLike[str], capture: Capture) -> None:
    """Write a file, whole or not at all. Raises UsageError."""
    name = os.fspath(path)
    head = [json.dumps(capture.head) + "\n"] if capture.head else []
    text = "".join([*head, *map(line_of, capture.messages)])
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(name) or ".", prefix=".", suffix=".part")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines of ``text`` that hold something, with their numbers from 1 on."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def parse_line(line: str, name: str, number: int) -> Captured | Mapping[str, Any]:
    """One message, or the head of an evidence file as it is. Raises UsageError with ``name`` and line ``number``."""
    where = f"{name}:{number}"
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not JSON: {error.msg} at character {error.pos + 1}") from None
    except (RecursionError, ValueError):
        raise UsageError(f"{where}: JSON that is nested too deep or has a number of too many digits") from None
    if not isinstance(content, dict):
        raise UsageError(f"{where}: not a JSON object")
    if EVIDENCE in content:
        return content
    sender, text, fds, t = (content.get(key) for key in ("from", "hex", "fds", "t"))
    if sender not in ("client", "server"):
        raise UsageError(f'{where}: "from" is neither "client" nor "server"')
    if not isinstance(text, str):
        raise UsageError(f'{where}: "hex" is not a text')
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise UsageError(f'{where}: "hex" does not hold pairs of hexadecimal digits') from None
    if isinstance(fds, list) and all(isinstance(fd, dict) for fd in fds):
        fds = tuple(fds)
    elif fds is None:
        fds = 0
    elif type(fds) is not int or fds < 0:
        raise UsageError(f'{where}: "fds" is neither a number nor a list of objects')
    if t is not None and not (type(t) in (int, float) and 0 <= t < LATEST):
        raise UsageError(f'{where}: "t" is not a number of seconds')
    return Captured(sender, data, fds, t, number)


def line_of(message: Captured) -> str:
    """The line that ``parse_line`` reads, with its end."""
    content: dict[str, Any] = {"from": message.sender, "fds": message.fds, "hex": message.data.hex()}
    return json.dumps(content if message.t is None else {**content, "t": message.t}) + "\n"
