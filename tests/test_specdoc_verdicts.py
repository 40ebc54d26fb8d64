"""What a difference breaks: each rule by an example, and the stories of the revisions that there are."""

import pytest
from spec_text import layout, needs_shared, own, published, section, simple

from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.diff import RULES, Change, diff
from vfio_user_proto.specdoc.reader import read_text

NOTHING = "There is no payload in the reply."


def protocol(
    request: str = "", reply: str = NOTHING, *more: str, code: str = "1", sender: str = "client", name: str = "PING"
) -> str:
    """A document with one command."""
    table = simple(("Name", "Command", "Direction"), (f"VFIO_USER_{name}", code, sender))
    messages = [section("Request", request, mark="-"), section("Reply", reply, mark="-")]
    return section("Commands", table) + section(f"VFIO_USER_{name}", *messages, *more)


def changes(old: str, new: str) -> list[Change]:
    documents = read_text(old, "old.rst"), read_text(new, "new.rst")
    assert [each.problems for each in documents] == [(), ()]
    return diff(*documents)


def bits(*rows: tuple[str, str]) -> str:
    """A table of one field, flags, and its bits."""
    inner = ["+-----+-----------------+", "| Bit | Definition      |", "+=====+=================+"]
    for number, name in rows:
        inner += [f"| {number:3} | {name:15} |", "+-----+-----------------+"]
    lines = [
        "+-------+--------+------------------+",
        "| Name  | Offset | Size             |",
        "+=======+========+==================+",
    ]
    lines += ["| flags | 0      | 4                |", "+-------+--------+------------------+"]
    lines += [f"|       | {line} |" for line in inner]
    return "\n".join([*lines, "+-------+--------+------------------+", ""])


A, AB = layout(("a", "0", "4")), layout(("a", "0", "4"), ("b", "4", "4"))
SIZED = layout(("argsz", "0", "4"), ("a", "4", "4"))
LONGER = layout(("argsz", "0", "4"), ("a", "4", "4"), ("b", "8", "4"))
TAIL = layout(("a", "0", "4"), ("data", "4", "variable"))


def record(body: str) -> str:
    return section("Record", body, mark="-")


def codes(*rows: tuple[str, str, str]) -> str:
    return section("Kinds", simple(("Name", "Value", "Owner"), *rows), mark="-")


def members(*rows: tuple[str, str]) -> str:
    return section("Members", simple(("Name", "Type", "Description"), *((*row, "It.") for row in rows)), mark="-")


def value(text: str) -> str:
    return section("Head", simple(("Name", "Value"), ("id", "one"), ("version", text)), mark="-")


def states(digit: str) -> str:
    return section("States", simple(("_A", "_B", "Description"), ("0", digit, "Runs")), mark="-")


TWO = section("Commands", simple(("Name", "Command"), ("VFIO_USER_A", "1"), ("VFIO_USER_B", "2")))
ONE = section("Commands", simple(("Name", "Command"), ("VFIO_USER_A", "1")))
OTHER = section("Commands", simple(("Name", "Command"), ("VFIO_USER_A", "1"), ("VFIO_USER_C", "2")))
# Old text, new text, the rules that apply with what each does to requests and replies.
CASES = [
    (ONE, TWO, [("command-added", "compatible", "compatible")]),
    (TWO, ONE, [("command-removed", "breaking", "")]),
    (TWO, OTHER, [("number-reused", "breaking", "breaking")] * 2),
    (protocol(A), protocol(A, code="2"), [("command-renumbered", "breaking", "breaking")]),
    (protocol(A), protocol(A, name="PONG"), [("command-renamed", "compatible", "compatible")]),
    (protocol(A), protocol(A, sender="server"), [("direction-changed", "breaking", "breaking")]),
    (protocol(A), protocol(A, A), [("payload-added", "", "breaking")]),
    (protocol(A, A), protocol(A), [("payload-removed", "", "breaking")]),
    (protocol(AB), protocol(layout(("b", "0", "4"), ("a", "4", "4"))), [("field-moved", "breaking", "")] * 2),
    (protocol(A, A), protocol(A, layout(("a", "0", "8"))), [("field-resized", "", "breaking")]),
    (protocol(A), protocol(layout(("z", "0", "4"))), [("field-renamed", "compatible", "")]),
    (protocol(A), protocol(AB), [("field-added", "breaking", "")]),
    (protocol(SIZED), protocol(LONGER), [("field-appended", "breaking", "")]),
    (protocol(A, SIZED), protocol(A, LONGER), [("field-appended", "", "compatible")]),
    (protocol(AB), protocol(A), [("field-removed", "breaking", "")]),
    (protocol(A), protocol(TAIL), [("tail-added", "compatible", "")]),
    (protocol(TAIL), protocol(A), [("tail-removed", "breaking", "")]),
    (
        protocol(A, NOTHING, record(layout(("a", "0", "4"), ("...", "", "")))),
        protocol(A, NOTHING, record(A)),
        [("dots-changed", "breaking", "breaking")],
    ),
    (
        protocol(bits(("0", "X_READ"))),
        protocol(bits(("0", "X_READ"), ("1", "X_WRITE"))),
        [("bit-added", "compatible", "")],
    ),
    (
        protocol(bits(("0", "X_READ"), ("1", "X_WRITE"))),
        protocol(bits(("0", "X_READ"))),
        [("bit-removed", "breaking", "")],
    ),
    (protocol(bits(("0", "X_READ"))), protocol(bits(("5", "X_READ"))), [("bit-moved", "breaking", "")]),
    (protocol(bits(("0", "X_READ"))), protocol(bits(("0", "X_READS"))), [("bit-renamed", "compatible", "")]),
    (
        protocol(bits(("0", "Mappable"))),
        protocol(bits(("0", "writeable"))),
        [("number-reused", "breaking", "")] * 2,
    ),
    (
        protocol(A, NOTHING, codes(("X_A", "0", "x"))),
        protocol(A, NOTHING, codes(("X_A", "1", "x"))),
        [("code-renumbered", "breaking", "breaking")],
    ),
    (
        protocol(A, NOTHING, codes(("X_A", "0", "x"))),
        protocol(A, NOTHING, codes(("X_A", "0", "y"))),
        [("code-changed", "breaking", "breaking")],
    ),
    (protocol(A), protocol(A, NOTHING, codes(("X_A", "0", "x"))), [("code-added", "compatible", "compatible")]),
    (protocol(A, NOTHING, codes(("X_A", "0", "x"))), protocol(A), [("code-removed", "breaking", "breaking")]),
    (protocol(A), protocol(A, NOTHING, record(AB)), [("record-added", "compatible", "compatible")]),
    (protocol(A, NOTHING, record(AB)), protocol(A), [("record-removed", "breaking", "breaking")]),
    (
        protocol(A, NOTHING, members(("a", "number"))),
        protocol(A, NOTHING, members(("a", "number"), ("b", "number"))),
        [("member-added", "compatible", "compatible")],
    ),
    (
        protocol(A, NOTHING, members(("a", "number"), ("b", "number"))),
        protocol(A, NOTHING, members(("a", "number"))),
        [("member-removed", "breaking", "breaking")],
    ),
    (
        protocol(A, NOTHING, members(("a", "number"))),
        protocol(A, NOTHING, members(("a", "object"))),
        [("member-changed", "breaking", "breaking")],
    ),
    (
        protocol(A, NOTHING, value("two")),
        protocol(A, NOTHING, value("three")),
        [("value-changed", "breaking", "breaking")],
    ),
    (protocol(A, NOTHING, states("0")), protocol(A, NOTHING, states("1")), [("states-changed", "breaking", "")]),
    (
        protocol(A, "The payload has the layout of the request."),
        protocol(AB, "The payload has the layout of the request."),
        [("field-added", "breaking", "breaking")],
    ),
]


@pytest.mark.parametrize(("old", "new", "found"), CASES, ids=[f"{at}-{case[2][0][0]}" for at, case in enumerate(CASES)])
def test_verdicts(old: str, new: str, found: list[tuple[str, str, str]]) -> None:
    """Each kind of difference has its rule, and a verdict for requests and one for replies, where they are concerned."""
    assert [(change.rule, change.request, change.reply) for change in changes(old, new)] == found
    assert changes(old, old) == changes(new, new) == []


def test_each_rule_is_shown() -> None:
    """No rule is without an example, here or among the stories below."""
    shown = {rule for _, _, found in CASES for rule, _, _ in found}

    assert set(RULES) - shown == {"number-of-records"}


def test_each_reason_is_a_sentence() -> None:
    """The reasons are for people."""
    assert [name for name, rule in RULES.items() if not (rule.why[0].isupper() and rule.why.endswith("."))] == []


def test_what_is_reserved_turns_into_nothing_else() -> None:
    """A field between padding is the one that took its place; padding is not."""
    old = protocol(layout(("a", "0", "4"), ("region_id", "4", "4")))
    new = protocol(layout(("a", "0", "4"), ("padding", "4", "4"), ("user_data", "8", "8")))

    assert [change.what for change in changes(old, new)] == [
        "region_id: renamed from region_id to user_data",
        "region_id: moved from 4 to 8",
        "region_id: resized from 4 bytes to 8 bytes",
        "padding: added: offset 4, size 4 bytes",
    ]


def test_records_of_replies() -> None:
    """A record in a section of the reply, be it in one of the documents alone, travels in replies alone."""
    told = [protocol(A, "\n".join([A, section("Record", body, mark="^")])) for body in (A, AB)]
    untold = protocol(A, A, record(A))

    for old, new in (told, (untold, told[1])):
        assert [(change.rule, change.request, change.reply) for change in changes(old, new)] == [
            ("field-added", "", "breaking")
        ]


def story(old: str, new: str) -> list[str]:
    """What the differences are, with their verdicts."""
    documents = [
        published(name)
        if name[0] == "2"
        else own()
        if name == "vfio-user"
        else project.document(origin=project.ORIGINS[1])
        for name in (old, new)
    ]
    return [f"{change} [{change.request or '-'}, {change.reply or '-'}]" for change in diff(*documents)]


def test_story_of_the_rfc() -> None:
    """From the first RFC to 0.9.2: what went, what came in its place, what was widened, what is no longer sent by the dozen."""
    told = story("rfc", "vfio-user")
    record = "VFIO_USER_DEVICE_GET_REGION_IO_FDS / Sub-Region IO FD info format (ioregionfd)"

    for line in (
        "Commands: VFIO_USER_VM_INTERRUPT: removed: number 13, Request Direction server -> client [breaking, breaking]",
        "Commands: VFIO_USER_DEVICE_RESET: renumbered from 14 to 13 [breaking, breaking]",
        "Commands: VFIO_USER_DIRTY_PAGES: removed: number 15, Request Direction client -> server [breaking, breaking]",
        "Commands: VFIO_USER_REGION_WRITE_MULTI: added: number 15, Request Direction client -> server [breaking, breaking]",
        "Commands: VFIO_USER_DEVICE_FEATURE: added: number 16, Request Direction client -> server [compatible, compatible]",
        f"{record}: flags.KVM_IOREGIONFD_FLAG_PIO: renamed from KVM_IOREGIONFD_FLAG_PIO to KVM_IOREGION_PIO [-, compatible]",
        f"{record}: region_id: renamed from region_id to user_data [-, compatible]",
        f"{record}: region_id: moved from 28 to 32 [-, breaking]",
        f"{record}: region_id: resized from 4 bytes to 8 bytes [-, breaking]",
        f"{record}: padding: added: offset 28, size 4 bytes [-, breaking]",
        "VFIO_USER_DMA_MAP / Request: records changed from any number to one [breaking, -]",
        "VFIO_USER_DEVICE_GET_INFO / Request: added: 4 fields, 16 bytes [breaking, -]",
        "VFIO_USER_DMA_READ: Count: resized from 4 bytes to 8 bytes [breaking, breaking]",
    ):
        assert line in told


def test_sections_of_another_form_are_the_same() -> None:
    """Offsets that count the header, and one table for both directions, are no difference in what is on the wire."""
    told = story("rfc", "vfio-user")

    assert [line for line in told if "GET_IRQ_INFO" in line and "PCI interrupt indexes" not in line] == []
    assert [line for line in told if line.startswith("Header") or "Message format" in line] == []


@needs_shared
def test_story_of_the_insertion() -> None:
    """The RFC put its command in at number 6, and moved all behind it."""
    told = story("2021-01-20", "rfc")

    assert told[:9] == [
        f"Commands: VFIO_USER_{name}: renumbered from {number} to {number + 1} [breaking, breaking]"
        for number, name in enumerate(
            [
                "DEVICE_GET_IRQ_INFO",
                "DEVICE_SET_IRQS",
                "REGION_READ",
                "REGION_WRITE",
                "DMA_READ",
                "DMA_WRITE",
                "VM_INTERRUPT",
                "DEVICE_RESET",
                "DIRTY_PAGES",
            ],
            6,
        )
    ]
    assert told[9].startswith("Commands: VFIO_USER_DEVICE_GET_REGION_IO_FDS: added: number 6")


@needs_shared
def test_capabilities_are_compared_by_the_object_they_describe() -> None:
    """The table of migration is not that of twin_socket, though each is the third of its section."""
    told = story("2021-09-08", "2024-04-26")

    assert "VFIO_USER_VERSION / Request #2: migration: removed: type object [breaking, breaking]" in told
    assert "VFIO_USER_VERSION / Request #3: removed: 1 member [breaking, breaking]" in told
    assert "VFIO_USER_VERSION / Request #3: added: 2 members [compatible, compatible]" in told
    assert [line for line in told if "max_msg_fds" in line] == []
