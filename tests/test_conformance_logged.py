# What a report of written pages has to show: the bits that must be set, and those that may be.
import pytest

from vfio_user_conformance.facts import Facts
from vfio_user_conformance.logged import Report, Start
from vfio_user_conformance.peer import Asked, Received
from vfio_user_proto import wire
from vfio_user_proto.messages import Command, DeviceFeatureRequest, Header, HeaderFlags, MessageType
from vfio_user_proto.wire import Message

K = 4096


def broken(report: Report, logged: int, data: bytes) -> set[str]:
    """What the reply with these data breaks where the log has pages of that size; "" is what the case is about."""
    header = Header(message_id=1, command=Command.DEVICE_FEATURE, message_size=64, flags=HeaderFlags(MessageType.REPLY))
    seen = Received(Message(header, DeviceFeatureRequest(data=data), b""))
    return {
        each.requirement for each in report.expected(logged).problems(seen, Asked(1, Command.DEVICE_FEATURE), Facts())
    }


def accepts(report: Report, logged: int, bits: set[int]) -> bool:
    """Whether the reply with just these bits is as expected, where the log has pages of that size."""
    words = max(0, *bits, 8 * report.size - 1) // 64 + 1
    bitmap = sum(1 << bit for bit in bits).to_bytes(words * 8, "little")
    return not broken(report, logged, wire.encode_record(report.wanted) + bitmap)


@pytest.mark.parametrize(
    ("place", "report", "logged", "must", "may"),
    [
        ((0x3000, 1), (0, 0x10000, K), K, {3}, set()),
        ((0x3FFF, 2), (0, 0x10000, K), K, {3, 4}, set()),
        ((0x3000, K), (0, 0x10000, K), K, {3}, set()),
        ((0x5010, 1), (0x4000, 0x4000, K), K, {1}, set()),
        ((0x9000, 1), (0x4000, 0x4000, K), K, set(), set()),
        ((0x3000, 1), (0x4000, 0x4000, K), K, set(), set()),
        ((0x3000, 0x10000), (0x4000, 0x4000, K), K, {0, 1, 2, 3}, set()),
        ((0x5000, 1), (0, 0x10000, K), 4 * K, {5}, {4, 6, 7}),
        ((0x5000, 1), (0x6000, 0x4000, K), 4 * K, set(), {0, 1}),
        ((0x6000, 1), (0, 0x10000, 4 * K), K, {1}, set()),
        ((600 * K, 1), (0, 1024 * K, 2 * K), K, {300}, set()),
        ((0x3000, 1), (0, 0x4000, 1 << 20), K, {0}, set()),
        ((0x3100, 1), (0, 0x3200, K), K, {3}, set()),
    ],
)
def test_the_bits_that_are_due_have_to_come_and_none_but_those_of_coarser_pages(
    place: tuple[int, int], report: tuple[int, int, int], logged: int, must: set[int], may: set[int]
) -> None:
    wanted = Report(*report, (place,))

    assert accepts(wanted, logged, must)
    assert accepts(wanted, logged, must | may)
    for bit in must:
        assert not accepts(wanted, logged, must - {bit})
    for bit in {*range(8), 64, 301} - must - may:
        assert not accepts(wanted, logged, must | {bit})


def test_bits_behind_the_range_and_data_of_another_size_break_a_must_of_their_own() -> None:
    wanted = Report(0x1000, 7 * K)
    head = wire.encode_record(wanted.wanted)

    assert broken(wanted, K, head + bytes(8)) == set()
    assert broken(wanted, K, head + (1 << 7).to_bytes(8, "little")) == {"dma-logging.bitmap-outside"}
    assert broken(wanted, K, head + bytes(16)) == {"dma-logging.report-reply"}
    assert broken(wanted, K, b"") == {"dma-logging.report-reply"}
    assert broken(wanted, K, head + (1 << 2).to_bytes(8, "little")) == {""}


def test_where_the_text_is_silent_any_bits_are_right() -> None:
    assert accepts(Report(0, 0x4000, silent=True), K, {1, 7})


def test_the_words_say_pages_and_places() -> None:
    assert str(Start(K, ((0x1000, 0x2000),))) == "start a log of 0x1000-byte pages in 0x2000 bytes at 0x1000"
    assert str(Start()) == "start a log of 0x1000-byte pages"
    assert str(Report(0x1000, 0x4000, 2 * K)) == "ask for 0x4000 bytes at 0x1000 in 0x2000-byte pages"
    assert str(Report(0, 0x4000, K, ((0x1000, 1),)).expected(K)) == (
        "a reply with data with the bits 1, the data of the request and 8 bytes, no bits behind them"
    )
