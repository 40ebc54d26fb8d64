"""Compares two documents: commands by what they carry, all other tables by section, title or content.

Words are not compared: neither prose nor columns of descriptions. A command that came or went stands for all its tables.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from vfio_user_proto.specdoc.commands import DIRECTIONS, Carried, Command, commands, table_of_commands
from vfio_user_proto.specdoc.diff import pairs
from vfio_user_proto.specdoc.diff.change import Change
from vfio_user_proto.specdoc.diff.layouts import layout
from vfio_user_proto.specdoc.diff.others import codes, members, objects, states, summary, values
from vfio_user_proto.specdoc.keys import SLASH, titles_of
from vfio_user_proto.specdoc.names import REQUEST
from vfio_user_proto.specdoc.specs import (
    CodeSpec,
    CodesSpec,
    Document,
    JsonSpec,
    Kind,
    LayoutSpec,
    TableSpec,
    TruthSpec,
    ValuesSpec,
)

# The rules for a table that only one of the documents has.
WHOLE: Mapping[type[TableSpec], tuple[str, str]] = {
    LayoutSpec: ("record-added", "record-removed"),
    CodesSpec: ("code-added", "code-removed"),
    ValuesSpec: ("record-added", "record-removed"),
    JsonSpec: ("member-added", "member-removed"),
    TruthSpec: ("states-changed", "states-changed"),
}

Compare = Callable[[Kind, Kind, tuple[str, ...]], Iterator[Change]]


def diff(old: Document, new: Document) -> list[Change]:
    """All differences in the order of the old document's tables; what only the new one has comes behind its command."""
    return _Comparison(old, new).changes()


class _Comparison:
    def __init__(self, old: Document, new: Document) -> None:
        self.old, self.new = old, new
        self.old_commands, self.new_commands = commands(old), commands(new)
        self.found: list[tuple[TableSpec, Change]] = []

    def changes(self) -> list[Change]:
        gone = self._commands()
        self._tables(LayoutSpec, _layout, gone)
        self._tables(CodesSpec, _codes, gone)
        self._tables(ValuesSpec, values, gone)
        self._tables(TruthSpec, states, gone)
        for was, now in objects(self.old.of(JsonSpec).values(), self.new.of(JsonSpec).values()):
            self._pair(was, now, members)
        return [change for _, change in sorted(self.found, key=lambda each: self._rank(each[0]))]

    def _rank(self, table: TableSpec) -> tuple[int, int]:
        """Where a table stands: in the old document, or behind the old tables of the same command, or behind all."""
        places = {id(each): at for at, each in enumerate(self.old.tables)}
        if id(table) in places:
            return places[id(table)], 0
        title = titles_of(table.key)[0]
        akin = [at for at, each in enumerate(self.old.tables) if titles_of(each.key)[0] == title]
        return (akin or [len(places)])[-1], 1

    def _commands(self) -> set[str]:
        """Compare commands and what they carry; returns the names of those that came or went."""
        was, now = table_of_commands(self.old), table_of_commands(self.new)
        if not was or not now:
            self._pair(was, now, _codes)
            return set()
        rows = pairs.rows(was.codes, now.codes, self._same_command)
        self.found += [(was, change) for change in codes("command", was, now, rows, DIRECTIONS)]
        for old, new in rows:
            if old and new:
                self.found += _messages(self.old_commands[old.name], self.new_commands[new.name])
        return {code.name for old, new in rows if not (old and new) for code in (old, new) if code}

    def _same_command(self, old: CodeSpec, new: CodeSpec) -> bool:
        """Whether a command has a new name and nothing else: the same number, and requests of the same layout."""
        was, now = (self.old_commands[old.name].carried[REQUEST], self.new_commands[new.name].carried[REQUEST])
        return bool(old.value == new.value and was.layout and now.layout and was.layout.fields == now.layout.fields)

    def _tables(self, kind: type[Kind], compare: Compare[Kind], gone: set[str]) -> None:
        """Compare the tables of one kind that are no message of a command, and that did not come or go with one."""
        olds = self._others(self.old, self.old_commands, kind, gone)
        for was, now in pairs.tables(olds, self._others(self.new, self.new_commands, kind, gone)):
            self._pair(was, now, compare)

    def _others(self, document: Document, known: Mapping[str, Command], kind: type[Kind], gone: set[str]) -> list[Kind]:
        told = {id(carried.layout) for command in known.values() for carried in command.carried.values()}
        told |= {id(command.message) for command in known.values()} | {id(table_of_commands(document))}
        tables = document.of(kind).items()
        return [table for key, table in tables if id(table) not in told and titles_of(key)[0] not in gone]

    def _pair(self, was: Kind | None, now: Kind | None, compare: Compare[Kind]) -> None:
        """Compare two forms of a table, of which one may be missing."""
        table = was or now
        if table is None:
            return
        directions = self._directions([each.key for each in (was, now) if each])
        if was and now:
            self.found += [(was, change) for change in compare(was, now, directions)]
        else:
            added, removed = WHOLE[type(table)]
            old, new = (summary(table), "") if was else ("", summary(table))
            rule = removed if was else added
            self.found.append((table, Change(table.key, "", "table", old, new, table.source, rule, directions)))

    def _directions(self, keys: list[str]) -> tuple[str, ...]:
        """In which messages a table travels: those of one direction where its section, in either document, says so."""
        told = tuple(direction for direction in DIRECTIONS if any(direction in titles_of(key) for key in keys))
        for command in (self.old_commands.get(titles_of(keys[0])[0]), self.new_commands.get(titles_of(keys[-1])[0])):
            if told == (REQUEST,) and command and len(set(map(_identity, command.carried.values()))) == 1:
                return DIRECTIONS  # the reply has the layout of the request
        return told or DIRECTIONS


def _layout(old: LayoutSpec, new: LayoutSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    return layout(old.key, old, new, directions)


def _codes(old: CodesSpec, new: CodesSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    return codes("code", old, new, pairs.rows(old.codes, new.codes), directions)


def _identity(carried: Carried) -> tuple[int, bool]:
    return id(carried.layout), carried.many


def _messages(was: Command, now: Command) -> list[tuple[TableSpec, Change]]:
    """What one command carries. A difference in a layout for both directions is one difference."""
    found: dict[object, tuple[TableSpec, Change]] = {}
    for direction in DIRECTIONS:
        old, new = was.carried[direction], now.carried[direction]
        table = old.layout or new.layout
        if not table or not (old.said and new.said):
            continue
        for change in _payload(f"{was.code.name}{SLASH}{direction}", old, new, (direction,)):
            same = (change.subject, change.aspect, change.old, change.new, change.where)
            if same in found:
                label = table.key if titles_of(table.key)[0] == was.code.name else was.code.name
                found[same] = (table, replace(change, table=label, directions=DIRECTIONS))
            else:
                found[same] = (table, change)
    return list(found.values())


def _payload(label: str, old: Carried, new: Carried, directions: tuple[str, ...]) -> Iterator[Change]:
    if old.layout and new.layout:
        if old.many != new.many:
            words = {True: "any number", False: "one"}
            change = ("", "records", words[old.many], words[new.many], old.layout.source, "number-of-records")
            yield Change(label, *change, directions)
        yield from layout(label, old.layout, new.layout, directions)
    elif old.layout:
        yield Change(label, "", "payload", summary(old.layout), "", old.layout.source, "payload-removed", directions)
    elif new.layout:
        yield Change(label, "", "payload", "", summary(new.layout), new.layout.source, "payload-added", directions)
