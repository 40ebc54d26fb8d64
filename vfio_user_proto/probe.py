"""What a server offers, asked item by item; an item that fails is recorded with its reason, and the next one is asked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Calls, Fd
from vfio_user_proto.devices import pci
from vfio_user_proto.errors import ErrorReply, ProtocolError, TransportError
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceGetInfoReply,
    DeviceGetIrqInfoReply,
    DeviceGetRegionInfoReply,
    RegionInfoFlags,
    RegionType,
    SparseMmapArea,
    SubRegion,
)
from vfio_user_proto.model import Record

# More regions or kinds of interrupts than this are not asked for, whatever the server says that it has.
MOST: Final = 64
# Bytes of configuration space that are read: what a PCI device has, and what PCI Express adds.
CONFIG_BYTES: Final = 4096

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor that came with a reply: what it was (``unix.kind_of``), "unused" for one that nothing refers to, and its
    bytes. It is closed."""

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class RegionOffer:
    """A region, or in ``problem`` why nothing is known of it; ``io_problem`` likewise for its sub-regions.

    ``areas`` are the parts that may be mapped, None where there is no such list.
    """

    index: int
    reply: DeviceGetRegionInfoReply | None = None
    areas: tuple[SparseMmapArea, ...] | None = None
    type: RegionType | None = None
    fd: Descriptor | None = None
    sub_regions: tuple[SubRegion, ...] = ()
    io_fds: tuple[Descriptor, ...] = ()
    problem: str = ""
    io_problem: str = ""

    @property
    def size(self) -> int:
        """Bytes; 0 for a region that is not there or not known."""
        return 0 if self.reply is None else self.reply.size


@dataclass(frozen=True, slots=True)
class IrqOffer:
    """A kind of interrupt, or why nothing is known of it."""

    index: int
    reply: DeviceGetIrqInfoReply | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FeatureOffer:
    """A feature, which a probe found: what can be done with it, and what a read of it gave."""

    feature: DeviceFeature
    can_get: bool
    can_set: bool
    content: Record | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """All that a server says of itself and its device.

    ``config`` is the beginning of a PCI device's configuration space. ``problems`` are what fits nowhere else. ``ended`` says
    why the connection ended before everything was asked; "" where it did not.
    """

    version: tuple[int, int]
    capabilities: Capabilities
    device: DeviceGetInfoReply | None
    regions: tuple[RegionOffer, ...]
    irqs: tuple[IrqOffer, ...]
    features: tuple[FeatureOffer, ...]
    config: bytes
    problems: tuple[str, ...] = ()
    ended: str = ""


def probe(client: Calls) -> Offer:
    """Ask ``client``'s server for everything that changes nothing. Raises nothing that the server can cause."""
    asking = _Probe(client)
    said = asking.ask(client.device_info)
    device = None if isinstance(said, str) else said
    if isinstance(said, str):
        asking.problems.append(said)
    regions = tuple(map(asking.region, range(asking.number("regions", device.num_regions if device else pci.VGA + 1))))
    irqs = tuple(
        map(asking.irq, range(asking.number("kinds of interrupts", device.num_irqs if device else pci.REQ + 1)))
    )
    features = tuple(found for feature in DeviceFeature if (found := asking.feature(feature)) is not None)
    config = b""
    if len(regions) > pci.CONFIG and (info := regions[pci.CONFIG].reply) and info.flags & RegionInfoFlags.READ:
        size = min(info.size, CONFIG_BYTES)
        read = asking.ask(lambda: client.region_read(pci.CONFIG, 0, size))
        if isinstance(read, str):
            asking.problems.append(f"configuration space: {read}")
        else:
            config = read
    agreed = client.commands.exchange
    return Offer(
        agreed.version, agreed.peer, device, regions, irqs, features, config, tuple(asking.problems), asking.ended
    )


class _Probe:
    """Questions that come back with an answer or the reason why there is none."""

    def __init__(self, client: Calls) -> None:
        self.client = client
        self.problems: list[str] = []
        self.ended = ""

    def ask(self, question: Callable[[], T]) -> T | str:
        """The answer, or a sentence. After the end of the connection, or a deadline, nothing more is asked."""
        if self.ended:
            return self.ended
        try:
            return question()
        except (ErrorReply, ProtocolError) as problem:  # also what the server's capabilities leave no way to ask
            return str(problem)
        except TransportError as problem:
            self.ended = str(problem)
            return self.ended

    def number(self, what: str, said: int) -> int:
        if said > MOST:
            self.problems.append(f"{said} {what}, of which the first {MOST} are asked for")
        return min(said, MOST)

    def region(self, index: int) -> RegionOffer:
        info = self.ask(lambda: self.client.region_info(index))
        if isinstance(info, str):
            return RegionOffer(index, problem=info)
        with info:
            fd = None if info.fd is None else _describe(info.fd)
            areas, kind = info.areas, info.region_type
        if not info.size:
            return RegionOffer(index, info.reply, areas, kind, fd)
        io_fds = self.ask(lambda: self.client.region_io_fds(index, info.size))
        if isinstance(io_fds, str):
            return RegionOffer(index, info.reply, areas, kind, fd, io_problem=io_fds)
        with io_fds:
            described = tuple(map(_describe, io_fds.fds))
        return RegionOffer(index, info.reply, areas, kind, fd, io_fds.sub_regions, described)

    def irq(self, index: int) -> IrqOffer:
        reply = self.ask(lambda: self.client.irq_info(index))
        return IrqOffer(index, problem=reply) if isinstance(reply, str) else IrqOffer(index, reply)

    def feature(self, feature: DeviceFeature) -> FeatureOffer | None:
        """What can be done with a feature; None where it is not there."""
        get, put, asking = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE
        can_get = self.ask(lambda: self.client.device_feature(feature, get | asking)) is None
        can_set = self.ask(lambda: self.client.device_feature(feature, put | asking)) is None
        readable = can_get and feature is not DeviceFeature.DMA_LOGGING_REPORT
        content: object = None
        if readable or feature is DeviceFeature.MIGRATION:  # which some have and deny
            content = self.ask(lambda: self.client.device_feature(feature, get))
        if isinstance(content, Record):
            denied = "" if can_get else "the probe denies that it can be read"
            return FeatureOffer(feature, can_get, can_set, content, denied)
        if not can_get and not can_set:
            return None
        return FeatureOffer(feature, can_get, can_set, problem=content if isinstance(content, str) else "")


def _describe(fd: Fd) -> Descriptor:
    return Descriptor("unused", 0) if fd.closed else Descriptor(fd.kind, fd.size)
