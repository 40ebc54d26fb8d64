# Attacks on a real "vfio-user serve": after each it lives, is not larger than stated, holds no descriptor and serves the next.
import contextlib
import errno
import fcntl
import os
import shlex
import socket
import struct
from collections.abc import Iterator
from random import Random

import pytest
from commands import VFIO_USER
from hostile import LITTLE, NO_DATA, TURN, Victim, attacked, flood, greeting, half_open, random_commands, take_turn
from serving import ALL, Client, by_message, eventfds, memfd, start, status

from vfio_user_proto import launch, unix
from vfio_user_proto.channel import OUTPUT_BOUND
from vfio_user_proto.craft import craft
from vfio_user_proto.devices import testdev
from vfio_user_proto.events import Closed, CommandReceived, ReplyReceived
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DeviceState,
    DmaMapRequest,
    DmaUnmapRequest,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    IrqSetFlags,
    MigDataReadRequest,
    MigDataWriteRequest,
    RegionReadRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record
from vfio_user_proto.wire import encode_record

PAGE = 4096
TOP = 1 << 64
SET_EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
# KiB that a server may keep after a client to which it owed all that it may owe.
DUE = LITTLE + 4 * OUTPUT_BOUND // 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Victim]:
    with launch.builtin() as process:
        yield Victim(process)


@pytest.fixture
def victim(server: Victim, no_leak: None) -> Iterator[Victim]:
    with attacked(server, growth=LITTLE):
        yield server


@pytest.fixture
def client(victim: Victim) -> Client:
    return victim.client()


# Descriptors


def test_descriptors_of_a_wrong_kind_too_short_or_read_only(client: Client) -> None:
    ends = [*os.pipe(), os.eventfd(0), os.open("/dev/zero", os.O_RDWR), os.open("/", os.O_RDONLY)]
    with memfd(PAGE) as short, memfd(2 * PAGE, os.MFD_ALLOW_SEALING) as sealed, socket.socket(socket.AF_UNIX) as sock:
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        read_only = os.open(f"/proc/self/fd/{short}", os.O_RDONLY)
        request = DmaMapRequest(flags=3, size=2 * PAGE)
        for fd in (*ends, sock.fileno(), short):
            assert client.refused(Command.DMA_MAP, request, [fd]) == errno.EINVAL
        assert client.refused(Command.DMA_MAP, request, [sealed]) == errno.EPERM
        assert client.refused(Command.DMA_MAP, DmaMapRequest(flags=3, size=PAGE), [read_only]) == errno.EACCES
        for fd in (ends[1], short, sock.fileno()):
            wanted = DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1)
            assert client.refused(Command.DEVICE_SET_IRQS, wanted, [fd]) == errno.EINVAL
        unix.close_all([*ends, read_only])


def test_memory_that_is_cut_while_it_is_mapped(client: Client) -> None:
    with memfd(2 * PAGE) as memory:
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, size=2 * PAGE), [memory])
        os.ftruncate(memory, PAGE)
        for operation in (1, 2):
            start(client, operation, PAGE - 8, 16)
            assert status(client) == (2, errno.EFAULT)
        assert os.fstat(memory).st_size == PAGE


def test_memory_of_the_device_cannot_be_cut_under_it(client: Client) -> None:
    client.ask(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(index=2, argsz=PAGE))
    given = client.fds
    client.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(index=5, argsz=PAGE))
    given += client.fds
    memories = [fd for fd in given if unix.kind_of(fd) == "memfd"]
    assert len(memories) > 1  # what is mapped, and what belongs to a shadow ioeventfd
    for memory in memories:
        with pytest.raises(PermissionError):
            os.ftruncate(memory, 0)
        os.lseek(memory, 100, os.SEEK_SET)  # the offset is shared
    client.write(2, 0x1000, b"here")
    assert client.read(2, 0x1000, 4) == b"here"
    unix.close_all(given)


@pytest.mark.parametrize("flags", [0, os.EFD_NONBLOCK, os.EFD_SEMAPHORE])
def test_eventfd_that_is_full_blocks_nobody(client: Client, flags: int) -> None:
    event = os.eventfd((1 << 32) - 1, os.EFD_CLOEXEC | flags)
    os.eventfd_write(event, TOP - 2 - ((1 << 32) - 1))
    client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=1), [event])
    for _ in range(3):
        client.set(testdev.RAISE, 2 << 16)
    os.close(event)


def test_doorbells_that_the_client_makes_blocking_and_reads_itself(client: Client) -> None:
    """An eventfd is shared with its flags: a server that reads it when the client was quicker must not wait."""
    client.ask(Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(index=4, argsz=PAGE))
    given = client.fds
    doorbells = [fd for fd in given if unix.kind_of(fd) == "eventfd"]
    assert doorbells
    for fd in doorbells:
        os.set_blocking(fd, True)
    for fd in doorbells * 50:
        os.eventfd_write(fd, 1)
        with contextlib.suppress(BlockingIOError):
            os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT)
        client.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
    unix.close_all(given)


def test_descriptors_by_the_hundred(victim: Victim, client: Client) -> None:
    """With one message, and byte by byte of one: more than a message can need ends the connection."""
    with eventfds(1) as fds:
        request = DeviceSetIrqsRequest(flags=SET_EVENTFD, index=2, count=4)
        for count in (17, 100, unix.MAX_FDS):
            assert client.refused(Command.DEVICE_SET_IRQS, request, fds * count) == errno.EINVAL
        greedy = victim.client()
        for byte in b"abc":
            greedy.stream.write(bytes([byte]), fds * 100)
        assert greedy.is_closed()


def test_client_that_takes_every_descriptor_loses_its_session_and_the_others_keep_theirs(no_leak: None) -> None:
    """A server may have a hundred; what a client sends beyond those is cut off on its way."""
    serve = shlex.join([*VFIO_USER, "serve", "--socket-path"])
    limited = shlex.join(["sh", "-c", f'ulimit -n 100; exec {serve} "$0"', "{socket}"])
    with launch.spawn(limited) as process, memfd(PAGE) as memory:
        victim = Victim(process, clients=2)
        with attacked(victim, growth=LITTLE):
            other, greedy = victim.client(), victim.client()
            for number in range(100):
                greedy.send(Command.DMA_MAP, DmaMapRequest(flags=3, address=number * PAGE, size=PAGE), [memory])
            while not isinstance(event := greedy.event(), Closed):
                assert isinstance(event, ReplyReceived)
                assert not event.message.is_error
            other.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())


# Messages


@pytest.mark.parametrize("kept", [1, 15, 16, 17, 47])
def test_client_that_is_killed_in_the_midst_of_a_message(victim: Victim, kept: int) -> None:
    with memfd(PAGE) as memory:
        half_open(victim.path, greeting()[:kept], [memory])
        half_open(victim.path, greeting() + craft(Command.DMA_MAP, DmaMapRequest(size=PAGE))[:kept], [memory])


BOMBS = {
    "deep": (b"[" * 60_000, True),
    "wide": (b"[" + b"[]," * 20_000 + b"[]]", True),
    "names": (b'{"capabilities":{' + b",".join(b'"%d":0' % n for n in range(5000)) + b"}}", False),
    "digits": (b'{"capabilities":{"pgsizes":' + b"9" * 60_000 + b"}}", True),
    "exponent": (b'{"capabilities":{"pgsizes":1e999999999}}', True),
    "escapes": (b'{"x":"' + b"\\u0041" * 10_000 + b'"}', False),
    "surrogate": (b'{"capabilities":{"\\ud800":1}}', False),
    "long": (b'{"x":"' + b"x" * 1_000_000 + b'"}', True),
}


@pytest.mark.parametrize(("text", "refused"), BOMBS.values(), ids=BOMBS)
def test_json_bomb(victim: Victim, text: bytes, refused: bool) -> None:
    """What is only odd is accepted, its unknown names are ignored."""
    client = victim.client(None)
    reply = client.reply(client.send(Command.VERSION, VersionRequest(version_data=text + b"\0"))).message
    assert (reply.is_error, reply.header.error) == (refused, errno.EINVAL if refused else 0)


@pytest.mark.parametrize("size", [0, 15, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_message_size_that_cannot_be(victim: Victim, size: int) -> None:
    for offer in (ALL, None):
        client = victim.client(offer)
        client.stream.write(craft(Command.VERSION, VersionRequest(), message_size=size))
        assert client.is_closed()


MOST = (1 << 32) - 1


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        (Command.DEVICE_GET_INFO, DeviceGetInfoRequest(argsz=MOST)),
        (Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(argsz=MOST, index=2)),
        (Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(argsz=MOST, index=4)),
        (Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(argsz=MOST, index=2)),
    ],
)
def test_room_of_4_gib_for_a_reply_is_not_taken(client: Client, command: Command, request_: Record) -> None:
    client.ask(command, request_)
    unix.close_all(client.fds)


def feature(operation: int, number: int, data: Record) -> DeviceFeatureRequest:
    flags = DeviceFeatureFlags(operation | number)
    return DeviceFeatureRequest(argsz=MOST, flags=flags, data=encode_record(data))


GET, SET = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET
LOG = DeviceFeature.DMA_LOGGING_REPORT


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        (Command.REGION_READ, RegionReadRequest(region=9, count=MOST)),
        (Command.REGION_READ, RegionReadRequest(region=9, offset=TOP - 1, count=2)),
        (Command.REGION_READ, RegionReadRequest(region=9, offset=TOP - MOST, count=MOST)),
        (Command.REGION_WRITE, RegionWriteRequest(region=9, offset=TOP - 1, data=b"xy")),
        (Command.REGION_WRITE, struct.pack("=QII", 0, 9, MOST) + b"x"),
        (Command.REGION_WRITE_MULTI, struct.pack("=Q", TOP - 1)),
        (Command.REGION_WRITE_MULTI, struct.pack("=QQIIQ", 1, TOP - 4, 9, 8, 0)),
        (Command.DMA_MAP, DmaMapRequest(flags=3, address=TOP - PAGE, size=2 * PAGE)),
        (Command.DMA_MAP, DmaMapRequest(flags=3, offset=TOP - PAGE, size=2 * PAGE)),
        (Command.DMA_UNMAP, DmaUnmapRequest(address=TOP - PAGE, size=2 * PAGE)),
        (Command.DMA_UNMAP, DmaUnmapRequest(address=0, size=TOP - 1)),
        (Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=0x21, index=2, start=MOST, count=2)),
        (Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=0x21, index=2, start=1, count=MOST)),
        (Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=0x22, index=2, count=MOST)),
        (Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=MOST)),
        (Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(argsz=MOST, index=MOST)),
        (Command.MIG_DATA_READ, MigDataReadRequest(argsz=MOST, size=MOST)),
        (Command.DEVICE_FEATURE, feature(GET, LOG, FeatureDmaLoggingReport(length=TOP - 1, page_size=1))),
        (Command.DEVICE_FEATURE, feature(GET, LOG, FeatureDmaLoggingReport(iova=TOP - 1, length=2, page_size=1))),
    ],
)
def test_sizes_that_wrap_or_are_huge_are_refused_in_step(
    client: Client, command: Command, request_: Record | bytes
) -> None:
    expected = errno.ENOENT if command == Command.DMA_UNMAP else errno.EINVAL
    assert client.refused_raw(craft(command, request_)) == expected


def test_log_of_everything_is_reported_within_its_bound(client: Client) -> None:
    client.ask(Command.DEVICE_FEATURE, feature(SET, DeviceFeature.DMA_LOGGING_START, FeatureDmaLoggingStart()))
    whole = FeatureDmaLoggingReport(length=TOP - 1, page_size=PAGE)
    assert client.refused(Command.DEVICE_FEATURE, feature(GET, LOG, whole)) == errno.E2BIG


def test_a_thousand_random_commands(victim: Victim) -> None:
    rng = Random("hardening")
    messages = random_commands(rng, 1000)
    client = victim.client(NO_DATA)
    with memfd(1 << 20) as memory, eventfds(2) as events:
        for at in range(0, len(messages), TURN):
            take_turn(client, messages[at : at + TURN], [memory, *events][: rng.randrange(4)])


# Clients


def test_three_hundred_clients_one_after_the_other(victim: Victim) -> None:
    for number in range(300):
        half_open(victim.path, greeting() if number % 3 else b"\0")


def test_client_that_does_not_read_thousands_of_replies(server: Victim, no_leak: None) -> None:
    """The server keeps as much as it may owe, and the rest stays in the sockets; another client is served meanwhile."""
    with attacked(server, growth=DUE):
        client = server.client()
        before = server.look()
        sent = flood(client, craft(Command.REGION_READ, RegionReadRequest(region=testdev.RAM, count=1024)))
        assert sent > 1000
        assert server.look().rss - before.rss <= DUE


def test_silent_client_beside_a_working_one(victim: Victim) -> None:
    silent, working = victim.client(), victim.client()
    by_message(silent)
    silent.set(testdev.LENGTH, 16)
    silent.send(Command.REGION_WRITE, RegionWriteRequest(offset=testdev.GO, data=b"\1\0\0\0"))
    assert isinstance(silent.event(), CommandReceived)
    for value in range(100):
        working.set(testdev.SCRATCH, value)
        assert working.number(testdev.SCRATCH) == value


def test_device_that_is_left_while_its_state_is_loaded(victim: Victim) -> None:
    """The next client can use it."""
    client = victim.client()
    for state in (DeviceState.STOP, DeviceState.RESUMING):
        wanted = FeatureMigDeviceState(device_state=state)
        client.ask(Command.DEVICE_FEATURE, feature(SET, DeviceFeature.MIG_DEVICE_STATE, wanted))
    client.ask(Command.MIG_DATA_WRITE, MigDataWriteRequest(data=b"a part of a state"))
    victim.leave()
    victim.client().ask(Command.DEVICE_RESET)
