# A virtual machine of QEMU's whose guest obeys: its console, its monitor, and the tools that tests/interop/setup has fetched.
import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CACHE = Path(os.environ.get("VFIO_USER_INTEROP_CACHE") or Path.home() / ".cache" / "vfio-user-interop")
# Seconds, of which those do not count in which QEMU wanted the processor and others had it. Emulation is slow; nothing
# waits that long where all is well.
PATIENCE = 120.0
# MiB of the guest, and an address in them beyond those that its kernel uses.
SIZE = 256
SPARE = 208 << 20
# The guest's memory: shared with the server, in small or in huge pages, or not, so that what the device reads and writes of
# it travels by message.
SHARED = "memory-backend-memfd,share=on"
HUGE = f"{SHARED},hugetlb=on,hugetlbsize=2M"
PRIVATE = "memory-backend-ram"


def unavailable() -> str | None:
    """Why there can be no machine; None where there can."""
    if os.environ.get("VFIO_USER_INTEROP") != "1":
        return "run make interop"
    if not (CACHE / "initramfs").exists():
        reason = CACHE / "unavailable"
        return reason.read_text().strip() if reason.exists() else f"tests/interop/setup has not filled {CACHE}"
    return None


def huge_pages_missing() -> str | None:
    """Why the memory of a machine cannot be ``HUGE``; None where it can."""
    free = int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text())
    return None if free >= SIZE // 2 else f"{free} huge pages of 2 MiB are free, {SIZE // 2} are needed"


class Line:
    """One end of a socket that carries text; waits end with it, or at a deadline that ``starved`` puts off."""

    def __init__(self, sock: socket.socket, starved: Callable[[], float] = lambda: 0.0) -> None:
        self.sock, self._starved = sock, starved
        self._text = ""  # what came and was not taken

    def send(self, text: str) -> None:
        self.sock.sendall(text.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The next match of ``pattern`` behind the one before; a line ends with a line feed, without the return before it."""
        deadline = time.monotonic() + PATIENCE - self._starved()
        while True:
            if found := re.search(pattern, self._text, re.MULTILINE):
                self._text = self._text[found.end() :]
                return found
            left = deadline + self._starved() - time.monotonic()
            ready = select.select([self.sock], [], [], max(0.0, left))[0]
            if not ready and left > 0:
                continue
            data = self.sock.recv(65536) if ready else b""
            if not data:
                why = "the line ended" if ready else f"nothing like it came within {PATIENCE:g} s"
                raise AssertionError(f"{pattern!r} was awaited, but {why}; what came:\n{self._text}")
            self._text += data.decode(errors="replace").replace("\r", "")


class Machine:
    """QEMU with a guest; ``run`` carries out a shell command in it. Used in a ``with`` statement.

    ``memory`` is one of ``SHARED``, ``HUGE`` and ``PRIVATE``.
    """

    def __init__(self, device: dict[str, Any], memory: str = SHARED) -> None:
        self._device, self._memory = json.dumps(device), memory

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        (console, theirs), (monitor, also_theirs) = socket.socketpair(), socket.socketpair()
        root = CACHE / "root" / "usr"
        with theirs, also_theirs:
            self._qemu = subprocess.Popen(
                [
                    *("nice", "-n", "10"),
                    # The emulator with the libraries that it was built for, whatever the host has.
                    *(root / "lib64" / "ld-linux-x86-64.so.2", "--library-path", root / "lib" / "x86_64-linux-gnu"),
                    *(root / "bin" / "qemu-system-x86_64", "-L", root / "share" / "qemu"),
                    *("-L", root / "share" / "seabios", "-nodefaults", "-display", "none", "-accel", "tcg"),
                    *("-object", f"{self._memory},id=ram,size={SIZE}M"),
                    *("-machine", "pc,memory-backend=ram"),
                    *("-kernel", CACHE / "vmlinuz", "-initrd", CACHE / "initramfs"),
                    *("-append", "console=ttyS0 quiet loglevel=0 panic=-1 mem=192M"),
                    *("-chardev", f"socket,id=console,fd={theirs.fileno()}", "-serial", "chardev:console"),
                    *("-chardev", f"socket,id=monitor,fd={also_theirs.fileno()}", "-qmp", "chardev:monitor"),
                    *("-device", self._device),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), also_theirs.fileno()),
            )
        self.console, self._monitor = Line(console, self._starved), Line(monitor, self._starved)
        self._answers: list[dict[str, Any]] = []
        try:
            self._monitor.wait_for(r'^\{"QMP".*$')
            self.command("qmp_capabilities")
            self.wait_booted()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._qemu.kill()
        self._qemu.wait()
        if kind is not None:
            print(self._printed())  # pytest shows it with the failure
        self.console.sock.close()
        self._monitor.sock.close()
        self._log.close()

    def wait_booted(self) -> None:
        """Wait until the guest takes commands."""
        self.console.wait_for("^### ready$")

    def run(self, command: str) -> str:
        """What a command that must succeed prints in the guest."""
        self.console.send(command + "\n")
        printed = self.console.wait_for(r"(?s)\A(.*?)^### (\d+)$")
        assert printed[2] == "0", f"{command}: status {printed[2]}\n{printed[1]}"
        return printed[1].strip()

    def command(self, name: str, **arguments: Any) -> Any:
        """A command for QEMU itself, which must succeed (QMP)."""
        self._monitor.send(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        answer = self._wait_for("return", "error")
        assert "return" in answer, f"{name}: {answer['error']['desc']}"
        return answer["return"]

    def wait_event(self, name: str) -> dict[str, Any]:
        """The next event of that name that QEMU tells of."""
        while True:
            event = self._wait_for("event")
            if event["event"] == name:
                return event

    def complaints(self) -> list[str]:
        """What QEMU printed, warnings aside: what its device does in the background is told nowhere else."""
        return [line for line in self._printed().splitlines() if " warning: " not in line]

    def _printed(self) -> str:
        return os.pread(self._log.fileno(), os.fstat(self._log.fileno()).st_size, 0).decode(errors="replace")

    def _starved(self) -> float:
        """How many seconds one of QEMU's threads has waited for a processor."""
        threads = Path(f"/proc/{self._qemu.pid}/task").glob("*/schedstat")
        waited = 0
        for each in threads:
            with suppress(OSError):  # a thread that has ended meanwhile
                waited = max(waited, int(each.read_text().split()[1]))
        return waited / 1e9

    def _wait_for(self, *keys: str) -> dict[str, Any]:
        """The oldest message of the monitor that has one of ``keys``; others are kept."""
        while True:
            for number, message in enumerate(self._answers):
                if not message.keys().isdisjoint(keys):
                    return self._answers.pop(number)
            self._answers.append(json.loads(self._monitor.wait_for(r"^\{.*\}$")[0]))
