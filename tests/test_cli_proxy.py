"""``vfio-user proxy`` and ``decode --pcapng``: what they record, print and say."""

import json
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from capture_files import packets
from commands import VFIO_USER, vfio_user
from serving import read_exactly

from vfio_user_proto import unix, wire
from vfio_user_proto.client import Client
from vfio_user_proto.trace import read_capture


@contextmanager
def proxy(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The running command; it listens at "socket" in the folder."""
    command = [*VFIO_USER, "proxy", "--listen", "socket", *arguments]
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "listening on socket\n"
            yield process
        finally:
            process.terminate()  # as its user does: it ends the server that it has started
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def look(folder: Path) -> None:
    """A short session."""
    with Client.connect(folder / "socket") as client, client.region_info(2):
        pass


def test_a_session_is_recorded_for_decode_and_for_wireshark_and_printed(tmp_path: Path) -> None:
    with proxy(tmp_path, "--write", "a.jsonl", "--write", "a.pcapng", "--print", "--once") as process:
        look(tmp_path)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert not (tmp_path / "socket").exists()
    messages = read_capture(tmp_path / "a.jsonl").messages
    assert [each.sender for each in messages] == ["client", "server"] * 3
    assert [each.fd_count for each in messages] == [0, 1, 0, 0, 0, 1]
    assert messages[-1].fds == ({"kind": "memfd", "size": 16384},)
    recorded = list(packets((tmp_path / "a.pcapng").read_bytes()))
    assert [data[4:] for _, _, data, _ in recorded] == [each.data for each in messages]
    assert [data[:2] for _, _, data, _ in recorded] == [b"\0\0", b"\1\1", b"\0\0", b"\1\0", b"\0\0", b"\1\1"]
    assert out.startswith("socket 0: from client, after ")
    assert out.count("VFIO_USER_DEVICE_GET_REGION_INFO reply") == 2
    decoded = vfio_user("decode", "a.jsonl", cwd=tmp_path)
    assert decoded.returncode == 0
    assert '{"kind": "memfd", "size": 16384}' in decoded.stdout


def test_it_serves_until_a_signal_and_the_file_can_be_read_meanwhile(tmp_path: Path) -> None:
    with proxy(tmp_path, "--write", "a.jsonl") as process:
        for count in (6, 12):
            look(tmp_path)
            assert len(read_capture(tmp_path / "a.jsonl").messages) == count
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not (tmp_path / "socket").exists()


def test_a_server_of_a_path_and_one_that_is_started(tmp_path: Path) -> None:
    server = f"{shlex.quote(sys.executable)} -m vfio_user_proto serve --socket-path {{socket}} --device minimal"
    with proxy(tmp_path, "--spawn", server) as process, Client.connect(tmp_path / "socket") as client:
        assert client.irq_info(2).count == 1
        (started,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert not Path(f"/proc/{started}").exists()
    with unix.listen(tmp_path / "server") as listener, proxy(tmp_path, "--socket", "server"):
        client_end = unix.connect(tmp_path / "socket")
        server_end = unix.Stream(listener.accept()[0])
        server_end.set_timeout(10)
        client_end.write(b"not a message at all")
        assert read_exactly(server_end, 20) == b"not a message at all"
        client_end.close()
        server_end.close()


def test_a_server_that_is_not_there_is_said_in_one_sentence(tmp_path: Path) -> None:
    nowhere = "nowhere: No such file or directory"
    with proxy(tmp_path, "--socket", "nowhere", "--once") as process:
        stream = unix.connect(tmp_path / "socket")
        stream.set_timeout(10)
        assert stream.read(1) == (b"", [])
        stream.close()
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (3, "", f"vfio-user: a client was turned away: {nowhere}\n")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--write", "/no/such/folder/x"], 2, "/no/such/folder/x: No such file or directory"),
        (["--write", "/dev/full", "--write", "x.pcapng", "--spawn", "false {socket}"], 3, "false '{socket}': ended"),
        (["--write", "/dev/full/x.pcapng"], 2, "/dev/full/x.pcapng: Not a directory"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    tmp_path: Path, arguments: list[str], status: int, sentence: str
) -> None:
    end = vfio_user("proxy", "--listen", "socket", *arguments, cwd=tmp_path)
    assert (end.returncode, end.stdout) == (status, "")
    assert end.stderr.startswith(f"vfio-user: {sentence}")
    assert "Traceback" not in end.stderr


def test_a_full_disk_ends_it(tmp_path: Path) -> None:
    with proxy(tmp_path, "--write", "/dev/full") as process:
        stream = unix.connect(tmp_path / "socket")
        stream.write(wire.build(2))
        _, err = process.communicate(timeout=20)
        stream.close()
    assert (process.returncode, err) == (2, "vfio-user: /dev/full: No space left on device\n")


def test_a_file_that_takes_only_a_part_ends_it(tmp_path: Path) -> None:
    with proxy(tmp_path, "--write", "a.jsonl") as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20, 20))
        stream = unix.connect(tmp_path / "socket")
        stream.write(wire.build(2))
        _, err = process.communicate(timeout=20)
        stream.close()
    assert (process.returncode, err) == (2, "vfio-user: a.jsonl: File too large\n")


def test_a_capture_becomes_a_file_for_wireshark(tmp_path: Path) -> None:
    lines = [
        {"vfio-user-evidence": 1},
        {"from": "server", "hex": wire.build(7).hex(), "fds": 2, "t": 1.5},
        {"from": "client", "hex": "00ff"},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    end = vfio_user("decode", "a.jsonl", "--pcapng", "a.pcapng", cwd=tmp_path)
    assert (end.returncode, end.stdout, end.stderr) == (0, "", "a.pcapng: 2 messages\n")
    first, second = packets((tmp_path / "a.pcapng").read_bytes())
    assert first[0] == 1_500_000
    assert first[2] == b"\1\2\0\0" + wire.build(7)
    assert second[2] == b"\0\0\0\0\x00\xff"


def test_what_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"from": "nobody"}\n')
    end = vfio_user("decode", "a.jsonl", "--pcapng", "a.pcapng", cwd=tmp_path)
    assert end.returncode == 2
    assert end.stderr.startswith('vfio-user: a.jsonl:1: "from" is neither')
    end = vfio_user("decode", "--pcapng", "a.pcapng", cwd=tmp_path)
    assert (end.returncode, end.stderr) == (2, "vfio-user: nothing to decode: the input is empty\n")
    assert not (tmp_path / "a.pcapng").exists()
    (tmp_path / "b.jsonl").write_text(json.dumps({"from": "client", "hex": "00", "t": 1e300}) + "\n")
    end = vfio_user("decode", "b.jsonl", "--pcapng", "b.pcapng", cwd=tmp_path)
    assert (end.returncode, end.stderr) == (2, 'vfio-user: b.jsonl:1: "t" is not a number of seconds\n')
    end = vfio_user("decode", "00", "--draft", "region-io-fds-rfc", "--pcapng", "b.pcapng", cwd=tmp_path)
    assert (end.returncode, end.stderr.count("\n")) == (2, 1)
    end = vfio_user("decode", "00", "--pcapng", "/no/such/folder", cwd=tmp_path)
    assert (end.returncode, end.stderr) == (2, "vfio-user: /no/such/folder: No such file or directory\n")
