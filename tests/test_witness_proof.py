# The witness's own proof: the right client is clean, and each client fault is caught by the check that names it, first.
import random
import socket
from contextlib import closing
from dataclasses import replace

import pytest
from conftest import open_descriptors

from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Outcome
from vfio_user_conformance.witness.catalogue import CHECKS
from vfio_user_conformance.witness.observer import PATIENCE, Witness
from vfio_user_conformance.witness.session import Bench
from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.faults.client import CLIENT_FAULTS, ClientFault
from vfio_user_proto.messages import Command, VersionRequest
from vfio_user_proto.responder import OFFER

CATCHES = {fault: check for check in CHECKS.values() for fault in check.catches}


def served(fault: ClientFault | None = None, *, twin: bool = True, dma: bool = False) -> Witness:
    """What the witness has seen of one session of the built-in client."""
    witness = Witness(list(CHECKS.values()), PATIENCE if fault is None else 0.2)
    bench = Bench(witness, offer=replace(OFFER, twin_socket=twin), dma=dma)
    bench.builtin(fault, timeout=5.0 if fault is None else 1.0)
    return witness


def test_each_fault_has_its_check_and_each_check_its_fault() -> None:
    assert set(CATCHES) == set(CLIENT_FAULTS)
    assert [check.ident for check in CHECKS.values() if not check.catches] == []
    assert sum(len(check.catches) for check in CHECKS.values()) == len(CATCHES)


def test_every_check_rests_on_a_requirement_of_the_client_or_of_both() -> None:
    assert len(CHECKS) >= 20
    assert {REQUIREMENTS[check.requirement].side for check in CHECKS.values()} == {"client", "both"}


@pytest.mark.parametrize("dma", [False, True], ids=["as it comes", "asked by the server"])
@pytest.mark.parametrize("twin", [True, False], ids=["twin", "one socket"])
def test_the_right_client_is_clean(twin: bool, dma: bool) -> None:
    witness = served(twin=twin, dma=dma)

    assert witness.found == []
    idle = {result.ident for result in witness.results() if result.outcome is not Outcome.PASS}
    # The server states max_msg_fds to a client that does, so its default never counts.
    assert idle == {"descriptors/default-limit"} | (set() if twin else {"twin-socket/used"})


@pytest.mark.parametrize(
    ("name", "twin"),
    [(fault.name, twin) for fault in CLIENT_FAULTS.values() for twin in (True, False) if twin or not fault.twin],
)
def test_each_fault_is_caught_by_its_check_first(name: str, twin: bool) -> None:
    check = CATCHES[name]
    witness = served(CLIENT_FAULTS[name], twin=twin)

    assert witness.found[:1] == [check.ident]
    [result] = [result for result in witness.results() if result.ident == check.ident]
    assert result.outcome is check.when_wrong
    assert result.reason
    assert result.messages, "the conversation comes with the finding"


def test_no_descriptor_is_left_after_right_and_wrong_clients() -> None:
    served()
    before = open_descriptors()
    for name in (
        "no-reply-to-dma",
        "descriptors-beyond-limit",
        "two-descriptors-with-version",
        "late-descriptor",
        "type-2",
    ):
        served(CLIENT_FAULTS[name])
    served(dma=True)
    assert len(open_descriptors()) == len(before)


def test_a_check_that_saw_nothing_is_not_applicable_with_the_reason() -> None:
    [result] = [each for each in served().results() if each.ident == "descriptors/default-limit"]
    assert result.outcome is Outcome.NOT_APPLICABLE
    assert result.reason.startswith("not exercised: ")


@pytest.mark.parametrize("seed", range(40))
def test_whatever_a_client_sends_is_judged_and_nothing_breaks(seed: int) -> None:
    """Messages that are right, with a byte or two changed, cut or made longer, behind a right VERSION."""
    chance = random.Random(seed)
    witness = Witness(list(CHECKS.values()))
    bench = Bench(witness, dma=True)
    ours, theirs = unix.pair()
    stream = craft(Command.VERSION, VersionRequest(version_data=OFFER.to_data()))
    for _ in range(chance.randrange(20)):
        command = chance.choice([*Command, 0, 14, 99])
        payload = bytes(chance.choice((0, 0, 1, 8, 32, 255)) for _ in range(chance.randrange(64)))
        message = bytearray(craft(command, payload, kind=chance.choice((0, 0, 0, 1)), no_reply=chance.random() < 0.5))
        if chance.random() < 0.3:
            message[chance.randrange(len(message))] = chance.randrange(256)
        stream += bytes(message)
    theirs.write(stream)
    theirs.socket.shutdown(socket.SHUT_WR)
    with closing(TestDevice()) as device, closing(theirs):
        bench.serve(ours, device)

    assert witness.messages >= 1
    assert all(result.outcome is not Outcome.ERROR for result in witness.results())
