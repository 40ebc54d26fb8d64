"""Names of numbers, both ways: flags as "REPLY|ERROR", codes as "VFIO_USER_DMA_MAP"."""

import difflib
import errno
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import DeviceFeature, DeviceFeatureFlags, HeaderFlags, MessageType
from vfio_user_proto.model import Bits, Codes, name_of

# What the bits of a mask hold, where that has names.
_MASKS: Final[Mapping[type[Bits], tuple[Bits, type[Codes]]]] = {
    HeaderFlags: (HeaderFlags.TYPE, MessageType),
    DeviceFeatureFlags: (DeviceFeatureFlags.INDEX, DeviceFeature),
}


def flags_text(flags: Bits) -> str:
    """Names joined by "|", such as "REPLY|ERROR"; what has no name in hexadecimal; "0" where nothing is set."""
    if type(flags) not in _MASKS:
        return str(flags)
    mask, codes = _MASKS[type(flags)]
    held = (int(flags) & mask) // _unit(mask)
    if held not in list(codes):
        return str(flags)
    rest = str(type(flags)(int(flags) & ~int(mask)))
    return codes(held).name if rest == "0" else f"{codes(held).name}|{rest}"


def flags_value(kind: type[Bits], text: str) -> int:
    """The number that ``text`` stands for: what ``flags_text`` writes, and the document's own names. Raises UsageError."""
    known = dict(_flag_names(kind))
    value = 0
    for word in text.split("|"):
        name, _, held = word.strip().partition("=")
        if name in known and held:
            value |= number(held) * _unit(known[name])
        elif name in known and not held:
            value |= known[name]
        elif name[:1].isdigit() and not held:
            value |= number(name)
        else:
            raise UsageError(f"{name!r} is no flag of {kind.__name__}{did_you_mean(name, known)}")
    return value


def _flag_names(kind: type[Bits]) -> Iterator[tuple[str, int]]:
    for member in kind.__members__.values():
        yield member.name, int(member)
        yield member.document_name, int(member)
    if kind in _MASKS:
        mask, codes = _MASKS[kind]
        for code in codes:
            yield code.name, int(code) * _unit(mask)
            yield code.document_name, int(code) * _unit(mask)


def _unit(mask: int) -> int:
    """The lowest bit of ``mask``."""
    return mask & -mask


def code_value(codes: type[Codes], text: str) -> int:
    """The number with this name, the document's or the short one, or the number itself. Raises UsageError."""
    known = {name: code for code in codes for name in (code.name, code.document_name)}
    if text in known:
        return int(known[text])
    if text[:1].isdigit():
        return number(text)
    raise UsageError(f"{text!r} is no name of {codes.__name__}{did_you_mean(text, known)}")


def code_name(codes: type[Codes], value: int) -> str | int:
    """The document's name, or the number where the table has none."""
    name = name_of(codes, value)
    return value if name == str(value) else name


def errno_value(text: str) -> int:
    """The number of an errno name, or the number itself. Raises UsageError."""
    names = {name: value for value, name in errno.errorcode.items()}
    if text in names:
        return names[text]
    if text[:1].isdigit():
        return number(text)
    raise UsageError(f"{text!r} is no errno{did_you_mean(text, names)}")


def number(text: str) -> int:
    """A number in decimal, hexadecimal (0x), octal (0o) or binary (0b) digits. Raises UsageError."""
    try:
        return int(text, 0)
    except ValueError:
        raise UsageError(f"{text[:40]!r} is not a number") from None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" for a known word that is close, else nothing."""
    names: dict[str, str] = {}
    for name in known:
        names.setdefault(name.lower(), name)
    close = difflib.get_close_matches(word.lower(), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close else ""
