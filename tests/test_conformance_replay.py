# Evidence of others, such as the fuzzer's: the bytes are sent again, and the target must live and be in step.
from pathlib import Path

import pytest
from judging import Serving, bench, plain, refusal, reply

from vfio_user_conformance.case import catalogue
from vfio_user_conformance.coverage import quoted
from vfio_user_conformance.evidence import captured, keep
from vfio_user_conformance.replay import replay
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Report
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest, VersionRequest
from vfio_user_proto.program import End
from vfio_user_proto.trace import Capture, Captured, read_capture
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

HEAD = {"vfio-user-evidence": 1, "case": "fuzz/desync"}
GREETING = Captured("client", craft(Command.VERSION, VersionRequest()))
MEMFD = {"kind": "memfd", "size": 4096, "seals": 0}
MAP = Captured("client", craft(Command.DMA_MAP, DmaMapRequest(), message_id=1), (MEMFD,))
REPLY = Captured("server", bytes(16))
EVIDENCE = Capture(HEAD, (GREETING, REPLY, MAP, REPLY))


def again(serving: Serving = plain, capture: Capture = EVIDENCE, **more: object) -> tuple[str, int]:
    text, status = replay(capture, bench(serving, **more))
    return text.partition(":")[0], status


def to_map(answer: bytes | None) -> Serving:
    return lambda message: answer if message.header.command == Command.DMA_MAP else plain(message)


def test_a_target_that_answers_is_fixed() -> None:
    assert again() == ("fixed", 0)


def test_one_that_closes_and_serves_the_next_is_fixed() -> None:
    assert again(to_map(None)) == ("fixed", 0)


def test_a_reply_to_nothing_is_still_wrong() -> None:
    text, status = replay(EVIDENCE, bench(to_map(craft(Command.DMA_MAP, kind=1, message_id=99))))

    assert (text.startswith("still wrong: desync: what came answers nothing"), status) == (True, 1)


def test_silence_is_still_wrong() -> None:
    stuck = False

    def serving(message: Message) -> bytes:
        nonlocal stuck
        stuck = stuck or message.header.command == Command.DMA_MAP
        return b"" if stuck else plain(message)

    assert again(serving) == ("still wrong", 1)


def test_a_crash_is_still_wrong() -> None:
    end = End("killed by SIGSEGV", crashed=True)
    text, status = replay(EVIDENCE, bench(to_map(None), connections=1, end=end))

    assert (text, status) == ("still wrong: crash: killed by SIGSEGV", 1)


def test_what_waits_for_more_is_not_asked() -> None:
    half = Captured("client", craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())[:20])

    assert again(capture=Capture(HEAD, (GREETING, half))) == ("fixed", 0)


def test_pieces_of_a_message_are_sent_one_by_one() -> None:
    whole = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=2)
    pieces = (Captured("client", whole[:5]), Captured("client", whole[5:]))

    assert again(capture=Capture(HEAD, (GREETING, *pieces))) == ("fixed", 0)


def test_each_connection_is_made_again() -> None:
    """Two of the file, and one that shows that the target serves the next client."""
    capture = Capture({**HEAD, "connects": [0, 2]}, (GREETING, REPLY, GREETING, REPLY, MAP, REPLY))
    made = bench()
    assert replay(capture, made).status == 0
    assert made.target.connections == 100 - 3  # type: ignore[attr-defined]


def test_what_went_over_the_second_socket_cannot_be_sent_again() -> None:
    assert again(capture=Capture({**HEAD, "twin": [3]}, EVIDENCE.messages)) == ("cannot replay", 4)


def test_a_case_is_run_again_with_its_own_judgement() -> None:
    head = {**HEAD, "case": "dma-map/without-descriptor", "outcome": "fail"}
    served = to_map(b"")

    assert again(plain, Capture(head, ())) == ("was fail, now deviation", 1)
    assert again(
        lambda message: reply(message) if message.header.command == 2 else plain(message), Capture(head, ())
    ) == (
        "fixed",
        0,
    )
    assert again(refusal, Capture(head, ())) == ("cannot replay", 4)
    assert again(served, Capture({**head, "outcome": "deviation"}, ()))[1] == 1


def sent(*messages: Captured) -> str:
    """What replay of a case says beside its outcome where the file has these messages."""
    head = {**HEAD, "case": "dma-map/without-descriptor", "outcome": "deviation"}
    return replay(Capture(head, messages), bench()).text.partition("; ")[2]


def test_where_a_case_sends_something_else_than_the_file_has_that_is_told() -> None:
    """A target that dies now earlier and now later is not one that was sent something else."""
    case = catalogue()["dma-map/without-descriptor"]
    made = bench()
    whole = [captured(each) for each in made.run(case).messages]
    made.target.close()
    ours = [each for each in whole if each.sender == "client"]
    other = Captured("client", MAP.data)

    assert sent(*whole) == ""
    assert sent(*whole, other) == f"ended after {len(ours)} of the {len(ours) + 1} messages in the file"
    assert sent(ours[0]) == "went on after the 1 message in the file"
    assert sent(ours[0], other, *ours[2:]).startswith("from message 2 on others were sent than those in the file: ")


def test_a_file_of_evidence_can_be_understood_alone(tmp_path: Path) -> None:
    """Who gets it has no report, and perhaps no suite."""
    case = catalogue()["dma-map/without-descriptor"]
    made = bench(to_map(b""))
    result = keep(made.run(case), Report("t", "", False, (), 0.0), tmp_path)
    made.target.close()

    head = read_capture(Path(result.evidence)).head
    assert head is not None
    assert head["text"] == quoted(REQUIREMENTS[result.broken])
    assert (head["sent"], head["expected"]) == (result.stimulus, case.expect_text)
    assert (head["given"], head["came"]) == ("", result.came)


def test_what_is_no_evidence() -> None:
    with pytest.raises(UsageError, match="this is no evidence"):
        replay(Capture({}, (GREETING,)), bench())
    with pytest.raises(UsageError, match="format version 9, and only 1 can be read"):
        replay(Capture({**HEAD, "vfio-user-evidence": 9}, EVIDENCE.messages), bench())
    with pytest.raises(UsageError, match="nothing in it that was sent"):
        replay(Capture(HEAD, (REPLY,)), bench())
    with pytest.raises(UsageError, match="how many descriptors were sent, not which"):
        replay(Capture(HEAD, (Captured("client", GREETING.data, 2),)), bench())
