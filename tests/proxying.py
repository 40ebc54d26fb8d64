# A proxy in a thread, before the reference server or between two ends in the hands of a test.
import socket
import threading
from pathlib import Path
from typing import Any

from vfio_user_proto import unix
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, DeviceGetInfoRequest, DmaMapRequest
from vfio_user_proto.proxy import Passed, Proxy

INFO = craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=7)
MAP = craft(Command.DMA_MAP, DmaMapRequest(address=0x1000, size=0x1000))


class Between:
    """A proxy in a thread, before the server at ``path`` or any other."""

    def __init__(self, folder: Path, connect: Any) -> None:
        self.passed: list[Passed] = []
        self.told: list[str] = []
        self.proxy = Proxy(connect, self.passed.append, self.told.append)
        self.path = folder / "proxy"
        self.listener = unix.listen(self.path)
        self.proxy.listen(self.listener)
        self.thread = threading.Thread(target=self.proxy.run)

    def __enter__(self) -> "Between":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.proxy.close()
        self.listener.close()


class Ends:
    """A proxy whose client and server are both in the test's hands."""

    def __init__(self, folder: Path) -> None:
        server, self.server = unix.pair()
        self.between = Between(folder, lambda: server)
        self.client = unix.Stream(socket.socket(socket.AF_UNIX))

    def __enter__(self) -> "Ends":
        self.between.__enter__()
        self.client.socket.connect(str(self.between.path))
        for end in (self.client, self.server):
            end.set_timeout(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.close()
        self.between.__exit__()

    @property
    def passed(self) -> list[tuple[str, bytes]]:
        return [(each.sender, each.data) for each in self.between.passed]
