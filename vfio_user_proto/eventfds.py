"""Eventfds that somebody else holds as well: read and signalled without waiting, whatever their flags and counters are."""

import contextlib
import ctypes
import os
import select
import struct
import sys
import threading
from typing import Final

# struct iocb of linux/aio_abi.h.
_IOCB: Final = struct.Struct("=QIiHhIQQqQII")
_IOCB_FLAG_RESFD: Final = 1
# struct io_event.
_EVENT_SIZE: Final = 32
# Machine -> numbers of io_setup, io_getevents and io_submit, for which the C library has no functions.
_GENERIC: Final = (0, 4, 2)
_CALLS: Final = {"x86_64": (206, 208, 209), "aarch64": _GENERIC, "riscv64": _GENERIC, "loongarch64": _GENERIC}


def take(fd: int) -> int:
    """How often an eventfd was signalled since it was last read; 0 where it was not."""
    count = bytearray(8)
    with contextlib.suppress(BlockingIOError):
        os.preadv(fd, [count], -1, os.RWF_NOWAIT)
    return int.from_bytes(count, sys.byteorder)


def signal(fd: int) -> None:
    """Add 1 to the counter of an eventfd; one that is full stays full. Raises OSError for what is no eventfd.

    A write may wait: the flag that forbids it is everybody's to change, and so is the counter. So the kernel signals, as it
    does for KVM: when an asynchronous read is over. Where there are none, on an unusual machine or in a sandbox, poll tells
    whether there is room just before a write.
    """
    if _READS.signal(fd):
        return
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if any(events & select.POLLOUT for _, events in poll.poll(0)):
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(fd, 1)


class _Reads:
    """Asynchronous reads of an eventfd into nowhere: they fail at once, and are over with that."""

    def __init__(self) -> None:
        self._call = ctypes.CDLL(None, use_errno=True).syscall
        self._block, self._event = ctypes.create_string_buffer(_IOCB.size), ctypes.create_string_buffer(_EVENT_SIZE)
        self._blocks = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self.set_up()
        os.register_at_fork(after_in_child=self.set_up)

    def set_up(self) -> None:
        """Get what belongs to one process: a child starts anew."""
        self._lock = threading.Lock()
        self._submit: tuple[object, ...] = ()
        self._wait: tuple[object, ...] = ()
        numbers = _CALLS.get(os.uname().machine)
        if numbers is None or sys.maxsize < 1 << 32:
            return
        setup, get, submit = map(ctypes.c_long, numbers)
        context, one = ctypes.c_ulong(), ctypes.c_long(1)
        if not self._call(setup, one, ctypes.byref(context)):
            self._submit = (submit, context, one, self._blocks)
            self._wait = (get, context, one, one, self._event, None)
            self._try()

    def _try(self) -> None:
        """Whether an eventfd can be read so: in Linux before 5.8 it cannot."""
        try:
            fd = os.eventfd(0, os.EFD_CLOEXEC)
        except OSError:
            self._submit = ()
            return
        try:
            self.signal(fd)
        except OSError:
            self._submit = ()
        finally:
            os.close(fd)

    def signal(self, fd: int) -> bool:
        """One read of ``fd`` that signals ``fd``; False where the kernel offers none. Raises OSError."""
        with self._lock:
            if self._submit:
                _IOCB.pack_into(self._block, 0, 0, 0, 0, 0, 0, fd, 0, 0, 0, 0, _IOCB_FLAG_RESFD, fd)
                if self._call(*self._submit) < 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                self._call(*self._wait)
            return bool(self._submit)


_READS: Final = _Reads()
