"""Where results go: files, which are looked at before there are any and touched only when there are, and the terminal."""

import os
import sys
from pathlib import Path

from vfio_user_proto.errors import UsageError


def check(path: Path) -> None:
    """Raise UsageError where a file cannot be written at ``path``, as far as that can be seen without touching it."""
    if path.is_dir():
        raise UsageError(f"{path}: Is a directory")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: {path.parent} is no directory")


def write(path: Path, content: str) -> None:
    """Write a file. Raises UsageError."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def color() -> bool:
    """Whether standard output is a terminal that wants colours (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
