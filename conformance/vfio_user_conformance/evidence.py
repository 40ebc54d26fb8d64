"""One file per finding, which holds all that is needed to look at it, and to do it again."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vfio_user_conformance.about import SPEC, SUITE
from vfio_user_conformance.coverage import quoted
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import FINDINGS, Report, Result
from vfio_user_proto.trace import EVIDENCE, FORMAT, Capture, Captured, write_capture


def keep(result: Result, report: Report, folder: Path) -> Result:
    """Write the file of a result of ``report`` that is a finding; returns the result with its path. Raises UsageError.

    Beside what every evidence file says, the head has ``text``, the sentence that was not kept; in words what was
    ``given``, ``sent``, ``expected`` and ``came``; ``side``, who was judged, "server" or "client"; ``connects``, the
    numbers of the messages before which a connection was made; ``twin``, of those that went over the second socket;
    ``cuts``, for each message that was written in pieces the bytes that it was cut at; and ``then``, in words, what was
    done after a message through descriptors that came with it. Where a sequence of moves was found it has that as
    ``script``.
    """
    if result.outcome not in FINDINGS:
        return result
    head = {
        EVIDENCE: FORMAT,
        "case": result.ident,
        "requirement": result.broken or result.requirement,
        "text": quoted(REQUIREMENTS[result.broken or result.requirement]),
        "outcome": result.outcome,
        "reason": result.reason,
        "given": result.given,
        "sent": result.stimulus,
        "expected": result.expected,
        "came": result.came,
        "side": report.side,
        "target": report.target,
        "suite": SUITE,
        "spec": SPEC,
        "seed": report.seed,
        "stderr": result.stderr,
        "connects": [number for number, each in enumerate(result.messages) if each.get("connect")],
        "twin": [number for number, each in enumerate(result.messages) if "line" in each],
        "cuts": {str(number): each["cuts"] for number, each in enumerate(result.messages) if "cuts" in each},
        "then": {str(number): each["then"] for number, each in enumerate(result.messages) if "then" in each},
        **({"script": list(result.script)} if result.script else {}),
    }
    path = folder / f"{result.ident.replace('/', '.')}.jsonl"
    write_capture(path, Capture(head, tuple(captured(each) for each in result.messages)))
    return replace(result, evidence=str(path))


def captured(entry: Mapping[str, Any]) -> Captured:
    """One message of a result."""
    return Captured(entry["from"], bytes.fromhex(entry["hex"]), tuple(entry["fds"]), entry["t"])
