"""``vfio-user info`` and ``call``: what they print, and how they end when the server is not what it should be."""

import errno
import json
import os
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_server import EndOfSession, Fake
from serving import Serving

from vfio_user_proto import cli, unix
from vfio_user_proto import messages as m
from vfio_user_proto.device import Description, Device, IoFds, Irq, Region
from vfio_user_proto.devices import pci
from vfio_user_proto.devices.pci import ConfigSpace
from vfio_user_proto.messages import Command

pytestmark = pytest.mark.usefixtures("no_leak")
Capfd = pytest.CaptureFixture[str]
SERVE = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --socket-path {{socket}}"

TEXT = """\
version       0.2
capabilities  max_msg_fds 16, max_data_xfer_size 0x100000, max_dma_maps 65535, pgsizes 4096, twin_socket yes, write_multiple yes
device        PCI, 10 regions, 5 kinds of interrupts, can be reset
PCI           5646:5444, class ff0000 (unassigned), revision 00
              subsystem 5646:5444
              interrupt pin A
              BAR0: 32-bit memory at 0x0, 4096 bytes
              BAR2: 32-bit memory at 0x0, 16384 bytes
              BAR4: 32-bit memory at 0x0, 4096 bytes
              capability at 0x40: MSI-X (0x11), 4 vectors
regions
  0  BAR0    0x1000 bytes, READ|WRITE
  1  BAR1    -
  2  BAR2    0x4000 bytes, READ|WRITE|MMAP|CAPS
             mappable: 0x1000-0x1fff, 0x3000-0x3fff (memfd of 0x4000 bytes, from byte 0x0 on)
  3  BAR3    -
  4  BAR4    0x1000 bytes, READ|WRITE
             ioeventfd at 0x4, 4 bytes, descriptor 0 (eventfd), flags DATAMATCH
             ioregionfd at 0x100, 256 bytes, descriptor 1 (socket), flags POSTED_WRITES
  5  BAR5    -
  6  ROM     -
  7  config  0x100 bytes, READ|WRITE
  8  VGA     -
  9  own     0x1000 bytes, READ|CAPS
             type 0x8000, subtype 0x1
interrupts
  0  INTx    1, EVENTFD|MASKABLE|AUTOMASKED
  1  MSI     1, EVENTFD|MASKABLE
  2  MSI-X   4, EVENTFD|MASKABLE
  3  ERR     1, EVENTFD
  4  REQ     -
features
  DMA_LOGGING_START: set
  DMA_LOGGING_STOP: set
  DMA_LOGGING_REPORT: get
"""


class Card(Device):
    """A device of which every detail is known here."""

    def __init__(self) -> None:
        self.config = ConfigSpace(
            vendor=0x5646,
            device=0x5444,
            class_code=0xFF0000,
            bars={0: 4096, 2: 16384, 4: 4096},
            interrupt_pin=1,
            capabilities=[pci.msix(4, bar=0, table=0, pending=64)],
        )
        self.fd = os.memfd_create("card", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, 16384)
        self.doorbell = os.eventfd(0, os.EFD_CLOEXEC)
        self.sockets = socket.socketpair()
        areas = (m.SparseMmapArea(offset=0x1000, size=0x1000), m.SparseMmapArea(offset=0x3000, size=0x1000))
        sub_regions = (
            m.IoeventfdSubRegion(offset=4, size=4, flags=1, datamatch=0x5A),
            m.IoregionfdSubRegion(offset=256, size=256, fd_index=1, type=1, flags=2),
        )
        maskable = m.IrqInfoFlags.EVENTFD | m.IrqInfoFlags.MASKABLE
        self.description = Description(
            regions={
                0: Region(4096),
                2: Region(16384, fd=self.fd, areas=areas),
                4: Region(4096, io_fds=IoFds(sub_regions, (self.doorbell, self.sockets[0].fileno()))),
                7: Region(256),
                9: Region(4096, flags=m.RegionInfoFlags.READ, type=m.RegionType(type=0x8000, subtype=1)),
            },
            irqs={0: Irq(1, maskable | m.IrqInfoFlags.AUTOMASKED), 1: Irq(1, maskable), 2: Irq(4, maskable), 3: Irq(1)},
            num_regions=10,
        )

    def region_read(self, index: int, offset: int, count: int) -> bytes:
        return self.config.read(offset, count)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.doorbell)
        for sock in self.sockets:
            sock.close()


@contextmanager
def listening(path: Path, **options: Any) -> Iterator[None]:
    """A fake server at a path, for one client."""
    with unix.listen(path) as listener:

        def accept() -> None:
            fake = Fake(**options)
            fake.stream.close()
            fake._theirs.close()
            fake._theirs = unix.Stream(listener.accept()[0])
            fake._theirs.set_timeout(10)
            fake._run()

        thread = threading.Thread(target=accept)
        thread.start()
        yield
        thread.join(10)
        assert not thread.is_alive()


def test_info_of_a_server_at_a_path(capsys: Capfd) -> None:
    with Serving(Card) as serving:
        assert cli.main(["info", "--socket", serving.path]) == 0

    assert capsys.readouterr().out == TEXT


@pytest.mark.parametrize("arguments", [["info"], ["info", "--spawn", SERVE]], ids=["built-in", "spawned"])
def test_info_of_a_server_that_is_started(arguments: list[str], capsys: Capfd) -> None:
    """What runs then is the reference server with its test device."""
    assert cli.main(arguments) == 0
    assert "PCI           5646:5444, class ff0000 (unassigned), revision 00" in capsys.readouterr().out.splitlines()


def test_info_as_json(capsys: Capfd) -> None:
    with Serving(Card) as serving:
        assert cli.main(["info", "--socket", serving.path, "--json"]) == 0
        offer = json.loads(capsys.readouterr().out)

    assert set(offer) == {
        "version", "capabilities", "device", "regions", "irqs", "features", "config", "pci", "problems",
    }  # fmt: skip
    assert offer["version"] == {"major": 0, "minor": 2}
    assert offer["capabilities"]["max_msg_fds"] == 16
    assert offer["device"] == {"argsz": 16, "flags": "RESET|PCI", "num_regions": 10, "num_irqs": 5}
    assert offer["regions"][2]["fd"] == {"kind": "memfd", "size": 16384}
    assert offer["regions"][2]["capabilities"][0]["areas"][1] == {"offset": 0x3000, "size": 0x1000}
    assert offer["regions"][4]["sub_regions"][0]["datamatch"] == 0x5A
    assert [irq["count"] for irq in offer["irqs"]] == [1, 1, 4, 1, 0]
    assert (offer["pci"]["vendor"], offer["pci"]["capabilities"][0]["vectors"]) == (0x5646, 4)
    assert bytes.fromhex(offer["config"])[:2] == b"\x46\x56"
    assert offer["problems"] == []


def test_what_is_wrong_stands_where_it_belongs(tmp_path: Path, capsys: Capfd) -> None:
    """A region that contradicts itself, one without its descriptor, more regions than anyone has, a feature that fails."""

    def answer(event: Any) -> Any:
        request = event.message.payload
        if isinstance(request, m.DeviceGetInfoRequest):
            return m.DeviceGetInfoReply(num_regions=1000, num_irqs=1)
        if isinstance(request, m.DeviceGetRegionInfoRequest) and request.index < 2:
            flags = m.RegionInfoFlags.MMAP | m.RegionInfoFlags.READ
            return m.DeviceGetRegionInfoReply(index=0, size=4096, flags=flags)
        if isinstance(request, m.DeviceFeatureRequest) and int(request.flags) in (0x50001, 0x50002, 0x10002):
            return request.replace(data=bytes(8) if int(request.flags) == 0x10002 else b"")
        return errno.EINVAL

    with listening(tmp_path / "socket", answer=answer):
        assert cli.main(["info", "--socket", str(tmp_path / "socket")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "device        not PCI, 1000 regions, 1 kinds of interrupts, cannot be reset" in lines
    assert lines[lines.index("regions") + 1 :][:4] == [
        "  0  BAR0    0x1000 bytes, READ|MMAP",
        "             ! mappable, but no descriptor came",
        "             no sub-regions: VFIO_USER_DEVICE_GET_REGION_IO_FDS was refused with EINVAL",
        "  1  BAR1    ! DeviceGetRegionInfoReply.index is 0, 1 was asked for",
    ]
    assert lines[lines.index("interrupts") + 1 :] == [
        "  0  INTx    ! VFIO_USER_DEVICE_GET_IRQ_INFO was refused with EINVAL",
        "features",
        "  MIGRATION: get ! VFIO_USER_DEVICE_FEATURE was refused with EINVAL",
        "  MIG_DEVICE_STATE: get, device_state VFIO_DEVICE_STATE_ERROR, data_fd 0",
        "! 1000 regions, of which the first 64 are asked for",
    ]


def test_what_was_found_before_the_end_is_printed(tmp_path: Path, capsys: Capfd) -> None:
    def answer(event: Any) -> Any:
        if event.message.header.command == Command.DEVICE_GET_IRQ_INFO:
            raise EndOfSession
        return m.DeviceGetInfoReply(num_irqs=2) if event.message.header.command == Command.DEVICE_GET_INFO else 5

    path = tmp_path / "socket"
    with listening(path, answer=answer):
        assert cli.main(["info", "--socket", str(path)]) == 3
    output = capsys.readouterr()
    ended = "the connection has ended before VFIO_USER_DEVICE_GET_IRQ_INFO was done: the server closed it"
    assert output.out.endswith(f"  0  INTx    ! {ended}\n  1  MSI     not asked any more\n")
    assert output.err == f"vfio-user: {path}: {ended}\n"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("false {socket}", "false '{socket}': ended before it listened; exit status 1"),
        ("/no/such/program {socket}", "/no/such/program '{socket}': No such file or directory"),
        (
            f"{SERVE} --device nothing",
            "ended before it listened; exit status 2\n  vfio-user: no device 'nothing'",
        ),
    ],
)
def test_a_server_that_does_not_start(command: str, problem: str, capsys: Capfd) -> None:
    assert cli.main(["info", "--spawn", command]) == 3
    assert problem in capsys.readouterr().err


def test_a_server_that_dies_is_told_with_its_end(capsys: Capfd) -> None:
    """The process listens, takes one client, and kills itself with a signal."""
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
        "c = s.accept()[0]; c.recv(1); os.kill(os.getpid(), 11)"
    )
    assert cli.main(["info", "--spawn", f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} {{socket}}"]) == 3
    error = capsys.readouterr().err
    assert "before VFIO_USER_VERSION was done: the server closed it (killed by SIGSEGV)" in error
    assert error.count("\n") == 1


def test_a_path_without_server(tmp_path: Path, capsys: Capfd) -> None:
    assert cli.main(["info", "--socket", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err == f"vfio-user: {tmp_path}/none: No such file or directory\n"


@pytest.mark.parametrize("command", [["info"], ["call", "DEVICE_RESET"]])
def test_a_server_that_hangs_meets_the_deadline(command: list[str], tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "socket"
    with unix.listen(path):
        assert cli.main([*command, "--socket", str(path), "--timeout", "0.1"]) == 3
    assert capsys.readouterr().err == f"vfio-user: {path}: VFIO_USER_VERSION has no reply within 0.1 s\n"


def test_a_peer_that_speaks_something_else(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "socket"
    with listening(path, version=b"HTTP/1.1 400 Bad Request\r\n"):
        assert cli.main(["info", "--socket", str(path)]) == 3
    assert capsys.readouterr().err == (
        f"vfio-user: {path}: the message size is 825110831; 16 to 1052672 bytes are allowed\n"
    )


def test_a_refused_version(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "socket"
    with listening(path, version=errno.EPROTO):
        assert cli.main(["info", "--socket", str(path)]) == 3
    assert capsys.readouterr().err == f"vfio-user: {path}: VFIO_USER_VERSION was refused with EPROTO\n"


@pytest.mark.parametrize(
    "arguments",
    [["--timeout", "soon"], ["--timeout", "-1"], ["--timeout", "nan"], ["--socket", "a", "--spawn", "b"]],
)
def test_wrong_options(arguments: list[str], capsys: Capfd) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["info", *arguments])
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("; see vfio-user info --help\n")


# call


def test_call_prints_the_reply_and_its_descriptors(capsys: Capfd) -> None:
    with Serving(Card) as serving:
        arguments = ["call", "--socket", serving.path, "DEVICE_GET_REGION_INFO", '{"index": 2, "argsz": 80}']
        assert cli.main(arguments) == 0
        shown = capsys.readouterr().out.splitlines()
        assert cli.main([*arguments, "--json"]) == 0

    assert shown[0] == "VFIO_USER_DEVICE_GET_REGION_INFO reply, 96 bytes"
    assert shown[-1] == "  descriptor 0: memfd of 16384 bytes"
    reply = json.loads(capsys.readouterr().out)
    assert reply["payload"]["size"] == 16384
    assert reply["fds"] == [{"kind": "memfd", "size": 16384}]


def test_call_without_payload_and_by_number(capsys: Capfd) -> None:
    with Serving() as serving:
        assert cli.main(["call", "VFIO_USER_DEVICE_RESET", "--socket", serving.path]) == 0
        assert cli.main(["call", "4", "--socket", serving.path]) == 0
    assert "num_irqs" in capsys.readouterr().out


def test_a_refusal_is_status_1(capsys: Capfd) -> None:
    with Serving() as serving:
        assert cli.main(["call", "--socket", serving.path, "REGION_READ", '{"region": 77, "count": 4}']) == 1
        assert cli.main(["call", "--socket", serving.path, "4711"]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "vfio-user: VFIO_USER_REGION_READ was refused with EINVAL",
        "vfio-user: 4711 was refused with ENOTSUP",
    ]
    assert output.out == ""


def test_a_malformed_reply_is_shown_and_is_status_1(tmp_path: Path, capsys: Capfd) -> None:
    path = tmp_path / "socket"
    with listening(path, answer=lambda event: m.RegionReadReply(count=5)):
        assert cli.main(["call", "--socket", str(path), "REGION_READ"]) == 1
    assert "! VFIO_USER_REGION_READ reply.RegionReadReply.data at byte 32: 5 bytes are due" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["DEVICE_RESETT"], "'DEVICE_RESETT' is no name of Command; did you mean DEVICE_RESET?"),
        (["DMA_MAP", "{"], "the payload is not JSON: Expecting property name enclosed in double quotes"),
        (["DMA_MAP", '{"adress": 1}'], "adress: no such field; did you mean address?"),
        (["DMA_MAP", "5"], "the payload is not a JSON object"),
        (["DEVICE_RESET", '{"x": 1}'], "DEVICE_RESET has no payload"),
        (["DMA_READ"], "VFIO_USER_DMA_READ is not for the client to send"),
        (["65536"], "Header.command at byte 2: 65536 does not fit into 2 bytes"),
    ],
)
def test_a_command_that_cannot_be_sent_is_status_2(arguments: list[str], problem: str, capsys: Capfd) -> None:
    with Serving() as serving:
        assert cli.main(["call", "--socket", serving.path, *arguments]) == 2
    assert problem in capsys.readouterr().err
