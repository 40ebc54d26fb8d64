"""A run against a server: a good one is left in peace, a bad one is found out, and what is kept is small and repeatable."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import open_descriptors
from script_server import script
from serving import Serving

from vfio_user_fuzz import server
from vfio_user_fuzz.conversation import Conversation, Ending
from vfio_user_fuzz.mutations import seeded
from vfio_user_fuzz.packets import Packet
from vfio_user_fuzz.server import Finding, Kind, Report, Run, file_name, session_of
from vfio_user_fuzz.sessions import Offer
from vfio_user_fuzz.survey import survey
from vfio_user_fuzz.targets import Reused
from vfio_user_proto import launch, unix, wire
from vfio_user_proto.devices.testdev import RAM, TestDevice
from vfio_user_proto.errors import TargetError
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command
from vfio_user_proto.program import Attached, Started, spawned
from vfio_user_proto.responder import OFFER
from vfio_user_proto.session import Options
from vfio_user_proto.trace import read_capture
from vfio_user_proto.unix import Stream

Outgoing = Callable[[bytes, tuple[int, ...], CommandReceived | None], tuple[bytes, tuple[int, ...]] | None]


class InProcess:
    """A target whose server runs in a thread of ours; ``failed`` is what a crash would have said.

    ``failing`` is for a server that goes on to fail until it is started anew.
    """

    name = "in process"

    def __init__(self, options: Options | None = None) -> None:
        self.options = options
        self.restarts = -1
        self.failed = ""
        self.failing = False
        self.serving: Serving | None = None
        self.used = False

    def prepare(self, *, fresh: bool = False) -> bool:
        if fresh and self.used:
            self.close()
        if self.serving is None:
            self.serving = Serving(TestDevice, self.options).__enter__()
            self.used = False
            self.failed, self.failing = "", False
            self.restarts += 1
        return not self.used

    def connect(self) -> Stream:
        assert self.serving is not None
        self.used = True
        return unix.connect(self.serving.path)

    def failure(self, seconds: float = 0) -> str:
        return self.failed

    def ended(self, seconds: float = 0) -> bool:
        return False

    def stderr(self) -> str:
        return self.failed

    def close(self) -> None:
        if self.serving is not None:
            self.serving.__exit__()
            self.serving = None


@contextmanager
def target_with(outgoing: Outgoing | None = None) -> Iterator[tuple[InProcess, Offer]]:
    """The reference server, its messages changed by ``outgoing``, and what it offers."""
    target = InProcess(Options(outgoing=outgoing))
    try:
        yield target, survey(target, patience=5.0)
    finally:
        target.close()


def run_with(outgoing: Outgoing | None, *, steps: int, save: Path | None = None, patience: float = 5.0) -> Report:
    """A run of so many sessions with seed 1."""
    with target_with(outgoing) as (target, offer):
        return Run(target, offer, 1, steps=steps, save=save, patience=patience).run()


def commands(finding: Finding) -> list[int]:
    """The commands of the session that shows a finding."""
    return [wire.decode_header(packet.data).command for packet in finding.session]


def test_the_survey_sees_what_the_device_offers() -> None:
    """Regions with sizes, interrupts with counts, capabilities, and what can be written."""
    with target_with() as (_, offer):
        device = TestDevice()
        about = device.description
        device.close()

        assert {index: each.size for index, each in offer.device.regions.items() if each.size} == {
            index: each.size for index, each in about.regions.items()
        }
        assert {index: each.count for index, each in about.irqs.items()} == offer.vectors
        assert offer.capabilities.max_msg_fds == OFFER.max_msg_fds
        assert offer.scratch[RAM] == range(about.regions[RAM].size)


@pytest.mark.usefixtures("no_leak")
def test_a_good_server_gives_no_findings() -> None:
    """And neither it nor the fuzzer has a descriptor left open."""
    report = run_with(None, steps=150)

    assert report.findings == []
    assert report.sessions == 150
    assert report.messages > 300
    assert report.stopped == ""


def test_a_seed_sends_the_same_sessions_again() -> None:
    """With the same server; another seed sends others."""
    with target_with() as (_, offer):
        some = [session_of(7, number, offer) for number in range(30)]

        assert some == [session_of(7, number, offer) for number in range(30)]
        assert some != [session_of(8, number, offer) for number in range(30)]


def test_a_reply_with_a_wrong_id_is_found_and_made_small(tmp_path: Path) -> None:
    """One finding for all hits, where the message was not in parts; its evidence holds the session that shows it again."""

    def wrong_id(data: bytes, fds: tuple[int, ...], event: CommandReceived | None) -> tuple[bytes, tuple[int, ...]]:
        if data and event is not None and event.message.header.command == Command.DEVICE_RESET:
            data = b"\xbb\xbb" + data[2:]
        return data, fds

    report = run_with(wrong_id, steps=200, save=tmp_path)

    (finding,) = [each for each in report.findings if each.symptom.suspect != "a message in parts"]
    assert finding.symptom.kind is Kind.OUT_OF_STEP
    assert finding.confirmed
    assert finding.hits > 3
    assert commands(finding) == [Command.VERSION, Command.DEVICE_RESET]
    assert finding.file is not None
    capture = read_capture(finding.file)
    assert capture.head["outcome"] == "desync"
    assert capture.head["seed"] == 1
    assert [each.data for each in capture.messages if each.sender == "client"][:2] == [
        packet.data for packet in finding.session
    ]
    assert capture.messages[-1].data[:2] == b"\xbb\xbb"


def test_a_server_that_stops_answering_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen by the deadline, again on a fresh server, and made smaller."""
    monkeypatch.setattr(server, "_ATTEMPTS_AT_A_HANG", 12)

    def silent(
        data: bytes, fds: tuple[int, ...], event: CommandReceived | None
    ) -> tuple[bytes, tuple[int, ...]] | None:
        if event is not None and event.message.header.command == Command.DEVICE_GET_IRQ_INFO:
            target.failing = True
        return None if target.failing else (data, fds)

    target = InProcess(Options(outgoing=silent))
    try:
        report = Run(target, survey_of_good(), 1, steps=5, patience=0.3).run()
    finally:
        target.close()

    finding = report.findings[-1]
    assert finding.symptom.kind is Kind.HANG
    assert finding.confirmed
    assert Command.DEVICE_GET_IRQ_INFO in commands(finding)
    assert len(finding.session) < len(session_of(1, finding.number, survey_of_good()))


def survey_of_good() -> Offer:
    """What the reference server offers."""
    with target_with() as (_, offer):
        return offer


def test_a_crash_is_named_by_the_place_where_it_happened() -> None:
    """Several commands, one place: one finding."""

    def crash(data: bytes, fds: tuple[int, ...], event: CommandReceived | None) -> tuple[bytes, tuple[int, ...]]:
        if event is not None and event.message.header.command in (Command.DMA_MAP, Command.DMA_UNMAP):
            target.failed = f"AddressSanitizer: heap-use-after-free ../lib/dma.c:77 in map ({len(data)})"
        return data, fds

    target = InProcess(Options(outgoing=crash))
    try:
        report = Run(target, survey_of_good(), 3, steps=60, patience=5.0).run()
    finally:
        target.close()

    (finding,) = report.findings
    assert finding.symptom.kind is Kind.CRASH
    assert finding.hits > 5
    assert len(finding.session) <= 2
    assert "dma.c:77" in report.lines()[1]


def run_script(
    folder: Path,
    fault: str = "pass",
    after: str = "pass",
    *,
    steps: int = 10,
    save: Path | None = None,
    patience: float = 5,
) -> Report:
    target = Reused(spawned(script(folder, fault, after), timeout=10))
    try:
        return Run(target, survey_of_good(), 5, steps=steps, save=save, patience=patience).run()
    finally:
        target.close()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("if command == 16: os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("if command == 16: raise LookupError('feature')", "LookupError: feature"),
        ("if command == 16: print('x.c:9:2: runtime error: shift', file=sys.stderr)", "x.c:9:2: runtime error: shift"),
    ],
)
def test_a_program_that_dies_is_a_crash(tmp_path: Path, fault: str, text: str) -> None:
    """By a signal, by an exception that nobody handles, or alive with a report of a sanitizer."""
    before = open_descriptors()

    report = run_script(tmp_path, fault, steps=6)

    assert [(Kind.CRASH, text)] == [(each.symptom.kind, each.symptom.text) for each in report.findings]
    assert report.findings[0].confirmed
    assert before == open_descriptors()


def once(folder: Path, fault: str) -> str:
    """A fault that the last query of a session brings out the first time only, on whatever process."""
    mark = folder / "mark"
    mark.touch()
    return f"if head[:2] == bytes([255, 255]) and os.path.exists({str(mark)!r}): os.remove({str(mark)!r}); {fault}"


@pytest.mark.parametrize(
    ("kind", "fault"), [(Kind.HANG, "client.recv(1 << 20, socket.MSG_WAITALL)"), (Kind.CRASH, "os.abort()")]
)
def test_what_is_not_seen_again_is_told_and_no_finding(tmp_path: Path, kind: Kind, fault: str) -> None:
    """A machine that is busy for once makes a server silent, or has it killed for want of memory."""
    save = tmp_path / "save"
    save.mkdir()
    report = run_script(tmp_path, once(tmp_path, fault), steps=6, save=save, patience=1)

    (doubt,) = report.doubts
    assert (report.findings, doubt.symptom.kind, doubt.confirmed, doubt.hits) == ([], kind, False, 1)
    assert report.lines()[1].startswith(f"no finding, because not seen again on a fresh server: {kind}: ")
    assert [file.name.partition("-")[::2] for file in save.iterdir()] == [("doubtful", file_name(doubt)[9:])]


def held(monkeypatch: pytest.MonkeyPatch, silent: Callable[[float], bool]) -> None:
    """Whether a session ends in silence is up to ``silent``, which gets the patience that there is."""

    def hold(_target: object, _packets: object, _rng: object, *, patience: float) -> Conversation:
        return Conversation(Ending.SILENT if silent(patience) else Ending.ANSWERED, "", "a message", ())

    monkeypatch.setattr(server, "hold", hold)


def test_a_server_that_only_takes_its_time_is_given_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than the patience of a session, and shorter than that of a second look."""
    held(monkeypatch, lambda patience: patience < 2)
    with target_with() as (target, offer):
        report = Run(target, offer, 1, steps=3, patience=1).run()

    assert (report.findings, [each.hits for each in report.doubts]) == ([], [3])


def test_a_cause_that_was_doubted_is_tried_with_the_session_that_shows_it_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hit was not seen again; the next session with the same symptom shows it each time."""
    tries = iter([True, False, False, False, False])
    held(monkeypatch, lambda patience: next(tries, True))
    with target_with() as (target, offer):
        report = Run(target, offer, 1, steps=3, patience=1).run()

    assert report.doubts == []
    assert [(each.number, each.confirmed, each.hits) for each in report.findings] == [(1, True, 3)]


def test_what_needs_the_sessions_before_it_is_found_with_few_of_them(tmp_path: Path) -> None:
    """A server keeps something from one client to the next."""
    count = "len(os.environ.get('CLIENTS', ''))"
    fault, after = f"if command == 16 and {count} > 6: os.abort()", "os.environ['CLIENTS'] = 'x' * (1 + COUNT)"
    save = tmp_path / "save"
    save.mkdir()
    report = run_script(tmp_path, fault, after.replace("COUNT", count), steps=16, save=save)

    (finding,) = report.findings
    assert (finding.symptom.kind, finding.confirmed) == (Kind.CRASH, True)
    assert 1 < len(finding.behind) <= 6
    assert f"behind {len(finding.behind)} other sessions" in report.lines()[1]
    assert finding.file is not None
    capture = read_capture(finding.file)
    assert capture.head is not None
    begins = capture.head["connects"]
    assert len(begins) == len(finding.behind) + 1
    assert {wire.decode_header(capture.messages[at].data).command for at in begins} == {Command.VERSION}


def test_a_program_that_ends_when_its_client_leaves_is_started_again(tmp_path: Path) -> None:
    """That is no finding, whatever its exit status."""
    report = run_script(tmp_path, after="sys.exit(3)")

    assert report.findings == []
    assert report.sessions == 10
    assert report.restarts >= 9


def test_a_program_that_cannot_start_again_ends_the_run_with_what_was_found(tmp_path: Path) -> None:
    """The report says why, and keeps the count."""
    command = script(tmp_path, after=f"os.remove({str(tmp_path / 'server.py')!r}); sys.exit()")
    target = Reused(Started("once", lambda: launch.spawn(command)))
    try:
        report = Run(target, survey_of_good(), 5, steps=10).run()
    finally:
        target.close()

    assert report.sessions == 1
    assert "ended before it listened" in report.stopped


def test_a_server_that_is_not_ours_and_goes_is_reported(tmp_path: Path) -> None:
    """Whether it crashed cannot be told; the finding is kept, and the run ends."""
    with launch.spawn(script(tmp_path, "if command == 16: os.abort()")) as process:
        process.connect().close()
        target = Reused(Attached(process.path))
        report = Run(target, survey(target, patience=5), 5, steps=10, patience=0.5).run()

    (finding,) = report.findings
    assert finding.symptom.kind is Kind.GONE
    assert finding.confirmed is None
    assert "not tried again" in report.lines()[1]
    assert "nobody listens there" in report.stopped


def test_nobody_to_ask_is_a_target_error(tmp_path: Path) -> None:
    """A server that says nothing to VERSION cannot be surveyed."""
    target = Reused(spawned(script(tmp_path, "sys.exit(1)"), timeout=10))
    try:
        with pytest.raises(TargetError, match="no answer to VFIO_USER_VERSION"):
            survey(target, patience=1)
    finally:
        target.close()


def test_replies_to_the_server_come_from_the_seed_too() -> None:
    """The same number of the same session, the same choices."""
    assert seeded(1, 2, "replies").random() == seeded(1, 2, "replies").random() != seeded(1, 3, "replies").random()
    assert Packet(b"") == Packet(b"", ())
