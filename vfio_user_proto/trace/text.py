"""A message as a person reads it: one line per field, with its offset, its value, and what the value means."""

import errno
import json
from collections.abc import Mapping
from sys import byteorder
from typing import Any, Final, NamedTuple

import construct

from vfio_user_proto import capabilities, regioncaps, wire
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    FEATURES,
    CapabilityHeader,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    Header,
    RegionInfoFlags,
    VersionRequest,
)
from vfio_user_proto.model import Flags, Many, Record, Row, Strided
from vfio_user_proto.trace.names import code_name, flags_text
from vfio_user_proto.wire import CURRENT, Dialect, Message

# Escape sequences of a terminal: a title, an offset, a problem, and the end of each.
_COLORS: Final = ("\033[1m", "\033[2m", "\033[31m", "\033[0m")
_PER_LINE: Final = 16


class Line(NamedTuple):
    """One line: the byte where it stands in the message, if any, a name, a value, how deep it is nested, and a problem."""

    offset: int | None
    name: str
    value: str
    depth: int = 0
    problem: str = ""


def describe(message: Message | bytes, *, color: bool = False, dialect: Dialect = CURRENT) -> str:
    """``message`` as text of several lines, without a line break at the end.

    Any bytes will do: of those that are no message, what can be read is shown, then what is wrong, and the rest in
    hexadecimal. ``color`` adds the escape sequences of a terminal; ``dialect`` is the revision that the message is of.
    """
    data = message if isinstance(message, bytes) else wire.encode(message)
    title, found = dissect(data, dialect)
    width = max((len(line.name) + 2 * line.depth for line in found), default=0)
    digits = max(2, len(f"{len(data):x}"))
    bold, dim, red, plain = _COLORS if color else ("", "", "", "")
    shown = [f"{bold}{title}{plain}, {len(data)} bytes"]
    for line in found:
        if line.problem:
            shown.append(f"  {red}! {line.problem}{plain}")
            continue
        offset = " " * (digits + 2) if line.offset is None else f"{dim}0x{line.offset:0{digits}x}{plain}"
        shown.append(f"  {offset}  {'  ' * line.depth + line.name:{width}}  {line.value}".rstrip())
    return "\n".join(shown)


def dissect(data: bytes, dialect: Dialect = CURRENT) -> tuple[str, list[Line]]:
    """What ``data`` is called, and its lines in the order of the bytes; any bytes will do, as for ``describe``.

    A line that others are nested in begins at the same byte as the first of them. A field ends where the next one begins.
    """
    problem = None
    try:
        title = dialect.name(wire.decode(data, dialect).header)
    except DecodeError as error:
        problem = error
        broken = len(data) < Header.fixed_size
        title = "no message" if broken else f"{dialect.name(wire.decode_header(data))}, broken"
    lines = _Lines(data, dialect)
    lines.message()
    if problem is not None:
        lines.problem(problem)
    return title, lines.found


class _Lines:
    """The lines of one message. What is cut is shown as far as it goes."""

    def __init__(self, data: bytes, dialect: Dialect) -> None:
        self.data, self.dialect = data, dialect
        self.found: list[Line] = []

    def problem(self, error: DecodeError, start: int = 0) -> None:
        """Show what is wrong; the error counts its bytes from byte ``start`` of the message on."""
        offset = None if error.offset is None else error.offset + start
        self.found.append(Line(None, "", "", 0, str(DecodeError(error.path, error.problem, offset))))

    def message(self) -> None:
        _, at = self.fixed(self.dialect.header, 0, 0)
        record = wire.record_of(wire.decode_header(self.data), self.dialect) if at == Header.fixed_size else None
        if record is not None:
            at = self.record(record, at, len(self.data), 0)
        self.bytes("trailing", at, len(self.data), 0)

    def record(self, record: type[Record], at: int, end: int, depth: int) -> int:
        """Show one record that begins at byte ``at``; returns where what could be shown ends."""
        values, stop = self.fixed(record, at, depth, end)
        if record.tail is None or stop < at + record.fixed_size:
            return stop
        return self.tail(record, record.tail, values, stop, end, depth)

    def fixed(self, record: type[Record], at: int, depth: int, end: int | None = None) -> tuple[dict[str, int], int]:
        """Show the fields before the open one; returns their values and where they end."""
        end = len(self.data) if end is None else end
        values: dict[str, int] = {}
        stop = at
        for key, row in record.rows.items():
            size = row.fixed_size
            if size is None or at + row.offset + size > end:
                break
            stop = at + row.offset + size
            values[key] = int.from_bytes(self.data[at + row.offset : stop], byteorder)
            self.found.append(Line(at + row.offset, key, _value(record, key, row, values), depth))
        return values, stop

    def tail(self, record: type[Record], key: str, values: Mapping[str, int], at: int, end: int, depth: int) -> int:
        """Show the open field that begins at byte ``at``; returns where it ends."""
        holds = record.rows[key].holds
        if isinstance(holds, Many):
            room = (end - at) // holds.record.fixed_size
            for index in range(room if holds.count is None else min(values[record_counter(record)], room)):
                self.found.append(Line(at, f"{key}[{index}]", "", depth))
                at = self.record(holds.record, at, end, depth + 1)
            return at
        if isinstance(holds, Strided):
            return self.strided(holds, key, values, at, end, depth)
        if isinstance(holds, construct.Bytes):
            end = min(end, at + values[record_counter(record)])
        if record is VersionRequest:
            self.json(key, at, end, depth)
        elif record is DeviceGetRegionInfoReply:
            self.chain(key, values, at, end, depth)
        elif record is DeviceFeatureRequest and (feature := FEATURES.get(values["flags"] & DeviceFeatureFlags.INDEX)):
            if at < end:
                self.found.append(Line(at, key, feature.__name__, depth))
                self.bytes("", self.record(feature, at, end, depth + 1), end, depth + 1)
        else:
            self.bytes(key, at, end, depth)
        return end

    def strided(self, holds: Strided, key: str, values: Mapping[str, int], at: int, end: int, depth: int) -> int:
        total, count = max(0, holds.total(values)), holds.count(values)
        stride = total // count if count else 0
        for index in range(min(count, (end - at) // stride) if stride else 0):
            kind = holds.record_of(self.data[at : at + stride])
            if kind is None:
                self.bytes(f"{key}[{index}]", at, at + stride, depth)
            else:
                self.found.append(Line(at, f"{key}[{index}]", kind.__name__, depth))
                self.record(kind, at, at + stride, depth + 1)
            at += stride
        return at

    def chain(self, key: str, values: Mapping[str, int], at: int, end: int, depth: int) -> None:
        """The capabilities of a region, in the order of the bytes, and what lies between them."""
        start = at - DeviceGetRegionInfoReply.fixed_size
        flags = RegionInfoFlags(values["flags"])
        info = DeviceGetRegionInfoReply(flags=flags, cap_offset=values["cap_offset"], capabilities=self.data[at:end])
        links, problem = regioncaps.walk(info)
        for number, link in enumerate(sorted(links)):
            place = start + link.offset
            self.bytes(key, at, place, depth)
            self.found.append(Line(place, f"{key}[{number}]", "", depth))
            at = self.record(CapabilityHeader, place, end, depth + 1)
            if link.content is not None:
                at = self.record(type(link.content), at, end, depth + 1)
        self.bytes(key, at, end, depth)
        if problem is not None:
            self.problem(problem, start)

    def json(self, key: str, at: int, end: int, depth: int) -> None:
        """Version data as indented JSON, or its bytes where it is none."""
        text = self.data[at:end]
        if not text:
            return
        try:
            content = capabilities.load(text.removesuffix(b"\0"))
        except DecodeError as error:
            self.bytes(key, at, end, depth)
            self.problem(error, at)
            return
        nul = "with NUL" if text.endswith(b"\0") else "without NUL"
        self.found.append(Line(at, key, f"{len(text)} bytes, {nul}", depth))
        for line in json.dumps(content, indent=2).splitlines():
            self.found.append(Line(None, "", line, depth))

    def bytes(self, name: str, at: int, end: int, depth: int) -> None:
        """``data[at:end]`` in hexadecimal and as characters."""
        for place in range(at, end, _PER_LINE):
            part = self.data[place : min(end, place + _PER_LINE)]
            characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
            shown = f"{part.hex(' '):{3 * _PER_LINE - 1}}  |{characters}|"
            self.found.append(Line(place, name if place == at else "", shown, depth))


def record_counter(record: type[Record]) -> str:
    """The field that says how long the open one is."""
    return next(key for key, row in record.rows.items() if row.counts == record.tail)


def _value(record: type[Record], key: str, row: Row, values: Mapping[str, Any]) -> str:
    """A number in decimal, in hexadecimal where that is longer than a digit, and its meaning."""
    value = values[key]
    if isinstance(row.holds, Flags):
        return f"{flags_text(row.holds.bits(value))} ({value:#x})" if value else flags_text(row.holds.bits(0))
    text = str(value) if value < 10 else f"{value} ({value:#x})"
    if row.codes is not None and isinstance(name := code_name(row.codes, value), str):
        return f"{value} {name}"
    if record.section == Header.section and key == "error" and value in errno.errorcode:
        return f"{value} {errno.errorcode[value]}"
    return text
