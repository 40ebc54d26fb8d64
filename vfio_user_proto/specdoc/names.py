"""The Python names that follow from the document's own; the overlay names the rest."""

import keyword
import re
from itertools import takewhile

from vfio_user_proto.specdoc.keys import ORDINAL, is_symbol, ordinal_of, titles_of

FAMILIES = ("VFIO_USER_", "VFIO_DEVICE_", "VFIO_")
REQUEST, REPLY = "Request", "Reply"  # the sections of a command
OF_EACH = ("request", "reply", "message format", "table entry format")  # sections that several commands have


def camel(text: str) -> str:
    """``DmaMap`` of DMA_MAP, ``VfioCapHeaderFormat`` of "VFIO cap header format"."""
    return "".join(word.capitalize() for word in re.split(r"[^A-Za-z0-9]+", text) if word)


def snake(text: str) -> str:
    """``message_id`` of "Message ID"."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def constant(text: str) -> str:
    """``NO_REPLY`` of "No_reply"."""
    return snake(text).upper()


def without_family(symbol: str) -> str:
    """A symbol without the VFIO_USER_ that all have; of several with slashes between, each without its own."""
    return " ".join(
        next((one.removeprefix(f) for f in FAMILIES if one.startswith(f)), one) for one in symbol.split(" / ")
    )


def own_titles(key: str) -> tuple[str, ...]:
    """What a section is called: its title, with the command in front of one that several commands have."""
    titles = titles_of(key)
    return titles[-2:] if titles[-1].casefold() in OF_EACH else titles[-1:]


def record_name(key: str) -> str:
    """``DmaMapRequest`` of "VFIO_USER_DMA_MAP / Request"; of other sections the name of the innermost."""
    name = "".join(camel(without_family(title)) for title in own_titles(key))
    return f"{name}{ordinal_of(key)}" if ORDINAL.search(key) else name


def table_name(key: str) -> str:
    """``VERSION_MESSAGE_FORMAT`` of "VFIO_USER_VERSION / Message format", for a table that is no class."""
    return constant(" ".join(without_family(title) for title in own_titles(key)))


def message_name(key: str) -> str:
    """``DmaMap`` for both messages of VFIO_USER_DMA_MAP, which share the names of bits; else the record's name."""
    return record_name(key).removesuffix(titles_of(key)[-1] if titles_of(key)[-1] in (REQUEST, REPLY) else "")


def affixes(names: list[str]) -> tuple[str, str]:
    """What all symbols among the names begin and end with, cut at an underscore; "" where they share nothing.

    What is left of each is a name too.
    """
    symbols = [name for name in names if is_symbol(name) and name.isupper()]
    if len(symbols) < 2:
        return "".join(symbol[: symbol.rfind("_") + 1] for symbol in symbols), ""
    prefix, tail = _shared(symbols), _shared([symbol[::-1] for symbol in symbols])[::-1]
    prefix, suffix = prefix[: prefix.rfind("_") + 1], tail[tail.find("_") :] if "_" in tail else ""
    while prefix and not all(is_name(symbol.removeprefix(prefix)) for symbol in symbols):
        prefix = prefix[: prefix.rfind("_", 0, -1) + 1]  # IOREGIONFD_SIZE_8BIT is SIZE_8BIT for short, not 8BIT
    return prefix, suffix if all(len(symbol) > len(prefix) + len(suffix) for symbol in symbols) else ""


def _shared(names: list[str]) -> str:
    """What all the names begin with."""
    return "".join(
        letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    )


def is_name(text: str) -> bool:
    """Whether Python takes ``text`` for the name of a field, a member or a class."""
    return text.isidentifier() and not keyword.iskeyword(text)
