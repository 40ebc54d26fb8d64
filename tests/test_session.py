# One session over a real socket: headers, the stream, descriptors, doorbells, and the seams for faults.
import errno
import os
import socket
import struct
import threading

import pytest
from serving import (
    Serving,
    by_message,
    eventfds,
    gone,
    memfd,
    open_to,
    read_message,
    rung,
)

from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    DmaUnmapRequest,
    HeaderFlags,
    IrqSetFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.session import Options

SCRATCH = testdev.SCRATCH
INFO = Command.DEVICE_GET_INFO
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER


# Sessions


def test_refused_version_is_answered_and_closed(serving: Serving) -> None:
    client = serving.client(None)
    reply = client.reply(client.send(Command.VERSION, VersionRequest(version_major=9))).message
    assert (reply.is_error, reply.header.error) == (True, errno.EINVAL)
    assert client.is_closed()
    serving.client().ask(INFO, DeviceGetInfoRequest())


def test_version_without_data_is_enough(serving: Serving) -> None:
    client = serving.client(None)
    assert client.ask(Command.VERSION, VersionRequest()) == VersionRequest()
    client.ask(INFO, DeviceGetInfoRequest())


def test_second_version_is_refused_in_step(serving: Serving) -> None:
    assert serving.client().refused(Command.VERSION, VersionRequest()) == errno.EINVAL


def test_version_is_answered_even_without_wanting_a_reply(serving: Serving) -> None:
    client = serving.client(None)
    client.reply(client.send(Command.VERSION, VersionRequest(), no_reply=True))
    client.ask(INFO, DeviceGetInfoRequest())


@pytest.mark.parametrize(
    "data",
    [
        craft(INFO, DeviceGetInfoRequest()),
        craft(Command.VERSION, VersionRequest(), kind=1),
        craft(Command.VERSION, VersionRequest(), kind=2),
        craft(Command.VERSION, VersionRequest(), message_size=15),
        craft(Command.VERSION, VersionRequest(), message_size=0),
        craft(Command.VERSION, VersionRequest(), message_size=0xFFFFFFFF),
    ],
    ids=["not VERSION", "reply", "unknown type", "size 15", "size 0", "4 GiB"],
)
def test_first_message_that_cannot_be_closes_only_its_client(serving: Serving, data: bytes) -> None:
    other = serving.client()
    with eventfds(1) as fds:
        client = serving.client(None)
        client.stream.write(data, fds)
        assert client.is_closed()
        serving.wait_left()
        assert open_to(fds[0]) == 1
    other.ask(INFO, DeviceGetInfoRequest())


@pytest.mark.parametrize(
    "data",
    [
        craft(INFO, kind=1),
        craft(INFO, kind=1, flags=0x21),
        craft(INFO, kind=3),
        craft(INFO, message_size=8),
        craft(INFO, message_size=1 << 30),
    ],
    ids=["reply", "error reply", "unknown type", "size 8", "1 GiB"],
)
def test_later_message_that_cannot_be_closes_only_its_client(serving: Serving, data: bytes) -> None:
    other, client = serving.client(), serving.client()
    client.stream.write(data)
    assert client.is_closed()
    other.ask(INFO, DeviceGetInfoRequest())


@pytest.mark.parametrize("command", [0, 14, 19, 255, 0xFFFF, Command.DMA_READ, Command.DMA_WRITE])
def test_other_commands_are_refused_in_step(serving: Serving, command: int) -> None:
    assert serving.client().refused_raw(craft(command, bytes(24))) == errno.EOPNOTSUPP


def test_malformed_payload_is_refused_in_step(serving: Serving) -> None:
    client = serving.client()
    assert client.refused_raw(craft(Command.DMA_MAP, DmaMapRequest(size=4096), cut=1)) == errno.EINVAL
    assert client.refused_raw(craft(INFO, DeviceGetInfoRequest(), extra=bytes(100000))) == errno.EINVAL


def test_reserved_header_fields_are_ignored_and_the_id_is_echoed(serving: Serving) -> None:
    client = serving.client()
    data = craft(INFO, DeviceGetInfoRequest(), message_id=0xBEEF, flags=0xFFFFFFC0, error=7)
    client.stream.write(data)
    reply = read_message(client)
    assert (reply.header.message_id, reply.header.command, reply.header.flags, reply.header.error) == (0xBEEF, 4, 1, 0)


# The stream


def test_message_may_be_cut_anywhere(serving: Serving) -> None:
    client = serving.client()
    data = craft(Command.REGION_WRITE, RegionWriteRequest(offset=SCRATCH, data=b"pieces!"))
    for cut in range(1, len(data)):
        client.stream.write(data[:cut])
        client.stream.write(data[cut:])
        assert read_message(client).payload.count == 7
    for byte in data:
        client.stream.write(bytes([byte]))
    assert read_message(client).payload.count == 7


def test_several_messages_in_one_write_are_answered_in_order(serving: Serving) -> None:
    client = serving.client()
    offsets = [SCRATCH + 4 * n for n in range(500)]
    writes = [craft(10, RegionWriteRequest(offset=o, data=o.to_bytes(4, "little")), message_id=7) for o in offsets]
    reads = [craft(9, RegionReadRequest(offset=o, count=4), message_id=7) for o in offsets]
    threading.Thread(target=client.stream.socket.sendall, args=(b"".join(writes + reads),)).start()
    for offset in offsets:
        assert read_message(client).payload.offset == offset
    for offset in offsets:
        assert read_message(client).payload.data == offset.to_bytes(4, "little")


def test_command_without_reply_is_done_and_not_answered(serving: Serving) -> None:
    client = serving.client()
    for value in (b"a", b"b"):
        client.send(10, RegionWriteRequest(offset=SCRATCH, data=value), no_reply=True)
    client.send(10, RegionWriteRequest(region=99, data=b"refused"), no_reply=True)
    client.stream.write(craft(999, b"", no_reply=True))
    assert client.read(0, SCRATCH, 1) == b"b"


def test_client_that_ends_its_side_still_gets_its_replies(serving: Serving) -> None:
    client = serving.client()
    ids = [client.send(INFO, DeviceGetInfoRequest()) for _ in range(5)]
    client.stream.socket.shutdown(socket.SHUT_WR)
    for message_id in ids:
        client.reply(message_id)
    assert client.is_closed()


@pytest.mark.parametrize("kept", [1, 15, 16, 17, 47])
def test_client_that_dies_inside_a_message_leaves_nothing(serving: Serving, kept: int) -> None:
    watched, sent = os.pipe()
    client = serving.client()
    client.stream.write(craft(Command.DMA_MAP, DmaMapRequest(size=4096))[:kept], [sent])
    os.close(sent)
    client.close()
    assert gone(watched)
    os.close(watched)
    serving.client()


def test_one_mebibyte_goes_through(serving: Serving) -> None:
    client = serving.client()
    data = os.urandom(1 << 20)
    client.write(testdev.RAM, 5, data)
    assert client.read(testdev.RAM, 5, 1 << 20) == data
    too_much = RegionReadRequest(region=testdev.RAM, count=(1 << 20) + 1)
    assert client.refused(Command.REGION_READ, too_much) == errno.EINVAL


# Descriptors


def test_descriptors_of_refused_commands_are_closed(serving: Serving) -> None:
    client = serving.client()
    wrong = [
        craft(Command.DMA_MAP, DmaMapRequest(flags=3, size=4096)),  # a pipe is no file
        craft(Command.DMA_MAP, DmaMapRequest(flags=3, size=0)),
        craft(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1)),
        craft(INFO, DeviceGetInfoRequest()),
        craft(Command.VERSION, VersionRequest()),
        craft(999),
    ]
    for data in wrong:
        watched, sent = os.pipe()
        client.refused_raw(data, [sent])
        os.close(sent)
        assert gone(watched)
        os.close(watched)


@pytest.mark.parametrize("count", [17, 100, unix.MAX_FDS])
def test_too_many_descriptors_are_refused_in_step_and_closed(serving: Serving, count: int) -> None:
    client = serving.client()
    with eventfds(1) as fds:
        request = DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=4)
        assert client.refused(Command.DEVICE_SET_IRQS, request, fds * count) == errno.EINVAL
        assert open_to(fds[0]) == 1


def test_descriptors_with_a_later_byte_are_taken_once(serving: Serving) -> None:
    client = serving.client()
    data = craft(Command.DMA_MAP, DmaMapRequest(flags=3, address=0, size=4096))
    with memfd(4096) as memory:
        client.stream.write(data[:20])
        client.stream.write(data[20:], [memory])
        assert not read_message(client).is_error
        assert open_to(memory) == 2
        client.ask(Command.DMA_UNMAP, DmaUnmapRequest(address=0, size=4096))
        assert open_to(memory) == 1


# Doorbells and interrupts


def test_kicks_and_commands_reach_the_device(serving: Serving) -> None:
    client = serving.client()
    client.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(index=4, argsz=4096))
    *eventfds, ioregion = client.fds
    os.eventfd_write(eventfds[0], 3)
    os.eventfd_write(eventfds[1], 1)
    with socket.socket(fileno=ioregion) as sock:
        sock.send(struct.pack("=BB6xQQQ", 1, 2, 6, 8, 7))
        sock.send(b"no command")
    unix.close_all(eventfds)
    # The server looks at its sockets in turn: what it was told before is there after a few questions.
    bells = [testdev.BELLS + testdev.BELL_SIZE * number for number in (1, 2)]
    while [*map(client.number, bells), client.read(4, 0x108, 4)] != [3, 1, b"\7\0\0\0"]:
        continue


def test_interrupt_by_register(serving: Serving) -> None:
    client = serving.client()
    with eventfds(4) as fds:
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=4), fds)
        client.set(testdev.RAISE, 2 << 16 | 3)
        assert [rung(fd) for fd in fds] == [0, 0, 0, 1]


# Seams


def test_responder_can_be_replaced(no_leak: None) -> None:
    class Wrong(Responder):
        def region_read(self, request: RegionReadRequest, fds: list[int]) -> Answer:
            return RegionReadReply(data=b"wrong"), ()

    with Serving(options=Options(responder=Wrong)) as serving:
        assert serving.client().read(0, 0, 4) == b"wrong"


def test_every_message_passes_the_filter(no_leak: None) -> None:
    seen: list[tuple[int, int | None]] = []

    def outgoing(
        data: bytes, fds: tuple[int, ...], answers: CommandReceived | None
    ) -> tuple[bytes, tuple[int, ...]] | None:
        seen.append((len(data), None if answers is None else answers.message.header.command))
        if answers is not None and answers.message.header.command == INFO:
            return data[:8] + (HeaderFlags.ERROR | 1).to_bytes(4, "little") + data[12:], fds
        return data, fds

    with Serving(options=Options(outgoing=outgoing)) as serving:
        client = serving.client()
        by_message(client)
        client.set(testdev.LENGTH, 1)
        client.set(testdev.GO, 1)
        client.send(9, RegionReadRequest(count=4), no_reply=True)
        assert client.reply(client.send(INFO, DeviceGetInfoRequest())).message.is_error
    assert seen[2:] == [(32, 10), (33, None), (32, 10), (0, 9), (32, 4)]


def test_filter_can_keep_a_message_back(no_leak: None) -> None:
    with Serving(options=Options(outgoing=lambda data, fds, answers: None)) as serving:
        client = serving.client(None)
        client.stream.set_timeout(0.05)
        client.send(Command.VERSION, VersionRequest())
        assert client.stream.read(16) is None
