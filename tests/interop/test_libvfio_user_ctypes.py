# The test device behind libvfio-user: what its samples cannot show, used by our client and judged by the suite.
import os
import shlex
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfio_user_proto import launch
from vfio_user_proto.client import Client, MemoryMap
from vfio_user_proto.devices import testdev
from vfio_user_proto.devices.pci import BAR0, BAR2, CONFIG, MSIX
from vfio_user_proto.messages import (
    Command,
    DeviceState,
    IrqSetFlags,
    MigDataReadReply,
    MigDataReadRequest,
    MigrationFlags,
)

VARIABLE = "LIBVFIO_USER"
LIBRARY = os.environ.get(VARIABLE, "")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.usefixtures("no_leak"),
    pytest.mark.skipif(not LIBRARY, reason=f"{VARIABLE} does not name a built libvfio-user.so"),
]
PROGRAM = [sys.executable, "-m", "vfio_user_conformance.peers.libvfio_user"]
COMMAND = shlex.join([*PROGRAM, "--libvfio-user", LIBRARY, "--socket-path", "{socket}"])
K = 4096
PART = 1 << 16  # the library takes a payload with one recv(): a larger one would come in pieces, and be refused
IOVA = 0x100000


@pytest.fixture
def memory() -> MemoryMap:
    return MemoryMap()


@pytest.fixture(params=["", "--dma-by-message"], ids=["direct", "by-message"])
def client(request: pytest.FixtureRequest, memory: MemoryMap) -> Iterator[Client]:
    with (
        launch.spawn(f"{COMMAND} {request.param}") as process,
        Client.connect(process.connect(), memory=memory) as made,
    ):
        yield made
        assert process.poll() is None, process.exit_text()


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("client memory")
    os.ftruncate(fd, 4 * K)
    yield fd
    os.close(fd)


def transfer(client: Client, operation: int, address: int, length: int) -> tuple[int, int]:
    """Have the device move bytes; returns its status and the CRC-32 of the bytes."""
    client.region_write(BAR0, testdev.ADDRESS, address.to_bytes(8, "little"))
    client.region_write(BAR0, testdev.LENGTH, length.to_bytes(4, "little"))
    client.region_write(BAR0, testdev.GO, operation.to_bytes(4, "little"))
    status, crc = (client.region_read(BAR0, at, 4) for at in (testdev.STATUS, testdev.CRC))
    return int.from_bytes(status, "little"), int.from_bytes(crc, "little")


def drain(client: Client) -> Iterator[bytes]:
    """The migration data that can be read now; the library fills each reply up to what was asked for."""
    while True:
        reply = client.wait(client.send(Command.MIG_DATA_READ, MigDataReadRequest(argsz=8 + PART, size=PART)))
        reply.close()
        payload = reply.message.payload
        assert isinstance(payload, MigDataReadReply)
        if not payload.data:
            return
        yield payload.data


def test_the_device_writes_and_reads_memory_across_two_mappings(client: Client, memory: MemoryMap, file: int) -> None:
    for page in range(2):
        client.dma_map(IOVA + page * K, K, file, offset=page * K)
        memory.add(IOVA + page * K, file, K, offset=page * K)
    wanted = testdev.pattern(K, 3)

    written = transfer(client, 1, IOVA + K // 2, K)
    read = transfer(client, 2, IOVA + K // 2, K)

    assert written == read == (1, zlib.crc32(wanted))
    assert os.pread(file, K, K // 2) == wanted
    assert transfer(client, 1, IOVA + K, 2 * K)[0] == 2, "half of it is not mapped"


def test_memory_without_descriptor_is_asked_for(client: Client, memory: MemoryMap) -> None:
    ours = bytearray(K)
    memory.add(IOVA, ours)
    client.dma_map(IOVA, K)

    assert transfer(client, 1, IOVA, K) == (1, zlib.crc32(testdev.pattern(K, 3)))
    assert ours == testdev.pattern(K, 3)


def test_each_vector_raises_its_own_eventfd(client: Client) -> None:
    bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
    try:
        client.set_irqs(MSIX, IrqSetFlags.ACTION_TRIGGER, eventfds=bells)
        for vector in (2, 0, 2):
            client.region_write(BAR0, testdev.RAISE, (MSIX << 16 | vector).to_bytes(4, "little"))
        assert [os.eventfd_read(bells[vector]) for vector in (0, 2)] == [1, 2]
        with pytest.raises(BlockingIOError):
            os.eventfd_read(bells[1])
    finally:
        for bell in bells:
            os.close(bell)


def test_mapped_areas_are_the_bytes_of_the_region(client: Client) -> None:
    with client.region_info(BAR2) as info:
        assert [(area.offset, area.size) for area in info.areas or ()] == [(K, K), (3 * K, K)]
        assert info.fd is not None
        os.pwrite(info.fd.fileno(), b"mapped", 3 * K)

    assert client.region_read(BAR2, 3 * K, 6) == b"mapped"


def test_configuration_space_is_the_librarys_with_our_capabilities(client: Client) -> None:
    config = client.region_read(CONFIG, 0, 256)

    assert config[0:4] == b"\x46\x56\x44\x54"
    assert (config[0x40], config[config[0x41]]) == (0x11, 0x05), "MSI-X, then MSI"


@pytest.mark.parametrize("state", [DeviceState.PRE_COPY, DeviceState.STOP_COPY])
def test_its_state_goes_to_another(client: Client, state: DeviceState) -> None:
    assert client.migration_flags() == MigrationFlags.STOP_COPY | MigrationFlags.PRE_COPY
    client.region_write(BAR0, testdev.SCRATCH, b"first")
    client.set_device_state(state)
    if state == DeviceState.PRE_COPY:
        data = list(drain(client))
        client.region_write(BAR0, testdev.SCRATCH, b"later")
        client.set_device_state(DeviceState.STOP_COPY)
    else:
        data = []
    data += drain(client)
    with launch.spawn(COMMAND) as process, Client.connect(process.connect()) as other:
        other.set_device_state(DeviceState.RESUMING)
        other.write_migration_data(data)
        other.set_device_state(DeviceState.RUNNING)
        assert other.region_read(BAR0, testdev.SCRATCH, 5) == (b"first" if state == DeviceState.STOP_COPY else b"later")


def test_the_log_shows_the_pages_that_were_written(client: Client, file: int, request: pytest.FixtureRequest) -> None:
    if "by-message" in request.node.name:
        pytest.skip("the library does not log what it writes by message")
    client.dma_map(IOVA, 4 * K, file)
    client.dma_logging_start()
    transfer(client, 1, IOVA + K, K + 1)

    assert client.dma_logging_report(IOVA, 4 * K) == [IOVA + K, IOVA + 2 * K]


def test_nothing_is_found_that_is_not_known(tmp_path: Path) -> None:
    """The whole suite; the target file has a reason for each finding, in the version and with the options that it names."""
    words = ["conformance", "server", "-j", "2", "--profile", "libvfio-user-ctypes", "--spawn", COMMAND]
    done = subprocess.run(
        [sys.executable, "-m", "vfio_user_proto", *words], capture_output=True, text=True, cwd=tmp_path
    )

    assert (done.returncode, done.stdout.splitlines()[-1].partition(";")[0]) == (0, "conforming"), done.stdout
