# Sockets at a path: listening and connecting, with who is there already and what can go wrong.
import os
import resource
import socket
import stat
from pathlib import Path

import pytest

from vfio_user_proto import unix
from vfio_user_proto.errors import TransportError


def test_listen_makes_a_socket_for_its_owner_alone(tmp_path: Path, no_leak: None) -> None:
    path = tmp_path / "socket"
    mask = os.umask(0)
    try:
        with unix.listen(path):
            assert stat.filemode(path.stat().st_mode) == "srw-------"
            assert os.umask(0) == 0
            unix.connect(path).close()
    finally:
        os.umask(mask)


def test_listen_replaces_a_socket_that_nobody_serves(tmp_path: Path, no_leak: None) -> None:
    path = tmp_path / "socket"
    unix.listen(path).close()
    with unix.listen(path):
        unix.connect(path).close()


def test_listen_leaves_a_served_socket_alone(tmp_path: Path, no_leak: None) -> None:
    path = tmp_path / "socket"
    with unix.listen(path):
        with pytest.raises(TransportError, match="another server is listening"):
            unix.listen(path)
        unix.connect(path).close()


def test_listen_leaves_a_served_socket_alone_also_when_it_is_busy(tmp_path: Path, no_leak: None) -> None:
    path = tmp_path / "socket"
    with unix.listen(path, backlog=0) as server:
        server.setblocking(False)
        waiting = unix.connect(path)
        with pytest.raises(TransportError):
            unix.listen(path)
        assert path.is_socket()
        waiting.close()


def test_of_servers_that_start_at_the_same_time_one_gets_the_path(
    tmp_path: Path, no_leak: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other comes when the first has found that nobody listens, and has not removed the old socket yet."""
    path = tmp_path / "socket"
    unix.listen(path).close()
    remove = Path.unlink

    def slowly(self: Path, missing_ok: bool = False) -> None:
        with pytest.raises(TransportError, match="another server is starting there"):
            unix.listen(path)
        remove(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", slowly)
    with unix.listen(path):
        unix.connect(path).close()
    monkeypatch.undo()
    with unix.listen(path):
        unix.connect(path).close()


def test_listen_leaves_a_file_alone(tmp_path: Path, no_leak: None) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(TransportError, match="no socket"):
        unix.listen(path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("name", ["missing/socket", "x" * 200])
def test_listen_names_path_and_reason(tmp_path: Path, no_leak: None, name: str) -> None:
    with pytest.raises(TransportError, match=name):
        unix.listen(tmp_path / name)


def test_listen_needs_a_path(no_leak: None) -> None:
    with pytest.raises(TransportError, match="needs a path"):
        unix.listen("")


def test_connect_names_path_and_reason(tmp_path: Path, no_leak: None) -> None:
    with pytest.raises(TransportError, match="socket: No such file"):
        unix.connect(tmp_path / "socket")
    unix.listen(tmp_path / "socket").close()
    with pytest.raises(TransportError, match="socket: nobody listens there"):
        unix.connect(tmp_path / "socket")
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="file: is no socket"):
        unix.connect(tmp_path / "file")
    with pytest.raises(TransportError, match="there is no path to connect to"):
        unix.connect("")


def test_connect_without_a_descriptor_left_names_path_and_reason(tmp_path: Path, no_leak: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(TransportError, match="socket: Too many open files"):
            unix.connect(tmp_path / "socket")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_deadline_of_a_connect_is_not_that_of_the_reads(tmp_path: Path, no_leak: None) -> None:
    with unix.listen(tmp_path / "socket"):
        stream = unix.connect(tmp_path / "socket", timeout=0.01)
        assert stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) == bytes(16)
        stream.close()
