"""One file per finding, which holds all that is needed to look at it, and to do it again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vfio_user_conformance.about import SPEC, SUITE
from vfio_user_conformance.verdict import Result
from vfio_user_proto.errors import UsageError
from vfio_user_proto.trace import Capture, Captured, write_capture


def write(result: Result, target: str, folder: Path) -> Path:
    """Write the file of one result; returns its path. Raises UsageError.

    Beside what every evidence file says, the head has ``connects``, the numbers of the messages before which a connection
    was made, and ``cuts``, for each message that was written in pieces the bytes that it was cut at.
    """
    head = {
        "vfio-user-evidence": 1,
        "case": result.ident,
        "requirement": result.broken or result.requirement,
        "outcome": result.outcome,
        "reason": result.reason,
        "target": target,
        "suite": SUITE,
        "spec": SPEC,
        "seed": None,
        "stderr": result.stderr,
        "connects": [number for number, each in enumerate(result.messages) if each.get("connect")],
        "cuts": {str(number): each["cuts"] for number, each in enumerate(result.messages) if "cuts" in each},
    }
    path = folder / f"{result.ident.replace('/', '.')}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    write_capture(path, Capture(head, tuple(captured(each) for each in result.messages)))
    return path


def captured(entry: Mapping[str, Any]) -> Captured:
    """One message of a result."""
    return Captured(entry["from"], bytes.fromhex(entry["hex"]), tuple(entry["fds"]), entry["t"])
