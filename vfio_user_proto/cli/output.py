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
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path}: Permission denied")


def make_folder(path: Path) -> None:
    """Make the folder that findings go to before there are any. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UsageError(f"{path}: is no directory") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def write(path: Path, content: str) -> None:
    """Write a file. Raises UsageError."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def complete() -> None:
    """Put /dev/null in the place of standard streams that are closed, so that nothing else gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  open until the program ends


def drop() -> None:
    """Give up standard output, whose buffer is written once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def show(text: str) -> None:
    """Print what a run has come to, whose exit status holds even where nobody reads it to the end."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        drop()


def color() -> bool:
    """Whether standard output is a terminal that wants colours (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
