"""Devices from a file of the user's: its class, and what is wrong with it, said with file and line."""

import ast
import runpy
import traceback
from collections.abc import Callable
from pathlib import Path

from vfio_user_proto.device import Device
from vfio_user_proto.errors import UsageError


def from_file(name: str) -> Callable[[], Device]:
    """The class that ``name`` says as ``FILE.py:CLASS``. The file is run, as a module of its own name.

    Raises UsageError, with file and line where there is one, for a file that cannot be read or run and for one without such a
    class.
    """
    path, _, attribute = name.rpartition(":")
    if not path or not attribute:
        raise UsageError(f"{name!r} is not of the form FILE.py:CLASS")
    try:
        with open(path, "rb"):
            pass
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None
    try:
        names = runpy.run_path(path, run_name=Path(path).stem)
    except (Exception, SystemExit) as problem:  # whatever the user's code raises
        raise UsageError(f"{_place(problem, path)}: the file cannot be run: {_said(problem)}") from problem
    devices = {each: kind for each, kind in names.items() if isinstance(kind, type) and Device in kind.__mro__[1:]}
    if attribute in devices:
        return devices[attribute]
    there = f"; it has {', '.join(devices)}" if devices else ""
    raise UsageError(f"{path} has no class {attribute} that inherits from Device{there}")


def why_not_made(name: str, problem: BaseException) -> str:
    """The sentence for ``problem``, which the constructor of the device ``name`` has raised.

    For ``FILE.py:CLASS`` with the place in that file: the line that was being run, or that of the class where none was.
    """
    path, _, attribute = name.rpartition(":")
    if not path:
        return f"no device {name} can be made: {_said(problem)}"
    return f"{_place(problem, path, attribute)}: no device {attribute} can be made: {_said(problem)}"


def _place(problem: BaseException, path: str, name: str = "") -> str:
    """``path`` with the line in it where ``problem`` comes from, if that can be told: what it called is not the user's."""
    lines = [frame.lineno for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == path]
    if isinstance(problem, SyntaxError) and problem.filename == path:
        lines.append(problem.lineno)
    if not lines and name:
        tree = ast.parse(Path(path).read_bytes())
        lines = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]
    return f"{path}:{lines[-1]}" if lines and lines[-1] else path


def _said(problem: BaseException) -> str:
    """Kind and text of an exception, in one line."""
    text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return " ".join(f"{type(problem).__name__}: {text}".split()).rstrip(":")
