"""Messages as JSON objects, for programs: nothing is lost on the way there and back, and names may stand for numbers."""

from collections.abc import Mapping
from typing import Any, Final

from vfio_user_proto import regioncaps, wire
from vfio_user_proto.errors import DecodeError, UsageError
from vfio_user_proto.messages import (
    FEATURES,
    REGION_CAPABILITIES,
    CapabilityHeader,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetRegionInfoReply,
    Header,
    VersionRequest,
)
from vfio_user_proto.model import Flags, Many, Record, Row, Strided
from vfio_user_proto.trace.names import (
    code_name,
    code_value,
    did_you_mean,
    errno_value,
    flags_text,
    flags_value,
    number,
)
from vfio_user_proto.wire import Message

# What an object of a captured message may hold besides: it does not change the bytes.
CAPTURED: Final = ("from", "fds", "t")


def as_json(message: Message) -> dict[str, Any]:
    """The fields of the header, then "payload" and "trailing" where there are any.

    Flags and codes are names, other numbers numbers, bytes hexadecimal digits. What lies inside bytes (version data,
    capabilities of a region, data of a feature) is shown decoded where it encodes to the same bytes again.
    """
    content = payload_to_json(message.header)
    if message.payload is not None:
        content["payload"] = payload_to_json(message.payload)
    if message.trailing:
        content["trailing"] = message.trailing.hex()
    return content


def payload_to_json(record: Record) -> dict[str, Any]:
    """One record, in the order of its table."""
    return {key: _value_to_json(record, key, row) for key, row in record.rows.items()}


def _value_to_json(record: Record, key: str, row: Row) -> Any:
    value = getattr(record, key)
    if isinstance(row.holds, Flags):
        return flags_text(value)
    if row.codes is not None:
        return code_name(row.codes, value)
    if isinstance(value, tuple):
        return [part.hex() if isinstance(part, bytes) else payload_to_json(part) for part in value]
    if not isinstance(value, bytes):
        return value
    inside = _inside(record, value) if value else None
    if inside is not None and _bytes_from_json(type(record), inside, _flags(record), key) == value:
        return inside
    return value.hex()


def _inside(record: Record, data: bytes) -> Any:
    """What lies in the bytes of an open field, None where nothing is known of it."""
    try:
        if isinstance(record, VersionRequest):
            return {"text": data.decode()}
        if isinstance(record, DeviceGetRegionInfoReply):
            return [
                {**payload_to_json(link.header), **(payload_to_json(link.content) if link.content is not None else {})}
                for link in regioncaps.walk(record)[0]
            ]
        if isinstance(record, DeviceFeatureRequest) and (feature := _feature(record.flags)) is not None:
            return payload_to_json(wire.decode_record(feature, data)[0])
    except (UnicodeDecodeError, DecodeError):
        pass
    return None


def _flags(record: Record) -> int:
    """Where the open field depends on the flags of its record, these flags."""
    return int(record.flags) if isinstance(record, DeviceFeatureRequest) else 0


def _feature(flags: int) -> type[Record] | None:
    return FEATURES.get(flags & DeviceFeatureFlags.INDEX)


def from_json(content: Mapping[str, Any]) -> bytes:
    """The bytes of the message that ``as_json`` or a person wrote.

    What is left out is right by itself: sizes and counts fit, all else is 0. A payload may be hexadecimal digits, right or
    wrong. Raises UsageError, which names the field.
    """
    header_names = [*Header.rows]
    _check_names(content, [*header_names, "payload", "trailing", *CAPTURED], "")
    if "command" not in content:
        raise UsageError("command: missing")
    header = payload_from_json(Header, {key: content[key] for key in header_names if key in content}, "")
    payload = content.get("payload")
    trailing = _hex(content["trailing"], "trailing") if "trailing" in content else b""
    record = wire.record_of(header)
    if isinstance(payload, str):
        body = _hex(payload, "payload")
    elif record is not None:
        body = wire.encode_record(payload_from_json(record, content.get("payload", {}), "payload."))
    elif "payload" in content:
        raise UsageError(f"payload: {Message(header).name} has none")
    else:
        body = b""
    body += trailing
    if "message_size" not in content:
        header = header.replace(message_size=Header.fixed_size + len(body))
    return wire.encode(Message(header, None, body))


def payload_from_json(record: type[Record], content: Any, path: str = "") -> Any:
    """A ``record`` of a JSON object; errors name ``path`` and the field. Raises UsageError."""
    if not isinstance(content, Mapping):
        raise UsageError(f"{path.rstrip('.') or record.__name__}: not an object")
    _check_names(content, record.rows, path)
    values: dict[str, Any] = {}
    for key, row in record.rows.items():
        if key in content:
            values[key] = _value_from_json(record, key, row, content[key], values, path + key)
    return record(**values)


def _value_from_json(record: type[Record], key: str, row: Row, value: Any, before: Mapping[str, Any], path: str) -> Any:
    holds = row.holds
    try:
        if isinstance(holds, Flags) and isinstance(value, str):
            value = flags_value(holds.bits, value)
        elif row.codes is not None and isinstance(value, str):
            value = code_value(row.codes, value)
        elif record is Header and key == "error" and isinstance(value, str):
            value = errno_value(value)
        if row.fixed_size is not None:
            return _whole(value, row.fixed_size)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if isinstance(holds, Many | Strided):
        if not isinstance(value, list):
            raise UsageError(f"{path}: not a list")
        return tuple(_part_from_json(holds, part, f"{path}[{index}]") for index, part in enumerate(value))
    return _bytes_from_json(record, value, before.get("flags", 0), path)


def _whole(value: Any, size: int) -> int:
    if isinstance(value, str):
        value = number(value)
    if type(value) is not int:
        raise UsageError(f"{value!r:.40} is not a whole number")
    if not 0 <= value < 1 << 8 * size:
        raise UsageError(f"{value} does not fit into {size} bytes")
    return value


def _part_from_json(holds: Many | Strided, part: Any, path: str) -> Record | bytes:
    """One record of an array; where several kinds are possible, the one that has the fields and the selector."""
    if isinstance(holds, Many):
        made: Record = payload_from_json(holds.record, part, f"{path}.")
        return made
    if isinstance(part, str):
        return _hex(part, path)
    if not isinstance(part, Mapping):
        raise UsageError(f"{path}: neither an object nor hexadecimal digits")
    kinds = [(selector, record) for (_, selector), record in holds.records.items() if set(part) <= set(record.rows)]
    if not kinds:
        every = [name for record in holds.records.values() for name in record.rows]
        _check_names(part, every, f"{path}.")
        raise UsageError(f"{path}: no kind of entry has all of these fields: {', '.join(part)}")
    made = payload_from_json(kinds[0][1], part, f"{path}.")
    selector = getattr(made, holds.selector)
    record = next((record for known, record in kinds if known == selector), None)
    return made if record is None else payload_from_json(record, part, f"{path}.")


def _bytes_from_json(record: type[Record], value: Any, flags: int, path: str) -> bytes:
    """The bytes of an open field: from hexadecimal digits, or from what lies inside."""
    if isinstance(value, str):
        return _hex(value, path)
    if record is VersionRequest and isinstance(value, Mapping):
        _check_names(value, ["text"], f"{path}.")
        if isinstance(value.get("text"), str):
            return str(value["text"]).encode("utf-8", "surrogatepass")
    if record is DeviceGetRegionInfoReply and isinstance(value, list):
        return b"".join(_capability_from_json(part, f"{path}[{index}]") for index, part in enumerate(value))
    feature = _feature(flags) if record is DeviceFeatureRequest else None
    if feature is not None and isinstance(value, Mapping):
        return wire.encode_record(payload_from_json(feature, value, f"{path}."))
    raise UsageError(f"{path}: not hexadecimal digits")


def _capability_from_json(part: Any, path: str) -> bytes:
    if not isinstance(part, Mapping):
        raise UsageError(f"{path}: not an object")
    head = {key: value for key, value in part.items() if key in CapabilityHeader.rows}
    header: CapabilityHeader = payload_from_json(CapabilityHeader, head, f"{path}.")
    rest = {key: value for key, value in part.items() if key not in CapabilityHeader.rows}
    content = REGION_CAPABILITIES.get(header.id)
    if content is None:
        _check_names(rest, [], f"{path}.")
        return wire.encode_record(header)
    return wire.encode_record(header) + wire.encode_record(payload_from_json(content, rest, f"{path}."))


def _check_names(content: Mapping[str, Any], known: Any, path: str) -> None:
    for name in content:
        if name not in known:
            raise UsageError(f"{path}{name}: no such field{did_you_mean(name, known)}")


def _hex(value: Any, path: str) -> bytes:
    if not isinstance(value, str):
        raise UsageError(f"{path}: not hexadecimal digits")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise UsageError(f"{path}: not pairs of hexadecimal digits") from None
