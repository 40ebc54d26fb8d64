# What the driver makes of servers of every kind: right, wrong, silent, and out of step.
import os
from collections.abc import Generator
from errno import EEXIST, EINVAL

import pytest
from judging import INFO, MAP, answering, bench, case, plain, refusal, reply, run, to_map

from vfio_user_conformance.case import Case
from vfio_user_conformance.checks import AfterCheck, under
from vfio_user_conformance.descriptors import Pipe
from vfio_user_conformance.expect import REFUSED, ErrorReply, Expectation, NoReply, Problem, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import MAPPABLE, SCRATCH, SCRATCH_REGION
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import Session
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_conformance.verdict import Outcome
from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DescriptorError, TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest, RegionReadRequest
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

QUERY = Send(DeviceGetInfoRequest(), message_id=7)


class Unreached(AfterCheck):
    """What came on a connection that was lost is closed, so nobody looks at it."""

    def check(self, session: Session) -> list[Problem]:
        raise AssertionError("a check of a lost connection")


def test_what_is_expected_passes() -> None:
    result = run(case())

    assert (result.outcome, result.reason) == (Outcome.PASS, "")
    assert result.came == "VFIO_USER_DMA_MAP error reply, id 0x0102, EINVAL"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("requirement", "outcome"),
    [("dma-map.overlap", Outcome.FAIL), ("dma-map.adjacent", Outcome.DEVIATION), ("dma-map.bad-range", Outcome.INFO)],
)
def test_the_level_of_the_requirement_makes_the_outcome(requirement: str, outcome: Outcome) -> None:
    result = run(case(requirement=requirement), answering(reply))

    assert (result.outcome, result.broken) == (outcome, requirement)
    assert result.reason == "it was carried out, not refused"


@pytest.mark.parametrize(
    ("requirement", "expect", "broken"),
    [
        ("dma-map.reply-empty", Reply(), "dma-map.any-time"),
        ("dma-map.adjacent", *under("dma-map.reply-empty", Reply()), "dma-map.any-time"),
        ("header.message-id-any", Reply(), "header.message-id-any"),
    ],
)
def test_a_refusal_breaks_no_layout(requirement: str, expect: Expectation, broken: str) -> None:
    result = run(case(expect=expect, requirement=requirement))

    assert (result.outcome is Outcome.FAIL, result.broken) == (broken == requirement, broken)
    assert result.reason == "it was refused with EINVAL"


def test_a_graver_requirement_that_is_broken_too_decides() -> None:
    other_errno = case(expect=ErrorReply(EEXIST), requirement="dma-map.bad-range")
    result = run(other_errno, answering(lambda to: reply(to, b"1234", flags=0x21, error=EINVAL)))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "header.error-reply-empty")
    assert "EINVAL" in result.reason


def test_a_refusal_without_the_error_bit_is_told_from_a_success() -> None:
    result = run(case(), answering(lambda to: reply(to, error=EEXIST)))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "header.error-bit")
    assert result.reason == "the error is EEXIST, and the Error bit is clear"


def test_a_reply_to_another_command_has_other_fields() -> None:
    wanted = case(expect=Reply(flags=0), requirement="dma-map.any-time")
    result = run(wanted, answering(lambda to: reply(to, command=Command.DEVICE_RESET)))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "header.echo")
    assert "the reply has no flags" in result.reason


def test_a_loss_of_step_is_put_down_to_what_was_wrong_before() -> None:
    result = run(case(), answering(lambda to: reply(to) + bytes(16)))

    assert (result.outcome, result.broken) == (Outcome.DESYNC, "dma-map.overlap")


def test_an_info_case_tells_what_was_seen() -> None:
    result = run(case(requirement="dma-map.bad-range"))

    assert result.outcome is Outcome.INFO
    assert "EINVAL" in result.came


def test_silence_is_proved_by_a_query_that_is_answered() -> None:
    silent = to_map(b"")

    assert run(case(expect=NoReply()), silent).outcome is Outcome.PASS
    result = run(case(), silent)
    assert (result.outcome, result.reason) == (Outcome.FAIL, "no reply; the query after it was answered")


def test_no_answer_at_all_is_a_hang() -> None:
    stuck = False

    def serving(message: Message) -> bytes:
        nonlocal stuck
        stuck = stuck or message.header.command == Command.DMA_MAP
        return b"" if stuck else plain(message)

    result = run(case(), serving)
    assert (result.outcome, result.reason) == (Outcome.HANG, "VFIO_USER_DMA_MAP got no answer within 0.3 s")


def test_a_second_reply_is_one_too_many() -> None:
    result = run(case(), answering(lambda to: refusal(to) + refusal(to)))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "header.reply-to-each")


@pytest.mark.parametrize(
    "extra",
    [craft(Command.DMA_MAP, kind=1, message_id=0x99), bytes(16), b"\1\0", b"\0\0\0\0\x30\0\0\0" + bytes(8)],
    ids=["a reply to nothing", "no header", "a part of a header", "a part of a message"],
)
def test_what_nobody_asked_for_is_a_loss_of_step(extra: bytes) -> None:
    closing = False

    def serving(message: Message) -> bytes | None:
        nonlocal closing
        if closing:
            return None
        closing = message.header.command == Command.DMA_MAP
        return refusal(message) + extra if closing else plain(message)

    assert run(case(), serving).outcome is Outcome.DESYNC


def test_a_reply_with_neither_the_id_nor_the_command_of_anything_asked_is_a_loss_of_step() -> None:
    """However many of them come: a server that reads on in the middle of a message answers once or twice, by chance."""
    for junk in (craft(0, kind=1, message_id=0x1000), craft(0, kind=1, message_id=0x1000) * 2):
        result = run(case(), answering(lambda to, junk=junk: junk))

        assert (result.outcome, result.broken) == (Outcome.DESYNC, "")
        assert result.reason == "what came answers nothing that was sent: command 0 reply, id 0x1000"


def test_a_reply_that_comes_again_is_no_loss_of_step() -> None:
    """It answers what was sent, if once too often."""
    two = Case(ident="x/y", requirement="dma-map.overlap", stimulus=(MAP, QUERY), expect=(ErrorReply(), Reply()))
    result = run(two, answering(lambda to: refusal(to) * 2))

    assert (result.outcome, result.broken) == (Outcome.FAIL, "header.echo")


def test_closing_is_right_only_where_it_is_accepted() -> None:
    assert run(case(expect=REFUSED), to_map(None)).outcome is Outcome.PASS
    result = run(case(), to_map(None))
    assert (result.outcome, result.broken) == (Outcome.FAIL, "dma-map.overlap")


def test_closing_after_the_reply_is_seen() -> None:
    refused = False

    def serving(message: Message) -> bytes | None:
        nonlocal refused
        if refused and message.header.command == Command.DEVICE_GET_INFO:
            refused = False
            return None
        refused = message.header.command == Command.DMA_MAP
        return plain(message)

    assert run(case(), serving).reason == "the connection was closed afterwards"
    assert (
        run(case(stimulus=(MAP,), expect=(ErrorReply(), Unreached())), serving).reason
        == "the connection was closed afterwards"
    )
    assert run(case(expect=REFUSED), serving).outcome is Outcome.PASS


def test_a_script_gives_back_what_it_holds_however_its_case_ends() -> None:
    """At once: a descriptor that a forked server still found open would be closed there, whatever it is by then."""
    held: list[int] = []

    def script(facts: Facts) -> Generator[Exchange, Seen, None]:
        held.append(os.dup(0))
        try:
            yield exchange(MAP, ErrorReply())
            yield exchange(MAP, ErrorReply())
        finally:
            os.close(held.pop())

    for answers in (plain, answering(reply), to_map(None)):
        run(Case(ident="x/y", requirement="dma-map.overlap", stimulus="two", expect="two", script=script), answers)
        assert held == []


def test_a_step_that_has_to_work_first_and_does_not() -> None:
    result = run(case(given=(MAP,)))

    assert result.outcome is Outcome.NOT_REACHED
    assert result.reason.endswith("it was refused with EINVAL")


def test_what_the_target_does_not_offer_does_not_apply() -> None:
    result = run(case(Send(RegionReadRequest(region=MAPPABLE, count=4))))

    assert (result.outcome, result.reason) == (Outcome.NOT_APPLICABLE, "no region can be mapped")


def test_what_was_never_answered_is_not_taken_for_not_offered() -> None:
    made = bench()
    made.facts.incomplete = "it fell silent"

    result = made.run(case(needs=(MAPPABLE,)))

    assert result.outcome is Outcome.NOT_REACHED
    assert "it fell silent" in result.reason
    made.target.close()


def test_a_hazard_has_to_be_allowed() -> None:
    made = bench()
    made.allow = frozenset()

    result = made.run(case(hazards=frozenset({"reset", "irq"})))

    assert (result.outcome, result.reason) == (Outcome.REFUSED_SAFETY, "needs --allow irq,reset")
    assert made.target.renewed == 0  # type: ignore[attr-defined]


def test_a_command_of_the_server_is_refused_and_passed_over() -> None:
    question = craft(Command.DMA_READ, bytes(16), message_id=3)
    answers = []

    def serving(message: Message) -> bytes:
        if message.is_reply:
            answers.append(message)
            return b""
        return question + plain(message) if message.header.command == Command.DMA_MAP else plain(message)

    assert run(case(), serving).outcome is Outcome.PASS
    assert [(each.header.message_id, each.is_error) for each in answers] == [(3, True)]


def test_replies_are_matched_to_commands_by_id_and_command() -> None:
    both = Case(
        ident="x/y",
        requirement="header.message-id-any",
        stimulus=(QUERY, Send(DmaMapRequest(), message_id=7), QUERY),
        expect=(Reply(num_regions=9), ErrorReply(), Reply()),
    )

    assert run(both).outcome is Outcome.PASS


def test_a_problem_of_one_among_different_commands_names_it() -> None:
    two = Case(ident="x/y", requirement="dma-map.overlap", stimulus=(MAP, QUERY), expect=(ErrorReply(), ErrorReply()))

    assert run(two).reason == "VFIO_USER_DEVICE_GET_INFO: it was carried out, not refused"


def test_what_is_told_of_a_trial_has_what_is_known_of_the_target() -> None:
    """A reader of the finding need not look up which region it was."""
    one = case(Send(RegionReadRequest(region=SCRATCH_REGION, offset=SCRATCH, count=4)), given=(QUERY,))  # type: ignore[arg-type]
    result = run(one)

    assert "<scratch region>" in one.stimulus_text
    assert result.stimulus == "VFIO_USER_REGION_READ (offset 0, region 0, count 4)"
    assert result.given == str(QUERY)


def test_nothing_is_sent_where_a_later_message_lacks_a_fact() -> None:
    """A target that does not take it well to be left alone afterwards is not blamed for a case that it cannot have."""
    lacking = Send(RegionReadRequest(region=MAPPABLE, offset=0, count=4))
    result = run(case((MAP, lacking), (ErrorReply(), Reply()), greet=False))

    assert (result.outcome, result.messages) == (Outcome.NOT_APPLICABLE, ())


def test_the_survey_goes_on_where_a_question_brought_the_target_out_of_step() -> None:
    """Each refusal is followed by a reply to nothing; what is asked next is asked again, of who has not lost step."""

    def serving(message: Message) -> bytes:
        answer = plain(message)
        return (
            answer if message.header.command in (Command.VERSION, Command.DEVICE_GET_INFO) else answer + reply(message)
        )

    made = bench(serving)
    made.survey()

    assert (made.facts.device, made.facts.regions, made.facts.migration) == (INFO, {}, False)
    assert not made.facts.incomplete
    made.target.close()


def test_the_survey_fills_the_facts_as_far_as_it_gets() -> None:
    made = bench()
    made.survey()
    assert (made.facts.minor, made.facts.device, made.facts.incomplete) == (2, INFO, "")
    made.target.close()

    made = bench(lambda message: plain(message) if message.header.command == Command.VERSION else None)
    made.survey()
    assert made.facts.incomplete == "the connection was closed"
    made.target.close()

    with pytest.raises(TargetError, match="nobody listens"):
        bench(connections=0).survey()


def test_messages_are_kept_with_time_and_connection() -> None:
    messages = run(case()).messages

    assert [each["from"] for each in messages] == ["client", "server"] * 3
    assert [number for number, each in enumerate(messages) if each.get("connect")] == [0]
    assert sorted(each["t"] for each in messages) == [each["t"] for each in messages]


def test_a_wanted_errno_is_compared() -> None:
    assert run(case(expect=ErrorReply(EEXIST))).reason == "the error is EINVAL, not EEXIST"


def test_a_query_that_made_a_late_reply_come_is_not_taken_for_the_next_command() -> None:
    first: list[Message] = []

    def late(message: Message) -> bytes:
        """Answers the first DMA_MAP together with what comes next."""
        if message.header.command == Command.DMA_MAP and not first:
            first.append(message)
            return b""
        answer = plain(message)
        if len(first) == 1:
            answer = reply(first[0]) + answer
            first.append(message)
        return answer

    result = run(case(MAP, ErrorReply(), given=(MAP, Send(DeviceGetInfoRequest()))), late)

    assert (result.outcome, result.reason) == (Outcome.PASS, "")


def test_descriptors_that_this_machine_does_not_pass_are_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target did not get what the case is about, so its silence says nothing."""
    monkeypatch.setattr(unix, "MAX_FDS", 0)
    with pytest.raises(DescriptorError, match="at most 0 descriptors"):
        run(case(stimulus=Send(DmaMapRequest(), fds=(Pipe(),))))
