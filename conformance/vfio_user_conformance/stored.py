"""JSON reports read again, and two of them compared."""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vfio_user_conformance.about import told
from vfio_user_conformance.verdict import FAILING, FINDINGS, Outcome
from vfio_user_conformance.words import plural
from vfio_user_proto.errors import UsageError


class Entry(NamedTuple):
    """How one case ended: ``finding`` where that counted against the target, ``known`` where it was expected."""

    outcome: Outcome
    reason: str
    known: bool
    finding: bool

    def __str__(self) -> str:
        return f"{self.outcome} (known)" if self.known else str(self.outcome)


@dataclass(frozen=True)
class Stored:
    """One report, as far as it is compared: its file, what was run against what, and how each case ended."""

    file: str
    suite: str
    spec: str
    target: str
    profile: str
    seed: int | None
    verdict: str
    cut_short: str
    summary: Mapping[str, int]
    results: Mapping[str, Entry]

    @property
    def about(self) -> str:
        return told(self.target, self.profile, self.seed, self.suite, self.spec)


def load(path: Path) -> Stored:
    """Read what ``--json`` has written. Raises UsageError."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: this is no JSON") from None
    try:
        return _stored(str(path), content)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise UsageError(f"{path}: this is no report of vfio-user conformance server --json") from None


def _stored(file: str, content: dict[str, Any]) -> Stored:
    counted = FINDINGS if content.get("strict") else FAILING
    return Stored(
        file,
        _text(content["suite"]),
        _text(content["spec"]),
        _text(content["target"]),
        _text(content.get("profile", "")),
        content.get("seed"),
        _text(content.get("verdict", "")),
        _text(content.get("cut_short") or ""),
        {str(Outcome(name)): int(count) for name, count in content["summary"].items()},
        {_text(result["id"]): _entry(result, counted) for result in content["results"]},
    )


def _entry(result: dict[str, Any], counted: frozenset[Outcome]) -> Entry:
    outcome, known = Outcome(result["outcome"]), bool(result.get("known"))
    return Entry(outcome, _text(result["reason"]), known, outcome in counted and not known)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


@dataclass(frozen=True)
class Changes:
    """What differs between two reports: lines for each kind of change, from the worst on.

    ``added`` and ``gone`` are the names of cases that only one of them has, ``same`` is how many are as they were.
    """

    old: Stored
    new: Stored
    worse: tuple[str, ...]
    fixed: tuple[str, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]
    same: int

    @property
    def text(self) -> str:
        """The comparison for people; quiet about what is as it was."""
        kinds = (
            ("newly failing", self.worse),
            ("fixed", self.fixed),
            ("changed class", self.changed),
        )
        lines = [f"old: {self.old.about}", f"new: {self.new.about}", ""]
        lines += [f"{kind}: {line}" for kind, found in kinds for line in found]
        lines += [*_only("new", self.added, self.new, self.old), *_only("old", self.gone, self.old, self.new)]
        if self.new.cut_short:
            lines.append(f"the new run did not come to its end: {self.new.cut_short}")
        counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds)
        return "\n".join([*lines, f"{plural(self.same, 'case')} as before, {counts}"]) + "\n"


def compare(old: Stored, new: Stored) -> Changes:
    """What has changed. A finding is newly failing where the old report has none for this case, or has no such case."""
    worse, fixed, changed, added, same = list[str](), list[str](), list[str](), list[str](), 0
    for ident, now in new.results.items():
        before = old.results.get(ident)
        if now.finding and not (before and before.finding):
            was = f"{before}, now" if before else "not run before, now"
            worse.append(f"{ident}: {was} {now}: {now.reason}")
        elif before is None:
            added.append(ident)
        elif before.finding and not now.finding:
            fixed.append(f"{ident}: {before}, now {now}")
        elif str(before) != str(now):
            changed.append(f"{ident}: {before}, now {now}")
        else:
            same += 1
    gone = tuple(ident for ident in old.results if ident not in new.results)
    return Changes(old, new, tuple(worse), tuple(fixed), tuple(changed), tuple(added), gone, same)


def _only(name: str, idents: Collection[str], here: Stored, there: Stored) -> Iterator[str]:
    """One line on the cases that only one of two reports has: sections by their name, where all of one is missing."""
    if not idents:
        return
    told = []
    for section, count in Counter(map(_section, idents)).items():
        whole = section not in map(_section, there.results)
        every = sum(_section(ident) == section for ident in here.results)
        alone = next(ident for ident in idents if _section(ident) == section)
        told.append(alone if count == 1 else f"{section}/*" if whole else f"{section}/* ({count} of {every})")
    failing = sum(here.results[ident].finding for ident in idents)
    also = f", {failing} of them failing" if failing else ""
    yield f"{plural(len(idents), 'case')} only in {name}{also}: {', '.join(told)}"


def _section(ident: str) -> str:
    return ident.partition("/")[0]
