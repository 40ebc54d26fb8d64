"""Names of sections and tables: how a table is found again in another revision, in the schemas and in the overlay.

A key is the path of a section's titles from the nearest one that is a symbol of the protocol: "VFIO_USER_DMA_MAP /
Request". It is the section's own title where none is: "Header". " #2" behind it is the second table of its kind there.
"""

import re

SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)+")
ORDINAL = re.compile(r" #(\d+)$")
SLASH = " / "
NO_SECTION = "(no section)"


def is_symbol(title: str) -> bool:
    """Whether a section is named after something of the protocol, or after several such things with slashes between."""
    return all(SYMBOL.fullmatch(part) for part in title.split(SLASH))


def section_key(titles: tuple[str, ...]) -> str:
    """The key of a section by the titles above it, the outermost first, its own the last."""
    for at in range(len(titles) - 1, -1, -1):
        if is_symbol(titles[at]):
            return SLASH.join(titles[at:])
    return titles[-1] if titles else NO_SECTION


def numbered(key: str, ordinal: int) -> str:
    """The key of the section's table number ``ordinal``, counted from 1."""
    return f"{key} #{ordinal}" if ordinal > 1 else key


def ordinal_of(key: str) -> int:
    """Which of the section's tables it is, counted from 1."""
    found = ORDINAL.search(key)
    return int(found[1]) if found else 1


def without_ordinal(key: str) -> str:
    """The key of the section in which a table stands."""
    return ORDINAL.sub("", key)


def titles_of(key: str) -> tuple[str, ...]:
    """The titles that a key was made of; symbols side by side are one title."""
    titles: list[str] = []
    for part in without_ordinal(key).split(SLASH):
        if titles and is_symbol(titles[-1]) and is_symbol(part):
            titles[-1] += SLASH + part
        else:
            titles.append(part)
    return tuple(titles)


def fold(text: str) -> str:
    """A name for comparing: revisions differ in case, in quotes, and in dashes, underscores or spaces between words."""
    return re.sub(r"[\s_`\"-]+", "", text.casefold())
