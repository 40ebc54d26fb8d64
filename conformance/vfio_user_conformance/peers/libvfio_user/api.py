"""The C interface of libvfio-user, as far as a device of ours needs it (commit efd091b, 2026-06; the interface may change)."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from ctypes import CFUNCTYPE, POINTER, c_bool, c_char_p, c_int, c_longlong, c_size_t, c_ssize_t, c_uint32, c_uint64
from ctypes import c_void_p as pointer
from typing import Any, ClassVar, Final

from vfio_user_proto.errors import UsageError

# vfu_create_ctx: the transport, the flag for a context that does not block, the kind of device.
SOCKET, NON_BLOCKING, PCI = 0, 1, 0
# vfu_setup_region: how a region may be accessed.
READ_WRITE, MEMORY = 3, 4
# vfu_sgl_read and vfu_sgl_write: use the descriptor of the mapping where it has one.
DIRECT: Final = 1
MIGRATION_VERSION: Final = 2
MOST_MAPPINGS: Final = 1_000_000
LOG_ERRORS: Final = 3  # LOG_ERR of syslog(3)

# What the library calls: (context, level, text), (context, bytes, count, offset, is a write), (context, why),
# (context, first vector, count, masked), (context, state), (context, bytes, count).
Log = CFUNCTYPE(None, pointer, c_int, c_char_p)
Access = CFUNCTYPE(c_ssize_t, pointer, pointer, c_size_t, c_longlong, c_bool, use_errno=True)
Reset = CFUNCTYPE(c_int, pointer, c_int, use_errno=True)
IrqState = CFUNCTYPE(None, pointer, c_uint32, c_uint32, c_bool)
Transition = CFUNCTYPE(c_int, pointer, c_int, use_errno=True)
Data = CFUNCTYPE(c_ssize_t, pointer, pointer, c_uint64, use_errno=True)


class Area(ctypes.Structure):
    """One part of a region that can be mapped (struct iovec)."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [("offset", pointer), ("size", c_size_t)]


class MigrationCallbacks(ctypes.Structure):
    """How a device saves and loads its state."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = [
        ("version", c_int),
        ("transition", Transition),
        ("read_data", Data),
        ("write_data", Data),
    ]


# Each function: its result, and its arguments.
_FUNCTIONS: Final[Mapping[str, tuple[Any, Sequence[Any]]]] = {
    "vfu_create_ctx": (pointer, (c_int, c_char_p, c_int, pointer, c_int)),
    "vfu_setup_log": (c_int, (pointer, Log, c_int)),
    "vfu_pci_init": (c_int, (pointer, c_int, c_int, c_int)),
    "vfu_pci_set_id": (None, (pointer, c_int, c_int, c_int, c_int)),
    "vfu_pci_set_class": (None, (pointer, c_int, c_int, c_int)),
    "vfu_pci_add_capability": (c_ssize_t, (pointer, c_size_t, c_int, c_char_p)),
    "vfu_setup_region": (
        c_int,
        (pointer, c_int, c_size_t, Access, c_int, POINTER(Area), c_uint32, c_int, c_uint64),
    ),
    "vfu_create_ioeventfd": (
        c_int,
        (pointer, c_uint32, c_int, c_size_t, c_uint32, c_uint32, c_uint64, c_int, c_size_t),
    ),
    "vfu_setup_device_reset_cb": (c_int, (pointer, Reset)),
    "vfu_setup_device_dma": (c_int, (pointer, c_size_t, pointer, pointer)),
    "vfu_setup_device_nr_irqs": (c_int, (pointer, c_int, c_uint32)),
    "vfu_setup_irq_state_callback": (c_int, (pointer, c_int, IrqState)),
    "vfu_setup_device_migration_callbacks": (c_int, (pointer, POINTER(MigrationCallbacks))),
    "vfu_realize_ctx": (c_int, (pointer,)),
    "vfu_get_poll_fd": (c_int, (pointer,)),
    "vfu_attach_ctx": (c_int, (pointer,)),
    "vfu_run_ctx": (c_int, (pointer,)),
    "vfu_irq_trigger": (c_int, (pointer, c_uint32)),
    "dma_sg_size": (c_size_t, ()),
    "vfu_addr_to_sgl": (c_int, (pointer, pointer, c_size_t, pointer, c_size_t, c_int)),
    "vfu_sgl_read": (c_int, (pointer, pointer, c_size_t, pointer, c_int)),
    "vfu_sgl_write": (c_int, (pointer, pointer, c_size_t, pointer, c_int)),
}


class Library:
    """libvfio-user at ``path``. Raises UsageError where there is no such library, or one without a function it should have."""

    def __init__(self, path: str) -> None:
        try:
            library = ctypes.CDLL(os.path.abspath(path), use_errno=True)
        except OSError as problem:
            raise UsageError(f"--libvfio-user {path}: cannot be loaded ({problem})") from None
        self._functions: dict[str, Any] = {}
        for name, (result, arguments) in _FUNCTIONS.items():
            try:
                function = getattr(library, name)
            except AttributeError:
                raise UsageError(f"--libvfio-user {path}: has no {name}") from None
            function.restype, function.argtypes = result, arguments
            self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> int:
        """What the function returns, 0 where that is nothing. Raises OSError with its errno where it is -1 or no pointer."""
        function = self._functions[name]
        found: int | None = function(*arguments)
        if found == -1 or (found is None and function.restype is pointer):
            problem = ctypes.get_errno()
            raise OSError(problem, f"{name}: {os.strerror(problem)}")
        return found or 0
