# KVM's end of an ioregionfd, played in user space: the bytes of each command, who waits for what, and a device that fails.
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from vfio_user_proto.errors import RemoteProtocolError, TransportError
from vfio_user_proto.kvm.ioregion import IoregionSocket

pytestmark = pytest.mark.usefixtures("no_leak")
COMMAND = struct.Struct("=BB6xQQQ")  # cmd, size and resp, user_data, offset, data
READ, WRITE, RESP = 0, 1, 0x10


class Device:
    """The other end; ``obey`` runs a function in a thread for every command, and sends what it returns."""

    def __init__(self, kind: int) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, kind)
        self.ours.settimeout(10)
        self.commands: list[tuple[int, ...]] = []
        self.thread: threading.Thread | None = None

    def take(self) -> tuple[int, ...]:
        record = self.ours.recv(32)
        return COMMAND.unpack(record)

    def obey(self, answer: Callable[[tuple[int, ...]], bytes | None], count: int = 1) -> None:
        def run() -> None:
            for _ in range(count):
                self.commands.append(self.take())
                reply = answer(self.commands[-1])
                if reply is not None:
                    self.ours.send(reply)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def close(self) -> None:
        if self.thread is not None:
            self.thread.join(10)
            assert not self.thread.is_alive()
        self.ours.close()
        self.theirs.close()


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM], ids=["seqpacket", "stream"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    made = Device(request.param)
    yield made
    made.close()


@pytest.fixture
def line(device: Device) -> Iterator[IoregionSocket]:
    made = IoregionSocket(device.theirs.fileno(), 10)
    yield made
    made.close()


@pytest.fixture
def hasty(device: Device) -> Iterator[IoregionSocket]:
    """A line that gives up at once."""
    made = IoregionSocket(device.theirs.fileno(), 0.01)
    yield made
    made.close()


def response(data: int) -> bytes:
    return struct.pack("=Q24x", data)


@pytest.mark.parametrize(("size", "code"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_a_posted_write_is_one_command_and_waits_for_nothing(
    device: Device, line: IoregionSocket, size: int, code: int
) -> None:
    data = bytes(range(0xA1, 0xA1 + size))
    line.write(0x1122334455667788, 0x10, data, posted=True)
    record = device.ours.recv(64)
    assert record == struct.pack("=BB6xQQ", WRITE, code, 0x1122334455667788, 0x10) + data.ljust(8, b"\0")


def test_a_write_that_is_not_posted_waits_for_its_response(device: Device, line: IoregionSocket) -> None:
    """What the response holds does not matter."""
    done = []

    def answer(command: tuple[int, ...]) -> bytes:
        done.append("device")
        return response(0xFFFF)

    device.obey(answer)
    line.write(7, 4, b"\1\2\3\4", posted=False)
    done.append("guest")
    assert device.commands == [(WRITE, 2 | RESP, 7, 4, 0x04030201)]
    assert done == ["device", "guest"]


@pytest.mark.parametrize(("size", "code"), [(1, 0), (2, 1), (4, 2), (8, 3)])
def test_a_read_takes_as_many_bytes_of_the_response_as_it_has(
    device: Device, line: IoregionSocket, size: int, code: int
) -> None:
    device.obey(lambda command: response(0x8877665544332211))
    assert line.read(9, 0x20, size) == bytes.fromhex("1122334455667788")[:size]
    assert device.commands == [(READ, code | RESP, 9, 0x20, 0)]


def test_commands_arrive_in_the_order_of_the_accesses(device: Device, line: IoregionSocket) -> None:
    """Posted writes are no exception: a read that follows them comes behind them."""
    for number in range(5):
        line.write(0, number, b"\0", posted=True)
    device.obey(lambda command: response(1) if command[0] == READ else None, count=6)
    assert line.read(0, 5, 1) == b"\1"
    assert [command[3] for command in device.commands] == list(range(6))


def test_while_a_command_waits_no_other_is_sent(device: Device, line: IoregionSocket) -> None:
    """Two processors at once: each gets its own answer, and the device never has two commands before it."""
    crowded = []

    def answer(command: tuple[int, ...]) -> bytes:
        if select.select([device.ours], [], [], 0)[0]:
            crowded.append(command)
        return response(command[2] + command[3])

    def processor(user_data: int) -> None:
        for offset in range(100):
            assert line.read(user_data, offset, 4) == (user_data + offset).to_bytes(4, "little")
            answered.release()

    answered = threading.Semaphore(0)
    device.obey(answer, count=200)
    threads = [threading.Thread(target=processor, args=(number * 1000,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answered.acquire(blocking=False) for _ in range(200)] == [True] * 200
    assert crowded == []


def test_a_device_that_is_gone_is_told(device: Device, line: IoregionSocket) -> None:
    device.obey(lambda command: device.ours.shutdown(socket.SHUT_RDWR))
    with pytest.raises(TransportError, match="the device closed its ioregionfd"):
        line.read(0, 0, 4)
    with pytest.raises(TransportError, match="cannot be used any more: the device closed its ioregionfd"):
        line.read(0, 0, 4)


def test_a_device_that_was_gone_before_is_told(device: Device, line: IoregionSocket) -> None:
    device.ours.close()
    with pytest.raises(TransportError):
        line.write(0, 0, b"\0", posted=True)


def test_a_silent_device_is_told_and_a_late_response_taken_for_nothing(device: Device, hasty: IoregionSocket) -> None:
    with pytest.raises(TransportError, match=r"no response on the ioregionfd within 0\.01 s"):
        hasty.read(0, 0, 4)
    device.take()
    device.ours.send(response(1))
    with pytest.raises(TransportError, match="cannot be used any more: no response"):
        hasty.read(0, 4, 4)
    with pytest.raises(TransportError, match="cannot be used any more: no response"):
        hasty.write(0, 4, b"\0", posted=True)


def test_a_device_that_changes_the_sockets_options_holds_nobody_up(device: Device, hasty: IoregionSocket) -> None:
    """It made the socket, and may have kept the client's end of it."""
    device.theirs.setblocking(True)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        device.theirs.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", 0, 0))
    with pytest.raises(TransportError, match="no response on the ioregionfd within"):
        hasty.read(1, 0, 4)


def test_a_socket_that_does_not_block_is_waited_for_all_the_same(device: Device) -> None:
    """The server may have set that for its own copy: the device answers only when somebody waits for it."""
    released = threading.Event()

    class Waiting(IoregionSocket):
        def _wait(self, event: int, deadline: float | None, problem: str) -> None:
            released.set()
            super()._wait(event, deadline, problem)

    def answer(command: tuple[int, ...]) -> bytes:
        assert released.wait(10)
        return response(3)

    device.theirs.setblocking(False)
    line = Waiting(device.theirs.fileno(), 10)
    device.obey(answer)
    assert line.read(0, 0, 1) == b"\3"
    line.close()


@pytest.mark.parametrize("size", [1, 31, 33, 64])
def test_a_response_of_another_size_is_refused(device: Device, line: IoregionSocket, size: int) -> None:
    device.obey(lambda command: bytes(size))
    with pytest.raises(RemoteProtocolError, match=r"a response on the ioregionfd has \d+ bytes, not 32"):
        line.read(0, 0, 4)


def test_a_response_that_nothing_asked_for_is_refused(device: Device, line: IoregionSocket) -> None:
    """A device that answers a posted write would answer the next read with the wrong value."""
    line.write(0, 0, b"\1", posted=True)
    device.ours.send(response(1))
    with pytest.raises(RemoteProtocolError, match="no command asked for"):
        line.read(0, 0, 1)


def test_descriptors_that_come_along_are_closed(device: Device, line: IoregionSocket) -> None:
    with open(os.devnull) as file:

        def answer(command: tuple[int, ...]) -> None:
            socket.send_fds(device.ours, [response(1)], [file.fileno()] * 3)

        device.obey(answer)
        assert line.read(0, 0, 1) == b"\1"


def test_a_device_that_does_not_read_holds_a_posted_write_up_no_longer_than_the_deadline(
    device: Device, hasty: IoregionSocket
) -> None:
    def fill() -> None:
        while True:
            hasty.write(0, 0, b"\0", posted=True)

    with pytest.raises(TransportError, match=r"the device does not read its ioregionfd within 0\.01 s"):
        fill()
