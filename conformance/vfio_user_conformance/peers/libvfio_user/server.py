"""A device of ours behind libvfio-user: the library speaks the protocol, the device does not notice."""

import contextlib
import ctypes
import errno
import functools
import mmap
import select
import sys
from collections.abc import Callable, Iterator
from typing import Final, Never, ParamSpec, TypeVar

from vfio_user_conformance.peers.libvfio_user import api
from vfio_user_proto.device import Device, Region, shadow_of
from vfio_user_proto.devices.pci import CONFIG, INTX, MSI, MSIX, ROM, VGA
from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import (
    DeviceState,
    IoregionfdSubRegion,
    IrqSetFlags,
    SubRegion,
)
from vfio_user_proto.migration import Migration

_T = TypeVar("_T")
# The states of migration, in the order of the library's numbers.
_STATES: Final = (
    DeviceState.STOP,
    DeviceState.RUNNING,
    DeviceState.STOP_COPY,
    DeviceState.PRE_COPY,
    DeviceState.RESUMING,
)
_RESET_BY_CLIENT: Final = (0, 2)  # by command, and through the PCI Express capability
_BARS: Final = 0x10
_CAPABILITIES: Final = 0x34  # where configuration space tells the place of its first capability
_LARGEST_CAPABILITY: Final = 64


_Arguments = ParamSpec("_Arguments")


def _refusing(answer: Callable[_Arguments, int]) -> Callable[_Arguments, int]:
    """``answer``, which the library calls, with an OSError told as C does: -1 and errno."""

    @functools.wraps(answer)
    def refusing(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> int:
        try:
            return answer(*arguments, **named)
        except OSError as problem:
            ctypes.set_errno(problem.errno or errno.EIO)
            return -1

    return refusing


class Server:
    """``device`` behind ``library``, listening on ``path``; to the device this is its ``Host``.

    What the library cannot offer is left out: regions beyond the nine of PCI, ioregionfds, and where it was built without
    them shadow ioeventfds. With ``direct`` mappings with a descriptor are accessed through it, the others by message.
    Raises UsageError where the library refuses.
    """

    def __init__(self, library: api.Library, device: Device, path: str, *, direct: bool) -> None:
        self._library, self._device, self._direct = library, device, direct
        self._migration = Migration(device)
        self._watched: dict[int, Callable[[], None]] = {}
        self._entry = ctypes.create_string_buffer(library.call("dma_sg_size"))
        self._kept: list[object] = []  # the library has pointers to these
        try:
            self._context = library.call("vfu_create_ctx", api.SOCKET, path.encode(), api.NON_BLOCKING, None, api.PCI)
            self._setup()
        except OSError as problem:
            raise UsageError(f"{path}: {problem.strerror}") from None
        self._listening = self._call("vfu_get_poll_fd")
        device.attach(self)

    def run(self) -> Never:
        """Serve one client after the other."""
        while True:
            # A kick counts before the message that was sent after it.
            ready = {**self._watched, self._call("vfu_get_poll_fd"): self._serve}
            poll = select.poll()
            for fd in ready:
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll():
                ready[fd]()

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        self._watched[fd] = ready

    def unwatch(self, fd: int) -> None:
        del self._watched[fd]

    def read(self, address: int, count: int) -> bytes:
        data = ctypes.create_string_buffer(count)
        self._move("vfu_sgl_read", address, data, mmap.PROT_READ)
        return data.raw

    def write(self, address: int, data: bytes) -> None:
        self._move("vfu_sgl_write", address, ctypes.create_string_buffer(data, len(data)), mmap.PROT_WRITE)

    def trigger(self, index: int, vector: int) -> None:
        """The library has one set of vectors, and no way to raise ERR and REQ."""
        if index in (INTX, MSI, MSIX):
            with contextlib.suppress(OSError):
                self._call("vfu_irq_trigger", vector)

    def level(self, index: int, vector: int, asserted: bool) -> None:
        if asserted:
            self.trigger(index, vector)

    def _call(self, name: str, *arguments: object) -> int:
        return self._library.call(name, self._context, *arguments)

    def _serve(self) -> None:
        """One step of the library's: it takes a client, or one command."""
        waiting = self._call("vfu_get_poll_fd") == self._listening
        try:
            self._call("vfu_attach_ctx" if waiting else "vfu_run_ctx")
        except OSError as problem:
            if problem.errno not in (errno.EAGAIN, errno.ENOTCONN):
                print(problem.strerror, file=sys.stderr, flush=True)

    def _setup(self) -> None:
        """Tell the library what the device is."""
        self._call("vfu_setup_log", self._keep(api.Log(_log)), api.LOG_ERRORS)
        config = self._device.region_read(CONFIG, 0, self._device.description.regions[CONFIG].size)
        self._setup_config(config)
        for index, region in self._device.description.regions.items():
            if index != CONFIG and index <= VGA:
                ports = index < ROM and config[_BARS + 4 * index] & 1
                self._setup_region(index, region, api.READ_WRITE if ports else api.READ_WRITE | api.MEMORY)
        for kind, irq in self._device.description.irqs.items():
            self._call("vfu_setup_device_nr_irqs", kind, irq.count)
            if kind in (INTX, MSI, MSIX):
                self._call(
                    "vfu_setup_irq_state_callback",
                    kind,
                    self._keep(api.IrqState(functools.partial(self._masked, kind))),
                )
        self._call("vfu_setup_device_reset_cb", self._keep(api.Reset(self._reset)))
        self._call("vfu_setup_device_dma", api.MOST_MAPPINGS, None, None)
        if self._device.description.migration:
            callbacks = api.MigrationCallbacks(
                api.MIGRATION_VERSION,
                api.Transition(self._go),
                api.Data(self._save),
                api.Data(self._load),
            )
            self._call("vfu_setup_device_migration_callbacks", ctypes.byref(self._keep(callbacks)))
        self._call("vfu_realize_ctx")

    def _setup_config(self, config: bytes) -> None:
        """The library keeps configuration space itself, with these identifiers and capabilities."""
        self._call("vfu_pci_init", 0, 0, 0)
        self._call("vfu_pci_set_id", *(int.from_bytes(config[at : at + 2], "little") for at in (0, 2, 0x2C, 0x2E)))
        self._call("vfu_pci_set_class", *config[0x0B:0x08:-1])
        place = config[_CAPABILITIES]
        while place:
            self._call("vfu_pci_add_capability", place, 0, config[place : place + _LARGEST_CAPABILITY])
            place = config[place + 1]

    def _setup_region(self, index: int, region: Region, flags: int) -> None:
        areas = [api.Area(area.offset, area.size) for area in region.areas]
        self._call(
            "vfu_setup_region",
            index,
            region.size,
            self._keep(api.Access(functools.partial(self._access, index))),
            flags,
            (api.Area * len(areas))(*areas) if areas else None,
            len(areas),
            -1 if region.fd is None else region.fd,
            region.offset,
        )
        if region.io_fds is not None:
            for sub_region in region.io_fds.sub_regions:
                self._setup_io_fd(index, sub_region, region.io_fds.fds)

    def _setup_io_fd(self, index: int, sub_region: SubRegion, fds: tuple[int, ...]) -> None:
        if isinstance(sub_region, IoregionfdSubRegion):
            return
        record = shadow_of(sub_region)
        shadow, shadow_offset = (-1, 0) if record is None else (fds[record.shadow_mem_fd_index], record.shadow_offset)
        where = (fds[sub_region.fd_index], sub_region.offset, sub_region.size)
        try:
            self._call(
                "vfu_create_ioeventfd",
                index,
                *where,
                int(sub_region.flags),
                sub_region.datamatch,
                shadow,
                shadow_offset,
            )
        except OSError:
            if shadow == -1:
                raise

    def _keep(self, value: _T) -> _T:
        self._kept.append(value)
        return value

    def _move(self, function: str, address: int, data: ctypes.Array[ctypes.c_char], protection: int) -> None:
        """Move the bytes of ``data``, which may span several mappings, while the library takes one at a time."""
        for place, count in self._split(address, len(data), protection):
            part = ctypes.byref(data, place - address)
            self._locate(place, count, protection)
            self._call(function, self._entry, 1, part, api.DIRECT if self._direct else 0)

    def _split(self, address: int, count: int, protection: int) -> Iterator[tuple[int, int]]:
        """The range in parts that lie in one mapping each. Raises OSError (EFAULT) where it is not mapped."""
        if self._locate(address, count, protection) >= 0:
            yield from [(address, count)] if count else []
            return
        half = count // 2
        yield from self._split(address, half, protection)
        yield from self._split(address + half, count - half, protection)

    def _locate(self, address: int, count: int, protection: int) -> int:
        """Put the place of a range into ``_entry``; returns less than 0 where it lies in several mappings."""
        try:
            return self._call("vfu_addr_to_sgl", address, count, self._entry, 1, protection)
        except OSError as problem:
            raise OSError(errno.EFAULT, problem.strerror) from None

    @_refusing
    def _access(self, index: int, _context: int, place: int, count: int, offset: int, write: bool) -> int:
        if write:
            self._device.region_write(index, offset, ctypes.string_at(place, count))
        else:
            ctypes.memmove(place, self._device.region_read(index, offset, count), count)
        return count

    def _masked(self, kind: int, _context: int, start: int, count: int, masked: bool) -> None:
        action = IrqSetFlags.ACTION_MASK if masked else IrqSetFlags.ACTION_UNMASK
        self._device.irq_state(kind, start, action, [True] * count)

    def _reset(self, _context: int, why: int) -> int:
        if why in _RESET_BY_CLIENT:
            self._device.reset()
        return 0

    @_refusing
    def _go(self, _context: int, state: int) -> int:
        self._migration.go(_STATES[state])
        return 0

    @_refusing
    def _save(self, _context: int, place: int, count: int) -> int:
        data = self._migration.read(count)
        ctypes.memmove(place, data, len(data))
        return len(data)

    @_refusing
    def _load(self, _context: int, place: int, count: int) -> int:
        self._migration.write(ctypes.string_at(place, count))
        return count


def _log(_context: int, _level: int, text: bytes) -> None:
    print(text.decode(errors="replace"), file=sys.stderr, flush=True)
