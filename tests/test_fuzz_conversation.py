"""One session on one socket: how it is sent."""

import socket
import threading

import pytest

from vfio_user_fuzz.conversation import Ending, converse
from vfio_user_fuzz.mutations import seeded
from vfio_user_fuzz.packets import Packet
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command
from vfio_user_proto.unix import Stream

RESET = craft(Command.DEVICE_RESET, b"12345678", message_id=1)


@pytest.mark.usefixtures("no_leak")
def test_a_server_reads_the_parts_of_a_message_one_by_one_however_busy_it_is() -> None:
    """Otherwise a finding would depend on how fast it reads."""
    ours, theirs = socket.socketpair()
    came = list[bytes]()

    def busy() -> None:
        with theirs:
            while len(b"".join(came)) < len(RESET):
                threading.Event().wait(0.05)
                came.append(theirs.recv(1000))

    server = threading.Thread(target=busy)
    server.start()
    with ours:
        talk = converse(Stream(ours), [Packet(RESET[:18]), Packet(RESET[18:])], seeded(), patience=10)
    server.join()

    assert came[0] == RESET[:18]
    assert b"".join(came).startswith(RESET)
    assert talk.ending is Ending.CLOSED


@pytest.mark.usefixtures("no_leak")
def test_a_server_that_does_not_read_a_part_is_not_waited_for_for_ever() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        talk = converse(Stream(ours), [Packet(RESET[:18]), Packet(RESET[18:])], seeded(), patience=0.05)

    assert talk.ending is Ending.SILENT
    assert [each.data for each in talk.traffic][:2] == [RESET[:18], RESET[18:]]
