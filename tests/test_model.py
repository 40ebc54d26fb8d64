"""Flag bits, code tables and records: what the generated declarations can do, and what they refuse."""

import copy
import pickle
from typing import Any

import construct
import pytest
from construct import Bytes, GreedyBytes, Int8un, Int16un, Int32un, this

from vfio_user_proto import messages as m
from vfio_user_proto.model import Bits, Codes, Flags, Many, Record, Strided, name_of, row, tail_size


class Colour(Bits, section="Colours", prefix="COLOUR_"):
    """Two bits and a mask of three."""

    RED = 1 << 0
    GREEN = 1 << 1
    SHADE = 0x70


class Shape(Codes, section="Shapes", prefix="SHAPE_", columns=("Name", "Value", "Note")):
    """Two numbers."""

    ROUND = 1, "no corners"
    SQUARE = 2, "four"


class Point(Record, section="Points"):
    """A pair."""

    x: int = row(0, Int8un)
    y: int = row(1, Int16un)


class Path(Record, section="Paths"):
    """Flags, a size of its own, a count and that many points."""

    argsz: int = row(0, Int32un, measures=True)
    colour: Colour = row(4, Flags(Int8un, Colour))
    count: int = row(5, Int8un, counts="points")
    points: tuple[Point, ...] = row(6, Many(this.count, Point))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "RED"),
        (3, "RED|GREEN"),
        (0x31, "RED|SHADE=3"),
        (0x70, "SHADE=7"),
        (0x8, "0x8"),
        (0xF0F, "RED|GREEN|0xf0c"),
    ],
)
def test_bits_read_as_names(value: int, text: str) -> None:
    assert str(Colour(value)) == text
    assert repr(Colour(value)) == f"Colour({text})"


def test_unknown_bits_survive_every_operation() -> None:
    unknown = Colour(0x1000)

    assert int(unknown | Colour.RED) == 0x1001
    assert int(unknown & Colour.RED) == 0
    assert int(Colour(0x1001) & ~Colour.RED) == 0x1000
    assert Colour.RED in Colour(0x1001)
    assert Colour(0x1000) == 0x1000 == unknown
    assert hash(Colour(0x1000)) == hash(unknown)


@pytest.mark.parametrize("value", [Colour.RED, Colour(3), Colour(0x1000), Shape.ROUND, Point(x=1, y=2)])
def test_values_are_copied_and_pickled(value: Any) -> None:
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert type(copy.deepcopy(value)) is type(pickle.loads(pickle.dumps(value))) is type(value)


def test_bits_refuse_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="'red' is not a number"):
        Colour("red")


def test_codes_have_the_names_and_notes_of_the_document() -> None:
    assert Shape.ROUND == 1
    assert Shape(1).document_name == "SHAPE_ROUND"
    assert Shape.SQUARE.notes == ("four",)
    assert (Shape.section, Shape.columns) == ("Shapes", ("Name", "Value", "Note"))
    assert (name_of(Shape, 2), name_of(Shape, 3)) == ("SHAPE_SQUARE", "3")


def test_fields_may_be_left_out() -> None:
    assert Path() == Path(argsz=6, colour=0, count=0, points=())
    assert m.Header() == m.Header(message_id=0, command=0, message_size=0, flags=0, error=0)
    assert m.VersionRequest().version_data == b""


def test_counts_and_argsz_fit_the_rest_unless_given() -> None:
    points = (Point(x=1), Point(y=2))

    assert (Path(points=points).argsz, Path(points=points).count) == (12, 2)
    assert (Path(points=points, argsz=1, count=9).argsz, Path(points=points, count=9).count) == (1, 9)


def test_replace_keeps_counts_and_argsz() -> None:
    path = Path(points=(Point(),))

    assert path.replace(points=()) == Path(argsz=9, count=1, points=())
    assert path.replace(count=0, points=()).argsz == 9


def test_values_become_the_type_of_their_field() -> None:
    path = Path(colour=3, points=[Point()])

    assert type(path.colour) is Colour
    assert type(path.points) is tuple
    assert type(m.RegionWriteRequest(data=bytearray(b"ab")).data) is bytes


def test_records_cannot_be_changed() -> None:
    point = Point(x=1)

    with pytest.raises(AttributeError, match=r"Point is immutable; use replace\(x=…\)"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Point is immutable"):
        del point.x
    with pytest.raises(AttributeError):
        point.z = 2  # type: ignore[attr-defined]
    assert point == Point(x=1)


def test_records_of_different_tables_are_never_equal() -> None:
    assert m.RegionWriteReply() != m.RegionReadRequest()
    assert Point(x=1) != Point(x=2)
    assert Point() != {"x": 0, "y": 0}
    assert len({Point(x=1), Point(x=1), Point(x=2)}) == 2


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(TypeError, match="z"):
        Point(z=1)  # type: ignore[call-arg]


def test_repr_names_every_field() -> None:
    assert repr(Path(points=[Point(x=1, y=2)])) == "Path(argsz=9, colour=Colour(0), count=1, points=(Point(x=1, y=2),))"


def test_sizes_are_those_on_the_wire() -> None:
    assert (Point.fixed_size, Path.fixed_size, Path.tail) == (3, 6, "points")
    assert Path(points=[Point()] * 3).wire_size == 15
    assert Point().wire_size == 3
    assert tail_size((b"1234", Point())) == 7


def test_an_offset_that_the_fields_do_not_reach_is_an_error() -> None:
    """The offsets written into the declarations are checked, not believed."""
    with pytest.raises(TypeError, match=r"Gap.b is declared at 2, the fields before it end at 1"):

        class Gap(Record):
            a: int = row(0, Int8un)
            b: int = row(2, Int8un)


def test_nothing_may_follow_an_open_field() -> None:
    with pytest.raises(TypeError, match=r"Late.b is declared at 0, the fields before it end at 0"):

        class Late(Record):
            a: bytes = row(0, GreedyBytes)
            b: int = row(0, Int8un)


def test_rows_know_their_table() -> None:
    rows = m.DmaMapRequest.rows

    assert list(rows) == ["argsz", "flags", "offset", "address", "size"]
    assert [each.offset for each in rows.values()] == [0, 4, 8, 16, 24]
    assert [each.fixed_size for each in rows.values()] == [4, 4, 8, 8, 8]
    assert m.DmaMapRequest.section == "VFIO_USER_DMA_MAP / Request"
    assert m.Header.rows["command"].codes is m.Command
    assert m.RegionReadReply.rows["data"].fixed_size is None
    assert m.RegionReadReply.rows["count"].counts == "data"


def test_the_schema_is_plain_construct() -> None:
    """What a schema parses is a container that makes the record again."""
    container = Path.schema.parse(b"\x09\0\0\0\x01\x01\x05\x06\0")

    assert isinstance(Path.schema, construct.Struct)
    assert Path.from_container(container) == Path(argsz=9, colour=1, count=1, points=[Point(x=5, y=6)])


def test_fixed_bytes_are_a_field_like_any_other() -> None:
    class Named(Record):
        name: bytes = row(0, Bytes(4))
        size: int = row(4, Int8un)

    assert Named().name == b"\0\0\0\0"
    assert Named.schema.build(Named(name=b"abcd", size=1).as_dict()) == b"abcd\x01"


def test_strided_tells_entries_by_stride_and_selector() -> None:
    holds = m.DeviceGetRegionIoFdsReply.rows["sub_regions"].holds
    assert isinstance(holds, Strided)
    plain, shadow = bytes(20) + b"\1" + bytes(19), bytes(20) + b"\2" + bytes(27)

    assert holds.record_of(plain) is m.IoregionfdSubRegion
    assert holds.record_of(bytes(40)) is m.IoeventfdSubRegion
    assert holds.record_of(bytes(48)) is m.ShadowIoeventfdSubRegion
    assert holds.record_of(shadow) is m.ShadowIoeventfdSubRegion
    assert holds.record_of(bytes(56)) is None
    assert holds.record_of(b"") is None
    assert holds.split(plain + plain, 2) == [(m.IoregionfdSubRegion, plain)] * 2
    assert holds.split(b"abc", 4) == []
