"""Messages for people and programs: as text, as JSON, and in files of captured traffic."""

from vfio_user_proto.trace.capture import (
    EVIDENCE,
    FORMAT,
    Capture,
    Captured,
    line_of,
    numbered,
    parse_line,
    read_capture,
    write_capture,
)
from vfio_user_proto.trace.objects import as_json, from_json, payload_from_json, payload_to_json
from vfio_user_proto.trace.text import Line, describe, dissect

__all__ = [
    "EVIDENCE",
    "FORMAT",
    "Capture",
    "Captured",
    "Line",
    "as_json",
    "describe",
    "dissect",
    "from_json",
    "line_of",
    "numbered",
    "parse_line",
    "payload_from_json",
    "payload_to_json",
    "read_capture",
    "write_capture",
]
