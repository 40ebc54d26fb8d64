# Right messages of every kind, with a value of its own in every field, which every export must read alike.
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import construct

from vfio_user_proto import wire
from vfio_user_proto.messages import (
    FEATURES,
    REGION_CAPABILITIES,
    REPLIES,
    REQUESTS,
    SUB_REGIONS,
    CapabilityHeader,
    Command,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionIoFdsReply,
    HeaderFlags,
    RegionCapability,
    VersionRequest,
)
from vfio_user_proto.model import Flags, Many, Record

CAPTURE = "qemu-11.1-to-libvfio-user-gpio.jsonl"


class Sample(NamedTuple):
    """One message and all records in it, the header first, each followed by those inside it."""

    name: str
    data: bytes
    from_client: bool
    parts: tuple[Record, ...]


class Filler:
    """Makes records whose integers are all different and use every byte."""

    def __init__(self) -> None:
        self.count = 0

    def number(self, size: int) -> int:
        self.count += 1
        return int.from_bytes(bytes((self.count + 37 * place) % 255 + 1 for place in range(size)))

    def record(self, kind: type[Record], **given: Any) -> Record:
        values = dict(given)
        for key, row in kind.rows.items():
            if key in values or row.counts or row.measures:
                continue
            if isinstance(row.holds, Flags):
                single = [int(bit) for bit in row.holds.bits if int(bit).bit_count() == 1]
                values[key] = row.holds.bits(sum(single))
            elif row.codes:
                values[key] = list(row.codes)[-1]
            elif isinstance(row.holds, Many):
                values[key] = (self.record(row.holds.record), self.record(row.holds.record))
            elif isinstance(row.empty, bytes):
                values[key] = bytes([self.count % 256, 1, 2, 3, 4])
            elif isinstance(row.empty, int):
                values[key] = self.number(row.fixed_size or 0)
        return kind(**values)


def _nested(record: Record) -> Iterator[Record]:
    """The record and those in its last field."""
    yield record
    content = getattr(record, record.tail) if record.tail else b""
    for part in content if isinstance(content, tuple) else ():
        yield from _nested(part)


def _payloads(fill: Filler, kind: type[Record]) -> Iterator[tuple[str, Record, tuple[Record, ...]]]:
    """Records of one kind, with what stands in their open field."""
    if kind is VersionRequest:
        yield "with data", fill.record(kind, version_data=b'{"capabilities": {"pgsizes": 4096}}\0'), ()
        yield "without data", fill.record(kind, version_data=b""), ()
    elif kind is DeviceGetRegionInfoReply:
        data, parts, at = b"", [], kind.fixed_size
        for code in RegionCapability:
            body = [fill.record(REGION_CAPABILITIES[code])] if code in REGION_CAPABILITIES else []
            size = CapabilityHeader.fixed_size + sum(each.wire_size for each in body)
            at += size
            head = CapabilityHeader(id=code, version=1, next=0 if code == list(RegionCapability)[-1] else at)
            data += b"".join(wire.encode_record(each) for each in (head, *body))
            parts += [head, *(inner for each in body for inner in _nested(each))]
        yield "with every capability", fill.record(kind, cap_offset=kind.fixed_size, capabilities=data), tuple(parts)
        yield "without", fill.record(kind, cap_offset=0, capabilities=b""), ()
    elif kind is DeviceGetRegionIoFdsReply:
        for size in dict.fromkeys(size for size, _ in SUB_REGIONS):
            every = [fill.record(r, type=code) for (each, code), r in SUB_REGIONS.items() if each == size]
            yield f"with {size} bytes each", fill.record(kind, sub_regions=tuple(every)), ()
        yield "without", fill.record(kind, sub_regions=()), ()
    elif kind is DeviceFeatureRequest:
        for code, feature in FEATURES.items():
            inner = fill.record(feature)
            flags = DeviceFeatureFlags.GET | code
            yield (
                f"of {feature.__name__}",
                fill.record(kind, flags=flags, data=wire.encode_record(inner)),
                tuple(_nested(inner)),
            )
        yield "probe", fill.record(kind, flags=DeviceFeatureFlags.PROBE | 7, data=b""), ()
    else:
        yield "", fill.record(kind), ()


def samples() -> list[Sample]:
    """Each command and each reply, in every form that their tables know; replies follow their commands."""
    fill, found = Filler(), []
    for command in Command:
        by_client = command.notes[0].startswith("client")
        pairs = [(REQUESTS[command], 0, by_client), (REPLIES[command], int(HeaderFlags.TYPE) & 1, not by_client)]
        for kind, flags, from_client in pairs:
            forms = _payloads(fill, kind) if kind else [("", None, ())]
            for number, (form, payload, inner) in enumerate(forms):
                data = wire.build(command, payload, message_id=100 * command + number, flags=flags)
                header = wire.decode_header(data)
                parts = (header, *(_nested(payload) if payload else ()), *inner)
                name = f"{wire.Message(header).name} {form}".strip()
                found.append(Sample(name, data, from_client, parts))
    return found


def captured(shared: Path) -> list[Sample]:
    """The messages of a real session; only what stands in the header and at the outermost level of the payload."""
    found = []
    for line in (shared / "captures" / CAPTURE).read_text().splitlines():
        row = json.loads(line)
        data = bytes.fromhex(row["hex"])
        message = wire.decode(data)
        parts = (message.header, *([message.payload] if message.payload else []))
        found.append(Sample(message.name, data, row["from"] == "client", parts))
    return found


def integers(record: Record) -> dict[str, int]:
    """The fields that hold numbers, flags as numbers too."""
    holds = {key: row.holds.subcon if isinstance(row.holds, Flags) else row.holds for key, row in record.rows.items()}
    return {key: int(getattr(record, key)) for key, each in holds.items() if isinstance(each, construct.FormatField)}
