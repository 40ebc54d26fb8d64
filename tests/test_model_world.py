# What the model knows, and what becomes of it: pure functions.
from dataclasses import replace

from vfio_user_conformance.descriptors import EventFd
from vfio_user_conformance.memory import Pages
from vfio_user_conformance.model.world import (
    Mapped,
    S,
    Saved,
    Vector,
    World,
    assigned,
    blurred,
    differs,
    disabled,
    exactly,
    files,
    known,
    loaded,
    mapped,
    masked,
    overlapped,
    raised,
    read,
    reconnected,
    recording,
    reported,
    reset,
    settable,
    unmapped,
    went,
    within,
    written,
    wrote,
)

LOW, HIGH = Mapped(0x1000, 0x2000, 3), Mapped(0x4000, 0x1000, 1)
BOTH = mapped(mapped(World(), HIGH), LOW)


def test_mappings_are_kept_in_order_and_found_by_their_exact_range() -> None:
    assert BOTH.maps == (LOW, HIGH)
    assert exactly(BOTH.maps, 0x1000, 0x2000) is LOW
    assert exactly(BOTH.maps, 0x1000, 0x1000) is None
    assert unmapped(BOTH, LOW).maps == (HIGH,)


def test_ranges_overlap_that_share_a_byte() -> None:
    assert overlapped(BOTH.maps, 0x2FFF, 1) == (LOW,)
    assert overlapped(BOTH.maps, 0x3000, 0x1000) == ()
    assert overlapped(BOTH.maps, 0x0000, 0x5000) == (LOW, HIGH)


def test_what_is_mapped_over_a_doubtful_mapping_was_not_there_any_more() -> None:
    new = Mapped(0x2000, 0x3000, 3)
    assert mapped(reset(BOTH), new).maps == (new,)


def test_an_eventfd_that_is_replaced_or_taken_away_is_retired() -> None:
    first, second = EventFd(), EventFd()
    world = assigned(World(), 2, 1, [first])
    assert assigned(world, 2, 1, [second]).vectors[2, 1].event is second
    assert assigned(world, 2, 1, [second]).retired == (first,)
    assert assigned(world, 2, 1, [None]).retired == (first,)


def test_disabling_a_type_leaves_the_other_types_alone() -> None:
    mine, other = EventFd(), EventFd()
    world = disabled(assigned(assigned(World(), 2, 0, [mine]), 0, 0, [other]), 2)
    assert world.vectors[2, 0].event is None
    assert world.vectors[0, 0].event is other
    assert world.retired == (mine,)


def test_what_is_raised_while_it_is_masked_waits_until_it_is_unmasked() -> None:
    world = raised(masked(World(), 2, [1], True), 2, [1], automasked=False)
    assert world.vectors[2, 1] == Vector(masked=True, pending=True)
    assert masked(world, 2, [1], False).vectors[2, 1] == Vector()


def test_a_type_is_enabled_from_its_first_eventfd_until_it_is_disabled() -> None:
    world = assigned(World(), 2, 0, [EventFd()])
    assert assigned(world, 2, 0, [None]).enabled == {2}
    assert disabled(world, 2).enabled == set()


def test_an_automasked_interrupt_may_be_masked_once_it_was_raised() -> None:
    world = raised(World(), 0, [0], automasked=True)
    assert world.vectors[0, 0].masked is None
    world = masked(raised(world, 0, [0], automasked=True), 0, [0], False, automasked=True)
    assert world.vectors[0, 0].masked is None


def test_scratch_bytes_are_compared_as_far_as_they_are_known() -> None:
    world = known(World(), 4, b"abc")
    assert differs(world, 2, b"xyabcz") is None
    assert differs(world, 4, b"aXc") == 5


def test_every_state_leads_to_every_other_but_out_of_error_and_back_to_pre_copy() -> None:
    states = (S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING, S.PRE_COPY)
    refused = [(a, b) for a in states for b in states if not settable(a, b, pre_copy=True)]
    assert refused == [(S.STOP_COPY, S.PRE_COPY)]
    assert not settable(S.ERROR, S.RUNNING, pre_copy=True)
    assert not settable(S.RUNNING, S.RUNNING_P2P, pre_copy=True)
    assert not settable(S.RUNNING, S.PRE_COPY, pre_copy=False)


def test_a_state_that_was_read_to_its_end_comes_back_with_the_scratch_bytes_of_then() -> None:
    world = went(known(World(), 0, b"old"), S.STOP_COPY)
    world = read(read(world, b"first", last=False), b"last", last=True)
    assert world.saved == Saved(b"firstlast", {0: ord("o"), 1: ord("l"), 2: ord("d")})
    world = went(known(went(world, S.RUNNING), 0, b"new"), S.RESUMING)
    assert world.scratch == {}
    assert world.loaded == 0
    whole = replace(world, loaded=len(b"firstlast"))
    assert loaded(whole)
    assert differs(went(whole, S.STOP), 0, b"old") is None


def test_the_beginning_of_a_state_is_remembered_and_is_no_state() -> None:
    world = read(went(World(), S.STOP_COPY), b"first", last=False)
    assert world.saved == Saved(b"first", {}, whole=False)
    assert not loaded(replace(world, loaded=len(b"first")))


def test_a_whole_state_is_not_given_up_for_the_beginning_of_another() -> None:
    world = read(went(World(), S.STOP_COPY), b"whole", last=True)
    world = went(went(world, S.RUNNING), S.STOP_COPY)
    assert read(world, b"part", last=False).saved == Saved(b"whole", {})


def test_what_is_written_in_stop_copy_makes_the_saved_state_doubtful() -> None:
    world = written(went(World(), S.STOP_COPY), 0, b"new")
    assert differs(world, 0, b"old") == 0
    assert read(world, b"state", last=True).saved is None
    assert written(went(World(), S.PRE_COPY), 0, b"new").session == b""


def test_the_session_goes_on_from_pre_copy_to_stop_copy_and_nowhere_else() -> None:
    world = read(went(World(), S.PRE_COPY), b"early", last=True)
    assert world.saved is None
    assert went(world, S.STOP_COPY).session == b"early"
    assert went(went(world, S.RUNNING), S.STOP_COPY).session == b""


def test_after_a_reset_mappings_are_doubtful_and_the_state_is_certain_where_the_text_says_so() -> None:
    assert [each.sure for each in reset(BOTH).maps] == [False, False]
    assert reset(World(states=frozenset({S.ERROR}))).state is S.RUNNING
    assert reset(World(states=frozenset({S.RESUMING}))).state is None


def test_the_next_client_finds_no_mappings_and_the_scratch_bytes() -> None:
    world = reconnected(known(BOTH, 0, b"kept"))
    assert world.maps == ()
    assert differs(world, 0, b"kept") is None
    assert world.state is S.RUNNING


def test_a_report_has_to_name_what_was_written_inside_the_logged_ranges() -> None:
    memory = Mapped(0x10000, 0x4000, 3, Pages(0x6000), offset=0x2000)
    world = wrote(recording(mapped(World(), memory)), memory, 0x10FFF, 2)
    assert world.dirty == {0x10, 0x11}
    assert world.maps[0].written == ((0x2FFF, 2),)
    assert reported(world, 0x10000, 0x1000).dirty == {0x11}
    assert unmapped(world, world.maps[0]).dirty == set()
    assert wrote(recording(mapped(World(), memory), [(0x11000, 0x1000)]), memory, 0x10FFF, 2).dirty == {0x11}
    assert wrote(mapped(World(), memory), memory, 0x10FFF, 2).dirty == set()


def test_a_range_is_within_a_mapping_only_where_that_is_certain() -> None:
    assert within(BOTH.maps, 0x1000, 0x2000) is LOW
    assert within(BOTH.maps, 0x2FFF, 2) is None
    assert within(reset(BOTH).maps, 0x1000, 1) is None


def test_the_files_of_former_mappings_are_watched_too() -> None:
    memory, other = Pages(0x1000), Pages(0x1000)
    first, second = Mapped(0x1000, 0x1000, 3, memory), Mapped(0x2000, 0x1000, 3, other)
    world = wrote(mapped(mapped(World(), first), second), first, 0x1010, 4)
    world = unmapped(world, world.maps[0])
    assert files(world) == [(memory, ((0x10, 4),)), (other, ())]
    assert files(reconnected(world)) == files(world)
    assert files(blurred(world, [second])) == [(memory, ((0x10, 4),))]
    assert files(wrote(blurred(world, [second]), replace(second, written=None), 0x2000, 1)) == [(memory, ((0x10, 4),))]
