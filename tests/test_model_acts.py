# Sequences in which the device acts, on the reference server, right and wrong: the model sees the one mistake, no other.
import pytest
from judging import bench as threaded
from judging import plain, refusal, reply
from serving import Serving

from vfio_user_conformance.driver import Bench
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.again import every
from vfio_user_conformance.model.device import DeviceReads, DeviceWrites
from vfio_user_conformance.model.doorbells import AskIoFds, Kick
from vfio_user_conformance.model.irqs import Assign, DeviceRaises, Disable, Masking
from vfio_user_conformance.model.lifetime import NextClient, Reset
from vfio_user_conformance.model.memory import Map, Unmap
from vfio_user_conformance.model.migration import GetState, ReadData, SetState, WriteData
from vfio_user_conformance.model.rule import Move
from vfio_user_conformance.model.world import S
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.profile import HAZARDS, load
from vfio_user_conformance.target import Respawn, Respawned
from vfio_user_proto.faults import FAULTS
from vfio_user_proto.messages import Command
from vfio_user_proto.program import Attached
from vfio_user_proto.session import Options
from vfio_user_proto.wire import Message

pytestmark = pytest.mark.usefixtures("no_leak")

LOW, HIGH = Map(0x1000, 0x2000, fd=True, offset=0x1000), Map(0x8000, 0x2000, fd=True)
WRITES = DeviceWrites(0x1800, 5)


def found(moves: tuple[Move, ...], fault: str = "") -> list[str]:
    options = FAULTS[fault].applied(Options()) if fault else Options()
    with Serving(options=options) as server:
        target = Respawned(Attached(server.path), Respawn.CASE)
        judge = Bench(target, Facts(profile=load("builtin")), frozenset(HAZARDS), Timing(2.0, 0.1))
        judge.survey()
        return [each.result.ident.removeprefix("model/") for each in every(judge, moves)]


@pytest.mark.parametrize(
    ("fault", "rule", "moves"),
    [
        ("dma-falls-back-to-a-mapping", "device-outside", (HIGH, WRITES)),
        ("dma-writes-read-only", "device-read-only", (Map(0x1000, 0x1000, 1, fd=True), DeviceWrites(0x1000, 4))),
        ("dma-read-file-offset-lost", "device-read", (LOW, DeviceReads(0x1800, 5))),
        ("dma-read-caches", "device-read", (LOW, DeviceReads(0x1800, 5), WRITES, DeviceReads(0x1800, 5))),
        ("irq-device-once", "irq-signals", (Assign(2, 0, 1), DeviceRaises(2, 0), DeviceRaises(2, 0))),
        ("irq-mask-ignored", "irq-signals", (Assign(2, 0, 2), Masking(2, 1, 1, True), DeviceRaises(2, 1))),
        ("sequence-irqs-enabled-once", "irq-assign", (Assign(2, 0, 1), Disable(2), Assign(2, 1, 1))),
        ("sequence-kick-lost-after-reset", "kick", (AskIoFds(4), Kick(4, 0, 0), Reset(), Kick(4, 0, 0))),
        ("kick-lost", "kick", (AskIoFds(5), Kick(5, 0, 0))),
        ("sequence-io-fds-once", "io-fds", (AskIoFds(3), AskIoFds(3))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_sequence_finds_its_fault_and_no_other(fault: str, rule: str, moves: tuple[Move, ...]) -> None:
    assert found(moves, fault) == [rule]
    assert found(moves) == []


def test_what_a_server_may_do_is_no_finding() -> None:
    """What touches several things at once, in an order that chance seldom draws."""
    unmapped = (LOW, WRITES, Unmap(0x1000, 0x2000), HIGH, WRITES, NextClient(), WRITES)
    part = (SetState(S.STOP_COPY), ReadData(64), SetState(S.RESUMING), WriteData(32), SetState(S.STOP), GetState())
    doubtful = (LOW, Reset(), WRITES, Unmap(0x1000, 0x2000), HIGH, DeviceWrites(0x1800, 5), DeviceReads(0x8000, 9))
    again = (AskIoFds(4), NextClient(), Kick(4, 0, 0), AskIoFds(4), Kick(4, 0, 0), SetState(S.STOP), Kick(4, 0, 0))
    partly = (LOW, DeviceWrites(0x2FFF, 2), WRITES, DeviceReads(0x2FFF, 2), DeviceWrites(0x1000, 0x2000))
    for moves in (unmapped, part, doubtful, again, partly):
        assert found(moves) == []


def test_a_device_that_cannot_be_made_to_act_is_no_finding() -> None:
    """A step of the profile is refused: nothing is known of the device, so the sequence goes on with a fresh target."""

    def serves(message: Message) -> bytes | None:
        refused = message.header.command == Command.REGION_WRITE
        return (
            refusal(message)
            if refused
            else reply(message)
            if message.header.command == Command.DMA_MAP
            else plain(message)
        )

    judge = threaded(serves)
    judge.facts.profile = load("builtin")
    assert every(judge, (LOW, WRITES, LOW)) == []
    assert judge.target.renewed == 2  # type: ignore[attr-defined]
    judge.target.close()
