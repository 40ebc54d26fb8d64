"""The client's memory as it answers the server's DMA commands, with bounds and permissions."""

import errno
import os
from typing import NamedTuple

from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import DmaReadReply, DmaReadRequest, DmaWriteReply, DmaWriteRequest
from vfio_user_proto.model import Record


class _Part(NamedTuple):
    address: int
    size: int
    memory: memoryview | int  # a buffer, or the descriptor of a file
    offset: int
    readable: bool
    writeable: bool


class MemoryMap:
    """Memory by IOVA: buffers of ours, and parts of files. A transfer must lie inside one of them.

    Files are read and written with pread and pwrite, so that one that became shorter makes a transfer fail, not the process.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []

    def add(
        self,
        address: int,
        memory: bytearray | memoryview | int,
        size: int | None = None,
        *,
        offset: int = 0,
        readable: bool = True,
        writeable: bool = True,
    ) -> None:
        """Let the server reach ``size`` bytes of ``memory`` from byte ``offset`` on, at ``address``.

        ``memory`` is a buffer, or the descriptor of a file, which stays the caller's; its size must then be given. Raises
        ValueError for what overlaps, reaches beyond the buffer, or could not be written.
        """
        view = memory if isinstance(memory, int) else memoryview(memory).cast("B")
        if size is None:
            if isinstance(view, int):
                raise ValueError("the size of a file must be given")
            size = len(view) - offset
        if size <= 0 or offset < 0 or not 0 <= address <= (1 << 64) - size:
            raise ValueError(f"{size} bytes from {offset} on do not lie at {address:#x}")
        if not isinstance(view, int) and offset + size > len(view):
            raise ValueError(f"{size} bytes from {offset} on are more than the buffer has")
        if not isinstance(view, int) and view.readonly and writeable:
            raise ValueError("the buffer is read-only")
        if any(address < part.address + part.size and part.address < address + size for part in self._parts):
            raise ValueError(f"there is memory at {address:#x} already")
        self._parts.append(_Part(address, size, view, offset, readable, writeable))

    def remove(self, address: int) -> None:
        """Take the memory that begins at ``address`` away; ValueError where there is none."""
        found = [part for part in self._parts if part.address == address]
        if not found:
            raise ValueError(f"no memory begins at {address:#x}")
        self._parts.remove(found[0])

    def read(self, address: int, count: int) -> bytes:
        """``count`` bytes at ``address``. Raises OSError: EFAULT where they are not, EACCES where they are not readable."""
        part = self._find(address, count)
        if not part.readable:
            raise OSError(errno.EACCES, "the memory is not readable")
        at = part.offset + address - part.address
        if not isinstance(part.memory, int):
            return bytes(part.memory[at : at + count])
        data = os.pread(part.memory, count, at)
        if len(data) != count:
            raise OSError(errno.EFAULT, "the file is shorter than the memory")
        return data

    def write(self, address: int, data: bytes) -> None:
        """Store ``data`` at ``address``. Raises OSError: EFAULT where no memory is, EACCES where it is not writeable."""
        part = self._find(address, len(data))
        if not part.writeable:
            raise OSError(errno.EACCES, "the memory is not writeable")
        at = part.offset + address - part.address
        if not isinstance(part.memory, int):
            part.memory[at : at + len(data)] = data
        elif os.fstat(part.memory).st_size < at + len(data):
            raise OSError(errno.EFAULT, "the file is shorter than the memory")
        else:
            os.pwrite(part.memory, data, at)

    def answer(self, command: CommandReceived, largest: int) -> Record:
        """The payload of the reply to a command of the server's that moves at most ``largest`` bytes.

        Raises OSError with the errno of the refusal: EINVAL for a malformed command, EOPNOTSUPP for one that is no DMA.
        """
        request = command.message.payload
        if command.problem is not None or command.message.trailing:
            raise OSError(errno.EINVAL, "the command is malformed")
        if isinstance(request, DmaReadRequest | DmaWriteRequest) and request.count > largest:
            raise OSError(errno.EINVAL, "more than max_data_xfer_size")
        if isinstance(request, DmaReadRequest):
            return DmaReadReply(address=request.address, data=self.read(request.address, request.count))
        if isinstance(request, DmaWriteRequest):
            self.write(request.address, request.data)
            return DmaWriteReply(address=request.address, count=request.count)
        raise OSError(errno.EOPNOTSUPP, "not a command for a client")

    def _find(self, address: int, count: int) -> _Part:
        for part in self._parts:
            if part.address <= address and address + count <= part.address + part.size:
                return part
        raise OSError(errno.EFAULT, f"no memory of {count} bytes at {address:#x}")
