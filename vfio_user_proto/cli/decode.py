"""``vfio-user decode`` and ``vfio-user encode``: bytes to what a person or a program reads, and back."""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from vfio_user_proto import trace, wire
from vfio_user_proto.cli import output
from vfio_user_proto.errors import DecodeError, UsageError
from vfio_user_proto.export import pcapng
from vfio_user_proto.trace import Captured

_ABOUT_DECODE: Final = """Print vfio-user messages as a person reads them, or as JSON. An input is a file, hexadecimal
digits (with spaces, commas, colons and 0x as you like), or - for standard input, which is also what is read without one. A
file holds bytes, hexadecimal digits, or captured traffic, one JSON object per line; several messages may follow one another.
Exit status: 2 where something could not be read; what could be is printed all the same."""
_ABOUT_ENCODE: Final = """Turn JSON objects, as decode --json prints them, into the bytes of messages. Names may stand for
numbers ("command": "DMA_MAP", "flags": "READABLE|WRITEABLE"), and what is left out is right by itself."""

DRAFTS: Final = {"region-io-fds-rfc": "vfio_user_proto.drafts.region_io_fds_rfc"}

# Bytes of one input, which is held in memory.
_MOST: Final = 256 << 20

# A digit with what may stand before it; what is neither is a mistake.
_NOT_HEX: Final = re.compile(r"[^0-9a-fA-F\s:,]")
_PREFIX: Final = re.compile(r"(?<![0-9a-zA-Z])0[xX](?=[0-9a-fA-F])")
_SPACE: Final = re.compile(r"\s*")
_CONTROL: Final = re.compile(r"[\0-\x08\x0e-\x1f\x7f]")


def register(subparsers: Any) -> None:
    """Add ``decode`` and ``encode`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser("decode", help="print messages as a person reads them", description=_ABOUT_DECODE)
    parser.add_argument("inputs", nargs="*", metavar="FILE|HEX|-", help="what to decode (-)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="one JSON object per line and message, for encode and programs"
    )
    form.add_argument("--pcapng", metavar="FILE", help="write the messages into a file for Wireshark instead")
    parser.add_argument("--draft", choices=DRAFTS, help="messages of a draft of the protocol instead; as text only")
    parser.set_defaults(run=decode)
    parser = subparsers.add_parser("encode", help="turn described messages into bytes", description=_ABOUT_ENCODE)
    parser.add_argument("input", nargs="?", default="-", metavar="FILE|JSON|-", help="what to encode (-)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--hex", action="store_true", help="write hexadecimal digits, one line per message (the default)")
    form.add_argument("--binary", action="store_true", help="write the bytes themselves")
    parser.set_defaults(run=encode)


class Found(NamedTuple):
    """One message of an input, or what is wrong there. ``place`` says where: file and line, or the byte it begins at."""

    place: str
    data: bytes = b""
    captured: Captured | None = None
    head: Mapping[str, Any] | None = None
    problem: str = ""


def decode(options: argparse.Namespace) -> int:
    """Print every message. What cannot be read is told on standard error, and makes the status 2 at the end."""
    if options.draft and (options.json or options.pcapng):
        raise UsageError("--draft goes without --json and --pcapng: what it prints is for people")
    if options.pcapng:
        return _for_wireshark(options)
    color = output.color()
    dialect = wire.dialect_of(import_module(DRAFTS[options.draft])) if options.draft else wire.CURRENT
    status = count = 0
    for found in _inputs(options.inputs or ["-"]):
        problem = found.problem
        if found.head is not None:
            if not options.json:
                print("\n".join([f"{found.place}: evidence", *_head_lines(found.head), ""]))
            continue
        count += 1
        message = None
        if not problem:
            try:
                message = wire.decode(found.data, dialect)
            except DecodeError as error:
                problem = str(error)
        if options.json and message is not None:
            print(json.dumps({**_about(found.captured), **trace.as_json(message)}))
        elif not options.json and not found.problem:
            separator = "\n" if count > 1 else ""
            shown = trace.describe(found.data, color=color, dialect=dialect)
            print(f"{separator}{found.place}{sender_of(found.captured)}\n{shown}")
        if problem:
            sys.stdout.flush()
            print(f"vfio-user: {found.place}: {problem}", file=sys.stderr)
            status = 2
    if not count:
        raise UsageError("nothing to decode: the input is empty")
    return status


def _head_lines(head: Mapping[str, Any]) -> Iterator[str]:
    """What was found, a line for each field; what a program printed as it was printed, but for what a terminal obeys."""
    width = max(map(len, head))
    for name, value in head.items():
        lines = value.splitlines() or [""] if isinstance(value, str) else [json.dumps(value)]
        for number, line in enumerate(lines):
            plain = "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)
            yield f"  {'' if number else name:{width}}  {plain}".rstrip()


def _for_wireshark(options: argparse.Namespace) -> int:
    """Write a capture file; what cannot be read is told on standard error, and makes the status 2 at the end."""
    status = 0
    packets = []
    for found in _inputs(options.inputs or ["-"]):
        if found.problem:
            print(f"vfio-user: {found.place}: {found.problem}", file=sys.stderr)
            status = 2
        elif found.head is None:
            about = found.captured or Captured("client", found.data)
            packets.append(pcapng.Packet(found.data, about.sender == "client", about.t or 0.0, about.fd_count))
    if not packets:
        if status:
            return status
        raise UsageError("nothing to decode: the input is empty")
    try:
        Path(options.pcapng).write_bytes(pcapng.write(packets))
    except OSError as error:
        raise UsageError(f"{options.pcapng}: {error.strerror}") from None
    print(f"{options.pcapng}: {len(packets)} messages", file=sys.stderr)
    return status


def _about(captured: Captured | None) -> dict[str, Any]:
    if captured is None:
        return {}
    about: dict[str, Any] = {"from": captured.sender, "fds": captured.fds}
    return about if captured.t is None else {**about, "t": captured.t}


def sender_of(captured: Captured | None) -> str:
    """ ": from client, 1 descriptor (memfd of 4096 bytes)" """
    if captured is None:
        return ""
    words = [f": from {captured.sender}"]
    if captured.fd_count:
        words.append(f"{captured.fd_count} descriptor{'s' if captured.fd_count > 1 else ''}")
    if not isinstance(captured.fds, int):
        words += [json.dumps(dict(fd)) for fd in captured.fds]
    if captured.t is not None:
        words.append(f"after {captured.t} s")
    return ", ".join(words)


def _inputs(inputs: list[str]) -> Iterator[Found]:
    """The messages of every input; hexadecimal digits in several arguments are one stream."""
    digits: list[str] = []
    for text in inputs:
        if text == "-" or os.path.exists(text):
            yield from _digits(digits)
            digits = []
            name, data = _read(text)
            yield from _file(name, data)
        elif _NOT_HEX.search(_PREFIX.sub("", text)) and not text[:1].isdigit():
            yield Found(text, problem="no such file, and not hexadecimal digits")
        else:
            digits.append(text)
    yield from _digits(digits)


def _digits(arguments: list[str]) -> Iterator[Found]:
    if arguments:
        try:
            data = _unhex(" ".join(arguments))
        except UsageError as error:
            yield Found("argument", problem=str(error))
        else:
            yield from _stream("argument", data)


def _read(name: str) -> tuple[str, bytes]:
    """What an input is called, and its bytes."""
    shown = "standard input" if name == "-" else os.fsencode(name).decode("utf-8", "backslashreplace")
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror}") from None
    if len(data) > _MOST:
        raise UsageError(f"{shown}: holds more than {_MOST >> 20} MiB; give a part of it")
    return shown, data


def _file(name: str, data: bytes) -> Iterator[Found]:
    """The messages in the bytes of a file: text, if they can be read as such, else messages themselves."""
    if data.startswith(pcapng.MAGIC):
        yield Found(
            name, problem="a pcapng file is for Wireshark; what is decoded here is its JSON Lines form, or bytes"
        )
        return
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROL.search(text):
        yield from _stream(name, data)
    elif text.lstrip()[:1] in ("{", "["):
        yield from _capture(name, text)
    else:
        try:
            messages = _unhex(text)
        except UsageError as error:
            yield Found(name, problem=str(error))
        else:
            yield from _stream(name, messages)


def _capture(name: str, text: str) -> Iterator[Found]:
    for number, line in trace.numbered(text):
        place = f"{name}:{number}"
        try:
            parsed = trace.parse_line(line, name, number)
        except UsageError as error:
            yield Found(place, problem=str(error).removeprefix(f"{place}: "))
            continue
        if isinstance(parsed, Captured):
            yield Found(place, parsed.data, parsed)
        else:
            yield Found(place, head=parsed)


def _stream(name: str, data: bytes) -> Iterator[Found]:
    """Messages one after the other, by the sizes in their headers; what comes after a broken one is shown with it."""
    at = 0
    while at < len(data):
        rest = memoryview(data)[at:]
        size = wire.decode_header(bytes(rest[: wire.HEADER_SIZE])).message_size if len(rest) >= wire.HEADER_SIZE else 0
        place = f"{name}, byte {at}" if at or size != len(data) else name
        if not wire.HEADER_SIZE <= size <= len(rest):
            yield Found(place, bytes(rest))
            return
        yield Found(place, bytes(rest[:size]))
        at += size


def _unhex(text: str) -> bytes:
    """The bytes of hexadecimal digits. Raises UsageError with line and character, or the number of digits."""
    text = _PREFIX.sub("  ", text)
    wrong = _NOT_HEX.search(text)
    if wrong:
        line = text.count("\n", 0, wrong.start()) + 1
        column = wrong.start() - text.rfind("\n", 0, wrong.start())
        where = f"line {line}, character {column}" if "\n" in text.rstrip() else f"character {column}"
        raise UsageError(f"{where}: {wrong.group()!a} is not a hexadecimal digit")
    digits = re.sub(r"[\s:,]", "", text)
    if len(digits) % 2:
        raise UsageError(f"an odd number of hexadecimal digits ({len(digits)})")
    return bytes.fromhex(digits)


def encode(options: argparse.Namespace) -> int:
    """Write the bytes of every object. What cannot be encoded is told on standard error, and makes the status 2 at the end."""
    if options.input.lstrip()[:1] in ("{", "["):
        name, data = "argument", options.input.encode("utf-8", "surrogateescape")
    else:
        name, data = _read(options.input)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text at byte {error.start}") from None
    status = count = 0
    for place, content in _objects(name, text):
        count += 1
        try:
            if not isinstance(content, dict):
                raise UsageError("not a JSON object")
            message = trace.from_json(content)
        except UsageError as error:
            sys.stdout.flush()
            print(f"vfio-user: {place}: {error}", file=sys.stderr)
            status = 2
            continue
        if options.binary:
            sys.stdout.buffer.write(message)
        else:
            print(message.hex())
    if not count:
        raise UsageError("nothing to encode: the input is empty")
    return status


def _objects(name: str, text: str) -> Iterator[tuple[str, Any]]:
    """JSON values one after the other, and those of arrays, each with its place. Raises UsageError where there is no JSON."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    at = _behind_space(text, 0)
    while at < len(text):
        line, counted = line + text.count("\n", counted, at), at
        try:
            content, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise UsageError(f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
        except (RecursionError, ValueError):
            raise UsageError(f"{name}:{line}: JSON nested too deep, or a number of too many digits") from None
        if isinstance(content, list):
            yield from ((f"{name}:{line}: element {index}", each) for index, each in enumerate(content))
        else:
            yield f"{name}:{line}", content
        at = _behind_space(text, end)


def _behind_space(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at
