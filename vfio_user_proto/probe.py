"""What a server offers, asked item by item; an item that fails is recorded with its reason, and the next one is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client import Fd, QueryCalls
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
GET, SET, PROBE = DeviceFeatureFlags.GET, DeviceFeatureFlags.SET, DeviceFeatureFlags.PROBE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A descriptor that came with a reply; it is closed.

    ``kind`` is what it was (``unix.kind_of``), or "unused" for one that nothing refers to; ``size`` are the bytes of a file.
    """

    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class RegionOffer:
    """A region (sections VFIO_USER_DEVICE_GET_REGION_INFO and VFIO_USER_DEVICE_GET_REGION_IO_FDS).

    ``areas`` are the parts that may be mapped, None where there is no such list. Where nothing is known of it ``reply`` is
    None, and ``problem`` says why; ``io_problem`` says it of the sub-regions.
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
    """A kind of interrupt (section VFIO_USER_DEVICE_GET_IRQ_INFO), or in ``problem`` why nothing is known of it."""

    index: int
    reply: DeviceGetIrqInfoReply | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FeatureOffer:
    """A feature that a probe found (section VFIO_USER_DEVICE_FEATURE): what can be done with it, and what a read of it gave.

    ``problem`` says why ``content`` is None where it could be read, or what contradicts it.
    """

    feature: DeviceFeature
    can_get: bool
    can_set: bool
    content: Record | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """All that a server says of itself and its device.

    ``version`` is (major, minor). ``device`` is None where the server refused to describe it. ``config`` is the beginning of a
    PCI device's configuration space, at most ``CONFIG_BYTES``. ``problems`` are sentences that belong to none of the parts.
    ``ended`` says why the connection ended before everything was asked; "" where it did not.
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


def probe(client: QueryCalls) -> Offer:
    """Ask ``client``'s server for everything that changes nothing. Raises nothing that the server can cause."""
    asking = _Probe(client)
    device = asking.device()
    num_regions = pci.VGA + 1 if device is None else device.num_regions
    num_irqs = pci.REQ + 1 if device is None else device.num_irqs
    regions = tuple(map(asking.region, range(asking.at_most(num_regions, "regions"))))
    irqs = tuple(map(asking.irq, range(asking.at_most(num_irqs, "kinds of interrupts"))))
    features = tuple(found for feature in DeviceFeature if (found := asking.feature(feature)) is not None)
    config = asking.config(regions)
    agreed = client.commands.exchange
    return Offer(
        agreed.version, agreed.peer, device, regions, irqs, features, config, tuple(asking.problems), asking.ended
    )


class _Probe:
    """Questions that come back with an answer or the reason why there is none."""

    def __init__(self, client: QueryCalls) -> None:
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

    def at_most(self, said: int, what: str) -> int:
        """How many of ``said`` are asked for."""
        if said > MOST:
            self.problems.append(f"{said} {what}, of which the first {MOST} are asked for")
        return min(said, MOST)

    def device(self) -> DeviceGetInfoReply | None:
        info = self.ask(self.client.device_info)
        if isinstance(info, str):
            self.problems.append(info)
            return None
        return info

    def config(self, regions: Sequence[RegionOffer]) -> bytes:
        """The configuration space, if there is one that can be read."""
        info = regions[pci.CONFIG].reply if len(regions) > pci.CONFIG else None
        if info is None or not info.flags & RegionInfoFlags.READ:
            return b""
        read = self.ask(lambda: self.client.region_read(pci.CONFIG, 0, min(info.size, CONFIG_BYTES)))
        if isinstance(read, str):
            self.problems.append(f"configuration space: {read}")
            return b""
        return read

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
        can_get = self.ask(lambda: self.client.device_feature(feature, PROBE | GET)) is None
        can_set = self.ask(lambda: self.client.device_feature(feature, PROBE | SET)) is None
        readable = can_get and feature is not DeviceFeature.DMA_LOGGING_REPORT  # which is asked about a range
        content: object = None
        if readable or feature is DeviceFeature.MIGRATION:  # which some have and deny
            content = self.ask(lambda: self.client.device_feature(feature, GET))
        if isinstance(content, Record):
            denied = "" if can_get else "the probe denies that it can be read"
            return FeatureOffer(feature, can_get, can_set, content, denied)
        if not can_get and not can_set:
            return None
        return FeatureOffer(feature, can_get, can_set, problem=content if isinstance(content, str) else "")


def _describe(fd: Fd) -> Descriptor:
    return Descriptor("unused", 0) if fd.closed else Descriptor(fd.kind, fd.size)
