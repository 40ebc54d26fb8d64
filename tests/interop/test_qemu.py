# QEMU's vfio-user-pci uses our devices: Linux in the guest drives them, and QEMU resets, unplugs and reconnects them.
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import machine
import pytest
from machine import Line, Machine

from vfio_user_proto import launch, unix
from vfio_user_proto.devices import testdev
from vfio_user_proto.devices.testdev import pattern

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(machine.unavailable() is not None, reason=str(machine.unavailable())),
]

Serve = Callable[..., launch.Process]
CARD = "0000:00:02.0"  # where the only PCI device that we add is found
INPUTS = " ".join(f"IIN{number}" for number in range(16))


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts reference servers; at the end those that were not stopped must still run, and none may have complained."""
    with ExitStack() as started:
        servers: list[launch.Process] = []

        def start(*options: str) -> launch.Process:
            server = started.enter_context(launch.builtin(options))
            server.connect().close()
            servers.append(server)
            return server

        yield start
        for server in servers:
            assert server.stderr() == f"listening on {server.path}\n"
            assert server.stopped or server.exit_text() == "still running"


def plugged(server: launch.Process) -> dict[str, Any]:
    """The device behind a server, for QEMU."""
    return {"driver": "vfio-user-pci", "id": "card", "socket": {"type": "unix", "path": server.path}}


def bound_driver(guest: Machine) -> str:
    """The name of the driver that has taken the card."""
    return Path(guest.run(f"readlink /sys/bus/pci/devices/{CARD}/driver")).name


def high_inputs(guest: Machine) -> set[int]:
    """Which inputs of the GPIO card are high, as the guest's driver reads them."""
    levels = guest.run(f"gpioget --numeric {INPUTS}").split()
    assert len(levels) == 16
    return {number for number, level in enumerate(levels) if level == "1"}


def interrupts(guest: Machine, name: str) -> int:
    """How many interrupts the guest has taken on the line that the card shares with nobody."""
    return int(guest.run(f"awk '/IO-APIC.* {name}$/ {{print $2}}' /proc/interrupts"))


def changed(guest: Machine, command: str) -> set[str]:
    """The events that the lines of the card bring to a program in the guest that waits for them, when ``command`` is run.

    The driver tells every line when any has changed.
    """
    guest.run(f"gpiomon --num-events=16 --format='%S %E %l' {INPUTS} > /events &")
    guest.run("until [ $(grep -c gpiomon /proc/interrupts) = 16 ]; do :; done")
    guest.run(command)
    guest.run("wait")
    return {event.split(maxsplit=1)[1] for event in guest.run("cat /events").splitlines()}


def test_driver_writes_lines_reads_them_back_and_takes_the_interrupt(serve: Serve) -> None:
    with Machine(plugged(serve("--device", "gpio"))) as guest:
        assert bound_driver(guest) == "pci-idio-16"
        assert high_inputs(guest) == set()
        guest.run("gpioset --toggle 0 OUT0=1 OUT9=1 OUT15=1")
        assert high_inputs(guest) == {0, 9, 15}
        guest.run("gpioset --toggle 0 OUT9=0")
        assert high_inputs(guest) == {0, 15}

        before = interrupts(guest, CARD)
        assert "rising IIN3" in changed(guest, "gpioset --toggle 0 OUT3=1")
        after = interrupts(guest, CARD)
        assert after > before
        assert "falling IIN3" in changed(guest, "gpioset --toggle 0 OUT3=0")
        assert interrupts(guest, CARD) > after
        assert guest.complaints() == []


def test_serial_port_is_a_terminal_of_the_guest(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "terminal"
    with (
        Machine(plugged(serve("--device", "serial", "--terminal", str(path)))) as guest,
        unix.connect(path).socket as sock,
    ):
        assert bound_driver(guest) == "serial"
        port = guest.run(f"cd /sys/bus/pci/devices/{CARD}; basename $(find . -name 'ttyS*')")
        terminal = Line(sock)
        guest.run(f"echo good morning > /dev/{port}")
        terminal.wait_for("^good morning$")

        guest.run(f"setsid sh -c 'exec sh -i </dev/{port} >/dev/{port} 2>&1' &")
        terminal.wait_for("# ")
        before = interrupts(guest, port)
        terminal.send("echo $((6 * 7))\n")
        terminal.wait_for("^42$")
        text = "".join(f"line {number}\n" for number in range(200))
        terminal.send("echo go; cat > /received\n")
        terminal.wait_for("^go$")
        terminal.send(f"{text}\x04")
        terminal.wait_for("# ")
        terminal.send("md5sum /received\n")
        terminal.wait_for(f"^{hashlib.md5(text.encode()).hexdigest()}  /received$")
        assert interrupts(guest, port) > before
        assert guest.complaints() == []


@pytest.mark.parametrize("memory", [machine.SHARED, machine.HUGE])
def test_guest_memory_is_read_and_written_and_mapped_registers_are_shared(serve: Serve, memory: str) -> None:
    """The guest drives the DMA engine by hand, on memory that its kernel was told to leave alone (``machine.SPARE``)."""
    if memory == machine.HUGE and (reason := machine.huge_pages_missing()):
        pytest.skip(reason)
    with Machine(plugged(serve("--device", "testdev")), memory) as guest:
        guest.run(f"echo 1 > /sys/bus/pci/devices/{CARD}/enable")
        bars = [
            int(line.split()[0], 16) for line in guest.run(f"cat /sys/bus/pci/devices/{CARD}/resource").splitlines()
        ]

        def peek(address: int) -> int:
            return int(guest.run(f"devmem {address:#x} 32"), 16)

        def poke(address: int, value: int) -> None:
            guest.run(f"devmem {address:#x} 32 {value:#x}")

        assert peek(bars[0]) == int.from_bytes(b"VTFD", "little")
        poke(bars[0] + testdev.ADDRESS, machine.SPARE)
        poke(bars[0] + testdev.LENGTH, 4096)
        poke(bars[0] + testdev.GO, 1)
        assert (peek(bars[0] + testdev.STATUS), peek(bars[0] + testdev.ERRNO)) == (1, 0)
        for offset in (0, 4092):
            assert peek(machine.SPARE + offset).to_bytes(4, "little") == pattern(4096, 3)[offset : offset + 4]
        sum_before = peek(bars[0] + testdev.CRC)
        poke(bars[0] + testdev.GO, 2)
        assert peek(bars[0] + testdev.CRC) == sum_before
        poke(machine.SPARE + 4092, 0)
        poke(bars[0] + testdev.GO, 2)
        assert peek(bars[0] + testdev.STATUS) == 1
        assert peek(bars[0] + testdev.CRC) != sum_before
        # One of the areas that QEMU maps, and one that takes a message.
        for offset in (0x1000, 0x2000):
            poke(bars[2] + offset, 0x12345678)
            assert peek(bars[2] + offset) == 0x12345678
        assert guest.complaints() == []


def test_reset_of_the_machine_resets_the_card(serve: Serve) -> None:
    with Machine(plugged(serve("--device", "gpio"))) as guest:
        changed(guest, "gpioset --toggle 0 OUT0=1 OUT9=1")
        assert high_inputs(guest) == {0, 9}
        guest.command("system_reset")
        guest.wait_booted()
        assert high_inputs(guest) == set()
        assert "rising IIN0" in changed(guest, "gpioset --toggle 0 OUT0=1")


def test_card_is_unplugged_and_plugged_in_again_also_when_its_server_died(serve: Serve) -> None:
    first, second = serve("--device", "gpio"), serve("--device", "gpio")
    with Machine(plugged(first)) as guest:

        def unplug() -> None:
            guest.command("device_del", id="card")
            while guest.wait_event("DEVICE_DELETED")["data"].get("device") != "card":
                pass
            assert CARD not in guest.run("ls /sys/bus/pci/devices")

        def plug(server: launch.Process) -> None:
            guest.command("device_add", **plugged(server))
            guest.run("until gpioget IIN0 >/dev/null 2>&1; do :; done")
            assert high_inputs(guest) == set()
            assert "rising IIN5" in changed(guest, "gpioset --toggle 0 OUT5=1")

        guest.run("gpioset --toggle 0 OUT0=1")
        unplug()
        plug(first)
        first.stop()
        unplug()
        plug(second)


def test_next_machine_finds_the_card_after_one_that_was_killed(serve: Serve) -> None:
    server = serve("--device", "gpio")
    for _ in range(2):
        with Machine(plugged(server)) as guest:
            assert high_inputs(guest) == set()
            guest.run("gpioset --toggle 0 OUT0=1")
            assert high_inputs(guest) == {0}


def test_migration_takes_the_state_of_the_device_along(serve: Serve) -> None:
    with Machine(plugged(serve("--device", "testdev"))) as guest:
        guest.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        guest.command("migrate", uri="exec:cat >/dev/null")
        while (status := guest.wait_event("MIGRATION")["data"]["status"]) != "completed":
            assert status != "failed"
        if not guest.command("query-migrate").get("vfio", {}).get("transferred"):
            version = guest.command("query-version")["package"]
            pytest.xfail(f"vfio-user-pci of QEMU {version} leaves the state of the device behind")
