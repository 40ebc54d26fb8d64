"""One message as HTML: its bytes in hexadecimal beside the table of its fields, both marked with the same colours."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

from vfio_user_conformance.report.page import clean
from vfio_user_conformance.words import plural
from vfio_user_proto.trace import dissect

_PER_LINE: Final = 16
_COLOURS: Final = 6
# More bytes of a message than this are not shown; the file of evidence has them all.
_SHOWN: Final = 1024


class Field(NamedTuple):
    """A field at ``offset``, of ``size`` bytes: 0 where others are nested in it; None has no place of its own."""

    offset: int | None
    size: int
    name: str
    value: str
    depth: int
    problem: str


def fields(data: bytes) -> tuple[str, list[Field]]:
    """What a message is called, and its fields; lines that only carry on a field are part of it."""
    title, lines = dissect(data)
    found: list[Field] = []
    for line in lines:
        if found and not line.name and not line.problem and line.depth == found[-1].depth and not found[-1].problem:
            more = f"{found[-1].value}\n{line.value}" if line.offset is None else found[-1].value
            found[-1] = found[-1]._replace(value=more)
        else:
            found.append(Field(line.offset, 0, line.name, line.value, line.depth, line.problem))
    starts = sorted({field.offset for field in found if field.offset is not None})
    ends = dict(pairwise([*starts, len(data)]))
    owners = {field.offset: number for number, field in enumerate(found)}
    sized = [
        field._replace(size=ends[field.offset] - field.offset)
        if field.offset is not None and owners[field.offset] == number
        else field
        for number, field in enumerate(found)
    ]
    return title, sized


def message(entry: Mapping[str, Any]) -> str:
    """One message of a conversation, in the form of the capture format."""
    fds = f", with {', '.join(fd['kind'] for fd in entry['fds'])}" if entry["fds"] else ""
    cuts = f", cut at {', '.join(map(str, entry['cuts']))}" if "cuts" in entry else ""
    data = bytes.fromhex(entry["hex"])
    name, found = fields(data)
    title = f"{entry['t'] * 1000:.1f} ms, from the {entry['from']}: {name}, {plural(len(data), 'byte')}{fds}{cuts}"
    rest = f'<p class="quiet">… and {plural(len(data) - _SHOWN, "byte")} more</p>' if len(data) > _SHOWN else ""
    then = "".join(f'<p class="quiet">then: {clean(each)}</p>\n' for each in entry.get("then", ()))
    rows = "\n".join(_row(number, field) for number, field in enumerate(found) if (field.offset or 0) < _SHOWN)
    dump = "\n".join(_dump(data[:_SHOWN], found))
    return (
        f'<h3>{clean(title)}</h3>\n<div class="message"><pre class="hex">{dump}</pre>\n'
        f'<table class="fields"><tbody>\n{rows}\n</tbody></table></div>{rest}\n{then}'
    )


def _row(number: int, field: Field) -> str:
    if field.problem:
        return f'<tr><td colspan="4" class="bad">{clean(field.problem)}</td></tr>'
    place = "" if field.offset is None else f"0x{field.offset:02x}"
    size = f"{field.size}" if field.size else ""
    mark = f' class="c{number % _COLOURS}"' if field.size else ""
    name = f"{'  ' * field.depth}<span{mark}>{clean(field.name)}</span>"
    cells = f'<td>{place}</td><td>{size}</td><td class="name">{name}</td><td>{clean(field.value)}</td>'
    return f'<tr data-f="{number}">{cells}</tr>'


def _dump(data: bytes, found: Sequence[Field]) -> Iterator[str]:
    """Lines of sixteen bytes, as numbers and as characters; bytes of one field stand in one element."""
    owner = [-1] * len(data)
    for number, field in enumerate(found):
        if field.offset is not None:
            end = min(field.offset + field.size, len(data))
            owner[field.offset : end] = [number] * max(0, end - field.offset)
    for start in range(0, len(data), _PER_LINE):
        places = range(start, min(start + _PER_LINE, len(data)))
        parts = [(number, bytes(data[at] for at in group)) for number, group in groupby(places, lambda at: owner[at])]
        numbers = " ".join(_marked(number, part.hex(" ")) for number, part in parts)
        letters = "".join(_marked(number, clean(_characters(part))) for number, part in parts)
        gap = " " * (3 * (_PER_LINE - len(places)))
        yield f"<i>{start:04x}</i>  {numbers}{gap}  {letters}"


def _marked(number: int, text: str) -> str:
    return f'<b class="c{number % _COLOURS}" data-f="{number}">{text}</b>' if number >= 0 else text


def _characters(part: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
