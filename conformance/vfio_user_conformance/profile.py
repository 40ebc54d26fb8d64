"""What no probe can know of a target, and what is known to be wrong with it: the files in targets/."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from vfio_user_conformance import recipes
from vfio_user_conformance.recipes import Dma, Doorbell, Interrupt, Poke, check
from vfio_user_conformance.verdict import FINDINGS, Known, Outcome
from vfio_user_proto.errors import UsageError

# What a case may do to a target only when that was allowed.
HAZARDS: Mapping[str, str] = {
    "reset": "resets the device",
    "irq": "sets and triggers interrupts",
    "migration": "changes the migration state",
    "write": "writes to regions outside the scratch bytes",
    "stress": "sends a lot, or takes long",
}


@dataclass(frozen=True)
class Scratch:
    """Bytes of a region that may be overwritten; ``keeps`` where they are memory, so that they read as written."""

    region: int
    offset: int
    size: int
    keeps: bool = True


@dataclass(frozen=True)
class Profile:
    """One target file; ``dma`` and ``irqs`` tell how to make the device act, ``doorbells`` where it shows what reached it.

    ``setup`` is written to it at the beginning of each session, as whoever drives such a device does first.
    """

    name: str = ""
    version: str = ""
    scratch: Scratch | None = None
    allow: frozenset[str] = frozenset()
    setup: tuple[Poke, ...] = ()
    dma: tuple[Dma, ...] = ()
    irqs: tuple[Interrupt, ...] = ()
    doorbells: tuple[Doorbell, ...] = ()
    known: tuple[Known, ...] = ()


def path_of(source: str) -> Path:
    """Where a target file is: ``source`` itself, or the one of that name that comes with the suite."""
    if "/" in source or source.endswith(".toml"):
        return Path(source)
    return Path(str(files("vfio_user_conformance"))) / "targets" / f"{source}.toml"


def load(source: str) -> Profile:
    """Read a target file, by path or by the name of one that comes with the suite. Raises UsageError."""
    path = path_of(source)
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        if path == Path(source):
            raise UsageError(f"{source}: {error.strerror}") from None
        names = ", ".join(sorted(each.stem for each in path.parent.glob("*.toml")))
        file = f"; the file of that name is ./{source}" if Path(source).exists() else ""
        raise UsageError(f"{source}: no such profile comes with the suite, but {names}{file}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{source}: {error}") from None
    try:
        return parse(content)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None


def parse(content: dict[str, Any]) -> Profile:
    """What a target file holds. Raises ValueError with a sentence where that cannot be used."""
    check(
        content,
        "the file",
        optional=("name", "version", "scratch", "allow", "setup", "dma", "irq", "doorbell", "known"),
    )
    return Profile(
        name=_text("the file", "name", content.get("name", "")),
        version=_text("the file", "version", content.get("version", "")),
        scratch=_scratch(content["scratch"]) if "scratch" in content else None,
        allow=allowed(_names("allow", content.get("allow", []))),
        setup=recipes.setup(content.get("setup", [])),
        dma=recipes.dma(content.get("dma", [])),
        irqs=recipes.irqs(content.get("irq", [])),
        doorbells=recipes.doorbells(content.get("doorbell", [])),
        known=tuple(_known(entry) for entry in recipes.list_of_tables("[[known]]", content.get("known", []))),
    )


def _text(where: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} has the {name} {value!r}, which is no text")
    return value


def _names(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} is {value!r}, which is no list of texts")
    return value


def _scratch(value: object) -> Scratch:
    table = recipes.a_table("[scratch]", value)
    check(table, "[scratch]", ("region", "offset", "size"), ("keeps",))
    keeps = table.get("keeps", True)
    if not isinstance(keeps, bool):
        raise ValueError(f"[scratch] has keeps = {keeps!r}, which is neither true nor false")
    region, offset, size = (
        recipes.a_number("[scratch]", name, table[name], bits)
        for name, bits in (("region", 32), ("offset", 64), ("size", 64))
    )
    if not size:
        raise ValueError("[scratch] has the size 0; leave it out where nothing may be overwritten")
    return Scratch(region, offset, size, keeps)


def _known(entry: dict[str, Any]) -> Known:
    check(entry, "[[known]]", ("case", "class", "reason"), ("link", "expires", "sometimes"))
    for name in ("case", "class", "reason", "link"):
        _text("[[known]]", name, entry.get(name, ""))
    about = f"the known finding {entry['case']!r}"
    if not entry["reason"].strip():
        raise ValueError(f"{about} needs a reason")
    expires = entry.get("expires")
    if expires is not None and (not isinstance(expires, date) or isinstance(expires, datetime)):
        raise ValueError(f"{about} expires on a day, such as 2027-01-01, without quotes")
    outcome = _outcome(entry["class"], FINDINGS, f"{about} has the class")
    sometimes = frozenset(
        _outcome(each, list(Outcome), f"{about} is sometimes")
        for each in _names("sometimes", entry.get("sometimes", []))
    )
    return Known(entry["case"], outcome, entry["reason"], entry.get("link", ""), expires, sometimes)


def _outcome(name: str, valid: Collection[Outcome], about: str) -> Outcome:
    """The class that a file names. Raises ValueError where it is not ``valid``."""
    if name not in list(valid):
        raise ValueError(f"{about} {name!r}, which is none of {', '.join(sorted(valid))}")
    return Outcome(name)


def allowed(names: list[str]) -> frozenset[str]:
    """Check names of hazards; "all" is all of them. Raises ValueError."""
    if wrong := [name for name in names if name not in HAZARDS and name != "all"]:
        raise ValueError(f"{wrong[0]!r} is none of {', '.join(HAZARDS)}, all")
    return frozenset(HAZARDS) if "all" in names else frozenset(names)


def update_known(path: Path, known: Sequence[Known]) -> None:
    """Write ``known`` in place of the entries of the target file ``path``, which end it. Raises UsageError."""
    try:
        text = path.read_text()
        head = text[: text.find("[[known]]")] if "[[known]]" in text else text
        path.write_text("\n".join([head.rstrip() + "\n", *map(_dump, known)]))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _dump(entry: Known) -> str:
    fields = {"case": entry.case, "class": entry.outcome, "reason": entry.reason, "link": entry.link}
    lines = [f"{name} = {_quoted(value)}" for name, value in fields.items() if value]
    lines += [f"sometimes = [{', '.join(map(_quoted, sorted(entry.sometimes)))}]"] if entry.sometimes else []
    lines += [f"expires = {entry.expires}"] if entry.expires else []
    return "\n".join(["[[known]]", *lines]) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
