"""The server: lets clients in and gives each a device and a thread."""

import errno
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from vfio_user_proto.device import Description, Device
from vfio_user_proto.loop import READABLE, Loop
from vfio_user_proto.session import Options, Session
from vfio_user_proto.spare import NO_ROOM, Spare

_log: Final = logging.getLogger(__name__)
# A further client is turned away.
MAX_CLIENTS: Final = 256
# Seconds that devices get to come to an end of what they do; stuck ones do not keep the server from ending.
_PATIENCE: Final = 0.5
# Seconds that a new client waits for the devices of those who have gone; of a stuck one it gets another.
_HANDOVER: Final = 5.0


class Server:
    """Serves devices that ``factory`` makes.

    A device outlives its client and is the next one's; a client that comes while every device is in use gets a new one. Each
    client is served by a thread of its own; everything here is for the thread that calls ``run``, except ``stop``.

    Clients that are to share a device get one object each all the same, so that memory, interrupts and a late DMA reply stay
    between a client and its own; what these objects share the factory gives them, with a lock.
    """

    def __init__(self, factory: Callable[[], Device], options: Options | None = None) -> None:
        self.options: Final = options or Options()
        self._factory = factory
        self._devices: list[Device] = [self._made()]
        self._loop = Loop()
        self._clients: list[_Client] = []
        self._left = 0  # clients that have gone
        self._listeners: list[socket.socket] = []
        self._spare = Spare()

    def listen(self, sock: socket.socket) -> None:
        """Accept clients on a listening socket, which the server owns from here on."""
        sock.setblocking(False)
        self._listeners.append(sock)
        self._loop.watch(sock.fileno(), READABLE, lambda _events: self._accept(sock))

    def add(self, sock: socket.socket) -> None:
        """Serve the client at the other end of a connected socket, which the server owns from here on.

        Raises OSError where there is no descriptor or thread left for it, and what ``factory`` raises; the socket is closed
        then.
        """
        used = {id(client.session.device) for client in self._clients}
        device = next((device for device in self._devices if id(device) not in used), None)
        try:
            if device is None:
                device = self._made()
                self._devices.append(device)
            client = _Client(sock, Session(self.options.stream(sock), device, self.options), self._loop.wake)
            client.start()
            self._clients.append(client)
        except BaseException:
            sock.close()
            raise

    def run(self, *, once: bool = False) -> None:
        """Serve until ``stop`` is called or nobody is left and nobody can come; with ``once`` until a client has left."""
        while not self._loop.stopped and (self._clients or self._listeners):
            self._loop.turn()
            self._forget(lambda client: client.session.over)
            if once and self._left:
                break

    def stop(self) -> None:
        """Make ``run`` return; may be called by a signal handler or another thread."""
        self._loop.stop()

    def close(self) -> None:
        """Drop every client, stop listening, and give back all descriptors."""
        for listener in self._listeners:
            self._loop.forget(listener.fileno())
            listener.close()
        for client in self._clients:
            client.session.stop()
        ended = _joined(self._clients, _PATIENCE)
        stuck = {id(client.session.device) for client in self._clients if client not in ended}
        for device in self._devices:
            if id(device) not in stuck:
                try:
                    device.close()
                except Exception:  # code of the device's author, who is not to lose the other devices by it
                    _log.exception("a device failed at its end")
        self._loop.close()
        self._spare.close()

    def _made(self) -> Device:
        """A device of the factory's. Raises what that raises, and TypeError for one without description."""
        device = self._factory()
        if not isinstance(getattr(device, "description", None), Description):
            raise TypeError(f"{type(device).__name__} has no description")
        return device

    def _accept(self, listener: socket.socket) -> None:
        self._forget(_Client.gone, _HANDOVER)  # who reconnects finds its device free
        try:
            client, _ = listener.accept()
        except OSError as problem:
            if problem.errno in NO_ROOM:
                self._spare.turn_away(listener)
            return
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        try:
            self.add(client)
        except OSError:
            return  # turned away
        except Exception:  # code of the device's author, who is not to lose the other clients by it
            _log.exception("no device could be made for a client")

    def _forget(self, ending: "Callable[[_Client], bool]", seconds: float | None = None) -> None:
        """Wait for the threads of clients that are at their end, for so many seconds altogether."""
        for client in _joined([client for client in self._clients if ending(client)], seconds):
            self._clients.remove(client)
            self._left += 1


class _Client:
    """A session with its thread."""

    def __init__(self, sock: socket.socket, session: Session, ended: Callable[[], None]) -> None:
        self.session: Final = session
        self._sock, self._ended = sock, ended
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as problem:
            self.session.close()
            raise OSError(errno.EAGAIN, str(problem)) from None

    def gone(self) -> bool:
        """Whether the client has closed its end, so that the session ends by itself.

        The session may close the socket meanwhile, and its number be another descriptor's: then it was that one that was asked.
        """
        fd = self._sock.fileno()
        if fd < 0:
            return True
        poll = select.poll()
        poll.register(fd, 0)
        return bool(poll.poll(0)) or self._sock.fileno() < 0

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the client is gone; says whether it is."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        self.session.close()
        return True

    def _run(self) -> None:
        try:
            self.session.run()
        finally:
            self._ended()


def _joined(clients: Sequence[_Client], seconds: float | None) -> list[_Client]:
    """Wait for ``clients``, no longer than that; returns those that are gone."""
    deadline = None if seconds is None else time.monotonic() + seconds
    return [
        client for client in clients if client.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    ]
