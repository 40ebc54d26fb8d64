"""What a program printed about its own end: reports of sanitizers, panics, tracebacks, assertions."""

import re
from typing import Final

# How sanitizers, languages and assertions say what they found, from what says most to what says least; of a Python traceback it
# is the last line. The words before each are in every such report, and quickly looked for.
_REPORTS: Final = tuple(
    (words, re.compile(pattern, re.MULTILINE))
    for words, pattern in (
        ("SUMMARY: ", r"^SUMMARY: (?!Undefined)(\w+Sanitizer: .*)"),
        (": runtime error: ", r"(\S+:\d+:\d+: runtime error: .*)"),
        ("SUMMARY: ", r"^SUMMARY: (\w+Sanitizer: .*)"),
        ("panicked at ", r"(panicked at .*)"),
        ("Traceback (", r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)"),
        ("Sanitizer: ", r"ERROR: (\w+Sanitizer: (?:attempting )?[\w-]+)"),
        ("ThreadSanitizer: ", r"WARNING: (ThreadSanitizer: [\w -]+)"),
        ("Assertion ", r"(\S+:\d+: .*Assertion .* failed)"),
        ("Assertion failed: ", r"^(Assertion failed: .*)"),
    )
)
# Where a sanitizer's summary says that it happened: a line of source, or a place in a binary, and a function.
_PLACE: Final = re.compile(r" (?:\S+:\d+(?::\d+)?|\(\S+\+0x[0-9a-f]+\).*) in .*$")
_BEGIN: Final = re.compile(r"^(?:==\d+==)?(?:ERROR|WARNING): \w+Sanitizer: ", re.MULTILINE)
_STACK: Final = re.compile(r"^[ \t]+#0 .*(?:\n[ \t]+#\d+ .*)*", re.MULTILINE)
_FRAME: Final = re.compile(r"#\d+ (?:0x[0-9a-f]+ )?(?:in )?(.+?) (\S+:\d+(?::\d+)?|\(\S+\+0x[0-9a-f]+\))", re.MULTILINE)
# Frames of sanitizers, of the C library and of what comes with a language: nobody made the mistake there.
_FOREIGN: Final = re.compile(
    r"libsanitizer/|compiler-rt/|/sysdeps/|\.\./csu/|\./(?:nptl|string|stdlib|io|malloc|misc|debug)/"
    r"|/lib(?:c|m|pthread|asan|ubsan|tsan|lsan|stdc\+\+|c\+\+)[-.\d]*\.so|/include/c\+\+/|/rustc/"
)
_FOREIGN_NAMES: Final = re.compile(
    r"__interceptor_|___interceptor_|__asan_|__ubsan_|__tsan_|__sanitizer_|__libc_|_start$|operator (?:new|delete)"
)


def report(printed: str) -> str:
    """What a sanitizer, or a panic, has said, in the line that says most; "" where there is none.

    Of a sanitizer's report the place is the first frame of its first stack that is the program's own: what a copy or
    a second free went wrong with is seldom to be found in the library that noticed it.
    """
    found = next((match for words, each in _REPORTS if words in printed and (match := each.search(printed))), None)
    if found is None:
        return ""
    text = found[1]
    if "Sanitizer: " not in text or not (place := _own_frame(printed)):
        return text
    return f"{_PLACE.sub('', text)} {place}"


def dying(printed: str) -> bool:
    """Whether AddressSanitizer, which ends the program, has said something."""
    return "ERROR: AddressSanitizer" in printed


def writing(printed: str) -> bool:
    """Whether it has not come to the end of that."""
    return printed.count("ERROR: AddressSanitizer") > printed.count("SUMMARY: AddressSanitizer")


def _own_frame(printed: str) -> str:
    """The first frame of the first stack of a report that is the program's own: "FILE:LINE in FUNCTION"; "" for none."""
    begin = _BEGIN.search(printed)
    stack = _STACK.search(printed, begin.end()) if begin else None
    for name, place in _FRAME.findall(stack[0] if stack else ""):
        if not _FOREIGN.search(place) and not _FOREIGN_NAMES.match(name):
            return f"{place} in {name}"
    return ""
