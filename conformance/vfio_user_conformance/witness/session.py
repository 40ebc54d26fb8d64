"""One run: the client is started or awaited, served from connect to disconnect, and judged."""

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_conformance.witness.curious import Curiosity
from vfio_user_conformance.witness.observer import Witness
from vfio_user_conformance.witness.walk import walk
from vfio_user_proto import launch, unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.device import Device
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.errors import TargetError
from vfio_user_proto.faults.client import ClientFault
from vfio_user_proto.responder import OFFER
from vfio_user_proto.session import Options, Session

# The one case that is about the program and not about its messages.
SURVIVES: Final = "program/survives"
_SURVIVES: Final = "security.validate"
_MANY: Final = 65535
# The built-in client maps three ranges; a limit that it could break shows that it is kept.
_FEW: Final = 16


@dataclass
class Bench:
    """How a client is served: by which device, with which offer, whether we send DMA commands of our own (``dma``).

    The run ends after ``limit`` seconds at the latest, None for no limit. ``stop`` ends it sooner.
    """

    witness: Witness
    device: Callable[[], Device] = TestDevice
    offer: Capabilities = OFFER
    dma: bool = False
    limit: float | None = None
    program: list[Result] = field(default_factory=list)  # what is found of the program itself
    stderr: str = ""
    gave_up: str = ""  # how a client that was started ended by itself, and its last words, where it told of a failure
    stopped: bool = False
    _session: Session | None = None
    _lock: Any = field(default_factory=threading.RLock, repr=False)  # a signal may come while it is held

    def builtin(self, fault: ClientFault | None = None, timeout: float = 5.0) -> None:
        """Serve the reference client, right or with a fault. Raises VfioUserError where the right one is not content."""
        if self.offer.max_dma_maps == _MANY:
            self.offer = replace(self.offer, max_dma_maps=_FEW)
        ours, theirs = unix.pair()
        failed: list[BaseException] = []

        def client() -> None:
            try:
                with closing(theirs):
                    if fault is None:
                        walk(theirs, timeout=timeout)
                    else:
                        walk(theirs, fault.connect, stubborn=True, timeout=timeout)
            except BaseException as problem:  # goes on in the thread that waits for this one
                failed.append(problem)

        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        with closing(self.device()) as device:
            self.serve(ours, device)
        thread.join()
        self._not_ours("the built-in client is no program of its own")
        if failed:
            raise failed[0]

    def listen(self, path: str, ready: Callable[[], None]) -> None:
        """Serve the first client that connects to ``path``, after ``ready`` was called. Raises TransportError."""
        with ExitStack() as opened:
            listener = opened.enter_context(unix.listen(path))
            opened.callback(Path(path).unlink, missing_ok=True)
            ready()
            self._serve_all(listener, None)
        self._not_ours("the program is not ours to watch")

    def spawn(self, words: Sequence[str]) -> None:
        """Start a client and serve it until it ends. Raises TargetError where it does not start or never connects."""
        with _Client(words) as process, process.listener as listener:
            self._serve_all(listener, process)
            by_itself = process.wait(0)
            process.stop()
        self.stderr, how = process.stderr(), process.exit_text()
        if by_itself and process.poll():
            last = self.stderr.strip().splitlines()[-5:]
            if not self.witness.connections:
                raise TargetError("\n  ".join([f"{process.command}: never connected; {how}", *last]))
            self.gave_up = "\n  ".join([f"{process.command}: {how}", *last])
        if process.crashed():
            self._tell(Outcome.CRASH, how, f"{self.witness.seen}, then its end")
        elif self.witness.messages:
            self._tell(Outcome.PASS, "")
        else:
            self._tell(Outcome.NOT_APPLICABLE, "not exercised: it sent nothing")

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """End the run; may be called by a signal handler or another thread."""
        with self._lock:
            self.stopped = True
            if self._session is not None:
                self._session.stop()

    def _serve_all(self, listener: socket.socket, process: "_Client | None") -> None:
        """Serve one client after the other: those of a program until it ends, otherwise the first."""
        deadline = None if self.limit is None else time.monotonic() + self.limit
        timer = None if self.limit is None else threading.Timer(self.limit, self.stop)
        if timer is not None:
            timer.daemon = True
            timer.start()
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        if process is not None:
            poll.register(process.end, select.POLLIN)
        with closing(self.device()) as device:
            while not self.stopped and (deadline is None or time.monotonic() < deadline):
                ready = {fd for fd, _ in poll.poll(100)}
                if listener.fileno() in ready:
                    self.serve(unix.Stream(listener.accept()[0]), device)
                    if process is None:
                        break
                elif ready:
                    break
        if timer is not None:
            timer.cancel()

    def serve(self, stream: unix.Stream, device: Device) -> None:
        """Serve one connection to its end; owns the stream."""
        options = Options(self.offer, connection=self.witness.connection, dma_timeout=self.witness.patience)
        session = Session(stream, device, options)
        curiosity = Curiosity(session) if self.dma else None
        if curiosity is not None:
            self.witness.watchers.append(curiosity.told)
        with self._lock:
            self._session = session
            if self.stopped:
                session.stop()
        try:
            session.run()
        finally:
            with self._lock:
                self._session = None
            session.close()
            if curiosity is not None:
                self.witness.watchers.remove(curiosity.told)
                curiosity.close()
            if not self.stopped:
                self.witness.end()

    def _not_ours(self, reason: str) -> None:
        self._tell(Outcome.NOT_APPLICABLE, reason)

    def _tell(self, outcome: Outcome, reason: str, came: str = "") -> None:
        about = REQUIREMENTS[_SURVIVES]
        expected = "it ends by itself, without a signal and without a report of a sanitizer"
        self.program = [
            Result(
                SURVIVES,
                _SURVIVES,
                about.section,
                about.level,
                outcome,
                reason,
                expected=expected,
                came=came,
                messages=self.witness.recent,
                stderr=self.stderr,
            )
        ]


class _Client(launch.Process):
    """A client that is started when its server listens already."""

    listener: socket.socket

    def _begin(self, words: Sequence[str], output: int) -> launch.Running:
        self.listener = unix.listen(self.path)
        try:
            return super()._begin(words, output)
        except OSError:
            self.listener.close()
            raise

    @property
    def end(self) -> int:
        """Readable when the program has ended."""
        return self._end
