"""A descriptor with an owner."""

import os

from vfio_user_proto import unix
from vfio_user_proto.closing import Closing


class Fd(Closing):
    """A descriptor that is ours: closed by ``close``, at the end of a ``with`` block, or given away by ``detach``."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        """The number. Raises ValueError when it was closed or given away."""
        if self._number < 0:
            raise ValueError("the descriptor is closed")
        return self._number

    @property
    def closed(self) -> bool:
        """Whether it is ours no more."""
        return self._number < 0

    @property
    def kind(self) -> str:
        """What it is: "eventfd", "memfd", "socket" … (``unix.kind_of``)."""
        return unix.kind_of(self._number)

    @property
    def size(self) -> int:
        """Bytes that the file has now; its owner may change that at any time."""
        return os.fstat(self.fileno()).st_size

    def detach(self) -> int:
        """Give the descriptor away; returns the number, which the caller closes."""
        number, self._number = self.fileno(), -1
        return number

    def close(self) -> None:
        """Close it; once is enough."""
        if self._number >= 0:
            os.close(self.detach())

    def __repr__(self) -> str:
        return f"Fd({self._number}, {self.kind})" if self._number >= 0 else "Fd(closed)"
