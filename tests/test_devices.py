# The reference devices, driven as a client drives them, and the configuration space that they are built from.
import errno
import mmap
import os
import resource
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from serving import Client, Serving, eventfds, memfd, rung

from vfio_user_proto import regioncaps, unix
from vfio_user_proto.devices import DEVICES, testdev
from vfio_user_proto.devices.minimal import MinimalDevice
from vfio_user_proto.devices.pci import BAR0, BAR2, BAR3, BAR4, BAR5, CONFIG, INTX, MSIX, ConfigSpace, msix
from vfio_user_proto.messages import (
    Command,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    IrqSetFlags,
    RegionInfoFlags,
)

EVENTFD, NONE = IrqSetFlags.DATA_EVENTFD, IrqSetFlags.DATA_NONE
MASK, UNMASK, TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER
MSIX_CAPABILITY = 0x40


@pytest.fixture
def client(no_leak: None) -> Iterator[Client]:
    """A client of the test device."""
    with Serving() as serving:
        yield serving.client()


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_lacks_descriptors_leaves_none_open(name: str, no_leak: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    device = None
    try:
        for limit in range(200):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            with suppress(OSError):
                device = DEVICES[name]()
                break
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert device is not None
    device.close()


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_describes_itself_and_takes_a_reset(name: str, no_leak: None) -> None:
    with Serving(DEVICES[name]) as serving:
        one = serving.client()
        info = one.ask(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())
        for index in range(info.num_regions):
            region = one.ask(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(index=index, argsz=4096))
            unix.close_all(one.fds)
            assert regioncaps.walk(region)[1] is None
            if region.size:
                count = min(region.size, 1 << 20)
                assert len(one.read(index, 0, count)) == count
        for index in range(info.num_irqs):
            one.ask(Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=index))
        one.ask(Command.DEVICE_RESET)


# Configuration space


@pytest.fixture
def config() -> ConfigSpace:
    return ConfigSpace(
        vendor=0x1234,
        device=0x5678,
        class_code=0x0C0330,
        bars={0: 4096, 3: 16},
        interrupt_pin=1,
        capabilities=[msix(3, bar=2, table=0x1000, pending=0x2000), (0x09, b"\x05abc", b"\0\xff\0\x0f")],
    )


def test_config_says_who_the_device_is(config: ConfigSpace) -> None:
    assert config.read(0, 4) == bytes.fromhex("34127856")
    assert config.read(8, 4) == bytes.fromhex("0030030c")
    assert config.read(0x2C, 4) == bytes.fromhex("34127856")
    assert config.read(0x3D, 1) == b"\1"


@pytest.mark.parametrize(("bar", "size"), [(0, 4096), (3, 16)])
def test_config_bar_tells_its_size_and_keeps_its_address(config: ConfigSpace, bar: int, size: int) -> None:
    config.write(0x10 + 4 * bar, b"\xff\xff\xff\xff")
    assert -int.from_bytes(config.read(0x10 + 4 * bar, 4), "little") & 0xFFFFFFFF == size
    config.write(0x10 + 4 * bar, (0xFE00_0000 | 0x13).to_bytes(4, "little"))
    assert int.from_bytes(config.read(0x10 + 4 * bar, 4), "little") == 0xFE00_0000 | (0x10 if size == 16 else 0)


def test_config_absent_bar_stays_zero(config: ConfigSpace) -> None:
    config.write(0x14, b"\xff" * 8)
    assert config.read(0x14, 8) == bytes(8)


def test_config_capabilities_are_chained(config: ConfigSpace) -> None:
    assert config.read(6, 2) == b"\x10\0"
    assert config.read(0x34, 1) == b"\x40"
    assert config.read(0x40, 12) == b"\x11\x4c\x02\0" + (0x1002).to_bytes(4, "little") + (0x2002).to_bytes(4, "little")
    assert config.read(0x4C, 6) == b"\x09\0\x05abc"


def test_config_writes_change_only_what_may_change(config: ConfigSpace) -> None:
    before = config.read(0, 256)
    config.write(0, b"\xff" * 256)
    after = config.read(0, 256)
    changed = {at for at in range(256) if before[at] != after[at]}
    bars = {*range(0x10, 0x14), *range(0x1C, 0x20)}
    assert changed == {4, 5, 0x0C, 0x3C, 0x43, 0x4F, 0x51} | bars - {0x10}
    config.reset()
    assert config.read(0, 256) == before


def test_config_without_capabilities_has_no_list() -> None:
    plain = ConfigSpace(vendor=1, device=2, class_code=3, bars={})
    assert (plain.read(6, 1), plain.read(0x34, 1)) == (b"\0", b"\0")


# The minimal device


def test_minimal_device_counts_and_interrupts(no_leak: None) -> None:
    with Serving(MinimalDevice) as serving, eventfds(1) as fds:
        client = serving.client()
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=EVENTFD | TRIGGER, index=MSIX, count=1), fds)
        assert [client.number(0) for _ in range(9)] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert rung(fds[0]) == 0
        assert client.number(0) == 10
        assert rung(fds[0]) == 1
        client.set(0, 41)
        assert client.number(0) == 42
        client.ask(Command.DEVICE_RESET)
        assert client.number(0) == 1


# The test device


def test_identity_and_read_only_registers(client: Client) -> None:
    assert client.read(BAR0, 0, 4) == b"VTFD"
    for offset in (0, testdev.BELLS, testdev.STATUS, testdev.MSIX_PENDING, 0x700):
        before = client.number(offset)
        client.set(offset, 0xFFFFFFFF)
        assert client.number(offset) == before


def test_scratch_and_msix_table_are_memory(client: Client) -> None:
    for offset, size in ((testdev.SCRATCH, 0x800), (testdev.MSIX_TABLE, 64)):
        data = os.urandom(size)
        client.write(BAR0, offset, data)
        assert client.read(BAR0, offset, size) == data


def test_write_across_registers_keeps_what_is_memory(client: Client) -> None:
    client.write(BAR0, testdev.SCRATCH - 8, b"x" * 16)
    assert client.read(BAR0, testdev.SCRATCH - 8, 16) == bytes(8) + b"x" * 8


def test_reset_puts_everything_back(client: Client) -> None:
    client.write(BAR0, testdev.SCRATCH, b"dirty")
    client.write(BAR2, 0, b"dirty")
    client.write(testdev.RAM, 0, b"dirty")
    client.write(CONFIG, 4, b"\6")
    client.ask(Command.DEVICE_RESET)
    assert (
        client.read(BAR0, testdev.SCRATCH, 5) == client.read(BAR2, 0, 5) == client.read(testdev.RAM, 0, 5) == bytes(5)
    )
    assert (client.read(CONFIG, 4, 1), client.number(testdev.PATTERN)) == (b"\0", 3)


def test_mapped_areas_and_messages_see_the_same_memory(client: Client) -> None:
    info = client.ask(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(index=BAR2, argsz=4096))
    assert info.flags & RegionInfoFlags.MMAP
    (fd,) = client.fds
    ((link,), _) = regioncaps.walk(info)
    for area in link.content.areas:  # type: ignore[union-attr]
        with closing(mmap.mmap(fd, area.size, offset=info.offset + area.offset)) as memory:
            memory[:4] = b"from"
            assert client.read(BAR2, area.offset, 4) == b"from"
            client.write(BAR2, area.offset + 4, b"here")
            assert memory[4:8] == b"here"
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_doorbells_by_message_count_like_kicks(client: Client) -> None:
    client.write(BAR3, 0, b"port")
    client.write(BAR4, 0, b"any!")
    client.write(BAR4, 4, b"\x5a\0\0\0")
    client.write(BAR4, 4, b"\x5b\0\0\0")
    client.write(BAR4, 0, b"no")
    client.write(BAR4, 16, b"\1")
    client.write(BAR5, 8, b"8 bytes!")
    bells = [client.read(BAR0, testdev.BELLS + testdev.BELL_SIZE * number, testdev.BELL_SIZE) for number in range(10)]
    rung = {number: bell[8:] for number, bell in enumerate(bells) if bell[:8] != bytes(8)}
    words = {0: b"port", 1: b"any!", 2: b"\x5a\0\0\0", 6: b"\1\0\0\0"}
    assert rung == {**{number: word + bytes(4) for number, word in words.items()}, 8: b"8 bytes!"}
    assert client.read(BAR4, 0, 4) == b"\0\7\x0e\x15"


@pytest.mark.parametrize(("bar", "offset"), [(BAR3, 8), (BAR4, 0x180), (BAR4, 0x200)])
def test_windows_are_memory_by_message_too(client: Client, bar: int, offset: int) -> None:
    before = client.read(bar, offset, 6)
    client.write(bar, offset, b"word")
    assert client.read(bar, offset, 6) == b"word" + before[4:]
    client.ask(Command.DEVICE_RESET)
    assert client.read(bar, offset, 6) == before == bytes((i * 7 + i // 256) & 0xFF for i in range(offset, offset + 6))


def transfer(client: Client, operation: int, address: int, length: int) -> tuple[int, int, int]:
    """Status, errno and CRC-32 of one transfer."""
    client.set(testdev.ADDRESS, address, 8)
    client.set(testdev.LENGTH, length)
    client.set(testdev.GO, operation)
    return client.number(testdev.STATUS), client.number(testdev.ERRNO), client.number(testdev.CRC)


def test_transfers_move_bytes_and_say_what_moved(client: Client) -> None:
    with memfd(8192) as memory:
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=1 << 40, size=8192), [memory])
        client.set(testdev.PATTERN, 9)
        expected = bytes((i * 7 + 9) & 0xFF for i in range(3000))
        assert transfer(client, 1, (1 << 40) + 100, 3000) == (1, 0, zlib.crc32(expected))
        assert os.pread(memory, 3000, 100) == expected
        os.pwrite(memory, b"read me", 4096)
        assert transfer(client, 2, (1 << 40) + 4096, 7) == (1, 0, zlib.crc32(b"read me"))


@pytest.mark.parametrize(
    ("operation", "address", "length", "expected"),
    [
        (1, 0x5000, 1, errno.EFAULT),
        (2, 4095, 2, errno.EFAULT),
        (1, 0, testdev.MAX_DMA + 1, errno.EINVAL),
        (3, 0, 1, errno.EINVAL),
    ],
)
def test_failed_transfer_says_why(client: Client, operation: int, address: int, length: int, expected: int) -> None:
    with memfd(4096) as memory:
        client.ask(Command.DMA_MAP, DmaMapRequest(flags=3, address=0, size=4096), [memory])
        assert transfer(client, operation, address, length) == (2, expected, 0)


def test_end_of_a_transfer_raises_the_vector_that_was_asked_for(client: Client) -> None:
    with eventfds(4) as fds:
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=EVENTFD | TRIGGER, index=MSIX, count=4), fds)
        transfer(client, 2, 0, 0)
        client.set(testdev.VECTOR, 2)
        transfer(client, 2, 0, 0)
        assert [rung(fd) for fd in fds] == [0, 0, 1, 0]


@pytest.mark.parametrize("index", range(5))
def test_every_kind_of_interrupt_can_be_raised(client: Client, index: int) -> None:
    with eventfds(1) as fds:
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=EVENTFD | TRIGGER, index=index, count=1), fds)
        client.set(testdev.RAISE, index << 16)
        assert rung(fds[0]) == 1


def test_level_interrupt_comes_again_after_unmask(client: Client) -> None:
    with eventfds(1) as fds:
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=EVENTFD | TRIGGER, index=INTX, count=1), fds)
        for expected in (1, 0):
            client.set(testdev.RAISE, INTX << 16)
            assert rung(fds[0]) == expected
        client.ask(Command.DEVICE_SET_IRQS, DeviceSetIrqsRequest(flags=NONE | UNMASK, index=INTX, count=1))
        assert rung(fds[0]) == 1
        assert client.number(testdev.MASKED) == 1
