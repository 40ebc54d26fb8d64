"""Ways for a client to be wrong, one by one: what each check of the witness is there to find.

A fault changes messages on their way into the socket; the correct client does not know.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vfio_user_proto import capabilities, unix, wire
from vfio_user_proto.client import Client
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import TransportError
from vfio_user_proto.faults.kit import changed, header, payload
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceSetIrqsRequest,
    DmaMapRequest,
    DmaReadRequest,
    FeatureDmaLoggingReport,
    IrqSetFlags,
    MigDataWriteRequest,
    PciIrq,
    RegionWriteMultiRequest,
)
from vfio_user_proto.model import Record

_INFO, _MAP, _IRQS, _FEATURE = Command.DEVICE_GET_INFO, Command.DMA_MAP, Command.DEVICE_SET_IRQS, Command.DEVICE_FEATURE
_COMMAND, _REPLY, _REFUSAL = 0, 1, 0x21
# More than any server of ours lets a client have where this matters.
_MANY_MAPS, _MANY_FDS = 64, 17


class Wire(unix.Stream):
    """A client's socket; each message goes through ``change``. ``main`` is the first socket, ``self`` where it is that.

    ``held`` is for a change to keep a message in, and ``holder`` the socket that it belongs to.
    """

    def __init__(self, sock: socket.socket, change: "Change", main: "Wire | None" = None) -> None:
        super().__init__(sock)
        self._change = change
        self.main = main or self
        self.held, self.holder = b"", self

    def write(self, data: bytes | memoryview, fds: Sequence[int] = (), *, wait: bool = True) -> int:
        self._change(self, bytes(data), tuple(fds))
        return len(data)

    def put(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Really send."""
        while data:
            sent = super().write(data, fds)
            if not sent:
                raise TransportError("the server does not read")
            data, fds = data[sent:], ()


# Gets the socket, a message and its descriptors, and puts what it likes.
Change = Callable[[Wire, bytes, tuple[int, ...]], None]


@dataclass(frozen=True)
class ClientFault:
    """One way to be wrong; ``mistake`` says it in a sentence. With ``twin`` it is one of twin-socket mode alone."""

    name: str
    mistake: str
    change: Change
    twin: bool = False

    def connect(self, stream: unix.Stream, **settings: Any) -> Client:
        """A client that has this fault (``Client.connect``)."""
        change = self.change

        class Faulty(Client):
            def add_twin(self, stream: unix.Stream) -> None:
                main = self._main.stream
                assert isinstance(main, Wire)
                super().add_twin(Wire(stream.socket, change, main))

        return Faulty.connect(Wire(stream.socket, change), **settings)


# What changes are made of. ``kind`` is what the low bits of Flags must be: a command, a reply, an error reply.


def at(command: int, change: Change, kind: int = _COMMAND) -> Change:
    """Changes messages of this command and kind, and passes the others on."""

    def changing(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
        about = wire.decode_header(data)
        picked = about.command == command and int(about.flags) & 0x2F == kind
        change(to, data, fds) if picked else to.put(data, fds)

    return changing


def bytes_of(command: int, change: Callable[[bytes], bytes], kind: int = _COMMAND) -> Change:
    """Other bytes, the same descriptors."""
    return at(command, lambda to, data, fds: to.put(change(data), fds), kind)


def heads(command: int, kind: int = _COMMAND, /, **values: int) -> Change:
    """Other header fields."""
    return bytes_of(command, lambda data: header(data, **values), kind)


def fields(command: int, kind: int = _COMMAND, /, **values: Any) -> Change:
    """Other fields (``kit.changed``)."""
    return bytes_of(command, lambda data: changed(data, values), kind)


def longer(command: int, count: int = 4, kind: int = _COMMAND) -> Change:
    """More bytes, counted in the size."""
    return bytes_of(command, lambda data: payload(data, data[16:] + bytes(count)), kind)


def shorter(command: int, count: int, kind: int = _COMMAND) -> Change:
    """Fewer bytes, counted in the size."""
    return bytes_of(command, lambda data: payload(data, data[16:-count]), kind)


def before(command: int, *messages: bytes, kind: int = _COMMAND) -> Change:
    """Sends ``messages`` first."""

    def change(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
        for message in messages:
            to.put(message)
        to.put(data, fds)

    return at(command, change, kind)


def unasked(command: int, request: Record) -> bytes:
    """A command that the client itself knows nothing of: it wants no reply."""
    return craft(command, request, no_reply=True)


def with_fds(command: int, count: int) -> Change:
    """Sends ``count`` descriptors along, in place of those that are due."""

    def change(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
        more = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(count)]
        try:
            to.put(data, more)
        finally:
            unix.close_all(more)

    return at(command, change)


def _cut_for_ever(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
    to.put(data[:20])
    to.socket.shutdown(socket.SHUT_WR)


def _late(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
    if not fds:
        to.put(data)
        return
    to.put(data[: wire.HEADER_SIZE])
    to.put(data[wire.HEADER_SIZE :], fds)


def _hold(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
    """Keeps a reply back until the next command."""
    about = wire.decode_header(data)
    if about.command == _READ and int(about.flags) & 0x2F == _REPLY:
        to.main.held, to.main.holder = data, to
        return
    if held := to.main.held:
        to.main.held = b""
        to.main.holder.put(held)
    to.put(data, fds)


def _without_fd(**values: int) -> Change:
    """Other fields of mappings that have no descriptor."""

    def change(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
        (to.put if fds else lambda data, fds: fields(_MAP, **values)(to, data, fds))(data, fds)

    return at(_MAP, change)


def _other_irqs(index: int, flags: IrqSetFlags, count: int) -> Change:
    request = DeviceSetIrqsRequest(index=index, flags=flags, count=count)
    return at(_IRQS, lambda to, data, fds: to.put(payload(data, wire.encode_record(request))))


def _feature(index: int, change: Callable[[bytes], bytes], action: DeviceFeatureFlags) -> Change:
    """Changes commands about one feature that ask for ``action``."""

    def changing(data: bytes) -> bytes:
        request = wire.decode(data).payload
        assert isinstance(request, DeviceFeatureRequest)
        mine = request.flags & DeviceFeatureFlags.INDEX == index and request.flags & action
        return change(data) if mine else data

    return bytes_of(_FEATURE, changing)


def _both(data: bytes) -> bytes:
    return changed(data, {"flags": lambda request: request.flags | DeviceFeatureFlags.SET})


def _odd_pages(data: bytes) -> bytes:
    def pages_of_3(request: DeviceFeatureRequest) -> bytes:
        asked, _ = wire.decode_record(FeatureDmaLoggingReport, request.data)
        return wire.encode_record(asked.replace(page_size=3))

    return changed(data, {"data": pages_of_3})


def _no_multi(to: Wire, data: bytes, fds: tuple[int, ...]) -> None:
    """Does not offer write_multiple, and uses it."""
    message: Any = wire.decode(data)
    if message.header.command == Command.VERSION:
        offer = capabilities.parse(message.payload.version_data)
        text = offer.to_data(offer.named - {"write_multiple"})
        data = payload(data, wire.encode_record(message.payload.replace(version_data=text)))
    elif message.header.command == _INFO:
        to.put(unasked(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest()))
    to.put(data, fds)


_EXTRA_MAPS = [
    unasked(_MAP, DmaMapRequest(address=0x1000_0000 + number * 0x1000, size=0x1000)) for number in range(_MANY_MAPS)
]
_READ, _WRITE = Command.DMA_READ, Command.DMA_WRITE
_DMA_READ = unasked(_READ, DmaReadRequest(count=4))
_NONE, _MASK = IrqSetFlags.DATA_NONE, IrqSetFlags.ACTION_MASK

_FAULTS = (
    ClientFault(
        "info-before-version",
        "asks what the device is before it proposes a version",
        before(Command.VERSION, craft(_INFO, bytes(16))),
    ),
    ClientFault("version-data-without-nul", "leaves the NUL out", shorter(Command.VERSION, 1)),
    ClientFault("type-2", "sends messages of an undefined type", heads(_INFO, flags=2)),
    ClientFault("flag-6", "sets an undefined flag", heads(_INFO, flags=0x40)),
    ClientFault("command-with-error", "puts a number into the Error field of commands", heads(_INFO, error=22)),
    ClientFault("size-below-header", "counts only half of the header", heads(_INFO, message_size=8)),
    ClientFault("cut-at-the-end", "leaves in the middle of a message", at(_INFO, _cut_for_ever)),
    ClientFault("short-payload", "leaves the last field out", shorter(_INFO, 4)),
    ClientFault("long-payload", "sends more than the payload has", longer(_INFO)),
    ClientFault("sends-dma-read", "sends a command that is for the server to send", before(_INFO, _DMA_READ)),
    ClientFault(
        "answers-on-first-socket",
        "does not use the second socket for its replies",
        at(_READ, lambda to, data, fds: to.main.put(data), _REPLY),
        twin=True,
    ),
    ClientFault(
        "asks-on-second-socket",
        "sends commands on the second socket",
        before(_READ, craft(_INFO, bytes(16), no_reply=True), kind=_REPLY),
        twin=True,
    ),
    ClientFault(
        "two-descriptors-with-version",
        "sends two descriptors before it knows how many may be sent",
        with_fds(Command.VERSION, 2),
    ),
    ClientFault("descriptors-beyond-limit", "sends more descriptors than the server takes", with_fds(_IRQS, _MANY_FDS)),
    ClientFault("descriptor-with-info", "sends a descriptor with a command that has none", with_fds(_INFO, 1)),
    ClientFault("late-descriptor", "sends the descriptor with the payload", at(_MAP, _late)),
    ClientFault("reply-invented", "sends a reply to nothing", before(_INFO, craft(_READ, bytes(16), kind=1))),
    ClientFault("no-reply-to-dma", "does not answer", at(_READ, lambda to, data, fds: None, _REPLY)),
    ClientFault("answers-after-reply", "answers when its own command has been answered", _hold),
    ClientFault("reply-other-id", "answers with another Message ID", heads(_READ, _REPLY, message_id=0x7777)),
    ClientFault("reply-other-command", "answers with another Command", heads(_READ, _REPLY, command=_WRITE)),
    ClientFault("error-without-bit", "says what went wrong, and not that it did", heads(_READ, _REFUSAL, flags=1)),
    ClientFault("error-with-payload", "sends a payload with an error", longer(_READ, 16, _REFUSAL)),
    ClientFault("dma-read-data-cut", "sends a byte less than it says", shorter(_READ, 1, _REPLY)),
    ClientFault(
        "dma-other-address",
        "answers for another address",
        fields(_READ, _REPLY, address=lambda reply: reply.address + 8),
    ),
    ClientFault("dma-write-12-bytes", "has 4 bytes for the count", shorter(_WRITE, 4, _REPLY)),
    ClientFault("argsz-small", "has no room for the reply", fields(_INFO, argsz=8)),
    ClientFault("map-offset", "says an offset of no file", _without_fd(offset=0x1000)),
    ClientFault("one-map-too-many", "has more mappings than the server takes", before(_MAP, *_EXTRA_MAPS)),
    ClientFault("map-half-a-page", "maps half a page", _without_fd(size=0x800)),
    ClientFault(
        "unmap-part", "takes back half of a mapping", fields(Command.DMA_UNMAP, size=lambda request: request.size // 2)
    ),
    ClientFault("info-flags", "sets a flag in a question", fields(_INFO, flags=1)),
    ClientFault(
        "region-info-size",
        "says the size of the region that it asks about",
        fields(Command.DEVICE_GET_REGION_INFO, size=1),
    ),
    ClientFault(
        "io-fds-count", "says how many sub-regions it asks about", fields(Command.DEVICE_GET_REGION_IO_FDS, count=1)
    ),
    ClientFault(
        "irq-info-count", "says how many interrupts it asks about", fields(Command.DEVICE_GET_IRQ_INFO, count=1)
    ),
    ClientFault("irqs-argsz", "counts descriptors in argsz", fields(_IRQS, argsz=24)),
    ClientFault(
        "irqs-two-actions", "masks and triggers at once", fields(_IRQS, flags=lambda request: request.flags | _MASK)
    ),
    ClientFault("irqs-mask-err", "masks an interrupt that is not maskable", _other_irqs(PciIrq.ERR, _NONE | _MASK, 1)),
    ClientFault("irqs-disable-by-mask", "disables a type by masking it", _other_irqs(PciIrq.MSIX, _NONE | _MASK, 0)),
    ClientFault(
        "read-too-much",
        "reads more at once than the server allows",
        fields(Command.REGION_READ, region=9, offset=0, count=0x100001),
    ),
    ClientFault("read-beyond-region", "reads where the region has ended", fields(Command.REGION_READ, offset=1 << 30)),
    ClientFault("write-data-cut", "sends less data than it says", shorter(Command.REGION_WRITE, 1)),
    ClientFault(
        "multi-count-9",
        "writes 9 bytes where a record holds 8",
        fields(Command.REGION_WRITE_MULTI, wrs=lambda request: tuple(write.replace(count=9) for write in request.wrs)),
    ),
    ClientFault("multi-cut", "leaves the end of the last record out", shorter(Command.REGION_WRITE_MULTI, 1)),
    ClientFault("multi-not-agreed", "writes several at once though nobody agreed on that", _no_multi),
    ClientFault("reset-with-payload", "sends a payload with a reset", longer(Command.DEVICE_RESET)),
    ClientFault(
        "feature-get-and-set", "gets and sets at once", _feature(DeviceFeature.MIGRATION, _both, DeviceFeatureFlags.GET)
    ),
    ClientFault("probe-with-data", "sends data with a probe", longer(_FEATURE)),
    ClientFault(
        "report-page-size-3",
        "asks for pages of 3 bytes",
        _feature(DeviceFeature.DMA_LOGGING_REPORT, _odd_pages, DeviceFeatureFlags.GET),
    ),
    ClientFault(
        "mig-argsz",
        "leaves argsz zero",
        before(_INFO, unasked(Command.MIG_DATA_WRITE, MigDataWriteRequest(argsz=0, size=1, data=b"x"))),
    ),
)

CLIENT_FAULTS: Final[Mapping[str, ClientFault]] = {fault.name: fault for fault in _FAULTS}
