# Client memory in a session: by descriptor, by message on one socket, and over the twin socket.
import contextlib
import errno
import os
import socket
import struct
import threading

import pytest
from serving import TWIN, Client, Serving, by_message, gone, memfd, start, status

from vfio_user_proto import unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.channel import OUTPUT_BOUND
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DmaMapRequest,
    DmaReadReply,
    DmaWriteReply,
    IrqSetFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.session import BACKLOG, BACKLOG_BYTES, Options
from vfio_user_proto.states import State

SCRATCH = testdev.SCRATCH
INFO = Command.DEVICE_GET_INFO
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER


def quick(**options: object) -> Serving:
    """A server that waits 0.1 s for DMA replies."""
    return Serving(options=Options(dma_timeout=0.1, **options))  # type: ignore[arg-type]


# Client memory


def test_dma_by_descriptor(serving: Serving) -> None:
    client = serving.client()
    with memfd(8192) as memory:
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=0x10000, size=8192), [memory])
        start(client, 1, 0x10010, 300)
        assert status(client) == (1, 0)
        assert os.pread(memory, 300, 0x10) == testdev.pattern(300, 3)
        assert client.commands == []


def test_dma_by_message_comes_before_the_reply_to_its_command(serving: Serving) -> None:
    client = serving.client()
    guest = by_message(client)
    start(client, 1, 0x10, 5000)
    assert status(client) == (1, 0)
    assert guest.memory[0x10 : 0x10 + 5000] == testdev.pattern(5000, 3)
    start(client, 2, 0x10, 5000)
    assert status(client) == (1, 0)
    assert [event.message.header.command for event in client.commands] == [Command.DMA_WRITE, Command.DMA_READ]


def test_dma_by_message_is_cut_to_what_the_client_takes(serving: Serving) -> None:
    client = serving.client(Capabilities(max_data_xfer_size=1024))
    by_message(client)
    start(client, 1, 0, 2500)
    assert [event.message.payload.count for event in client.commands] == [1024, 1024, 452]
    assert status(client) == (1, 0)


def test_commands_that_arrive_while_a_dma_reply_is_due_are_done_afterwards_in_order(serving: Serving) -> None:
    client = serving.client()
    guest = by_message(client)
    client.answer = None
    client.set(testdev.LENGTH, 16)
    ids = [client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))]
    asked = client.event()
    assert isinstance(asked, CommandReceived)
    ids += [client.send(10, RegionWriteRequest(offset=SCRATCH, data=bytes([value]))) for value in range(20)]
    ids.append(client.send(9, RegionReadRequest(offset=SCRATCH, count=1)))
    client.respond(asked, guest(asked))
    for message_id in ids[:-1]:
        client.reply(message_id)
    last = client.reply(ids[-1]).message.payload
    assert isinstance(last, RegionReadReply)
    assert last.data == b"\x13"


@pytest.mark.parametrize("answer", [errno.EPERM, 0])
def test_dma_that_the_client_refuses_fails(serving: Serving, answer: int) -> None:
    client = serving.client()
    by_message(client)
    client.answer = lambda event: answer
    start(client, 1, 0, 16)
    assert status(client) == (2, answer or errno.EIO)


@pytest.mark.parametrize(
    ("operation", "reply"),
    [
        (2, DmaReadReply(address=0, data=bytes(15))),
        (2, DmaReadReply(address=1, data=bytes(16))),
        (1, DmaWriteReply(address=0, count=15)),
        (1, DmaWriteReply(address=1, count=16)),
    ],
)
def test_dma_reply_that_says_something_else_fails(serving: Serving, operation: int, reply: Record) -> None:
    client = serving.client()
    by_message(client)
    client.answer = lambda event: reply
    start(client, operation, 0, 16)
    assert status(client) == (2, errno.EIO)


def raw_reply(client: Client, event: CommandReceived, payload: bytes) -> None:
    header = event.message.header
    client.stream.write(craft(header.command, payload, kind=1, message_id=header.message_id))


@pytest.mark.parametrize(
    ("operation", "payload", "expected"),
    [
        (1, struct.pack("=QI", 0, 16), (1, 0)),  # the 12 bytes of the published table
        (2, b"short", (2, errno.EIO)),
    ],
)
def test_dma_reply_of_another_length(
    serving: Serving, operation: int, payload: bytes, expected: tuple[int, int]
) -> None:
    client = serving.client()
    by_message(client)
    client.set(testdev.LENGTH, 16)
    message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=operation.to_bytes(4, "little")))
    asked = client.event()
    assert isinstance(asked, CommandReceived)
    raw_reply(client, asked, payload)
    client.reply(message_id)
    assert status(client) == expected


def test_dma_reply_that_never_comes_fails_and_a_late_one_is_ignored(no_leak: None) -> None:
    with quick() as serving:
        client = serving.client()
        guest = by_message(client)
        late: list[CommandReceived] = []
        client.answer = None
        start(client, 1, 0, 16)
        late = [*client.commands]
        assert status(client) == (2, errno.ETIMEDOUT)
        client.respond(late[0], guest(late[0]))
        client.answer = guest
        start(client, 1, 0, 16)
        assert status(client) == (1, 0)


def test_dma_reply_with_descriptors_does_not_keep_them(serving: Serving) -> None:
    client = serving.client()
    guest = by_message(client)
    client.set(testdev.LENGTH, 16)
    message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    asked = client.event()
    assert isinstance(asked, CommandReceived)
    watched, sent = os.pipe()
    reply = client.connection.reply(asked, guest(asked))  # type: ignore[arg-type]
    assert reply is not None
    client.stream.write(reply.data, [sent])
    os.close(sent)
    client.reply(message_id)
    assert gone(watched)
    os.close(watched)


def test_client_that_leaves_while_its_dma_reply_is_due(serving: Serving) -> None:
    client = serving.client()
    by_message(client)
    client.set(testdev.LENGTH, 16)
    client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(client.event(), CommandReceived)
    watched, sent = os.pipe()
    client.stream.write(craft(999), [sent])
    os.close(sent)
    client.close()
    assert gone(watched)
    os.close(watched)
    serving.wait_left()
    after = serving.client()
    assert status(after) == (2, errno.ECONNRESET)


def test_too_many_commands_while_a_dma_reply_is_due_end_the_session(serving: Serving) -> None:
    client = serving.client()
    by_message(client)
    client.set(testdev.LENGTH, 16)
    client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(client.event(), CommandReceived)
    flood = craft(999, no_reply=True) * (BACKLOG + 1)
    threading.Thread(target=send_all, args=(client, flood)).start()
    assert client.is_closed()
    serving.client()


def test_too_many_bytes_while_a_dma_reply_is_due_end_the_session(serving: Serving) -> None:
    client = serving.client()
    by_message(client)
    client.set(testdev.LENGTH, 16)
    client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(client.event(), CommandReceived)
    flood = craft(10, RegionWriteRequest(region=testdev.RAM, data=bytes(1 << 20))) * (BACKLOG_BYTES // (1 << 20) + 1)
    threading.Thread(target=send_all, args=(client, flood)).start()
    assert client.is_closed()
    serving.client()


def send_all(client: Client, data: bytes) -> None:
    """Send as much as the server takes."""
    with contextlib.suppress(BrokenPipeError):
        client.stream.socket.sendall(data)


def test_replies_to_what_waited_are_given_no_faster_than_they_are_read(serving: Serving) -> None:
    """20 MiB of replies are due at once, the server makes a small part of them at a time."""
    client = serving.client()
    guest = by_message(client)
    while not serving.server._clients:  # the thread of the client may be ahead of the one that started it
        continue
    channel = serving.server._clients[0].session._main
    client.set(testdev.LENGTH, 16)
    ids = [client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))]
    asked = client.event()
    assert isinstance(asked, CommandReceived)
    request = RegionReadRequest(region=testdev.RAM, count=1 << 16)
    ids += [client.send(Command.REGION_READ, request) for _ in range(320)]
    client.respond(asked, guest(asked))
    for message_id in ids:
        client.reply(message_id)
        assert channel._due < OUTPUT_BOUND + (1 << 17)
    assert status(client) == (1, 0)


def test_device_is_not_called_again_while_it_waits_for_its_client(no_leak: None) -> None:
    class Checking(testdev.TestDevice):
        waiting = False

        def _transfer(self, operation: int) -> None:
            self.waiting = True
            super()._transfer(operation)
            self.waiting = False

        def _rung(self, number: int, value: int | None, times: int) -> None:
            assert not self.waiting
            super()._rung(number, value, times)

    with Serving(Checking) as serving:
        client = serving.client()
        guest = by_message(client)
        client.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(index=4, argsz=4096))
        doorbells = client.fds
        client.set(testdev.LENGTH, 16)
        message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
        asked = client.event()
        assert isinstance(asked, CommandReceived)
        os.eventfd_write(doorbells[0], 1)
        unix.close_all(doorbells)
        client.respond(asked, guest(asked))
        client.reply(message_id)
        while client.number(testdev.BELLS + testdev.BELL_SIZE) != 1:
            continue


def test_server_that_is_stopped_while_a_dma_reply_is_due_ends(no_leak: None) -> None:
    with Serving() as serving:
        client = serving.client()
        by_message(client)
        client.set(testdev.LENGTH, 16)
        client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
        assert isinstance(client.event(), CommandReceived)


# Twin socket


def twin_of(client: Client) -> Client:
    (fd,) = client.fds
    twin = Client(unix.Stream(socket.socket(fileno=fd)), None)
    twin.connection.state = State.READY
    return twin


def test_server_commands_go_to_the_twin_socket(serving: Serving) -> None:
    client = serving.client(TWIN)
    twin = twin_of(client)
    guest = by_message(client)
    client.set(testdev.LENGTH, 16)
    message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    asked = twin.event()
    assert isinstance(asked, CommandReceived)
    twin.respond(asked, guest(asked))
    client.reply(message_id)
    assert status(client) == (1, 0)
    assert client.commands == []
    twin.close()


def test_client_commands_on_the_twin_socket_are_refused_in_step(serving: Serving) -> None:
    client = serving.client(TWIN)
    twin = twin_of(client)
    guest = by_message(client)
    assert twin.reply(twin.send(INFO, DeviceGetInfoRequest())).message.header.error == errno.EOPNOTSUPP
    client.set(testdev.LENGTH, 16)
    message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    asked = twin.event()
    assert isinstance(asked, CommandReceived)
    twin.respond(asked, guest(asked))
    client.reply(message_id)
    twin.close()


@pytest.mark.parametrize("how", ["closed", "broken"])
def test_lost_twin_socket_makes_dma_fail_and_the_session_goes_on(serving: Serving, how: str) -> None:
    client = serving.client(TWIN)
    twin = twin_of(client)
    by_message(client)
    client.set(testdev.LENGTH, 16)
    message_id = client.send(10, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(twin.event(), CommandReceived)
    if how == "broken":
        twin.stream.write(craft(INFO, message_size=3))
        assert twin.is_closed()
    twin.close()
    client.reply(message_id)
    assert status(client) == (2, errno.ECONNRESET)
    start(client, 1, 0, 16)
    assert status(client) == (2, errno.ECONNRESET)


def test_no_twin_socket_where_the_server_does_not_offer_it(no_leak: None) -> None:
    with Serving(options=Options(offer=Capabilities(max_msg_fds=16))) as serving:
        client = serving.client(TWIN)
        assert (client.fds, b'"supported": false' in client.version.version_data) == ((), True)
        by_message(client)
        start(client, 1, 0, 16)
        assert len(client.commands) == 1
