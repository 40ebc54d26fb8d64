"""Every rule and every move; a sequence as data that a file can hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from vfio_user_conformance.model import device, dirty, doorbells, irqs, lifetime, memory, migration, region
from vfio_user_conformance.model.rule import Move, Rule
from vfio_user_proto.errors import UsageError

RULES: Mapping[str, Rule] = {
    rule.ident: rule
    for module in (memory, region, irqs, migration, dirty, device, doorbells, lifetime)
    for rule in module.RULES
}
# What a sequence can be about. Most mistakes take one subject or two; commands of the others would only get in between.
SUBJECTS: tuple[tuple[Rule, ...], ...] = (
    memory.RULES,
    (*memory.RULES, *device.RULES, *dirty.RULES),
    irqs.RULES,
    migration.RULES,
    (*region.RULES, *doorbells.RULES),
    lifetime.RULES,
)
MOVES: Mapping[str, type[Move]] = {
    "map": memory.Map,
    "unmap": memory.Unmap,
    "write": region.Write,
    "write-several": region.WriteSeveral,
    "read": region.Read,
    "ask": region.Ask,
    "assign": irqs.Assign,
    "unassign": irqs.Unassign,
    "disable": irqs.Disable,
    "mask": irqs.Masking,
    "raise": irqs.Raise,
    "set-state": migration.SetState,
    "get-state": migration.GetState,
    "read-data": migration.ReadData,
    "write-data": migration.WriteData,
    "start-log": dirty.StartLog,
    "stop-log": dirty.StopLog,
    "report": dirty.Report,
    "device-write": device.DeviceWrites,
    "device-read": device.DeviceReads,
    "device-raise": irqs.DeviceRaises,
    "ask-io-fds": doorbells.AskIoFds,
    "kick": doorbells.Kick,
    "reset": lifetime.Reset,
    "next-client": lifetime.NextClient,
}
_NAMES = {kind: name for name, kind in MOVES.items()}


def name_of(move: Move) -> str:
    """What a file calls a move."""
    return _NAMES[type(move)]


def script_of(moves: Sequence[Move]) -> tuple[dict[str, Any], ...]:
    """A sequence for a file: {"move": its name, and its fields}."""
    return tuple({"move": name_of(move), **move.as_dict()} for move in moves)


def moves_of(script: Any) -> tuple[Move, ...]:
    """The sequence that a file holds. Raises UsageError."""
    try:
        return tuple(_move(dict(each)) for each in script)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"the file has a script that cannot be read: {error}") from None


def _move(entry: dict[str, Any]) -> Move:
    kind = MOVES[entry.pop("move")]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    move = kind(**values)
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(each, int) and 0 <= each < 1 << 64 for each in numbers):
            raise ValueError(f"{name} is {value!r}")
    return move
