"""Overlays: each kind of entry does what its class says, and one that does not fit is an error with its line."""

import pytest
from spec_text import layout, section, simple

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc import overlay
from vfio_user_proto.specdoc.declarations import MappingDeclaration, RecordDeclaration, RowDeclaration, UnionDeclaration
from vfio_user_proto.specdoc.declare import declare
from vfio_user_proto.specdoc.overlay import KINDS
from vfio_user_proto.specdoc.reader import read_text
from vfio_user_proto.specdoc.specs import Document

FLAGS = """\
+-------+--------+------------------------+
| Name  | Offset | Size                   |
+=======+========+========================+
| argsz | 0      | 4                      |
+-------+--------+------------------------+
| flags | 4      | 4                      |
+-------+--------+------------------------+
|       | +-----+-----------------------+ |
|       | | Bit | Definition            | |
|       | +=====+=======================+ |
|       | | 0-3 | Ping kind             | |
|       | +-----+-----------------------+ |
|       | | 4   | VFIO_PING_FLAG_QUIET  | |
|       | +-----+-----------------------+ |
|       | | 5   | VFIO_PING_FLAG_URGENT | |
|       | +-----+-----------------------+ |
+-------+--------+------------------------+
| count | 8      | 4                      |
+-------+--------+------------------------+
| data  | 12     | variable               |
+-------+--------+------------------------+
"""
TEXT = section(
    "Ping protocol",
    "Version 1.2",
    "",
    section(
        "Commands",
        simple(
            ("Name", "Command", "Request Direction"),
            ("VFIO_USER_PING", "1", "client"),
            ("VFIO_USER_STOP", "2", "client"),
        ),
        mark="-",
    ),
    section("Kinds", simple(("Name", "Value"), ("VFIO_KIND_SMALL", "0"), ("VFIO_KIND_LARGE", "1")), mark="-"),
    section(
        "VFIO_USER_PING",
        section("Request", FLAGS, mark="^"),
        section("Reply", layout(("argsz", "0", "4"), ("count", "4", "4"), ("entries", "8", "...")), mark="^"),
        section("Small entry", layout(("kind", "0", "4"), ("pad", "4", "4")), mark="^"),
        section("Large entry", layout(("kind", "0", "4"), ("pad", "4", "4"), ("value", "8", "8")), mark="^"),
        section("Trailer", layout(("kind", "0", "4")), mark="^"),
        section(
            "Spans", layout(("count", "0", "8"), ("start", "8", "8"), ("end", "16", "8"), ("...", "", "")), mark="^"
        ),
        mark="-",
    ),
)
BASE = """\
[[names]]
reason = "Titles are no names."
[names.codes]
"Commands" = "Command"
"Kinds" = "Kind"

[[flags]]
reason = "Shorter."
name = "PingBits"
fields = ["PingRequest.flags"]
members = { "Ping kind" = "KIND" }

[[measures]]
reason = "The size of the payload."
field = "argsz"

[[counts]]
reason = "Says the text."
fields = { "PingRequest.count" = "data", "PingReply.count" = "entries", "Spans.count" = "spans" }

[[codes]]
reason = "Says the text."
fields = { "SmallEntry.kind" = "Kind" }

[[repeats]]
reason = "The dots stand for more pairs."
table = "Spans"
rows = ["start", "end"]
field = "spans"
record = "Span"

[[strides]]
reason = "Size and kind tell which."
field = "PingReply.entries"
measured = "argsz"
selector = "kind"
codes = "Kind"
records = [["SMALL", "SmallEntry"], ["LARGE", "LargeEntry"]]
union = "Entry"
constant = "ENTRIES"

[[added]]
reason = "Follows as told in the text."
record = "Trailer"
field = "tail"

[[empty]]
reason = "There is no payload."
messages = ["VFIO_USER_STOP / Request", "VFIO_USER_STOP / Reply"]

[[mappings]]
reason = "Which kind is which record."
constant = "KINDS"
codes = "Kind"
records = { SMALL = "SmallEntry" }
"""


def document() -> Document:
    read = read_text(TEXT, "ping.rst")
    assert read.problems == ()
    return read


def records(text: str = BASE) -> dict[str, RecordDeclaration]:
    module = declare(document(), overlay.read_text(text, "ping.toml"))
    return {each.name: each for each in module.declarations if isinstance(each, RecordDeclaration)}


def rows(record: RecordDeclaration) -> dict[str, RowDeclaration]:
    return {row.name: row for row in record.rows}


def test_counts_and_measures() -> None:
    """A counted field has the length that its counter says; argsz measures; what nothing counts takes the rest."""
    request = rows(records()["PingRequest"])

    assert request["argsz"].measures
    assert request["count"].counts == "data"
    assert request["data"].holds == ("Bytes", "this.count")
    assert rows(records()["Trailer"])["tail"].holds == ("GreedyBytes",)


def test_flags() -> None:
    """A field with bits is a class of flags under its given name."""
    assert rows(records()["PingRequest"])["flags"].holds == ("Flags", "Int32un", "PingBits")


def test_repeats() -> None:
    """The rows above the dots become a record, and a field of many."""
    spans = records()["Spans"]

    assert rows(spans)["spans"].holds == ("Many", "this.count", "Span")
    assert [(row.name, row.offset) for row in records()["Span"].rows] == [("start", 0), ("end", 8)]
    assert records()["Span"].says == "One of the spans of Spans."


def test_strides() -> None:
    """An open array names its records by size and code, and what the measured size leaves for it."""
    module = declare(document(), overlay.read_text(BASE, "ping.toml"))
    union = next(each for each in module.declarations if isinstance(each, UnionDeclaration))

    assert union.entries == ((8, "Kind.SMALL", "SmallEntry"), (16, "Kind.LARGE", "LargeEntry"))
    assert rows(records()["PingReply"])["entries"].holds == (
        "Strided",
        "this.argsz - 8",
        "this.count",
        '"kind"',
        "ENTRIES",
    )


def test_mappings() -> None:
    """Each command has its request and its reply, or none; other mappings are as given."""
    module = declare(document(), overlay.read_text(BASE, "ping.toml"))
    mappings = {each.constant: each.entries for each in module.declarations if isinstance(each, MappingDeclaration)}

    assert mappings == {
        "REQUESTS": (("Command.PING", "PingRequest"), ("Command.STOP", "None")),
        "REPLIES": (("Command.PING", "PingReply"), ("Command.STOP", "None")),
        "KINDS": (("Kind.SMALL", "SmallEntry"),),
    }


CARRIES = """\
[[lists]]
reason = "As many as there is room for."
record = "Stops"
field = "stops"
of = "SmallEntry"

[[carries]]
reason = "Says the text."
requests = { VFIO_USER_STOP = "Stops" }
"""


def test_carries_and_lists() -> None:
    """A message without a section of its own carries what the overlay says: a record, or a list of records to its end."""
    text = BASE.replace('"VFIO_USER_STOP / Request", ', "") + CARRIES
    module = declare(document(), overlay.read_text(text, "ping.toml"))
    mappings = {each.constant: each.entries for each in module.declarations if isinstance(each, MappingDeclaration)}

    assert mappings["REQUESTS"] == (("Command.PING", "PingRequest"), ("Command.STOP", "Stops"))
    assert rows(records(text)["Stops"])["stops"].holds == ("Many", "None", "SmallEntry")
    assert records(text)["SmallEntry"].says == "One of the stops of Small entry."


def test_order() -> None:
    """Each declaration stands below those that it uses."""
    module = declare(document(), overlay.read_text(BASE, "ping.toml"))
    names = [each.name for each in module.declarations if hasattr(each, "name")]

    assert names.index("PingBits") < names.index("PingRequest")
    assert names.index("Kind") < names.index("SmallEntry") < names.index("Entry") < names.index("PingReply")
    assert names.index("Span") < names.index("Spans")


WRONG = {
    "unknown kind": ('[[sizes]]\nreason = "x"', "unknown kind of entry 'sizes'"),
    "no list": ('[measure]\nreason = "x"', "unknown kind of entry 'measure'"),
    "unknown key": ('[[measures]]\nreason = "x"\nfield = "argsz"\nwhy = "x"', "[[measures]]: unknown key 'why'"),
    "missing key": ('[[measures]]\nreason = "x"', "[[measures]]: field is missing"),
    "no reason": ('[[measures]]\nfield = "argsz"', "[[measures]]: reason is missing"),
    "empty reason": ('[[measures]]\nreason = ""\nfield = "argsz"', "[[measures]]: reason is not a text"),
    "wrong shape": ('[[measures]]\nreason = "x"\nfield = ["argsz"]', "[[measures]]: field is not a text"),
    "wrong list": ('[[flags]]\nreason = "x"\nname = "X"\nfields = "A.b"', "[[flags]]: fields is not a list of names"),
    "wrong table": ('[[counts]]\nreason = "x"\nfields = ["A.b"]', "[[counts]]: fields is not a table of names"),
    "no such section": (
        '[[names]]\nreason = "x"\n[names.records]\n"Nothing" = "X"',
        "no such table in a section 'Nothing'",
    ),
    "no such record": ('[[counts]]\nreason = "x"\nfields = { "X.count" = "data" }', "there is no record X"),
    "no such field": (
        '[[counts]]\nreason = "x"\nfields = { "PingReply.size" = "entries" }',
        "PingReply has no field 'size'; there are argsz, count, entries",
    ),
    "nothing measured": ('[[measures]]\nreason = "x"\nfield = "size"', "no record has a field size"),
    "no such codes": ('[[codes]]\nreason = "x"\nfields = { "PingReply.count" = "X" }', "there is no code table X"),
    "no bits": ('[[flags]]\nreason = "x"\nname = "X"\nfields = ["PingReply.count"]', "PingReply.count has no bits"),
    "no such bit": (
        '[[flags]]\nreason = "x"\nname = "X"\nfields = ["PingRequest.flags"]\nmembers = { "Pong" = "PONG" }',
        "there is no bit 'Pong' in X",
    ),
    "uncounted": (
        '[[arrays]]\nreason = "x"\nfields = { "SmallEntry.pad" = "Span" }',
        "[[counts]] names no field that counts pad",
    ),
    "not the last rows": (
        '[[repeats]]\nreason = "x"\ntable = "SmallEntry"\nrows = ["kind"]\nfield = "kinds"\nrecord = "X"',
        "the last rows of SmallEntry are not kind",
    ),
    "added twice": (
        '[[added]]\nreason = "x"\nrecord = "PingRequest"\nfield = "data"',
        "PingRequest has a field data already",
    ),
    "reply has a table": (
        '[[same_reply]]\nreason = "x"\ncommands = ["VFIO_USER_PING"]',
        "or its reply has a table of its own",
    ),
    "not empty": (
        '[[empty]]\nreason = "x"\nmessages = ["VFIO_USER_PING / Reply"]',
        "is no message of a command, or has a table",
    ),
    "carried twice": (
        '[[carries]]\nreason = "x"\nrequests = { VFIO_USER_PING = "Trailer" }',
        "VFIO_USER_PING / Request is no message of a command, or has a table",
    ),
    "carried by none": (
        '[[carries]]\nreason = "x"\nreplies = { VFIO_USER_X = "Trailer" }',
        "VFIO_USER_X / Reply is no message of a command, or has a table",
    ),
    "carried nothing": (
        '[[carries]]\nreason = "x"\nreplies = { VFIO_USER_STOP = "X" }',
        "there is no record X",
    ),
    "list of what has no size": (
        '[[lists]]\nreason = "x"\nrecord = "X"\nfield = "all"\nof = "PingRequest"',
        "there is a record X already, or PingRequest has no fixed size",
    ),
    "no such command": ('[[empty]]\nreason = "x"\nmessages = ["VFIO_USER_X / Reply"]', "is no message of a command"),
    "counts what has a size": (
        '[[counts]]\nreason = "x"\nfields = { "SmallEntry.kind" = "pad" }',
        "SmallEntry.kind is a number, and pad behind it of variable size, or it cannot count it",
    ),
    "added behind the end": (
        '[[added]]\nreason = "x"\nrecord = "PingRequest"\nfield = "tail"',
        "PingRequest ends with a field of variable size",
    ),
    "array of what has no size": (
        '[[arrays]]\nreason = "x"\nfields = { "PingReply.entries" = "PingRequest" }',
        "PingRequest has a field of variable size; many of them cannot be told apart",
    ),
    "code of what is no number": (
        '[[codes]]\nreason = "x"\nfields = { "PingRequest.data" = "Kind" }',
        "data is no integer of 1, 2, 4 or 8 bytes",
    ),
    "part of itself": (
        '[[arrays]]\nreason = "x"\nfields = { "SmallEntry.pad" = "SmallEntry" }',
        "[[counts]] names no field",
    ),
    "one name twice": (
        '[[mappings]]\nreason = "x"\nconstant = "KINDS"\ncodes = "Kind"\nrecords = { SMALL = "SmallEntry" }',
        "'KINDS' is no name, or the name of two declarations",
    ),
    "no such code": (
        '[[mappings]]\nreason = "x"\nconstant = "X"\ncodes = "Kind"\nrecords = { HUGE = "SmallEntry" }',
        "Kind has no HUGE",
    ),
}


@pytest.mark.parametrize(("entry", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_entry(entry: str, message: str) -> None:
    """An entry that is misspelt, or fits nothing in the document, is an error; those of the overlay name its line."""
    with pytest.raises(SpecError) as caught:
        records(f"{BASE}\n{entry}\n")

    assert message in str(caught.value)
    if caught.value.file == "ping.toml" and caught.value.line:
        assert caught.value.line == BASE.count("\n") + 2


LEFT_OUT = {
    "empty": "VFIO_USER_STOP / Request has no table, and the overlay does not say that it is empty",
    "repeats": "Spans ends with dots; [[repeats]] says of what",
    "measures": "argsz has to measure PingReply",
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_what_must_be_said(kind: str) -> None:
    """Nothing is guessed: without its entry, what a table leaves open is an error."""
    text = "\n\n".join(part for part in BASE.split("\n\n") if not part.startswith(f"[[{kind}]]"))

    with pytest.raises(SpecError) as caught:
        records(text.replace(', "Spans.count" = "spans"', "") if kind == "repeats" else text)

    assert LEFT_OUT[kind] in str(caught.value)


def test_every_kind_is_shown() -> None:
    """No kind of entry is without an example here or in the overlay of the project."""
    shown = {line.strip("[]") for line in f"{BASE}\n{CARRIES}".splitlines() if line.startswith("[[")}

    assert set(KINDS) - shown == {"arrays", "same_reply"}


def test_not_toml() -> None:
    """A file that is no TOML is refused with the line of the mistake."""
    with pytest.raises(SpecError, match=r"^x\.toml:2: is not TOML"):
        overlay.read_text("[[names]]\nreason = \n", "x.toml")
    with pytest.raises(SpecError, match="nested too deeply"):
        overlay.read_text("a = " + "[" * 5000, "x.toml")


def test_two_tables_of_one_name() -> None:
    """Two sections whose rule gives one name are told apart by the overlay, or refused."""
    text = TEXT + section("Small Entry", layout(("x", "0", "4")), mark="-")

    with pytest.raises(SpecError, match=r"SmallEntry is the table of line \d+ already; \[\[names\]\] tells them apart"):
        declare(read_text(text, "ping.rst"), overlay.read_text(BASE, "ping.toml"))
