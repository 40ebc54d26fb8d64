# QEMU as a client, judged by the server that it uses: booting, resetting and refusing DMA commands it breaks no rule.
import subprocess
import sys
from pathlib import Path

import machine
import pytest
from machine import Machine

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(machine.unavailable() is not None, reason=str(machine.unavailable())),
]


@pytest.mark.parametrize("device", ["testdev", "gpio"])
def test_qemu_conforms_while_its_guest_boots_twice(device: str, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    words = ["conformance", "client", "--listen", str(path), "--profile", "qemu-11.1-client"]
    words += ["--device", device, "--allow", "dma"]
    with subprocess.Popen(
        [sys.executable, "-m", "vfio_user_proto", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as judge:
        try:
            assert judge.stderr is not None
            assert judge.stderr.readline().startswith(b"listening")
            plugged = {"driver": "vfio-user-pci", "id": "card", "socket": {"type": "unix", "path": str(path)}}
            with Machine(plugged) as guest:
                guest.command("system_reset")
                guest.wait_booted()
            told, _ = judge.communicate(timeout=machine.PATIENCE)
        finally:
            judge.kill()
    assert (judge.returncode, told.decode().splitlines()[-1]) == (0, "conforming"), told.decode()
