"""Every check, by name, and how to choose among them."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from vfio_user_conformance.witness import access, commands, session, stream
from vfio_user_conformance.witness.check import Check
from vfio_user_proto.errors import UsageError

CHECKS: Mapping[str, Check] = {check.ident: check for check in (*stream.CHECKS, *commands.CHECKS, *access.CHECKS)}


# All that a report can tell of.
EVERY = (*CHECKS, session.SURVIVES)


def select(patterns: Sequence[str]) -> list[str]:
    """Of ``EVERY`` those whose name, section of the name or requirement matches a pattern; all where there is none.

    Raises UsageError for a pattern that matches nothing.
    """
    chosen = set() if patterns else set(EVERY)
    for pattern in patterns:
        found = {ident for ident in EVERY if _matches(ident, pattern)}
        if not found:
            near = difflib.get_close_matches(pattern, EVERY, 1, 0.4)
            raise UsageError(f"no check matches {pattern!r}{f'; did you mean {near[0]}?' if near else ''}")
        chosen |= found
    return [ident for ident in EVERY if ident in chosen]


def _matches(ident: str, pattern: str) -> bool:
    names = [ident, ident.partition("/")[0], *([CHECKS[ident].requirement] if ident in CHECKS else [])]
    return any(fnmatchcase(name, pattern) for name in names)
