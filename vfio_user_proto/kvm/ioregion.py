"""KVM's end of an ioregionfd in user space: commands out, responses in, one cycle at a time (spec/ioregionfd.rst)."""

import select
import socket
import sys
import threading
import time
from typing import Final

from vfio_user_proto import wire
from vfio_user_proto.drafts.ioregionfd import AccessSize, IoregionfdCmd, IoregionfdCommand, IoregionfdResp, SizeResp
from vfio_user_proto.errors import RemoteProtocolError, TransportError

# The widths of accesses that a command has, in bytes, and how it says them.
SIZES: Final = {1 << code: SizeResp(code) for code in AccessSize}
_RECORD: Final = IoregionfdResp.fixed_size
_SEND: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class IoregionSocket:
    """One descriptor, for all regions that share it: a command with its response is over before the next one begins.

    Used by any number of threads. After a deadline that passed, or a response that is none, nothing tells which response
    belongs to which command, so every further access fails: with RemoteProtocolError where the device broke the protocol,
    TransportError where it is gone or silent for ``timeout`` seconds.
    """

    def __init__(self, fd: int, timeout: float | None) -> None:
        """``fd`` must be a socket, and stays the caller's.

        Whoever made it can change its flags and options at any time: no call here waits, poll does.
        """
        self._socket = socket.socket(fileno=fd)
        self._timeout = timeout
        self._lock = threading.Lock()
        self._broken = ""

    def read(self, user_data: int, offset: int, size: int) -> bytes:
        """Load ``size`` bytes (1, 2, 4 or 8)."""
        command = IoregionfdCmd(
            cmd=IoregionfdCommand.READ, size_resp=SIZES[size] | SizeResp.RESP, user_data=user_data, offset=offset
        )
        response = self._cycle(command, waits=True)
        return (response.data & ((1 << 8 * size) - 1)).to_bytes(size, sys.byteorder)

    def write(self, user_data: int, offset: int, data: bytes, *, posted: bool) -> None:
        """Store ``data`` (1, 2, 4 or 8 bytes), and unless ``posted`` wait until the device has it."""
        flags = SIZES[len(data)] if posted else SIZES[len(data)] | SizeResp.RESP
        command = IoregionfdCmd(
            cmd=IoregionfdCommand.WRITE,
            size_resp=flags,
            user_data=user_data,
            offset=offset,
            data=int.from_bytes(data, sys.byteorder),
        )
        self._cycle(command, waits=not posted)

    def close(self) -> None:
        """Use the descriptor no more."""
        self._socket.detach()

    def _cycle(self, command: IoregionfdCmd, *, waits: bool) -> IoregionfdResp:
        with self._lock:
            if self._broken:
                raise TransportError(f"the ioregionfd cannot be used any more: {self._broken}")
            deadline = None if self._timeout is None else time.monotonic() + self._timeout
            try:
                if waits:
                    self._check_silent()
                self._send(wire.encode_record(command), deadline)
                return self._receive(deadline) if waits else IoregionfdResp()
            except (RemoteProtocolError, TransportError) as problem:
                self._broken = str(problem)
                raise

    def _send(self, record: bytes, deadline: float | None) -> None:
        left = memoryview(record)
        while left:
            try:
                left = left[self._socket.send(left, _SEND) :]
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline, "the device does not read its ioregionfd")
            except OSError as problem:
                raise TransportError(f"the ioregionfd takes no command: {problem.strerror}") from None

    def _receive(self, deadline: float | None) -> IoregionfdResp:
        """One response, read at once as KVM does it; descriptors that come along are the kernel's to close."""
        data = None
        while data is None:
            try:
                data = self._socket.recv(_RECORD + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, "no response on the ioregionfd")
            except OSError as problem:
                raise TransportError(f"the ioregionfd gives no response: {problem.strerror}") from None
        if not data:
            raise TransportError("the device closed its ioregionfd")
        if len(data) != _RECORD:
            raise RemoteProtocolError(f"a response on the ioregionfd has {len(data)} bytes, not {_RECORD}")
        return wire.decode_record(IoregionfdResp, data)[0]

    def _check_silent(self) -> None:
        """What is there before the command cannot be its response."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if poll.poll(0):
            self._receive(time.monotonic())
            raise RemoteProtocolError("a response came on the ioregionfd that no command asked for")

    def _wait(self, event: int, deadline: float | None, problem: str) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(remaining):
            raise TransportError(f"{problem} within {self._timeout:g} s")
