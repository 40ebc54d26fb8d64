"""A measurement as a picture: bars on a logarithmic scale, in SVG."""

import math
import statistics
from html import escape
from typing import Final

from vfio_user_proto.harness.doorbell import FACTOR_OF_2022, REFERENCES, Measurement
from vfio_user_proto.harness.report import sentences, served_by

_WIDTH: Final = 1080
_LEFT, _RIGHT = 210, 740  # the scale
_TOP: Final = 104
_ROW: Final = 28
_COLUMNS: Final = (800, 870, 890, 985)  # the figures to the right of the bars: two end here, two begin
_BAR, _DOT, _REFERENCE = "#2f6db3", "#d9822b", "#b8bec6"
_INK, _FAINT, _LINE = "#22272e", "#6b7480", "#e3e6ea"


def svg(measurement: Measurement) -> str:
    """The whole file. Blue bars: the cost to the vCPU; dots: when the device saw a write; grey bars: figures of others."""
    costs = [result.median for result in measurement.results]
    delays = [statistics.median(result.delay) for result in measurement.results if result.delay]
    others = {label: 1e6 / rate for label, rate in REFERENCES.items()}
    ticks = _ticks(min(*costs, *others.values()), max([*costs, *delays, *others.values()]))
    decades = math.log10(ticks[-1] / ticks[0])

    def x(value: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * math.log10(value / ticks[0]) / decades

    bottom = _TOP + _ROW * (len(costs) + len(others)) + 12
    height = bottom + 52
    where = "KVM" if measurement.on_kvm else "the user-space bus, without a guest"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" role="img">',
        f"<title>What a write to a doorbell costs</title><desc>{escape(' '.join(sentences(measurement)))}</desc>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 30, "What a write to a doorbell costs", size=18),
        _text(
            20,
            52,
            f"Measured on {where}; medians, in microseconds on a logarithmic scale. Less is better.",
            fill=_FAINT,
        ),
        *_key(),
    ]
    for tick in ticks:
        parts += [_rule(x(tick), bottom, _LINE), _text(x(tick), bottom + 16, f"{tick:g}", anchor="middle", fill=_FAINT)]
    quarter = costs[0] / FACTOR_OF_2022
    if quarter > ticks[0]:
        words = f"a message with reply / {FACTOR_OF_2022:g}: shadow ioeventfd in the kernel, 2022"
        parts += [
            _rule(x(quarter), bottom, _INK, "4 3"),
            _text(x(quarter), bottom + 38, words, anchor="middle", fill=_FAINT),
        ]
    heads = zip(_COLUMNS, ("vCPU", "seen", "served by", "value"), ("end", "end", "start", "start"), strict=True)
    parts += [_text(at, _TOP - 10, word, anchor=anchor, fill=_FAINT) for at, word, anchor in heads]
    y = _TOP
    for result in measurement.results:
        parts += _bar(y, x(result.median), result.name, result.median, _BAR)
        if result.delay:
            delay = statistics.median(result.delay)
            parts.append(f'<circle cx="{x(delay):.1f}" cy="{y + 9}" r="5" fill="{_DOT}"/>')
            parts.append(_text(_COLUMNS[1], y + 14, f"{delay:.1f}", anchor="end"))
        parts.append(_text(_COLUMNS[2], y + 14, served_by(result)))
        parts.append(_text(_COLUMNS[3], y + 14, "arrives" if result.value_arrives else "is lost"))
        y += _ROW
    for label, value in others.items():
        parts += _bar(y + 8, x(value), label, value, _REFERENCE)
        y += _ROW
    return "\n".join([*parts, "</svg>\n"])


def _ticks(least: float, most: float) -> list[float]:
    """1, 2, 5, 10, … from the last one below ``least`` to the first one above ``most``."""
    steps = [factor * 10.0**power for power in range(-3, 9) for factor in (1, 2, 5)]
    first = max((at for at, step in enumerate(steps) if step < least), default=0)
    last = next((at for at, step in enumerate(steps) if step >= most and at > first), len(steps) - 1)
    return steps[first : last + 1]


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start", fill: str = _INK) -> str:
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" text-anchor="{anchor}" fill="{fill}">{escape(words)}</text>'


def _rule(x: float, bottom: int, colour: str, dash: str = "none") -> str:
    """A line from the top of the bars to their bottom."""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom}" stroke="{colour}" stroke-dasharray="{dash}"/>'
    )


def _bar(y: int, end: float, label: str, value: float, colour: str) -> list[str]:
    """One row: its name, its bar, its figure."""
    return [
        _text(_LEFT - 12, y + 14, label, anchor="end"),
        f'<rect x="{_LEFT}" y="{y}" width="{max(1.0, end - _LEFT):.1f}" height="18" rx="2" fill="{colour}"/>',
        _text(_COLUMNS[0], y + 14, f"{value:.2f}", anchor="end"),
    ]


def _key() -> list[str]:
    """What the colours mean."""
    return [
        f'<rect x="{_LEFT}" y="66" width="12" height="12" fill="{_BAR}"/>',
        _text(_LEFT + 18, 77, "cost to the vCPU"),
        f'<circle cx="{_LEFT + 156}" cy="72" r="5" fill="{_DOT}"/>',
        _text(_LEFT + 168, 77, "seen: the device's code is called"),
        f'<rect x="{_LEFT + 410}" y="66" width="12" height="12" fill="{_REFERENCE}"/>',
        _text(_LEFT + 428, 77, "figures of others"),
    ]
