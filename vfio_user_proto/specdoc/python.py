"""Declarations to the text of a Python module, formatted as ``ruff format`` would leave it."""

import re
import textwrap
from collections.abc import Iterable, Sequence

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
from vfio_user_proto.specdoc.layout import STEP, WIDTH, Code, Group, Text, lines, quoted
from vfio_user_proto.specdoc.names import own_titles

CLASSES = (FlagsDeclaration, CodesDeclaration, RecordDeclaration)
CONSTRUCT = re.compile(r"(?:Greedy)?Bytes|Int\d+un")
# What a declaration takes from the model.
MAKES: dict[type[Declaration], tuple[str, ...]] = {
    FlagsDeclaration: ("Bits",),
    CodesDeclaration: ("Codes",),
    RecordDeclaration: ("Record", "row"),
    MappingDeclaration: ("Record",),
    JsonDeclaration: ("JsonMember", "JsonTable"),
    ValuesDeclaration: ("ValueTable",),
}


def python(module: Module) -> str:
    """The text of the module; the same declarations give the same text."""
    parts, above = _head(module), None
    for declaration in module.declarations:
        apart = isinstance(declaration, CLASSES) or isinstance(above, CLASSES)
        parts += ["", *([""] if apart else []), *_declaration(declaration)]
        above = declaration
    return "\n".join(parts) + "\n"


def _head(module: Module) -> list[str]:
    """The mark of a generated file, the docstring, and the imports that the declarations need."""
    words = {
        word
        for each in module.declarations
        if isinstance(each, RecordDeclaration)
        for r in each.rows
        for word in r.holds
    }
    construct = {word for word in words if CONSTRUCT.fullmatch(word)}
    construct |= {"this" for word in words if word.startswith("this.")}
    model = {name for declaration in module.declarations for name in MAKES.get(type(declaration), ())}
    model |= words & {"Flags", "Many", "Strided"}
    mappings = any(isinstance(each, UnionDeclaration | MappingDeclaration) for each in module.declarations)
    return [
        f'# GENERATED from {module.document} and {module.overlay} by "vfio-user spec generate"; do not edit.',
        _docstring(module.says),
        "",
        *(["from collections.abc import Mapping", ""] if mappings else []),
        *([*_import("construct", construct), ""] if construct else []),
        *_import("vfio_user_proto.model", model),
        *(["", f"VERSION = {quoted(module.version)}"] if module.version else []),
    ]


def _import(module: str, names: Iterable[str]) -> list[str]:
    """An import in the order that the linter wants: classes before functions, numbers inside names by their value."""

    def order(name: str) -> tuple[bool, list[tuple[int, str]]]:
        return name[0].islower(), [(int(part or 0), rest) for rest, part in re.findall(r"(\D+)(\d*)", name)]

    found = sorted(names, key=order)
    short = f"from {module} import {', '.join(found)}"
    return [short] if len(short) <= WIDTH else lines(Group(f"from {module} import (", found, ")", exploded=True))


def _declaration(declaration: Declaration) -> list[str]:
    match declaration:
        case FlagsDeclaration():
            return _flags(declaration)
        case CodesDeclaration():
            return _codes(declaration)
        case RecordDeclaration():
            return _record(declaration)
        case UnionDeclaration():
            return _union(declaration)
        case MappingDeclaration():
            return _mapping(declaration)
        case JsonDeclaration():
            members = [
                Group("JsonMember(", [quoted(m.name), quoted(m.type), Text(m.description)], ")")
                for m in declaration.members
            ]
            return _table(declaration.constant, "JsonTable", declaration.key, members)
        case ValuesDeclaration():
            rows = [Group("(", [quoted(name), Text(value)], ")", literal=True) for name, value in declaration.rows]
            return _table(declaration.constant, "ValueTable", declaration.key, rows)


def _class(name: str, arguments: list[Code], says: str, body: list[str]) -> list[str]:
    return [*lines(Group(f"class {name}(", arguments, "):")), f"    {_docstring(says)}", "", *body]


def _docstring(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{escaped}"""'


def _naming(naming: Naming) -> list[Code]:
    """The arguments of a class that tell how names are made; what is empty is left out."""
    arguments: list[Code] = [
        f"{n}={quoted(text)}" for n, text in (("prefix", naming.prefix), ("suffix", naming.suffix)) if text
    ]
    if naming.labels:
        labels = [f"{quoted(name)}: {quoted(label)}" for name, label in naming.labels.items()]
        arguments.append(Group("labels={", labels, "}", literal=True))
    return arguments


def _flags(flags: FlagsDeclaration) -> list[str]:
    body = []
    for name, first, last in flags.members:
        mask = (1 << (last - first + 1)) - 1
        value = f"1 << {first}" if first == last else f"0x{mask:X}" if first == 0 else f"0x{mask:X} << {first}"
        body.append(f"    {name} = {value}")
    says = f"{', '.join(own_titles(flags.key))}, bits of {flags.field}."
    return _class(flags.name, ["Bits", f"section={quoted(flags.key)}", *_naming(flags.naming)], says, body)


def _codes(codes: CodesDeclaration) -> list[str]:
    columns = Group("columns=(", [quoted(title) for title in codes.columns], ")", literal=True)
    body = []
    for name, value, notes in codes.members:
        short = f"    {name} = {', '.join([str(value), *(quoted(note) for note in notes)])}"
        row = Group("(", [str(value), *(Text(note) for note in notes)], ")", literal=True)
        body += [short] if len(short) <= WIDTH else lines(row, STEP, before=f"{name} = ")
    arguments = ["Codes", f"section={quoted(codes.key)}", *_naming(codes.naming), columns]
    return _class(codes.name, arguments, f"{', '.join(own_titles(codes.key))}.", body)


def _record(record: RecordDeclaration) -> list[str]:
    payload = [f"payload={quoted(record.payload)}"] if record.payload else []
    body = [line for row in record.rows for line in _row(row)]
    return _class(record.name, ["Record", f"section={quoted(record.key)}", *payload], record.says, body)


def _row(row: RowDeclaration) -> list[str]:
    """One field, its comment above it."""
    holds: Code = row.holds[0] if len(row.holds) == 1 else Group(f"{row.holds[0]}(", row.holds[1:], ")")
    arguments: list[Code] = [str(row.offset), holds]
    arguments += [quoted(row.label)] if row.label else []
    arguments += [f"counts={quoted(row.counts)}"] if row.counts else []
    arguments += ["measures=True"] if row.measures else []
    arguments += [f"codes={row.codes}"] if row.codes else []
    arguments += [f"note={quoted(row.note)}"] if row.note else []
    arguments += ["added=True"] if row.added else []
    comment = _comment(row.comment, STEP) if row.comment else []
    return comment + lines(Group("row(", arguments, ")"), STEP, before=f"{row.name}: {row.annotation} = ")


def _comment(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent + "# ", subsequent_indent=" " * indent + "# ")


def _union(union: UnionDeclaration) -> list[str]:
    names = list(dict.fromkeys(record for _, _, record in union.entries))
    alias = f"{union.name} = {' | '.join(names)}"
    whole = (
        [alias]
        if len(alias) <= WIDTH
        else [f"{union.name} = (", *(f"    {'| ' if at else ''}{n}" for at, n in enumerate(names)), ")"]
    )
    entries = [f"({size}, {code}): {record}" for size, code, record in union.entries]
    table = Group("{", entries, "}", literal=True, exploded=True)
    return [*whole, *lines(table, before=f"{union.constant}: Mapping[tuple[int, int], type[{union.name}]] = ")]


def _mapping(mapping: MappingDeclaration) -> list[str]:
    kind = "type[Record] | None" if mapping.optional else "type[Record]"
    table = Group("{", [f"{key}: {value}" for key, value in mapping.entries], "}", literal=True, exploded=True)
    return [*_comment(mapping.comment), *lines(table, before=f"{mapping.constant}: Mapping[int, {kind}] = ")]


def _table(constant: str, kind: str, key: str, rows: Sequence[Code]) -> list[str]:
    return lines(Group(f"{kind}(", [quoted(key), Group("(", rows, ")", literal=True)], ")"), before=f"{constant} = ")
