"""What each command carries in each direction, as a document tells it: by sections, by message tables, or in words.

Since September 2021 the published document has sections Request and Reply, and a sentence where one has no layout. Before
that a table shows a whole message: the fields of the header, then the name of what follows; one table for both directions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from vfio_user_proto.specdoc.keys import SLASH, fold, titles_of
from vfio_user_proto.specdoc.names import REPLY, REQUEST
from vfio_user_proto.specdoc.specs import CodeSpec, CodesSpec, Document, LayoutSpec, ValueSpec, ValuesSpec

DIRECTIONS = (REQUEST, REPLY)
MESSAGE_FORMAT = "Message format"
HEADER_FIELDS = tuple(fold(name) for name in ("Message ID", "Command", "Message size", "Flags", "Error"))
MANY = re.compile(r"array of\b")
# Sentences that leave a message without payload, and one that gives the reply the layout of the request.
NOTHING = {
    REQUEST: re.compile(
        r"\b(?:command|command and reply) (?:is|are) a header alone|neither the request or reply have a payload"
        r"|only the message header is needed in the command|\b16 in command\b"
    ),
    REPLY: re.compile(
        r"\b(?:reply|command and reply) (?:is|are) a header alone|neither the request or reply have a payload"
        r"|\bno (?:reply )?payload\b|\b16 in reply\b"
    ),
}
SAME = re.compile(r"\bsame (?:message )?format|\bsame as the request|layout of the request|original .* in the request")


@dataclass(frozen=True, slots=True)
class Carried:
    """The payload of one message: ``layout``, or ``many`` of it one behind the other; None where there is nothing.

    ``said`` tells whether the document says so; where it says nothing, nothing is taken to be carried.
    """

    layout: LayoutSpec | None = None
    many: bool = False
    said: bool = True


@dataclass(frozen=True, slots=True)
class Command:
    """One command, what it carries by direction, and its message table where the document has such tables."""

    code: CodeSpec
    carried: Mapping[str, Carried]
    message: ValuesSpec | None = None


def table_of_commands(document: Document) -> CodesSpec | None:
    """The table that gives commands their numbers."""
    tables = document.of(CodesSpec).values()
    return next((table for table in tables if len(table.columns) > 1 and fold(table.columns[1]) == "command"), None)


def commands(document: Document) -> dict[str, Command]:
    """All commands by name, in the order of their table; none where there is no such table."""
    table = table_of_commands(document)
    spoken: dict[str, str] = {}
    for prose in document.prose:
        key = fold(prose.key)
        spoken[key] = f"{spoken.get(key, '')} {prose.text}"
    return {code.name: _command(document, code, spoken) for code in table.codes} if table else {}


def _command(document: Document, code: CodeSpec, spoken: Mapping[str, str]) -> Command:
    wanted = fold(f"{code.name}{SLASH}{MESSAGE_FORMAT}")
    message = next((table for key, table in document.of(ValuesSpec).items() if fold(key) == wanted), None)

    def words(direction: str) -> str:
        """The prose on one direction of a command: that of its own section, and that on the command at large."""
        sections = (code.name, f"{code.name}{SLASH}{direction}", f"{code.name}{SLASH}{MESSAGE_FORMAT}")
        return " ".join(spoken.get(fold(section), "") for section in sections).casefold()

    told = {direction: words(direction) for direction in DIRECTIONS}
    carried = _by_message_table(document, code, message, told) if message else _by_sections(document, code, told)
    return Command(code, carried, message)


def _by_sections(document: Document, code: CodeSpec, told: Mapping[str, str]) -> dict[str, Carried]:
    layouts = document.of(LayoutSpec)
    carried: dict[str, Carried] = {}
    for direction in DIRECTIONS:
        key = f"{code.name}{SLASH}{direction}"
        if key in layouts:
            carried[direction] = Carried(layouts[key])
        elif NOTHING[direction].search(told[direction]):
            carried[direction] = Carried()
        elif direction == REPLY and SAME.search(told[direction]):
            carried[direction] = carried[REQUEST]
        else:
            carried[direction] = Carried(said=False)
    return carried


def _by_message_table(
    document: Document, code: CodeSpec, message: ValuesSpec, told: Mapping[str, str]
) -> dict[str, Carried]:
    what = next((row for row in message.values if fold(row.name) not in HEADER_FIELDS), None)
    layout = _layout_named(document, code.name, what) if what else None
    both = Carried(layout, bool(what and MANY.match(what.value)), layout is not None or what is None)
    sizes = " ".join(row.value for row in message.values)
    return {
        direction: Carried() if NOTHING[direction].search(f"{told[direction]} {sizes}") else both
        for direction in DIRECTIONS
    }


def _layout_named(document: Document, command: str, row: ValueSpec) -> LayoutSpec | None:
    """The layout whose title the row of a message table spells out, rather one of the command than another."""
    there = set(_stems(f"{row.name} {row.value}"))
    found: list[tuple[bool, int, LayoutSpec]] = []
    for key, layout in document.of(LayoutSpec).items():
        title = [word for word in _stems(titles_of(key)[-1]) if word != "format"]
        if set(title) <= there:
            found.append((titles_of(key)[0] == command, len(title), layout))
    return max(found, key=lambda each: each[:2])[2] if found else None


def _stems(text: str) -> list[str]:
    """The words of a text in small letters and, roughly, in the singular."""
    return [re.sub(r"ies$", "y", word) for word in re.findall(r"[a-z]+", text.casefold())]
