"""Differences as text, as JSON and as Markdown."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from vfio_user_proto.specdoc.diff.change import RULES, UNTOUCHED, Change

Errata = Mapping[str, str]  # by Change.mark, the id of the erratum that accounts for it


def text(changes: Sequence[Change], errata: Errata | None) -> Iterator[str]:
    """One line per difference, as a compiler writes, then what the rules say; an erratum where a list of them is given."""
    for change in changes:
        verdicts = " ".join(f"{what} {verdict}," for what, verdict in _verdicts(change)).rstrip(",")
        tail = "" if errata is None else f" [{_erratum(change, errata) or 'unexplained'}]"
        yield f"{change.where}: {change} [{verdicts}: {change.rule}]{tail}"
    if changes:
        yield ""
        yield from (f"{rule}: {why}" for rule, why in _reasons(changes))
        yield ""
        yield count(changes)


def _verdicts(change: Change) -> list[tuple[str, str]]:
    both = (("request", change.request), ("reply", change.reply))
    return [(what, verdict) for what, verdict in both if verdict != UNTOUCHED]


def _erratum(change: Change, errata: Errata) -> str:
    return f"erratum {errata[change.mark]}" if change.mark in errata else ""


def _reasons(changes: Sequence[Change]) -> list[tuple[str, str]]:
    used = {change.rule for change in changes}
    return [(name, rule.why) for name, rule in RULES.items() if name in used]


def count(changes: Sequence[Change]) -> str:
    """How many differences there are, and how many of them break what."""
    parts = []
    for what, verdicts in (("requests", [c.request for c in changes]), ("replies", [c.reply for c in changes])):
        found = Counter(verdicts)
        parts.append(f"{what}: {found['breaking']} breaking, {found['compatible']} compatible")
    return f"{len(changes)} difference{'' if len(changes) == 1 else 's'}; {'; '.join(parts)}"


def as_dict(changes: Sequence[Change], errata: Errata | None) -> dict[str, object]:
    """The differences for programs; ``erratum`` is null where none accounts for one."""
    rows = [{**change.as_dict(), "erratum": (errata or {}).get(change.mark)} for change in changes]
    return {"changes": rows, "rules": {name: rule._asdict() for name, rule in RULES.items()}}


def markdown(changes: Sequence[Change], errata: Errata | None, old: str, new: str) -> Iterator[str]:
    """A page: per table its differences, at the end what the rules say."""
    yield from (f"# From {old} to {new}", "", f"{count(changes)}.", "")
    head = ["Change", "Requests", "Replies", "Rule", *(["Erratum"] if errata is not None else [])]
    for table, group in groupby(changes, key=lambda change: change.table):
        yield from (f"## {table}", "", _row(head), _row(["---"] * len(head)))
        for change in group:
            cells = [change.what, change.request, change.reply, change.rule]
            yield _row([*cells, *([errata.get(change.mark, "")] if errata is not None else [])])
        yield ""
    if changes:
        yield from ("## Rules", "", *(f"- **{rule}**: {why}" for rule, why in _reasons(changes)))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') or '-' for cell in cells)} |"
