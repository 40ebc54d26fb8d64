"""Our client against libvfio-user's samples: each command that they support. Seen with libvfio-user efd091b (2026-06).

Where the samples depart from the document, the test says so: what our client makes of it is the point.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vfio_user_proto import launch
from vfio_user_proto.client import OFFER, Client, aio
from vfio_user_proto.devices.pci import BAR0, BAR2, CONFIG, ERR, INTX, REQ
from vfio_user_proto.errors import ErrorReply, LocalProtocolError, RemoteProtocolError
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFlags,
    DeviceGetInfoReply,
    DeviceGetInfoRequest,
    DeviceState,
    IrqInfoFlags,
    IrqSetFlags,
    MigrationFlags,
    RegionInfoFlags,
    ShadowIoeventfdSubRegion,
)

VARIABLE = "LIBVFIO_USER_SHADOW_SERVER"
SHADOW = os.environ.get(VARIABLE, "")
GPIO = str(Path(SHADOW).parent / "gpio-pci-idio-16")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.usefixtures("no_leak"),
    pytest.mark.skipif(not SHADOW, reason=f"{VARIABLE} does not name a built samples/shadow_ioeventfd_server"),
]
TRIGGER = IrqSetFlags.ACTION_TRIGGER
GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
PAGE, IOVA = 4096, 0x10000


def connected(program: str) -> Iterator[Client]:
    """A client of a sample, which still runs at the end."""
    with launch.spawn(f"{program} {{socket}}") as process, Client.connect(process.connect()) as client:
        yield client
        assert process.poll() is None, process.exit_text()


@pytest.fixture
def gpio(no_leak: None) -> Iterator[Client]:
    yield from connected(GPIO)


@pytest.fixture
def shadow(no_leak: None) -> Iterator[Client]:
    yield from connected(SHADOW)


def refusal(ask: Callable[[], object]) -> int:
    """The errno with which the server refuses."""
    with pytest.raises(ErrorReply) as caught:
        ask()
    return caught.value.errno


# VERSION


@pytest.mark.parametrize("twin", [True, False])
def test_version_and_capabilities(no_leak: None, twin: bool) -> None:
    """It has twin sockets, and not REGION_WRITE_MULTI."""
    offer = replace(OFFER, twin_socket=twin)
    with (
        launch.spawn(f"{GPIO} {{socket}}") as process,
        Client.connect(process.connect(), offer=offer) as client,
    ):
        assert client.version == (0, 2)
        assert (client.peer.max_msg_fds, client.peer.max_data_xfer_size) == (8, 1 << 20)
        assert client.peer.twin_socket is twin
        with pytest.raises(LocalProtocolError, match="REGION_WRITE_MULTI"):
            client.write_multi([(BAR2, 0, b"1")])


def test_one_client_after_another(no_leak: None) -> None:
    with launch.spawn(f"{GPIO} {{socket}}") as process:
        for _ in range(3):
            with Client.connect(process.connect()) as client:
                assert client.device_info().num_irqs == 5


# What the device is


def test_device_regions_and_interrupts(gpio: Client) -> None:
    info = gpio.device_info()
    assert (info.flags, info.num_regions, info.num_irqs) == (DeviceFlags.PCI | DeviceFlags.RESET, 9, 5)
    sizes = []
    for index in range(info.num_regions):
        with gpio.region_info(index) as region:
            assert (region.fd, region.capabilities) == (None, ())
            assert bool(region.size) == (region.reply.flags == RegionInfoFlags.READ | RegionInfoFlags.WRITE)
            sizes.append(region.size)
    assert sizes == [0, 0, 256, 0, 0, 0, 0, 256, 0]
    assert [gpio.irq_info(index).count for index in range(info.num_irqs)] == [1, 0, 0, 1, 1]
    assert gpio.irq_info(INTX).flags == IrqInfoFlags.EVENTFD
    with gpio.region_io_fds(BAR2) as io_fds:
        assert io_fds.sub_regions == ()
    for ask in (lambda: gpio.region_info(9), lambda: gpio.irq_info(5), lambda: gpio.region_io_fds(9, 256)):
        assert refusal(ask) == errno.EINVAL


# Accesses


def test_accesses_and_reset(gpio: Client) -> None:
    assert gpio.region_read(CONFIG, 0, 4) == bytes.fromhex("4f49c80d")
    gpio.region_write(CONFIG, 4, b"\3\0")
    assert gpio.region_read(CONFIG, 4, 2) == b"\3\0"
    gpio.region_write(BAR2, 0, b"\xa5")
    gpio.region_write(BAR2, 4, b"\x5a", no_reply=True)
    assert len(gpio.region_read(BAR2, 0, 8)) == 8
    assert refusal(lambda: gpio.region_read(BAR2, 250, 8)) == errno.EINVAL
    gpio.reset()


def test_many_commands_under_way(gpio: Client) -> None:
    pending = [gpio.send(Command.DEVICE_GET_INFO, DeviceGetInfoRequest()) for _ in range(200)]
    assert all(isinstance(gpio.wait(each).message.payload, DeviceGetInfoReply) for each in pending)


def test_tasks_share_a_connection(no_leak: None) -> None:
    async def work(process: launch.Process) -> None:
        async with aio.connect(process.connect()) as client:
            reads = [client.region_read(CONFIG, at, 2) for at in range(0, 64, 2)]
            assert b"".join(await asyncio.gather(*reads)).startswith(bytes.fromhex("4f49c80d"))
            await client.dma_map(IOVA, PAGE)
            await client.dma_unmap(IOVA, PAGE)

    with launch.spawn(f"{GPIO} {{socket}}") as process:
        asyncio.run(work(process))


# Interrupts


@pytest.mark.parametrize("index", [INTX, ERR, REQ])
def test_interrupts(gpio: Client, index: int) -> None:
    """An eventfd is set, signalled by a trigger with and without data, taken away."""
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        gpio.set_irqs(index, TRIGGER, eventfds=[fd])
        gpio.set_irqs(index, TRIGGER)
        gpio.set_irqs(index, TRIGGER, values=[True])
        assert os.eventfd_read(fd) == 2
        gpio.set_irqs(index, TRIGGER, values=[False])
        gpio.set_irqs(index, TRIGGER, eventfds=())
        gpio.set_irqs(index, TRIGGER, count=0)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(fd)
    finally:
        os.close(fd)
    for action in (IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK):
        gpio.set_irqs(INTX, action)
    assert refusal(lambda: gpio.set_irqs(index, TRIGGER, start=1)) == errno.EINVAL


# DMA


@pytest.fixture
def memory(no_leak: None) -> Iterator[int]:
    """64 pages in a file."""
    fd = os.memfd_create("memory", os.MFD_CLOEXEC)
    os.ftruncate(fd, 64 * PAGE)
    yield fd
    os.close(fd)


def test_memory_is_mapped_with_and_without_a_descriptor(gpio: Client, memory: int) -> None:
    """It refuses what overlaps with EINVAL, where the document has EEXIST."""
    gpio.dma_map(IOVA, 2 * PAGE, memory, offset=PAGE)
    gpio.dma_map(2 * IOVA, PAGE)
    assert refusal(lambda: gpio.dma_map(IOVA, PAGE, memory)) == errno.EINVAL
    gpio.dma_unmap(IOVA, 2 * PAGE)
    gpio.dma_unmap(2 * IOVA, PAGE)
    assert refusal(lambda: gpio.dma_unmap(2 * IOVA, PAGE)) == errno.ENOENT


def test_writes_to_memory_are_logged(gpio: Client, memory: int) -> None:
    """The card has no DMA: no page is ever written. Of memory without a descriptor it gives no report."""
    gpio.dma_map(IOVA, 64 * PAGE, memory)
    gpio.dma_map(0, PAGE)
    assert gpio.dma_logging_start(PAGE) == PAGE
    assert gpio.dma_logging_report(IOVA, 64 * PAGE, PAGE) == []
    assert refusal(lambda: gpio.dma_logging_report(0, PAGE)) == errno.EINVAL
    gpio.dma_logging_stop()
    gpio.dma_unmap(IOVA, 64 * PAGE)


# Features and migration


def test_features_are_probed(gpio: Client) -> None:
    """Of what it has, with the actions that it takes; all else is refused."""
    offered = {(1, GET), (2, GET), (2, SET), (6, SET), (7, SET), (8, GET)}
    for feature in range(1, 12):
        for action in (GET, SET):
            if (feature, action) in offered:
                gpio.device_feature(feature, action | PROBE)
            else:
                assert refusal(lambda: gpio.device_feature(feature, action | PROBE)) == errno.EINVAL  # noqa: B023


def test_the_device_is_saved(gpio: Client) -> None:
    """It gives 64 bytes while it runs, and nothing more when it has stopped.

    Its last reply has 64 stale bytes behind its own size, 0: our client says so, and is still in step.
    """
    assert gpio.migration_flags() == MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
    assert gpio.device_state() == DeviceState.RUNNING
    gpio.set_device_state(DeviceState.PRE_COPY)
    assert len(gpio.mig_data_read(64)) == 64
    gpio.set_device_state(DeviceState.STOP_COPY)
    with pytest.raises(RemoteProtocolError, match="64 bytes too many"):
        gpio.mig_data_read(64)
    assert refusal(gpio.device_info) == errno.EINVAL
    gpio.set_device_state(DeviceState.RUNNING)
    assert gpio.device_info().num_irqs == 5


def test_loading_reaches_the_device(gpio: Client) -> None:
    """It refuses any data: its own code takes none. The states are gone through all the same."""
    gpio.set_device_state(DeviceState.RESUMING)
    assert gpio.device_state() == DeviceState.RESUMING
    assert refusal(lambda: gpio.mig_data_write(bytes(64))) == errno.EINVAL
    gpio.set_device_state(DeviceState.STOP)
    assert refusal(lambda: gpio.device_feature(DeviceFeature.MIG_DEVICE_STATE, SET, bytes([99, *bytes(7)])))
    gpio.set_device_state(DeviceState.RUNNING)
    assert gpio.device_state() == DeviceState.RUNNING


# The server of a shadow ioeventfd


def test_sub_regions_of_the_shadow_server(shadow: Client) -> None:
    assert [shadow.irq_info(index).count for index in range(5)] == [0, 0, 0, 1, 1]
    with shadow.region_io_fds(BAR0) as io_fds:
        [record] = io_fds.sub_regions
        assert isinstance(record, ShadowIoeventfdSubRegion)
        assert (record.offset, record.size) == (0, 4)
        assert (io_fds.fd_of(record).kind, io_fds.shadow_of(record).kind) == ("eventfd", "memfd")
    shadow.region_write(BAR0, 0, b"abcd")
    assert shadow.region_read(BAR0, 0, 4) == bytes(4)
    assert refusal(lambda: shadow.device_feature(DeviceFeature.MIGRATION, GET)) == errno.EINVAL


def test_unmapping_where_there_is_no_dma(shadow: Client) -> None:
    """A device without DMA says yes to a mapping, and has no payload in the reply to its end: our client says so."""
    shadow.dma_map(IOVA, PAGE)
    with pytest.raises(RemoteProtocolError, match="4 bytes are due, 0 are there"):
        shadow.dma_unmap(IOVA, PAGE)
    assert shadow.device_info().num_regions == 9
