# What expectations accept, and what they say about the rest.
from errno import EEXIST, EINVAL

import pytest
from judging import INFO, refusal, reply

from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import (
    ANYTHING,
    REFUSED,
    Either,
    EmptyReply,
    Erratum,
    ErrorReply,
    Expectation,
    HangUp,
    NoReply,
    Reply,
    Unjudged,
    Whole,
    at_least,
    at_most,
    long,
    with_bits,
    without_bits,
)
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.needs import NUM_REGIONS
from vfio_user_conformance.peer import Asked, HungUp, Received, Seen, Silence
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    Command,
    DeviceFlags,
    DeviceGetInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    RegionReadReply,
    RegionReadRequest,
)
from vfio_user_proto.wire import Message

QUERY = wire.decode(craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=5))
READ = wire.decode(craft(Command.REGION_READ, RegionReadRequest(count=4), message_id=5))
REGION = wire.decode(craft(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(), message_id=5))
FACTS = Facts(device=INFO)


def came(data: bytes, fds: tuple[int, ...] = ()) -> Received:
    try:
        return Received(wire.decode(data), fds)
    except DecodeError as error:
        return Received(Message(wire.decode_header(data), None, data[16:]), fds, str(error))


def judge(expectation: Expectation, seen: Seen, to: Message = QUERY) -> list[tuple[str, str]]:
    asked = Asked(to.header.message_id, to.header.command)
    reading = expectation.choose(seen, asked, FACTS)
    return [(each.text, each.requirement) for each in reading.problems(seen, asked, FACTS)]


GOOD, REFUSAL = came(reply(QUERY, INFO)), came(refusal(QUERY))


@pytest.mark.parametrize(
    ("expectation", "accepted"),
    [
        (Reply(), [GOOD]),
        (ErrorReply(), [REFUSAL]),
        (ErrorReply(EINVAL), [REFUSAL]),
        (HangUp(), [HungUp()]),
        (NoReply(), [Silence()]),
        (REFUSED, [REFUSAL, HungUp()]),
        (ANYTHING, [GOOD, REFUSAL, HungUp()]),
        (Either(NoReply(), Reply()), [GOOD, Silence()]),
        (Erratum(Reply()), [GOOD]),
        (Unjudged(), [GOOD, REFUSAL, HungUp()]),
    ],
    ids=str,
)
def test_each_expectation_accepts_its_own_kind_and_no_other(expectation: Expectation, accepted: list[Seen]) -> None:
    for seen in (GOOD, REFUSAL, HungUp(), Silence()):
        assert (judge(expectation, seen) == []) == (seen in accepted), seen
        assert expectation.takes(seen) == (seen in accepted), seen


@pytest.mark.parametrize(
    ("data", "requirement"),
    [
        (reply(QUERY, INFO, message_id=6), "header.echo"),
        (reply(QUERY, INFO, command=5), "header.echo"),
        (reply(QUERY, INFO, kind=0), "header.type"),
        (reply(QUERY, wire.encode_record(INFO) + b"\0"), "get-info.reply-layout"),
        (reply(QUERY, wire.encode_record(INFO)[:12]), "get-info.reply-layout"),
    ],
)
def test_what_holds_for_every_reply_is_named_when_it_is_broken(data: bytes, requirement: str) -> None:
    assert requirement in [broken for _, broken in judge(Reply(), came(data))]


def test_an_error_reply_with_a_payload_is_named() -> None:
    data = reply(QUERY, b"12345678", flags=0x21, error=EINVAL)

    assert judge(ErrorReply(), came(data)) == [("the error reply has a payload of 8 bytes", "header.error-reply-empty")]
    assert judge(Either(Reply(), ErrorReply()), came(data)) == judge(ErrorReply(), came(data))


def test_an_error_reply_without_its_bit_is_named_whatever_was_expected() -> None:
    """That it has no payload is right, and would say nothing of the mistake."""
    odd = came(reply(QUERY, error=EINVAL))
    wrong = [("the error is EINVAL, and the Error bit is clear", "header.error-bit")]

    assert [judge(each, odd) for each in (Reply(), ErrorReply(), REFUSED)] == [wrong] * 3


def test_another_errno_is_told_by_name() -> None:
    assert judge(ErrorReply(EEXIST), REFUSAL) == [("the error is EINVAL, not EEXIST", "")]


def test_what_is_expected_by_the_way_breaks_its_own_requirement() -> None:
    (refused,) = under("dma-map.overlap", ErrorReply())
    assert isinstance(refused, Expectation)
    assert judge(refused, GOOD) == [("it was carried out, not refused", "dma-map.overlap")]
    assert str(refused) == "an error reply"


def test_what_has_a_requirement_of_its_own_keeps_it_by_the_way() -> None:
    (refused,) = under("dma-map.overlap", ErrorReply())
    assert isinstance(refused, Expectation)
    with_payload = judge(refused, came(reply(QUERY, INFO, flags=0x21, error=EINVAL)))
    assert [requirement for _, requirement in with_payload] == ["header.error-reply-empty"]


def test_each_of_several_conditions_on_the_whole_reply_is_told_under_its_requirement() -> None:
    wholes = (Whole("one", lambda _: "not one", "header.echo"), Whole("two", lambda _: "not two"))
    assert judge(Reply(whole=wholes), GOOD) == [("not one", "header.echo"), ("not two", "")]


def test_a_missing_reply_is_told_as_such() -> None:
    assert judge(Reply(), Silence())[0][1] == "header.reply-to-each"
    assert judge(ErrorReply(), HungUp()) == [("the connection was closed", "header.reply-to-each")]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"num_regions": 9}, ""),
        ({"num_regions": NUM_REGIONS}, ""),
        ({"num_regions": NUM_REGIONS + 1}, "num_regions is 9, not 10"),
        ({"num_irqs": at_least(6)}, "num_irqs is 5, not at least 6"),
        ({"num_irqs": at_most(4)}, "num_irqs is 5, not at most 4"),
        ({"flags": with_bits(DeviceFlags.RESET)}, "flags is PCI, not with RESET"),
        ({"flags": without_bits(DeviceFlags.PCI)}, "flags is PCI, not without PCI"),
        ({"whole": Whole("odd", lambda seen: "it is even")}, "it is even"),
    ],
)
def test_fields_are_compared_with_values_conditions_and_facts(fields: dict[str, object], problem: str) -> None:
    assert judge(Reply(**fields), GOOD) == ([(problem, "")] if problem else [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "requirement"),
    [(QUERY, "stream.unexpected-descriptors"), (REGION, "")],
    ids=["of a reply that brings none", "of one that may bring some"],
)
def test_descriptors_that_no_text_speaks_of_break_no_layout(query: Message, requirement: str) -> None:
    payload = INFO if query is QUERY else DeviceGetRegionInfoReply()
    seen = came(reply(query, payload), (0,))

    assert judge(Reply(fds=0), seen, query) == [("1 descriptor came, not 0", requirement)]


def test_the_length_of_data_can_be_asked_for() -> None:
    seen = came(reply(READ, RegionReadReply(data=b"1234")))

    assert judge(Reply(data=long(4)), seen, READ) == []
    assert judge(Reply(data=long(5)), seen, READ) == [("data is 4 bytes 31323334, not of 5 bytes", "")]


def test_a_header_alone_can_be_a_success() -> None:
    assert judge(EmptyReply(), came(reply(READ)), READ) == []
    assert judge(EmptyReply(), came(reply(READ, RegionReadReply(data=b"1"))), READ) != []
