# The doorbell device behind a real server: every path to each of its doorbells, and what it remembers of them.
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from serving import Serving

from vfio_user_proto.client import Client
from vfio_user_proto.devices import DEVICES
from vfio_user_proto.devices.doorbell import MAGIC, NO_VALUE, PLACES, SEEN, SEEN_SIZE, SIZES, DoorbellDevice, Path, Seen
from vfio_user_proto.devices.pci import BAR0, BAR2, BAR4, CONFIG
from vfio_user_proto.kvm import GuestBus, Space, Via

pytestmark = pytest.mark.usefixtures("no_leak")
ADDRESSES = {BAR0: 0xD0000, BAR2: 0x500, BAR4: 0xD1000}


@pytest.fixture
def serving() -> Iterator[Serving]:
    with Serving(DoorbellDevice) as made:
        yield made


@pytest.fixture
def client(serving: Serving) -> Iterator[Client]:
    with Client.connect(serving.path) as made:
        yield made


@pytest.fixture
def bus(client: Client) -> Iterator[GuestBus]:
    with GuestBus(client) as made:
        for region, address in ADDRESSES.items():
            with client.region_io_fds(region, SIZES[region]) as found:
                space = Space.PORTS if region == BAR2 else Space.MEMORY
                made.place(region, SIZES[region], address, space=space, io_fds=found.io_fds)
        yield made


def seen(client: Client, path: Path) -> Seen:
    return Seen.from_bytes(client.region_read(BAR0, SEEN + SEEN_SIZE * path, SEEN_SIZE))


def wait(client: Client, path: Path, count: int) -> Seen:
    """What the device saw once it saw ``count`` rings; each question is a round trip, so this does not spin."""
    deadline = time.monotonic() + 10
    while (now := seen(client, path)).count < count:
        assert time.monotonic() < deadline
    return now


def place(path: Path) -> tuple[Space, int]:
    region, offset = PLACES[path]
    return (Space.PORTS if region == BAR2 else Space.MEMORY), ADDRESSES[region] + offset


def test_it_can_be_served_by_name() -> None:
    assert DEVICES["doorbell"] is DoorbellDevice


@pytest.mark.parametrize("path", list(Path))
def test_every_path_reaches_its_doorbell_alone(client: Client, bus: GuestBus, path: Path) -> None:
    """An ioeventfd does not bring the value."""
    before = time.monotonic_ns()
    for value in (0x11223344, 0x55667788):
        bus.store(*place(path), struct.pack("=I", value))
    found = wait(client, path, 2)
    lost = path in (Path.IOEVENTFD, Path.IOEVENTFD_PORT)
    assert (found.count, found.value) == (2, NO_VALUE if lost else 0x55667788)
    assert before < found.time < time.monotonic_ns()
    assert all(seen(client, other) == Seen() for other in Path if other is not path)
    assert bus.load(*place(path), 4) == struct.pack("=I", 0xFFFFFFFF if lost else 0x55667788)


@pytest.mark.parametrize("path", list(Path))
def test_a_message_rings_every_doorbell_with_its_value(client: Client, path: Path) -> None:
    region, offset = PLACES[path]
    client.region_write(region, offset, struct.pack("=I", 9))
    assert (seen(client, path).count, seen(client, path).value) == (1, 9)
    assert client.region_read(region, offset, 4) == struct.pack("=I", 9)


def test_every_mechanism_is_offered(bus: GuestBus) -> None:
    kinds = [(w.region, type(w.sub_region).__name__, w.via) for w in bus.wirings]
    assert kinds == [
        (BAR0, "IoeventfdSubRegion", Via.BUS),
        (BAR0, "IoregionfdSubRegion", Via.BUS),
        (BAR0, "IoregionfdSubRegion", Via.BUS),
        (BAR2, "IoeventfdSubRegion", Via.BUS),
        (BAR4, "ShadowIoeventfdSubRegion", Via.BUS),
    ]


def test_the_registers_tell_who_it_is(client: Client) -> None:
    assert client.region_read(BAR0, 0, 4) == b"VDBL" == MAGIC.to_bytes(4, "little")
    assert client.region_read(CONFIG, 0, 4) == b"\x46\x56\x42\x44"


def test_the_bars_tell_their_size_and_space(client: Client) -> None:
    """Memory, ports, memory: bit 0 says which."""
    client.region_write(CONFIG, 0x10, b"\xff" * 24)
    bars = struct.unpack("<6I", client.region_read(CONFIG, 0x10, 24))
    assert bars == (0xFFFFF000, 0, 0xFFFFFFF1, 0, 0xFFFFF000, 0)


def test_writes_elsewhere_are_ignored(client: Client) -> None:
    for region, offset, data in ((BAR0, 0, bytes(8)), (BAR0, 0x100, bytes(64)), (BAR0, 0x800, b"\1"), (BAR4, 8, b"\1")):
        client.region_write(region, offset, data)
    assert all(seen(client, path) == Seen() for path in Path)
    assert client.region_read(BAR0, 0, 4) == b"VDBL"


def test_a_reset_forgets(client: Client, bus: GuestBus) -> None:
    bus.store(*place(Path.SHADOW), struct.pack("=I", 1))
    wait(client, Path.SHADOW, 1)
    client.reset()
    assert seen(client, Path.SHADOW) == Seen()


def test_the_next_client_finds_the_state_and_new_descriptors(serving: Serving) -> None:
    """What the former one still holds reaches the device no more (section Client Disconnection)."""
    with Client.connect(serving.path) as former:
        with former.region_io_fds(BAR0) as found:
            kept = [os.dup(fd.fileno()) for fd in found.fds]
        os.eventfd_write(kept[0], 1)
        wait(former, Path.IOEVENTFD, 1)
    serving.wait_left()
    os.eventfd_write(kept[0], 1)
    with socket.socket(fileno=kept[1]) as old, pytest.raises(OSError):
        old.send(bytes(32))
    with Client.connect(serving.path) as client, client.region_io_fds(BAR0) as found:
        os.eventfd_write(found.fds[0].fileno(), 1)
        assert wait(client, Path.IOEVENTFD, 2).count == 2
    os.close(kept[0])


def test_several_processors_share_the_ioregionfd(client: Client, bus: GuestBus) -> None:
    """Each write with reply is done when it returns, whoever else writes meanwhile."""

    def processor() -> None:
        for number in range(50):
            bus.store(*place(Path.IOREGION), struct.pack("=I", number))
            bus.store(*place(Path.IOREGION_POSTED), struct.pack("=I", number))
        done.append(True)

    done: list[bool] = []
    threads = [threading.Thread(target=processor) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert done == [True] * 3
    assert seen(client, Path.IOREGION).count == 150
    assert wait(client, Path.IOREGION_POSTED, 150).count == 150
