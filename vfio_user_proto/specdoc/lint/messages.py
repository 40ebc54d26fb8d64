"""Lints that look at commands: what their messages carry, and what their message tables say."""

import re
from collections.abc import Iterator

from vfio_user_proto.specdoc.commands import DIRECTIONS, HEADER_FIELDS, Command, commands
from vfio_user_proto.specdoc.forms import HEADER_SIZE
from vfio_user_proto.specdoc.keys import SLASH, fold
from vfio_user_proto.specdoc.names import REPLY, REQUEST
from vfio_user_proto.specdoc.specs import WARNING, Document, FieldSpec, Problem, Prose, ValueSpec

ALL_OTHER_FIELDS = re.compile(r"\ball other fields must be zero\b")
ROOM_FOR_REPLY = re.compile(r"\bmaximum size of the reply payload\b")
OF_DIRECTION = {REQUEST: re.compile(r"(\d+) in command"), REPLY: re.compile(r"(\d+) in reply")}
WHOLE = re.compile(r"(\d+)(\s*\+.*)?")


def narrower_replies(document: Document) -> Iterator[Problem]:
    """A field has in the reply at least the size that it has in the request."""
    for name, command in commands(document).items():
        request, reply = (command.carried[direction].layout for direction in DIRECTIONS)
        if not request or not reply:
            continue
        asked = {fold(field.name): field for field in request.fields}
        for field in reply.fields:
            wide = asked.get(fold(field.name))
            if wide and wide.size and field.size and field.size < wide.size:
                message = (
                    f"{field.name} has {field.size} bytes in the reply of {name}, {wide.size} in the request (line "
                    f"{wide.source.line})"
                )
                yield Problem(field.source, message, "narrower-reply", words=field.name)


def untold_commands(document: Document) -> Iterator[Problem]:
    """Each command of the table has a section, and each message is told what it carries, if only that it is nothing."""
    titles = {title for section in document.sections for title in section.titles}
    for name, command in commands(document).items():
        source = command.code.source
        if name not in titles:
            yield Problem(source, f"{name} has no section", "command-section", WARNING, name)
            continue
        for direction in DIRECTIONS:
            if not command.carried[direction].said:
                message = f"nothing tells what the {direction.casefold()} of {name} carries"
                yield Problem(source, message, "payload", WARNING, name)


def message_tables(document: Document) -> Iterator[Problem]:
    """Number and size in a table of a whole message are those of the command and of its layout."""
    for name, command in commands(document).items():
        for row in command.message.values if command.message else ():
            if fold(row.name) == HEADER_FIELDS[1] and row.value.isdigit() and int(row.value) != command.code.value:
                message = f"{name} is command {command.code.value} in line {command.code.source.line}, not {row.value}"
                yield Problem(row.source, message, "number", words=row.value)
            if fold(row.name) == HEADER_FIELDS[2]:
                yield from _wrong_size(name, command, row)


def _wrong_size(name: str, command: Command, row: ValueSpec) -> Iterator[Problem]:
    """The size of a message, as a number alone or before what is variable: "48 + any caps"."""
    for direction in DIRECTIONS:
        layout = command.carried[direction].layout
        due = HEADER_SIZE + (layout.fixed_size if layout else 0)
        told = OF_DIRECTION[direction].search(row.value)
        whole = WHOLE.fullmatch(row.value)
        if told and int(told[1]) != due:
            message = f"a {direction.casefold()} of {name} has {told[1]} bytes by this, {due} by its layout"
            yield Problem(row.source, message, "total", words=told[1])
        elif whole and layout and int(whole[1]) != due and not (whole[2] and int(whole[1]) == HEADER_SIZE):
            message = f"{name} has {whole[1]} bytes by this, {due} by its layout (line {layout.source.line})"
            yield Problem(row.source, message, "total", words=whole[1])
            return


def room_for_nothing(document: Document) -> Iterator[Problem]:
    """No request tells the room for a reply payload that does not exist."""
    for name, command in commands(document).items():
        reply = command.carried[REPLY]
        if reply.layout or not reply.said:
            continue
        for prose in document.prose_of(f"{name}{SLASH}{REQUEST}"):
            if ROOM_FOR_REPLY.search(prose.text):
                source = document.place(prose, "maximum size")
                message = f"the reply of {name} has no payload to leave room for"
                yield Problem(source, message, "no-payload", WARNING, "maximum size")


def bits_to_be_zero(document: Document) -> Iterator[Problem]:
    """A field that is to be zero has no table of bits: what would they mean?"""
    for command in commands(document).values():
        layout = command.carried[REQUEST].layout
        prose = document.prose_of(layout.key) if layout else []
        if not layout or not any(ALL_OTHER_FIELDS.search(each.text) for each in prose):
            continue
        for field in layout.fields:
            if field.bits and not _is_named(field, prose):
                message = f"{field.name} has bits here, and the text below wants it to be zero"
                yield Problem(field.source, message, "bits-of-zero", WARNING, field.name)


def _is_named(field: FieldSpec, prose: list[Prose]) -> bool:
    return any(fold(field.name) in map(fold, each.marked) for each in prose)
