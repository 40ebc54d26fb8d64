# QEMU as a client, judged by the server that it uses: booting, resetting and refusing DMA commands it breaks no rule but one.
import contextlib
import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import machine
import pytest
from machine import Machine

from vfio_user_proto.devices import testdev

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(machine.unavailable() is not None, reason=str(machine.unavailable())),
]


# Where configuration space, read through sysfs, has the command register, and all that it can switch on there.
COMMAND, ALL_ON = 4, "\\007"


@contextlib.contextmanager
def judged(tmp_path: Path, device: str, *options: str, memory: str = machine.SHARED) -> Iterator[Machine]:
    """A machine with a card that the witness serves; it must conform, known findings aside. Its report is ``tmp_path/json``."""
    path = tmp_path / "socket"
    words = ["conformance", "client", "--listen", str(path), "--profile", "qemu-11.1-client", "--device", device]
    words += ["--json", str(tmp_path / "json"), *options]
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_user_proto", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as judge:
        try:
            assert judge.stderr is not None
            assert judge.stderr.readline().startswith(b"listening")
            plugged = {"driver": "vfio-user-pci", "id": "card", "socket": {"type": "unix", "path": str(path)}}
            with Machine(plugged, memory) as guest:
                yield guest
            told, _ = judge.communicate(timeout=machine.PATIENCE)
        finally:
            judge.kill()
    assert (judge.returncode, told.decode().splitlines()[-1].partition(";")[0]) == (0, "conforming"), told.decode()


@pytest.mark.parametrize("device", ["testdev", "gpio"])
def test_qemu_conforms_while_its_guest_boots_twice(device: str, tmp_path: Path) -> None:
    with judged(tmp_path, device, "--allow", "dma") as guest:
        guest.command("system_reset")
        guest.wait_booted()


@pytest.mark.parametrize("operation", [1, 2])
def test_qemu_answers_no_dma_command_while_its_guest_waits_for_a_register(operation: int, tmp_path: Path) -> None:
    """The finding in the profile: memory that is not shared, and a write to a register that makes the device do DMA."""
    with judged(tmp_path, "testdev", memory=machine.PRIVATE) as guest:
        card = Path("/sys/bus/pci/devices/0000:00:02.0")
        guest.run(f"echo 1 > {card}/enable")
        guest.run(f"printf '{ALL_ON}' | dd of={card}/config bs=1 seek={COMMAND} conv=notrunc 2>/dev/null")
        bar0 = int(guest.run(f"head -1 {card}/resource").split()[0], 16)
        for register, value in ((testdev.ADDRESS, machine.SPARE), (testdev.LENGTH, 64), (testdev.GO, operation)):
            guest.run(f"devmem {bar0 + register:#x} 32 {value:#x}")
        assert int(guest.run(f"devmem {bar0 + testdev.STATUS:#x} 32"), 16) == 2
        assert int(guest.run(f"devmem {bar0 + testdev.ERRNO:#x} 32"), 16) == errno.ETIMEDOUT
    report = json.loads((tmp_path / "json").read_text())
    assert [each["id"] for each in report["results"] if each["outcome"] == "fail"] == ["reply/no-stall"]
