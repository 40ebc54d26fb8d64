# Region accesses that go straight: the same replies, and the same done to the device, as on the way of all other messages.
import errno
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from desk import Desk, Recorder
from hypothesis import example, given
from hypothesis import strategies as st

from vfio_user_proto import straight, unix, wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.craft import craft
from vfio_user_proto.device import Host
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DmaMapRequest,
    DmaReadReply,
    Header,
    HeaderFlags,
    RegionReadReply,
    RegionReadRequest,
    RegionWriteReply,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.session import Options, Session

READ, WRITE = Command.REGION_READ, Command.REGION_WRITE
NO_REPLY = int(HeaderFlags.NO_REPLY)
LAST = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=0xFFFF)


class SameConnection(Connection):
    """A connection that is not the one of the engine, so that no message goes straight."""


class Moody(Recorder):
    """A device that refuses, or fails, at some places."""

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if offset in FAILURES:
            raise FAILURES[offset]
        return super().region_read(index, offset, count)

    def region_write(self, index: int, offset: int, data: bytes) -> None:
        if offset in FAILURES:
            raise FAILURES[offset]
        super().region_write(index, offset, data)


FAILURES: dict[int, Exception] = {
    1: OSError(errno.EPERM, "no"),
    2: OSError("without errno"),
    3: ValueError("a mistake"),
}


def conversation(data: bytes, options: Options) -> tuple[bytes, list[tuple[object, ...]]]:
    """All that a session sends when it gets ``data`` after the version was agreed, and what its device was asked for."""
    ours, theirs = unix.pair()
    device = Moody()
    with closing(ours), closing(Session(theirs, device, options)) as session:
        ours.write(craft(Command.VERSION, VersionRequest()) + data + LAST)
        ours.socket.shutdown(1)
        session.run()
        came = b""
        while part := ours.read(1 << 16):
            if not part[0]:
                break
            came += part[0]
        return came, device.did


accesses = st.builds(
    craft,
    st.sampled_from([READ, WRITE, Command.DEVICE_GET_INFO, Command.REGION_WRITE_MULTI]),
    st.builds(
        RegionWriteRequest,
        offset=st.sampled_from([0, 1, 2, 3, 4, 4095, 4096, 4097, (1 << 64) - 1]) | st.integers(0, (1 << 64) - 1),
        region=st.integers(0, 4) | st.just(0xFFFFFFFF),
        data=st.binary(max_size=16),
    )
    | st.builds(
        RegionReadRequest,
        offset=st.sampled_from([0, 1, 2, 3, 4, 4092, 4096, (1 << 64) - 1]),
        region=st.integers(0, 4) | st.just(0xFFFFFFFF),
        count=st.sampled_from([0, 1, 4, 8, 4096, 4097, 1 << 20, (1 << 20) + 1, 0xFFFFFFFF]),
    ),
    extra=st.sampled_from([b"", b"", b"x"]),
    message_id=st.integers(0, 0xFFFF),
    flags=st.sampled_from([0, 0, NO_REPLY, 0x20, 0x40]),
    error=st.sampled_from([0, 0, 22]),
)


@given(st.lists(accesses, max_size=8))
@example([craft(READ, RegionReadRequest(region=0, offset=place, count=4)) for place in range(5)])
@example([craft(WRITE, RegionWriteRequest(region=0, offset=place, data=b"abcd")) for place in range(5)])
def test_what_goes_straight_comes_to_the_same(messages: list[bytes]) -> None:
    data = b"".join(messages)
    plain = conversation(data, Options())
    assert plain == conversation(data, Options(connection=SameConnection))
    assert LAST[:4] in plain[0]


def test_the_tables_have_the_fields_that_it_knows() -> None:
    """It takes the four of them by position: whoever changes one in the document reads it here first."""
    for record in (RegionReadRequest, RegionReadReply, RegionWriteRequest, RegionWriteReply):
        fixed = {name: row.fixed_size for name, row in record.rows.items() if name != record.tail}
        assert list(fixed.items()) == [("offset", 8), ("region", 4), ("count", 4)]
    assert list(Header.rows) == ["message_id", "command", "message_size", "flags", "error"]


def answered(message: bytes) -> bytes | None:
    return straight.answer(Desk().responder, message)


@pytest.mark.parametrize(
    "message",
    [
        craft(Command.DEVICE_RESET),
        craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest()),
        craft(READ, RegionReadRequest(), kind=1),
        craft(READ, RegionReadRequest(), flags=0x40),
        craft(READ, RegionReadRequest(), extra=b"x"),
        craft(READ, RegionReadRequest(count=1 << 13)),
        craft(WRITE, RegionWriteRequest(data=b"abcd"), extra=b"x"),
        craft(WRITE, RegionWriteRequest(count=5, data=b"abcd")),
    ],
)
def test_everything_else_is_left_to_the_engine(message: bytes) -> None:
    assert answered(message) is None


def test_region_accesses_do_go_straight() -> None:
    """Or else the comparison above would compare a way with itself."""
    reply = wire.build(READ, RegionReadReply(region=1, data=bytes(4)), message_id=7, flags=1)
    assert answered(craft(READ, RegionReadRequest(region=1, count=4), message_id=7)) == reply
    assert answered(craft(WRITE, RegionWriteRequest(region=2, data=b"abcd"), flags=NO_REPLY)) == b""
    assert Options().plain
    assert not Options(connection=SameConnection).plain
    assert not Options(outgoing=lambda data, fds, answers: (data, fds)).plain


class Asking(Recorder):
    """A device that reads client memory while it is read itself."""

    host: Host

    def attach(self, host: Host) -> None:
        self.host = host

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        if offset == 8:
            self.host.read(0x1000, 4)
        return super().region_read(index, offset, count)


@pytest.fixture
def asking(no_leak: None) -> Iterator[unix.Stream]:
    ours, theirs = unix.pair()
    with closing(ours), closing(Session(theirs, Asking(), Options())) as session:
        thread = threading.Thread(target=session.run)
        thread.start()
        ours.set_timeout(10)
        yield ours
        ours.socket.shutdown(1)
        thread.join()


def test_what_comes_while_an_access_waits_for_its_client_is_answered_behind_it(asking: unix.Stream) -> None:
    def next_header() -> wire.Header:
        data, _ = asking.read(16) or (b"", [])
        header = wire.decode_header(data)
        if header.message_size > 16:
            asking.read(header.message_size - 16)
        return header

    asking.write(craft(Command.VERSION, VersionRequest()))
    next_header()
    asking.write(craft(Command.DMA_MAP, DmaMapRequest(flags=3, address=0x1000, size=0x1000)))
    next_header()
    for number, offset in ((1, 8), (2, 0)):
        asking.write(craft(READ, RegionReadRequest(region=0, offset=offset, count=4), message_id=number))
    asked = next_header()
    assert asked.command == Command.DMA_READ
    asking.write(
        craft(Command.DMA_READ, DmaReadReply(address=0x1000, data=b"abcd"), message_id=asked.message_id, kind=1)
    )
    assert [next_header().message_id, next_header().message_id] == [1, 2]
