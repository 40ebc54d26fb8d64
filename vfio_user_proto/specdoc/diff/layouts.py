"""Differences of two layouts: fields and bits."""

from collections.abc import Iterator, Sequence

from vfio_user_proto.specdoc.diff import pairs
from vfio_user_proto.specdoc.diff.change import Change
from vfio_user_proto.specdoc.keys import fold
from vfio_user_proto.specdoc.specs import BitSpec, FieldSpec, LayoutSpec


def layout(label: str, old: LayoutSpec, new: LayoutSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    """The differences of two forms of a layout; ``label`` is the name that they give it."""

    def change(subject: str, aspect: str, was: str, now: str, at: FieldSpec | LayoutSpec, rule: str) -> Change:
        return Change(label, subject, aspect, was, now, at.source, rule, directions)

    def same_place(was: FieldSpec, now: FieldSpec) -> bool:
        return (was.offset, was.size) == (now.offset, now.size)

    for was, now in pairs.rows(old.fields, new.fields, same_place, lone=True):
        if now is None and was is not None:
            rule = "tail-removed" if was.size is None else "field-removed"
            yield change(was.name, "row", _place(was), "", was, rule)
        elif was is None and now is not None:
            yield change(now.name, "row", "", _place(now), now, _rule_of_added(old, now))
        elif was is not None and now is not None:
            if fold(was.name) != fold(now.name):
                yield change(was.name, "name", was.name, now.name, was, "field-renamed")
            if was.offset != now.offset:
                yield change(was.name, "offset", str(was.offset), str(now.offset), was, "field-moved")
            if was.size != now.size:
                yield change(was.name, "size", size(was.size), size(now.size), was, "field-resized")
            yield from _bits(label, was, now, directions)
    if old.repeats != new.repeats:
        words = {True: "rows above repeated", False: "none"}
        yield change("", "dots", words[old.repeats], words[new.repeats], old, "dots-changed")


def _rule_of_added(old: LayoutSpec, field: FieldSpec) -> str:
    """A field behind all others does less harm, if it can be empty or the layout tells its own size."""
    if field.offset < old.fixed_size or any(each.size is None for each in old.fields):
        return "field-added"
    if field.size is None:
        return "tail-added"
    return "field-appended" if old.fields and old.fields[0].name == "argsz" else "field-added"


def _bits(label: str, was: FieldSpec, now: FieldSpec, directions: tuple[str, ...]) -> Iterator[Change]:
    def change(subject: str, aspect: str, old: str, new: str, at: BitSpec | FieldSpec, rule: str) -> Change:
        return Change(label, subject, aspect, old, new, at.source, rule, directions)

    if bool(was.bits) != bool(now.bits):
        rule = "bit-removed" if was.bits else "bit-added"
        yield change(was.name, "bits", _names(was), _names(now), was, rule)
        return

    def same_place(old: BitSpec, new: BitSpec) -> bool:
        return (old.first, old.last) == (new.first, new.last) and pairs.alike(old.name, new.name)

    for old, new in pairs.rows(was.bits, now.bits, same_place):
        if new is None and old is not None:
            rule = "number-reused" if _meets(old, now.bits) else "bit-removed"
            yield change(f"{was.name}.{old.name}", "row", _span(old), "", old, rule)
        elif old is None and new is not None:
            rule = "number-reused" if _meets(new, was.bits) else "bit-added"
            yield change(f"{was.name}.{new.name}", "row", "", _span(new), new, rule)
        elif old is not None and new is not None:
            subject = f"{was.name}.{old.name}"
            if fold(old.name) != fold(new.name):
                yield change(subject, "name", old.name, new.name, old, "bit-renamed")
            if _span(old) != _span(new):
                yield change(subject, "bit", _span(old), _span(new), old, "bit-moved")


def _meets(bit: BitSpec, others: Sequence[BitSpec]) -> bool:
    """Whether the other text has something else at the place of a bit."""
    return any(bit.first <= other.last and other.first <= bit.last for other in others)


def _place(field: FieldSpec) -> str:
    return f"offset {field.offset}, size {size(field.size)}"


def size(count: int | None) -> str:
    """A size in words."""
    if count is None:
        return "variable"
    return "1 byte" if count == 1 else f"{count} bytes"


def _names(field: FieldSpec) -> str:
    return f"bits {', '.join(bit.name for bit in field.bits)}" if field.bits else ""


def _span(bit: BitSpec) -> str:
    return f"bit {bit.first}" if bit.first == bit.last else f"bits {bit.first}-{bit.last}"
