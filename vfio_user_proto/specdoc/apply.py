"""Applies an overlay to the layouts of a document: which field counts, measures, repeats or selects what.

The result are drafts: records and fields under their Python names, still to be written as declarations. An entry that
names something that is not there, or changes nothing, is an error with its line in the overlay.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from vfio_user_proto.specdoc import names
from vfio_user_proto.specdoc.keys import ORDINAL
from vfio_user_proto.specdoc.overlay import (
    Added,
    Arrays,
    CodesOf,
    Counts,
    Entry,
    Lists,
    Measures,
    Names,
    Overlay,
    Repeats,
    Strides,
)
from vfio_user_proto.specdoc.specs import (
    DOTS,
    BitSpec,
    CodesSpec,
    Document,
    JsonSpec,
    Kind,
    LayoutSpec,
    Source,
    ValuesSpec,
    fault,
)


@dataclass(slots=True)
class FieldDraft:
    """One field on its way to a row; ``label`` is the document's name for it, ``size`` None where it is variable.

    ``array`` names the record of which it holds as many as ``counted_by`` says, or all that come ``to_the_end``.
    """

    name: str
    label: str
    offset: int
    size: int | None
    source: Source
    bits: tuple[BitSpec, ...] = ()
    note: str = ""
    counts: str = ""
    counted_by: str = ""
    measures: bool = False
    codes: str = ""
    array: str = ""
    to_the_end: bool = False
    strides: Strides | None = None
    added: str = ""


@dataclass(slots=True)
class RecordDraft:
    """One record on its way to a class; ``part_of`` names the field that holds such records, if only that one does."""

    name: str
    key: str
    source: Source
    payload: str = ""
    part_of: str = ""
    fields: dict[str, FieldDraft] = field(default_factory=dict)

    @property
    def is_fixed(self) -> bool:
        """Whether every field has a size."""
        return all(each.size is not None for each in self.fields.values())

    @property
    def size(self) -> int:
        """Bytes of the fields whose size is fixed."""
        return sum(each.size or 0 for each in self.fields.values())


@dataclass(slots=True)
class Drafts:
    """Everything of a document under its Python names."""

    records: dict[str, RecordDraft] = field(default_factory=dict)
    codes: dict[str, CodesSpec] = field(default_factory=dict)
    values: dict[str, ValuesSpec] = field(default_factory=dict)
    json: dict[str, JsonSpec] = field(default_factory=dict)

    def record(self, name: str, entry: Entry) -> RecordDraft:
        """The record that an entry of the overlay names."""
        if name not in self.records:
            raise fault(entry.source, f"there is no record {name}")
        return self.records[name]

    def field(self, path: str, entry: Entry) -> FieldDraft:
        """The field that an entry names as "Record.field"."""
        record, _, name = path.partition(".")
        fields = self.record(record, entry).fields
        if name not in fields:
            raise fault(entry.source, f"{record} has no field {name!r}; there are {', '.join(fields)}")
        return fields[name]

    def table_of_codes(self, name: str, entry: Entry) -> CodesSpec:
        """The code table that an entry names."""
        if name not in self.codes:
            raise fault(entry.source, f"there is no code table {name}")
        return self.codes[name]


def apply(document: Document, overlay: Overlay) -> Drafts:
    """The drafts of a document; SpecError for the first entry of the overlay that does not fit it."""
    drafts = _named(document, overlay)
    for repeats in overlay.of(Repeats):
        _repeat(drafts, repeats)
    for added in overlay.of(Added):
        _add(drafts, added)
    for measures in overlay.of(Measures):
        found = [
            each for record in drafts.records.values() for each in record.fields.values() if each.name == measures.field
        ]
        if not found:
            raise fault(measures.source, f"no record has a field {measures.field}")
        for each in found:
            each.measures = True
    for codes in overlay.of(CodesOf):
        for path, name in codes.fields.items():
            drafts.table_of_codes(name, codes)
            drafts.field(path, codes).codes = name
    for counts in overlay.of(Counts):
        for path, counted in counts.fields.items():
            _count(drafts, path, counted, counts)
    for arrays in overlay.of(Arrays):
        for path, element in arrays.fields.items():
            _element(drafts, path, element, arrays)
    for lists in overlay.of(Lists):
        _list(drafts, lists)
    for strides in overlay.of(Strides):
        drafts.field(strides.field, strides).strides = strides
    return drafts


def _count(drafts: Drafts, path: str, counted: str, entry: Counts) -> None:
    """A number that says how long a later field is."""
    counter = drafts.field(path, entry)
    field = drafts.field(f"{path.partition('.')[0]}.{counted}", entry)
    if counter.size is None or field.size is not None or counter.offset >= field.offset:
        raise fault(
            entry.source, f"{path} is a number, and {counted} behind it of variable size, or it cannot count it"
        )
    counter.counts, field.counted_by = counted, counter.name


def _named(document: Document, overlay: Overlay) -> Drafts:
    """All tables under their names, records with their fields."""
    taken: dict[str, Source] = {}
    layouts = _names(overlay, "records", document.of(LayoutSpec), names.record_name, taken)
    drafts = Drafts(
        codes=_names(overlay, "codes", document.of(CodesSpec), names.record_name, taken),
        values=_names(overlay, "values", document.of(ValuesSpec), names.table_name, taken),
        json=_names(overlay, "json", document.of(JsonSpec), names.table_name, taken),
    )
    for name, layout in layouts.items():
        record = drafts.records[name] = RecordDraft(name, layout.key, layout.source)
        for spec in layout.fields:
            if spec.is_payload:
                record.payload = spec.name
                continue
            own = names.snake(spec.name)
            if not names.is_name(own) or own in record.fields:
                raise fault(spec.source, f"{spec.name!r} cannot be a field of {name}")
            record.fields[own] = FieldDraft(own, spec.name, spec.offset, spec.size, spec.source, spec.bits, spec.note)
        if layout.repeats and all(entry.table != name for entry in overlay.of(Repeats)):
            raise fault(layout.source, f"{name} ends with dots; [[repeats]] says of what")
    return drafts


def _names(
    overlay: Overlay, kind: str, tables: Mapping[str, Kind], rule: Callable[[str], str], taken: dict[str, Source]
) -> dict[str, Kind]:
    """The tables of one kind by the names that the overlay gives them, or the rule."""
    given: dict[str, str] = {}
    for entry in overlay.of(Names):
        for key, name in getattr(entry, kind).items():
            if key not in tables:
                raise fault(entry.source, f"{kind}: there is no such table in a section {key!r}")
            given[key] = name
    named: dict[str, Kind] = {}
    for key, table in tables.items():
        name, at = given.get(key) or rule(key), table.source
        if not names.is_name(name):
            raise fault(at, f"{name!r} is no name for Python; [[names]] gives another")
        if name in taken:
            raise fault(at, f"{name} is the table of line {taken[name].line} already; [[names]] tells them apart")
        taken[name] = at
        named[name] = table
    return named


def _repeat(drafts: Drafts, entry: Repeats) -> None:
    """Turn the rows above the dots into a record of their own, and a field that holds many of them."""
    record = drafts.record(entry.table, entry)
    if entry.record in drafts.records:
        raise fault(entry.source, f"there is a record {entry.record} already")
    if tuple(record.fields)[-len(entry.rows) :] != entry.rows:
        raise fault(entry.source, f"the last rows of {record.name} are not {', '.join(entry.rows)}")
    rows = [record.fields.pop(name) for name in entry.rows]
    part = RecordDraft(entry.record, record.key, record.source, part_of=entry.field)
    for each in rows:
        part.fields[each.name] = replace(each, offset=each.offset - rows[0].offset)
    drafts.records[part.name] = part
    record.fields[entry.field] = FieldDraft(entry.field, DOTS, rows[0].offset, None, rows[0].source, array=part.name)


def _add(drafts: Drafts, entry: Added) -> None:
    """A field of bytes behind the last row."""
    record = drafts.record(entry.record, entry)
    if entry.field in record.fields:
        raise fault(entry.source, f"{record.name} has a field {entry.field} already")
    if not record.is_fixed:
        raise fault(entry.source, f"{record.name} ends with a field of variable size, nothing stands behind that")
    record.fields[entry.field] = FieldDraft(
        entry.field, entry.field, record.size, None, entry.source, added=" ".join(entry.reason.split())
    )


def _list(drafts: Drafts, entry: Lists) -> None:
    """A record that has no table of its own: nothing but records of one kind."""
    part = drafts.record(entry.of, entry)
    if entry.record in drafts.records or not part.is_fixed:
        raise fault(entry.source, f"there is a record {entry.record} already, or {entry.of} has no fixed size")
    part.part_of = entry.field
    added = " ".join(entry.reason.split())
    each = FieldDraft(entry.field, entry.field, 0, None, entry.source, array=part.name, to_the_end=True, added=added)
    drafts.records[entry.record] = RecordDraft(entry.record, part.key, part.source, fields={entry.field: each})


def _element(drafts: Drafts, path: str, element: str, entry: Arrays) -> None:
    """A field that holds records; where they have no section of their own, their table belongs to the field."""
    draft, part = drafts.field(path, entry), drafts.record(element, entry)
    if not part.is_fixed:
        raise fault(entry.source, f"{element} has a field of variable size; many of them cannot be told apart")
    draft.array = element
    if ORDINAL.search(part.key):
        part.part_of = draft.name
