"""Python expressions as lines of at most 120 characters, broken where ``ruff format`` breaks them."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 120
STEP = 4


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal, which may be broken between words."""

    value: str


@dataclass(frozen=True, slots=True)
class Group:
    """Items between brackets: ``opening`` is "row(" or "labels={", ``closing`` its partner with what follows.

    ``literal`` is a list, a tuple or a dict, which is broken item by item; a call is first tried with all items on one
    line. ``exploded`` has one item per line even where all would fit.
    """

    opening: str
    items: Sequence["Code"]
    closing: str
    literal: bool = False
    exploded: bool = False


Code = str | Text | Group


def quoted(text: str) -> str:
    """``text`` as a literal, in those quotes of which it holds fewer, double ones where it is all the same."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + text.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


def flat(code: Code) -> str:
    """The expression on one line."""
    if isinstance(code, str):
        return code
    if isinstance(code, Text):
        return quoted(code.value)
    single = code.literal and code.opening.endswith("(") and len(code.items) == 1
    return code.opening + ", ".join(flat(item) for item in code.items) + ("," if single else "") + code.closing


def lines(code: Code, indent: int = 0, before: str = "", after: str = "") -> list[str]:
    """The expression between ``before`` and ``after``, as lines indented by ``indent`` spaces."""
    space = " " * indent
    whole = space + before + flat(code) + after
    if isinstance(code, str) or (len(whole) <= WIDTH and not _has_exploded(code)):
        return [whole]
    if isinstance(code, Text):
        return _broken(code.value, indent, before, after)
    inner = space + " " * STEP + ", ".join(flat(item) for item in code.items)
    if len(inner) <= WIDTH and not code.literal and not _has_exploded(code):
        return [space + before + code.opening, inner, space + code.closing + after]
    body = [line for item in code.items for line in lines(item, indent + STEP, after=",")]
    return [space + before + code.opening, *body, space + code.closing + after]


def _has_exploded(code: Code) -> bool:
    return isinstance(code, Group) and (code.exploded or any(_has_exploded(item) for item in code.items))


def _broken(text: str, indent: int, before: str, after: str) -> list[str]:
    """A long literal as several, one per line, each but the last with the blank that stood behind it."""
    room, parts = WIDTH - indent - len(after), [""]
    for word in text.split(" "):
        if len(quoted(f"{parts[-1]}{word} ")) > room:
            parts.append("")
        parts[-1] += f"{word} "
    parts[-1] = parts[-1][:-1]
    literals = [quoted(part) for part in parts]
    literals[0] = before + literals[0]
    literals[-1] += after
    return [" " * indent + literal for literal in literals]
