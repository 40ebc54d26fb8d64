"""A measurement in words and figures: a table for people, JSON for programs."""

import statistics
import textwrap
from collections.abc import Sequence
from typing import Any, Final

from vfio_user_proto.harness.doorbell import FACTOR, FACTOR_OF_2022, REFERENCES, Measurement, Result
from vfio_user_proto.kvm import Via

_HEADS: Final = (
    ("", "path"),
    ("", "served by"),
    ("vCPU, µs", "best"),
    ("per write", "median"),
    ("writes", "per second"),
    ("times", "cheaper"),
    ("seen, µs", "best"),
    ("after", "median"),
    ("value", "arrives"),
    ("exits", "per write"),
    ("", "seen/written"),
)


def table(measurement: Measurement) -> str:
    """The table, and what is to be said about it."""
    rows = [_row(measurement, result) for result in measurement.results]
    lines = [[head[at] for head in _HEADS] for at in (0, 1)] + rows
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    text = [_line(line, widths) for line in lines]
    text.insert(2, "-" * len(text[1]))
    said = [textwrap.fill(sentence, 120) for sentence in sentences(measurement)]
    return "\n".join([*text, "", *said]) + "\n"


def sentences(measurement: Measurement) -> list[str]:
    """Where it ran and what that means, what the kernel has, how it compares."""
    said = [meaning(measurement)]
    absent = [name for name, there in measurement.kernel.items() if not there]
    if absent:
        outside = "; ".join(result.name for result in measurement.results if result.via is Via.BUS)
        said.append(f"This kernel has no {' and no '.join(absent)}, so these are exits to this program: {outside}.")
    said.append(verdict(measurement))
    missing = [result.name for result in measurement.results if result.seen != result.writes]
    if missing:
        said.append(f"Writes were lost: {'; '.join(missing)}.")
    figures = "; ".join(f"{label} {rate:,}" for label, rate in REFERENCES.items())
    said.append(
        f"Others measured, in writes per second: {figures}. In 2022 a shadow ioeventfd in the kernel was {FACTOR_OF_2022:g} "
        "times cheaper than messages."
    )
    return said


def meaning(measurement: Measurement) -> str:
    """Where it ran and what that means."""
    if measurement.on_kvm:
        return (
            "Ran on KVM: a guest in real mode did the writes. What is served by the kernel never leaves it; the rest are exits "
            "to this program, whose own time is part of the cost. A round of the guest's loop without a write takes "
            f"{measurement.idle:.2f} µs, which is in every figure."
        )
    return (
        f"Ran on the user-space bus, without a guest ({measurement.reason}): a loop of this program did the writes. The cost "
        "is that of its calls, with no exit of a processor in it, so the paths compare with each other but not with KVM."
    )


def verdict(measurement: Measurement) -> str:
    """Whether an ioeventfd is as much cheaper as it must be; on the user-space bus only how much it is."""
    factor = measurement.ioeventfd_factor
    if not measurement.on_kvm:
        return f"A message with reply costs {factor:.1f} times as much as an ioeventfd here; on KVM {FACTOR:g} is the least."
    if factor >= FACTOR:
        return f"A message with reply costs the vCPU {factor:.1f} times as much as an ioeventfd: {FACTOR:g} is the least, good."
    return (
        f"A message with reply costs the vCPU only {factor:.1f} times as much as an ioeventfd: {FACTOR:g} is the least."
    )


def as_json(measurement: Measurement) -> dict[str, Any]:
    """The measurement as JSON: times in microseconds."""
    return {
        "vfio-user-bench": 1,
        "what": "doorbell",
        "bus": "kvm" if measurement.on_kvm else "user-space",
        "meaning": meaning(measurement),
        "kernel": dict(measurement.kernel),
        "idle_us": round(measurement.idle, 3),
        "paths": [
            {
                "path": result.name,
                "served_by": result.via,
                "reason": result.reason,
                "vcpu_us": _figures(result.cost),
                "seen_after_us": _figures(result.delay),
                "times_cheaper_than_message": round(measurement.times_cheaper(result), 3),
                "value_arrives": result.value_arrives,
                "written": result.writes,
                "seen": result.seen,
                "exits": result.exits,
            }
            for result in measurement.results
        ],
        "ioeventfd": {"factor": round(measurement.ioeventfd_factor, 3), "least": FACTOR, "binding": measurement.on_kvm},
        "references": {"writes_per_second": dict(REFERENCES), "shadow_ioeventfd_factor_2022": FACTOR_OF_2022},
    }


def served_by(result: Result) -> str:
    """Who acted on the writes, in a word or two."""
    return {Via.KERNEL: "kernel", Via.BUS: "user space", Via.MESSAGE: "message"}[result.via]


def _row(measurement: Measurement, result: Result) -> list[str]:
    return [
        result.name,
        served_by(result),
        f"{min(result.cost):.2f}",
        f"{result.median:.2f}",
        f"{1e6 / result.median:,.0f}",
        f"{measurement.times_cheaper(result):.1f}",
        f"{min(result.delay):.1f}" if result.delay else "-",
        f"{statistics.median(result.delay):.1f}" if result.delay else "-",
        "yes" if result.value_arrives else "no",
        "-" if result.exits is None else f"{result.exits / result.writes:.2f}",
        f"{result.seen}/{result.writes}",
    ]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Words to the left, figures to the right."""
    words = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
    return "  ".join([*words, *(cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True))]).rstrip()


def _figures(times: Sequence[float]) -> dict[str, float] | None:
    if not times:
        return None
    return {"min": round(min(times), 3), "median": round(statistics.median(times), 3), "max": round(max(times), 3)}
