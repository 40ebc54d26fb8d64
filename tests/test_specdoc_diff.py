"""Differences of documents: each kind of change, what counts as the same table, and what the errata account for."""

from pathlib import Path

import pytest
from spec_text import layout, needs_shared, own, published, section, simple

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc.diff import diff
from vfio_user_proto.specdoc.errata import marks
from vfio_user_proto.specdoc.project import ROOT
from vfio_user_proto.specdoc.reader import read_text


def differences(old: str, new: str) -> list[str]:
    """The differences of two texts, in words."""
    documents = read_text(old, "old.rst"), read_text(new, "new.rst")
    assert [each.problems for each in documents] == [(), ()]
    return [str(change) for change in diff(*documents)]


def fields(*rows: tuple[str, ...]) -> str:
    return section("X", layout(*rows))


def codes(*rows: tuple[str, ...]) -> str:
    return section("X", simple(("Name", "Command", "Request Direction", "Description"), *rows))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (fields(("a", "0", "4")), fields(("A", "0", "4")), []),
        (
            fields(("a", "0", "4"), ("b", "4", "4")),
            fields(("a", "0", "4")),
            ["X: b: removed: offset 4, size 4 bytes"],
        ),
        (
            fields(("a", "0", "4")),
            fields(("a", "0", "4"), ("b", "4", "variable")),
            ["X: b: added: offset 4, size variable"],
        ),
        (
            fields(("a", "0", "4"), ("b", "4", "4")),
            fields(("a", "0", "8"), ("b", "8", "4")),
            ["X: a: resized from 4 bytes to 8 bytes", "X: b: moved from 4 to 8"],
        ),
        (
            fields(("max_fds", "0", "4")),
            fields(("max_msg_fds", "0", "4")),
            ["X: max_fds: renamed from max_fds to max_msg_fds"],
        ),
        (
            fields(("a", "0", "4"), ("...", "", "")),
            fields(("a", "0", "4")),
            ["X: dots changed from rows above repeated to none"],
        ),
        (
            codes(("GET", "6", "client", "")),
            codes(("GET", "7", "server", "")),
            ["X: GET: renumbered from 6 to 7", "X: GET: Request Direction changed from client to server"],
        ),
        (codes(("GET", "6", "client", "Gets.")), codes(("GET", "6", "client", "Fetches.")), []),
        (
            codes(("GET", "6", "client", "")),
            codes(("SET", "6", "client", "")),
            [
                "X: GET: removed: number 6, Request Direction client",
                "X: SET: added: number 6, Request Direction client",
            ],
        ),
        (
            section("X", simple(("Name", "Value"), ("id", "<id>"), ("version", "one"))),
            section("X", simple(("Name", "Value"), ("id", "<id>"), ("version", "two"))),
            ["X: version: value changed from one to two"],
        ),
        (
            section("X", simple(("Name", "Type", "Description"), ("a", "number", "Old."), ("b", "object", ""))),
            section("X", simple(("Name", "Type", "Description"), ("a", "boolean", "New."))),
            ["X: a: type changed from number to boolean", "X: b: removed: type object"],
        ),
        (
            section("X", simple(("_A", "_B", "Description"), ("0", "1", "Running"))),
            section("X", simple(("_A", "_B", "Description"), ("1", "1", "Running"))),
            ["X: contents changed from _A _B Description / 0 1 Running to _A _B Description / 1 1 Running"],
        ),
        (
            fields(("a", "0", "4")),
            codes(("GET", "6", "client", "")),
            ["X: removed: 1 field, 4 bytes", "X: added: 1 code"],
        ),
    ],
)
def test_changes(old: str, new: str, found: list[str]) -> None:
    """Each kind of change is named; case and words of descriptions are no change."""
    assert differences(old, new) == found


BITS = """\
X
=

+-------+--------+------------------------+
| Name  | Offset | Size                   |
+=======+========+========================+
| flags | 0      | 4                      |
+-------+--------+------------------------+
|       | +-----+-----------------------+ |
|       | | Bit | Definition            | |
|       | +=====+=======================+ |
|       | | 0   | VFIO_FLAG_READ        | |
|       | +-----+-----------------------+ |
|       | | 1   | VFIO_FLAG_WRITE       | |
|       | +-----+-----------------------+ |
+-------+--------+------------------------+
"""


def test_bits() -> None:
    """A bit can move, be renamed, come and go; so can all of them."""
    assert differences(BITS, BITS.replace("| 1   |", "| 1-3 |")) == [
        "X: flags.VFIO_FLAG_WRITE: moved from bit 1 to bits 1-3"
    ]
    assert differences(BITS, BITS.replace("_READ ", "_LOAD ")) == [
        "X: flags.VFIO_FLAG_READ: renamed from VFIO_FLAG_READ to VFIO_FLAG_LOAD"
    ]
    assert differences(BITS, fields(("flags", "0", "4"))) == ["X: flags: removed: bits VFIO_FLAG_READ, VFIO_FLAG_WRITE"]
    assert differences(fields(("flags", "0", "4")), BITS) == ["X: flags: added: bits VFIO_FLAG_READ, VFIO_FLAG_WRITE"]


def test_a_section_that_has_moved_is_the_same() -> None:
    """A table is found again by its section's title where the path to it has changed."""
    table, other = layout(("a", "0", "4")), layout(("a", "0", "8"))
    old = section("VFIO_USER_X", section("Record Format", table, mark="-"))
    new = section("``VFIO_USER_X``", section("Reply", section("Record format", other, mark="^"), mark="-"))

    assert differences(old, new) == ["VFIO_USER_X / Record Format: a: resized from 4 bytes to 8 bytes"]


def test_request_of_another_command_is_another() -> None:
    """Request and Reply are titles that tell nothing without their command."""
    old = section("VFIO_USER_X", section("Request", layout(("a", "0", "4")), mark="-"))
    new = section("VFIO_USER_Y", section("Request", layout(("a", "0", "4")), mark="-"))

    assert differences(old, new) == [
        "VFIO_USER_X / Request: removed: 1 field, 4 bytes",
        "VFIO_USER_Y / Request: added: 1 field, 4 bytes",
    ]


def test_marks_have_no_direction() -> None:
    """The same difference has one mark, whichever document is the old one."""
    one, two = (read_text(fields(("a", "0", size)), "x") for size in ("4", "8"))

    assert [change.mark for change in diff(one, two)] == [change.mark for change in diff(two, one)] == ["X: a: size"]


def test_a_document_equals_itself() -> None:
    """Nothing differs where nothing differs."""
    assert diff(own(), own()) == []


@needs_shared
def test_errata_account_for_every_difference_from_the_published_text() -> None:
    """Our tables are those of 2024-04-26 but for what the errata list, and the errata list nothing else."""
    found = [change.mark for change in diff(own(), published("2024-04-26"))]

    assert sorted(found) == sorted(marks(str(ROOT / "spec/errata.toml")))


@needs_shared
def test_story_of_two_revisions() -> None:
    """Between 2021-09 and 2024-04 migration became a set of features, and the 9-byte size was mended."""
    found = [str(change) for change in diff(published("2021-09-08"), published("2024-04-26"))]

    assert "Commands: VFIO_USER_DIRTY_PAGES: removed: number 14, Request Direction client -> server" in found
    assert "Commands: VFIO_USER_MIG_DATA_READ: added: number 17, Request Direction client -> server" in found
    assert (
        "VFIO_USER_DEVICE_GET_REGION_INFO / Reply / VFIO region info cap sparse mmap: "
        "size: resized from 9 bytes to 8 bytes"
    ) in found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("erratum = 3", r"errata are written \[\[erratum\]\]"),
        ('[[erratum]]\ndiff = ["x"]', "an erratum has an id"),
        ('[[erratum]]\nid = "a"\ndiff = "x"', "diff is a list; not so 'a'"),
        ('[[erratum]]\nid = "a"\ndiff = ["x"]\n[[erratum]]\nid = "b"\ndiff = ["x"]', "'x' is claimed by a and by b"),
        ("erratum = [", "is not TOML"),
    ],
)
def test_wrong_errata(tmp_path: Path, text: str, message: str) -> None:
    """A file of errata that cannot be used is refused in one sentence."""
    path = tmp_path / "errata.toml"
    path.write_text(text)

    with pytest.raises(SpecError, match=message):
        marks(str(path))
