"""The built-in client's session: everything that a client can do to the test device, once."""

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

from vfio_user_proto import unix
from vfio_user_proto.client import Client, MemoryMap
from vfio_user_proto.devices import testdev
from vfio_user_proto.errors import ErrorReply, VfioUserError
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceState,
    FeatureDmaLoggingReport,
    FeatureDmaLoggingStart,
    FeatureMigDeviceState,
    IrqInfoFlags,
    IrqSetFlags,
    PciIrq,
    PciRegion,
)

_GET, _SET, _PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
_MASK, _UNMASK, _TRIGGER = IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK, IrqSetFlags.ACTION_TRIGGER
# Memory that the server asks for by message, memory in a file, and memory that the client announces and then refuses.
_MESSAGES, _FILE, _REFUSED = 0x10_0000, 0x20_0000, 0x30_0000
_SIZE: Final = 0x2000

# Makes a client of a connected stream, as ``Client.connect`` does.
Connect = Callable[..., Client]


def walk(
    stream: unix.Stream, connect: Connect = Client.connect, *, stubborn: bool = False, timeout: float = 5.0
) -> None:
    """Use the test device at the other end of ``stream``. Raises VfioUserError.

    With ``stubborn`` what the server does not let pass is passed over: a client with a fault goes on as far as it can.
    """
    memory = MemoryMap()
    memory.add(_MESSAGES, bytearray(_SIZE))
    try:
        client = connect(stream, memory=memory, timeout=timeout)
    except VfioUserError:
        if stubborn:
            return
        raise
    with client:
        for step in (_look, _access, _map, _dma, _interrupts, _features, _unmap, Client.reset):
            with suppress(*[VfioUserError] if stubborn else []):
                step(client)


def _look(client: Client) -> None:
    info = client.device_info()
    for index in range(info.num_regions):
        client.region_info(index).close()
    client.region_io_fds(PciRegion.BAR4).close()
    for index in range(info.num_irqs):
        client.irq_info(index)


def _access(client: Client) -> None:
    client.region_read(PciRegion.CONFIG, 0, 64)
    client.region_write(PciRegion.BAR0, testdev.SCRATCH, b"witness")
    client.region_write(PciRegion.BAR0, testdev.SCRATCH, b"silent", no_reply=True)
    if client.peer.write_multiple:
        client.write_multi([(PciRegion.BAR0, testdev.SCRATCH + 8 * number, b"several") for number in range(3)])
    client.region_read(testdev.RAM, 0, 3 << 19)


def _map(client: Client) -> None:
    client.dma_map(_MESSAGES, _SIZE)
    client.dma_map(_REFUSED, _SIZE)
    fd = os.memfd_create("client memory", os.MFD_CLOEXEC)
    try:
        os.ftruncate(fd, _SIZE)
        client.dma_map(_FILE, _SIZE, fd)
    finally:
        os.close(fd)


def _dma(client: Client) -> None:
    for address in (_FILE, _MESSAGES, _REFUSED):
        for operation in (1, 2):
            for register, value, size in (
                (testdev.ADDRESS, address, 8),
                (testdev.LENGTH, _SIZE // 2, 4),
                (testdev.GO, operation, 4),
            ):
                client.region_write(PciRegion.BAR0, register, value.to_bytes(size, "little"))


def _interrupts(client: Client) -> None:
    count = client.irq_info(PciIrq.MSIX).count
    with ExitStack() as opened:
        eventfds = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(count)]
        opened.callback(unix.close_all, eventfds)
        client.set_irqs(PciIrq.MSIX, _TRIGGER, eventfds=eventfds)
        client.set_irqs(PciIrq.MSIX, _TRIGGER, values=[True, False])
        client.set_irqs(PciIrq.MSIX, _MASK, start=1)
        client.set_irqs(PciIrq.MSIX, _UNMASK, start=1)
        client.set_irqs(PciIrq.MSIX, _TRIGGER, start=2, count=2, eventfds=())
        client.set_irqs(PciIrq.MSIX, _TRIGGER, count=0)
        if client.irq_info(PciIrq.INTX).flags & IrqInfoFlags.EVENTFD:
            client.set_irqs(PciIrq.INTX, _TRIGGER, eventfds=eventfds[:1])
            client.set_irqs(PciIrq.INTX, _TRIGGER, count=0)


def _features(client: Client) -> None:
    """Ask for what a device may lack: a refusal is no matter."""
    start = FeatureDmaLoggingStart(page_size=4096)
    report = FeatureDmaLoggingReport(iova=_FILE, length=_SIZE, page_size=4096)
    for feature, action, data in (
        (DeviceFeature.MIGRATION, _PROBE | _GET, b""),
        (DeviceFeature.MIGRATION, _GET, b""),
        (DeviceFeature.DMA_LOGGING_START, _SET, start),
        (DeviceFeature.DMA_LOGGING_REPORT, _GET, report),
        (DeviceFeature.DMA_LOGGING_STOP, _SET, b""),
    ):
        with suppress(ErrorReply):
            client.device_feature(feature, action, data)
    with suppress(ErrorReply):
        _migrate(client)


def _migrate(client: Client) -> None:
    """Take the device's state, to its end, and give it back."""

    def enter(state: DeviceState) -> None:
        client.device_feature(DeviceFeature.MIG_DEVICE_STATE, _SET, FeatureMigDeviceState(device_state=state))

    enter(DeviceState.STOP_COPY)
    parts = list(iter(lambda: client.mig_data_read(1 << 20), b""))
    enter(DeviceState.RESUMING)
    for part in parts:
        client.mig_data_write(part)
    enter(DeviceState.RUNNING)


def _unmap(client: Client) -> None:
    for address in (_FILE, _REFUSED, _MESSAGES):
        client.dma_unmap(address, _SIZE)
