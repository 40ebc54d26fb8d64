"""Drafts to declarations: what each row holds, and which declaration comes before which."""

from collections.abc import Iterator, Mapping

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc import names
from vfio_user_proto.specdoc.apply import FieldDraft, RecordDraft, apply
from vfio_user_proto.specdoc.declarations import (
    CodesDeclaration,
    Declaration,
    FlagsDeclaration,
    JsonDeclaration,
    MappingDeclaration,
    Module,
    Naming,
    RecordDeclaration,
    RowDeclaration,
    UnionDeclaration,
    ValuesDeclaration,
)
from vfio_user_proto.specdoc.keys import is_symbol
from vfio_user_proto.specdoc.overlay import Carries, Empty, FlagNames, Mappings, Overlay, SameReply, Strides
from vfio_user_proto.specdoc.specs import CodeSpec, CodesSpec, Document, Source, TruthSpec, fault

INTEGERS = {1: "Int8un", 2: "Int16un", 4: "Int32un", 8: "Int64un"}


def declare(document: Document, overlay: Overlay) -> Module:
    """The module of a document; SpecError where a table has no form in Python, or the overlay does not fit."""
    return _Declarer(document, overlay).module()


class _Declarer:
    def __init__(self, document: Document, overlay: Overlay) -> None:
        self.document, self.overlay = document, overlay
        self.drafts = apply(document, overlay)
        self.by_key = {record.key: name for name, record in self.drafts.records.items() if not record.part_of}
        self.same_reply = {command for entry in overlay.of(SameReply) for command in entry.commands}
        self.members = {name: self._members(codes) for name, codes in self.drafts.codes.items()}
        self.done: dict[str, Declaration] = {}
        self.begun: set[str] = set()
        self._check_flags()

    def module(self) -> Module:
        for truth in self.document.of(TruthSpec).values():
            raise fault(truth.source, "a table of zeros and ones has no form in Python")
        for name in sorted([*self.drafts.records, *self.drafts.codes], key=self._line):
            self._declare(name)
        declarations = [*self.done.values(), *self._messages(), *self._mappings()]
        declarations += [JsonDeclaration(name, table.key, table.members) for name, table in self.drafts.json.items()]
        declarations += [
            ValuesDeclaration(name, table.key, tuple((each.name, each.value) for each in table.values))
            for name, table in self.drafts.values.items()
        ]
        self._check_names(declarations)
        version = self.document.version
        title = f"{self.document.title}, version {version}" if version else self.document.title
        says = f"{title}: every table of the document as a declaration."
        return Module(self.document.file, self.overlay.file, says, version, tuple(declarations))

    def _check_names(self, declarations: list[Declaration]) -> None:
        """All names are such, and no two are the same."""
        seen: set[str] = set()
        for each in declarations:
            for name in {getattr(each, "name", ""), getattr(each, "constant", "")} - {""}:
                if not names.is_name(name) or name in seen:
                    raise SpecError(self.overlay.file, 0, f"{name!r} is no name, or the name of two declarations")
                seen.add(name)

    def _line(self, name: str) -> int:
        return (self.drafts.records.get(name) or self.drafts.codes[name]).source.line

    def _declare(self, name: str) -> None:
        """Put a record or a code table behind all that it uses."""
        if name in self.done:
            return
        if name in self.drafts.codes:
            self.done[name] = self._codes(name, self.drafts.codes[name])
            return
        record = self.drafts.records[name]
        if name in self.begun:
            raise fault(record.source, f"{name} is a part of itself")
        self.begun.add(name)
        rows = tuple(self._row(record, each) for each in record.fields.values())
        self.done[name] = RecordDeclaration(name, record.key, self._says(record), record.payload, rows)

    def _says(self, record: RecordDraft) -> str:
        title = ", ".join(names.own_titles(record.key))
        if record.part_of:
            return f"One of the {record.part_of} of {title}."
        same = any(record.key == f"{command} / {names.REQUEST}" for command in self.same_reply)
        return f"{title}; the reply has the same format." if same else f"{title}."

    def _row(self, record: RecordDraft, draft: FieldDraft) -> RowDeclaration:
        annotation, holds = self._holds(record, draft)
        if draft.codes:
            self._declare(draft.codes)
        return RowDeclaration(
            draft.name,
            annotation,
            draft.offset,
            holds,
            "" if draft.label == draft.name else draft.label,
            draft.counts,
            draft.measures,
            draft.codes,
            draft.note,
            bool(draft.added),
            draft.added,
        )

    def _holds(self, record: RecordDraft, draft: FieldDraft) -> tuple[str, tuple[str, ...]]:
        """What a field is in Python, and the construct that reads it."""
        count = f"this.{draft.counted_by}"
        if (draft.bits or draft.measures or draft.codes) and draft.size not in INTEGERS:
            raise fault(draft.source, f"{draft.label} is no integer of 1, 2, 4 or 8 bytes")
        if draft.strides:
            return self._strided(record, draft, draft.strides, count)
        if draft.array:
            if not draft.counted_by and not draft.to_the_end:
                raise fault(draft.source, f"[[counts]] names no field that counts {draft.label}")
            self._declare(draft.array)
            return f"tuple[{draft.array}, ...]", ("Many", count if draft.counted_by else "None", draft.array)
        if draft.size is None:
            return "bytes", ("Bytes", count) if draft.counted_by else ("GreedyBytes",)
        if draft.size not in INTEGERS:
            return "bytes", ("Bytes", str(draft.size))
        if draft.bits:
            flags = self._flags(record, draft)
            return flags, ("Flags", INTEGERS[draft.size], flags)
        return "int", (INTEGERS[draft.size],)

    def _strided(
        self, record: RecordDraft, draft: FieldDraft, strides: Strides, count: str
    ) -> tuple[str, tuple[str, ...]]:
        measured = self.drafts.field(f"{record.name}.{strides.measured}", strides)
        if not measured.measures or not draft.counted_by:
            raise fault(
                strides.source, f"{strides.measured} has to measure {record.name}, and a field to count {draft.name}"
            )
        self.drafts.table_of_codes(strides.codes, strides)
        self._declare(strides.codes)
        entries = []
        for code, name in strides.records:
            part = self.drafts.record(name, strides)
            self.drafts.field(f"{name}.{strides.selector}", strides)
            if code not in self.members[strides.codes] or not part.is_fixed:
                raise fault(strides.source, f"{strides.codes} has no {code}, or {name} no fixed size")
            self._declare(name)
            entries.append((part.size, f"{strides.codes}.{code}", name))
        self.done[strides.union] = UnionDeclaration(strides.union, strides.constant, tuple(sorted(entries)))
        total = f"this.{strides.measured} - {draft.offset}"
        holds = ("Strided", total, count, f'"{strides.selector}"', strides.constant)
        return f"tuple[{strides.union} | bytes, ...]", holds

    def _flags(self, record: RecordDraft, draft: FieldDraft) -> str:
        """The name of the class of a field's bits, declared where it is not yet."""
        path = f"{record.name}.{draft.name}"
        entry = next((each for each in self.overlay.of(FlagNames) if path in each.fields), None)
        name = entry.name if entry else names.message_name(record.key) + names.camel(draft.name)
        naming, members = self._naming([bit.name for bit in draft.bits], entry.members if entry else {}, draft.source)
        bits = tuple((member, bit.first, bit.last) for member, bit in zip(members, draft.bits, strict=True))
        there = self.done.setdefault(name, FlagsDeclaration(name, record.key, draft.label, naming, bits))
        if not isinstance(there, FlagsDeclaration) or (there.naming, there.members) != (naming, bits):
            raise fault(draft.source, f"{name} has other bits already; [[flags]] tells them apart")
        return name

    def _codes(self, name: str, codes: CodesSpec) -> CodesDeclaration:
        naming, members = self._naming([code.name for code in codes.codes], {}, codes.source)
        rows = tuple((member, code.value, code.notes) for member, code in zip(members, codes.codes, strict=True))
        return CodesDeclaration(name, codes.key, naming, codes.columns, rows)

    def _members(self, codes: CodesSpec) -> dict[str, CodeSpec]:
        _, members = self._naming([code.name for code in codes.codes], {}, codes.source)
        return dict(zip(members, codes.codes, strict=True))

    def _naming(self, labels: list[str], given: Mapping[str, str], source: Source) -> tuple[Naming, list[str]]:
        """How the names of a table's members are made, and the members in their order."""
        prefix, suffix = names.affixes(labels)
        members, odd = [], {}
        for label in labels:
            inside = label.startswith(prefix) and label.endswith(suffix) and is_symbol(label)
            own = given.get(label) or names.constant(label[len(prefix) : len(label) - len(suffix)] if inside else label)
            if not names.is_name(own) or own in members:
                raise fault(source, f"{label!r} cannot be the name of a member")
            members.append(own)
            if f"{prefix}{own}{suffix}" != label:
                odd[own] = label
        return Naming(prefix, suffix, odd), members

    def _messages(self) -> Iterator[MappingDeclaration]:
        """Which record each command carries, and each reply."""
        table = next(
            (name for name, codes in self.drafts.codes.items() if codes.columns[1].casefold() == "command"), None
        )
        commands = self.members[table] if table else {}
        carried = self._carried(commands)
        for constant, message in (("REQUESTS", names.REQUEST), ("REPLIES", names.REPLY)):
            entries = []
            for member, code in commands.items():
                key = f"{code.name} / {names.REQUEST if code.name in self.same_reply else message}"
                if key not in carried:
                    problem = f"{key} has no table, and the overlay does not say that it is empty"
                    raise fault(code.source, problem)
                entries.append((f"{table}.{member}", carried[key]))
            if entries:
                what = "command" if message == names.REQUEST else "reply"
                comment = f"What each {what} carries; None where it carries nothing."
                yield MappingDeclaration(constant, comment, tuple(entries), optional=True)

    def _carried(self, commands: Mapping[str, CodeSpec]) -> dict[str, str]:
        """The record of each message that has one, "None" for the empty ones; all that the overlay says of them fits."""
        known = {code.name for code in commands.values()}
        carried = {key: name for key, name in self.by_key.items() if key.rpartition(" / ")[0] in known}
        for same in self.overlay.of(SameReply):
            for command in same.commands:
                if command not in known or f"{command} / {names.REPLY}" in carried:
                    raise fault(same.source, f"{command} is no command, or its reply has a table of its own")

        def carry(message: str, record: str, entry: Empty | Carries) -> None:
            command, _, section = message.rpartition(" / ")
            if command not in known or section not in (names.REQUEST, names.REPLY) or message in carried:
                raise fault(entry.source, f"{message} is no message of a command, or has a table")
            carried[message] = record

        for carries in self.overlay.of(Carries):
            for section, records in ((names.REQUEST, carries.requests), (names.REPLY, carries.replies)):
                for command, record in records.items():
                    self.drafts.record(record, carries)
                    carry(f"{command} / {section}", record, carries)
        for empty in self.overlay.of(Empty):
            for message in empty.messages:
                carry(message, "None", empty)
        return carried

    def _mappings(self) -> Iterator[MappingDeclaration]:
        for entry in self.overlay.of(Mappings):
            self.drafts.table_of_codes(entry.codes, entry)
            for code, record in entry.records.items():
                self.drafts.record(record, entry)
                if code not in self.members[entry.codes]:
                    raise fault(entry.source, f"{entry.codes} has no {code}")
            entries = tuple((f"{entry.codes}.{code}", record) for code, record in entry.records.items())
            yield MappingDeclaration(entry.constant, " ".join(entry.reason.split()), entries, optional=False)

    def _check_flags(self) -> None:
        """Each entry on bits names fields that have bits, and bits that are there."""
        for entry in self.overlay.of(FlagNames):
            bits = {bit.name for path in entry.fields for bit in self.drafts.field(path, entry).bits}
            for path in entry.fields:
                if not self.drafts.field(path, entry).bits:
                    raise fault(entry.source, f"{path} has no bits")
            for label in entry.members:
                if label not in bits:
                    raise fault(entry.source, f"there is no bit {label!r} in {entry.name}")
