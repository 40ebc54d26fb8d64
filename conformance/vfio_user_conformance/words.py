"""How reports write numbers, fields, errors and commands."""

import errno
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from vfio_user_proto.messages import Command

# Of more steps than this the first few and the last one are told.
_MANY, _SHOWN = 24, 4


def errno_name(number: int) -> str:
    """ "EEXIST", "no errno" for 0, the number where it has no name."""
    return errno.errorcode.get(number, f"errno {number}") if number else "no errno"


def command_name(command: int) -> str:
    """The document's name of a command, or its number."""
    return Command(command).document_name if command in set(Command) else f"command {command}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def one_line(text: str) -> str:
    """Text for a file of lines: on one of them, without control characters and what UTF-8 cannot hold."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode()
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def said(fields: dict[str, Any]) -> str:
    """Fields for people."""
    return ", ".join(f"{name} {shown(value)}" for name, value in fields.items())


def shown(value: object) -> str:
    """One value: small numbers decimal, large ones hexadecimal, long data cut."""
    if type(value) is int:
        return hex(value) if value >= 4096 else str(value)
    if isinstance(value, bytes):
        return f"{plural(len(value), 'byte')}{' ' + value[:16].hex(' ', 4) if value else ''}{'…' if len(value) > 16 else ''}"
    if isinstance(value, tuple):
        return f"[{'; '.join(said(each.as_dict()) if hasattr(each, 'as_dict') else shown(each) for each in value)}]"
    return str(value)


def listed(steps: Iterable[object], between: str = "; ") -> str:
    """Steps in words; those that follow each other and are alike are counted, and of many the middle is left out."""
    groups = [(words, len(list(group))) for words, group in groupby(map(str, steps))]
    counted = [words if count == 1 else f"{count} times {words}" for words, count in groups]
    if len(counted) > _MANY:
        left_out = sum(count for _, count in groups[_SHOWN:-1])
        counted = [*counted[:_SHOWN], f"… {left_out} more …", counted[-1]]
    return between.join(counted)
