# The states of a device and the ways between them, and the stream of its state.
import errno
import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_user_proto import migration
from vfio_user_proto.device import Description, Device
from vfio_user_proto.messages import DeviceState, MigrationFlags
from vfio_user_proto.migration import (
    ARCS,
    ERROR,
    MAGIC,
    PIECE,
    PRE_COPY,
    RESUMING,
    RUNNING,
    SAVING,
    STOP,
    STOP_COPY,
    Loading,
    Migration,
    Saving,
    path,
)

FLAGS = MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
STATES = (STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY)
# Every change that the document lists, and by way of what (sections Direct and Complex State Transitions).
WAYS = {
    (RUNNING, STOP): (),
    (STOP_COPY, STOP): (),
    (RESUMING, STOP): (),
    (PRE_COPY, RUNNING): (),
    (STOP, RUNNING): (),
    (RUNNING, PRE_COPY): (),
    (STOP, STOP_COPY): (),
    (PRE_COPY, STOP_COPY): (),
    (STOP, RESUMING): (),
    (RUNNING, STOP_COPY): (STOP,),
    (RUNNING, RESUMING): (STOP,),
    (STOP, PRE_COPY): (RUNNING,),
    (STOP_COPY, RUNNING): (STOP,),
    (STOP_COPY, RESUMING): (STOP,),
    (RESUMING, RUNNING): (STOP,),
    (RESUMING, STOP_COPY): (STOP,),
    (RESUMING, PRE_COPY): (STOP, RUNNING),
    (PRE_COPY, STOP): (RUNNING,),
    (PRE_COPY, RESUMING): (RUNNING, STOP),
}


class Box(Device):
    """A device that is some bytes, and remembers the states that it was in when it was saved."""

    def __init__(self, content: bytes = b"", flags: MigrationFlags = FLAGS) -> None:
        self.description = Description({}, migration=flags)
        self.content = content
        self.saved_in: list[DeviceState] = []
        self.problem: Exception | None = None

    def save(self) -> bytes:
        self.saved_in.append(self.state)
        if self.problem is not None:
            raise self.problem
        return self.content

    def load(self, state: bytes) -> None:
        if self.problem is not None:
            raise self.problem
        self.content = state

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        raise AssertionError


def stream(content: bytes) -> bytes:
    """The whole stream of a device with this content."""
    saving = Saving(lambda: content)
    saving.finish()
    return saving.read(saving.due)


def loaded(parts: Iterable[bytes]) -> bytes:
    """What a stream in these parts comes to."""
    loading = Loading()
    for part in parts:
        loading.write(part)
    return loading.finish()


def at(state: DeviceState, content: bytes = b"state") -> tuple[Box, Migration]:
    """A device in a state, ready for every arc."""
    box = Box(content)
    machine = Migration(box)
    machine.go(state)
    if state == RESUMING:
        machine.write(stream(b"other"))
    box.saved_in.clear()
    return box, machine


def refused(machine: Migration, state: int) -> int | None:
    with pytest.raises(OSError) as refusal:
        machine.go(state)
    return refusal.value.errno


# States


@pytest.mark.parametrize(("start", "end"), list(itertools.product(STATES, repeat=2)), ids=lambda state: state.name)
def test_every_pair_of_states_has_the_way_of_the_document(start: DeviceState, end: DeviceState) -> None:
    way = path(start, end, FLAGS)
    if start == end:
        assert way == ()
    elif (start, end) == (STOP_COPY, PRE_COPY):
        assert way is None
    else:
        assert way == (*WAYS[start, end], end)
        assert set(way[:-1]).isdisjoint(SAVING)
        assert set(itertools.pairwise((start, *way))) <= set(ARCS)


@pytest.mark.parametrize(("start", "end"), [*WAYS, *((one, one) for one in STATES)], ids=lambda state: state.name)
def test_a_device_gets_to_every_state_that_a_way_leads_to(start: DeviceState, end: DeviceState) -> None:
    box, machine = at(start)
    machine.go(end)
    assert box.state == end
    assert box.content == (b"other" if start == RESUMING and end != RESUMING else b"state")


def test_arcs_are_those_of_the_document_and_nothing_else() -> None:
    assert set(ARCS) == {pair for pair, way in WAYS.items() if not way}


@pytest.mark.parametrize("start", STATES)
@pytest.mark.parametrize("end", [0, 5, 7, 8, 0xFFFFFFFF])
def test_no_way_leads_to_other_states(start: DeviceState, end: int) -> None:
    box, machine = at(start)
    assert refused(machine, end) == errno.EINVAL
    assert box.state == start


@pytest.mark.parametrize("state", STATES)
def test_without_pre_copy_its_arcs_are_gone(state: DeviceState) -> None:
    assert path(state, PRE_COPY, MigrationFlags.STOP_COPY) is None
    assert path(PRE_COPY, state, MigrationFlags.STOP_COPY) is None


def test_the_machine_refuses_stop_copy_to_pre_copy() -> None:
    box, machine = at(STOP_COPY)
    assert refused(machine, PRE_COPY) == errno.EINVAL
    assert box.state == STOP_COPY


def test_only_reset_leads_out_of_error() -> None:
    box, machine = at(RESUMING)
    box.problem = ValueError("not mine")
    assert refused(machine, RUNNING) == errno.EINVAL
    assert box.state == ERROR
    for state in DeviceState:
        assert refused(machine, state) == errno.EINVAL
    machine.reset()
    assert box.state == RUNNING
    machine.go(STOP)


def test_a_device_that_cannot_be_saved_stays_where_that_was_found_out() -> None:
    box = Box()
    machine = Migration(box)
    box.problem = OSError(errno.EIO, "no")
    assert refused(machine, STOP_COPY) == errno.EIO
    assert (box.state, box.saved_in) == (STOP, [STOP_COPY])
    machine.go(PRE_COPY)
    assert refused(machine, STOP_COPY) == errno.EIO
    assert box.state == PRE_COPY


def test_a_state_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "MAX_STATE", PIECE)
    _, machine = at(STOP, bytes(PIECE + 1))
    assert refused(machine, STOP_COPY) == errno.EFBIG


@pytest.mark.parametrize(("left", "found"), [(PRE_COPY, RUNNING), (STOP_COPY, STOP), (RESUMING, STOP), (STOP, STOP)])
def test_a_session_ends_with_its_client(left: DeviceState, found: DeviceState) -> None:
    box, _ = at(left)
    Migration(box)
    assert (box.state, box.content) == (found, b"state")


# Reading


@pytest.mark.parametrize("state", [STOP, RUNNING, RESUMING])
def test_nothing_is_read_outside_the_saving_group(state: DeviceState) -> None:
    with pytest.raises(OSError, match="nothing is to be read"):
        at(state)[1].read(1)


@pytest.mark.parametrize("state", [STOP, RUNNING, PRE_COPY, STOP_COPY])
def test_nothing_is_written_outside_resuming(state: DeviceState) -> None:
    with pytest.raises(OSError, match="nothing is to be written"):
        at(state)[1].write(b"1")


def test_a_read_shorter_than_asked_is_the_end() -> None:
    _, machine = at(STOP_COPY, b"x" * 100)
    whole = stream(b"x" * 100)
    assert machine.read(len(whole) - 1) == whole[:-1]
    assert (machine.read(2), machine.read(2)) == (whole[-1:], b"")


def test_pre_copy_goes_on_in_stop_copy_with_what_changed() -> None:
    content = bytearray(8 * PIECE)
    box, machine = at(PRE_COPY, bytes(content))
    first = machine.read(1 << 20)
    assert len(first) > 8 * PIECE
    assert machine.read(1 << 20) == b""
    content[3 * PIECE] = 1
    box.content = bytes(content)
    again = machine.read(100) + machine.read(1 << 20)
    content[5 * PIECE] = 2
    box.content = bytes(content)
    machine.go(STOP_COPY)
    rest = machine.read(1 << 20)
    assert PIECE < len(again) < 2 * PIECE
    assert PIECE < len(rest) < 2 * PIECE
    assert loaded([first, again, rest]) == content


def test_the_device_is_at_rest_when_the_end_is_saved() -> None:
    box, machine = at(PRE_COPY)
    machine.go(STOP_COPY)
    assert box.saved_in == [STOP_COPY]


def test_a_new_session_begins_anew() -> None:
    _, machine = at(PRE_COPY, b"abc")
    machine.read(5)
    machine.go(RUNNING)
    machine.go(STOP_COPY)
    assert machine.read(1000) == stream(b"abc")


# Writing


CONTENT = bytes(range(256)) * 130  # three pieces


@given(st.binary(max_size=3 * PIECE), st.lists(st.integers(0, 3 * PIECE)))
def test_a_stream_may_be_cut_anywhere(content: bytes, cuts: list[int]) -> None:
    whole = stream(content)
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    assert loaded(whole[start:end] for start, end in itertools.pairwise(places)) == content


def test_every_single_cut_and_single_bytes_make_no_difference() -> None:
    whole = stream(b"some state")
    for cut in range(len(whole) + 1):
        assert loaded([whole[:cut], whole[cut:]]) == b"some state"
    assert loaded(bytes([byte]) for byte in whole) == b"some state"


@pytest.mark.parametrize("content", [b"", b"some state"])
def test_a_stream_that_ends_early_is_refused_wherever_it_ends(content: bytes) -> None:
    """The device keeps what it was, and takes the rest when it comes."""
    whole = stream(content)
    for end in range(len(whole)):
        box, machine = at(STOP)
        machine.go(RESUMING)
        machine.write(whole[:end])
        assert refused(machine, STOP) == errno.EINVAL
        assert (box.state, box.content) == (RESUMING, b"state")
        machine.write(whole[end:])
        machine.go(RUNNING)
        assert box.content == content


@pytest.mark.parametrize("content", [b"", b"some state", bytes(2 * PIECE)])
def test_one_bit_wrong_anywhere_is_noticed(content: bytes) -> None:
    whole = stream(content)
    for place in [*range(60), *range(60, len(whole), 977), *range(len(whole) - 20, len(whole))]:
        if place < len(whole):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            with pytest.raises(OSError, match=r"data are|a piece lies outside"):
                loaded([bytes(damaged)])


def test_what_follows_the_end_is_noticed() -> None:
    for parts in ([stream(b"1") + b"x"], [stream(b"1"), b"x"]):
        with pytest.raises(OSError, match="data follow the end"):
            loaded(parts)


def test_pieces_that_are_lost_or_swapped_are_noticed() -> None:
    whole = stream(CONTENT)
    first, second = 16 + 16 + PIECE, 16 + 2 * (16 + PIECE)
    for wrong in (whole[:16] + whole[first:], whole[:first] + whole[second:], whole[:second] + stream(b"")[16:] + b"x"):
        with pytest.raises(OSError, match=r"data are|a piece lies outside|follow"):
            loaded([wrong])


def test_nothing_is_kept_after_a_mistake() -> None:
    loading = Loading()
    for _ in range(100):
        loading.write(bytes(PIECE))
    assert not loading._rest
    assert not loading._state


def test_a_state_that_grows_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream(CONTENT)
    monkeypatch.setattr(migration, "MAX_STATE", 2 * PIECE)
    with pytest.raises(OSError, match="outside the state"):
        loaded([whole])


def test_a_state_may_get_smaller_between_two_looks() -> None:
    contents = iter([CONTENT, CONTENT[:100]])
    saving = Saving(lambda: next(contents))
    saving.renew()
    saving.finish()
    assert loaded([saving.read(1 << 20)]) == CONTENT[:100]


@given(st.binary(max_size=200))
def test_random_data_are_refused(data: bytes) -> None:
    for start in (b"", MAGIC):
        with pytest.raises(OSError, match=r"data are|outside"):
            loaded([start + data])
