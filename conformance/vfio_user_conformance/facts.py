"""What a target says about itself, asked once per run, and how a case says a number that only an answer gives."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vfio_user_conformance.profile import Profile
from vfio_user_proto import capabilities
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import (
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoReply,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsReply,
    DeviceGetRegionIoFdsRequest,
    MigrationFlags,
    VersionRequest,
)
from vfio_user_proto.model import Record

# Room for every reply to a query.
ARGSZ = 0x1000
# An index that is asked for even if the target claims to have thousands of regions.
MOST = 64
_PROBE_SET = DeviceFeatureFlags.PROBE | DeviceFeatureFlags.SET


class NotApplicable(Exception):
    """The target does not offer what the case needs; the text says what."""


@dataclass
class Facts:
    """The target's own words. What it did not answer is missing here: cases about the queries themselves tell why.

    ``incomplete`` tells why the survey ended early, "" where it did not.
    """

    profile: Profile = field(default_factory=Profile)
    major: int = 0
    minor: int = 0
    capabilities: Capabilities = field(default_factory=Capabilities)
    device: DeviceGetInfoReply = field(default_factory=DeviceGetInfoReply)
    regions: dict[int, DeviceGetRegionInfoReply] = field(default_factory=dict)
    irqs: dict[int, DeviceGetIrqInfoReply] = field(default_factory=dict)
    io_fds: dict[int, DeviceGetRegionIoFdsReply] = field(default_factory=dict)
    migration: bool = False
    pre_copy: bool = False
    dma_logging: bool = False
    incomplete: str = ""

    def agree(self, reply: VersionRequest) -> None:
        """Note what the target answered to the usual proposal."""
        self.major, self.minor = reply.version_major, reply.version_minor
        with contextlib.suppress(DecodeError):
            self.capabilities = capabilities.parse(reply.version_data)

    def transfers(self, operation: str) -> bool:
        """Whether the profile tells how to make the device do this with client memory."""
        return any(each.operation == operation for each in self.profile.dma)

    def misfits(self) -> Iterator[str]:
        """What the profile names and the target, by its own words, has not: a sentence each."""
        profile = self.profile
        if profile.scratch is not None:
            yield from self._outside("[scratch]", profile.scratch.region, profile.scratch.offset, profile.scratch.size)
        pokes = {"[[dma]]": [poke.register for each in profile.dma for poke in each.steps]}
        pokes["[[dma]]"] += [each.completion for each in profile.dma]
        pokes["[[irq]]"] = [poke.register for each in profile.irqs for poke in each.steps]
        shown = {each for bell in profile.doorbells for each in (bell.count, bell.value) if each is not None}
        pokes["[[doorbell]]"] = sorted(shown, key=lambda each: (each.region, each.offset))
        for name, registers in pokes.items():
            for each in dict.fromkeys(registers):
                yield from self._outside(name, each.region, each.offset, each.width)
        for irq in profile.irqs:
            if irq.index in self.irqs and irq.vector >= self.irqs[irq.index].count:
                yield f"[[irq]] has vector {irq.vector} of index {irq.index}, which has {self.irqs[irq.index].count}"

    def _outside(self, name: str, region: int, offset: int, size: int) -> Iterator[str]:
        """Of a region that was not told of nothing is known, but of one beyond the last."""
        if self.device.num_regions and region >= self.device.num_regions:
            yield f"{name} has region {region}, and there are {self.device.num_regions}"
        elif region in self.regions and offset + size > self.regions[region].size:
            most = self.regions[region].size
            yield f"{name} has bytes {offset:#x} to {offset + size:#x} of region {region}, which has {most:#x}"

    def take(self, request: Record, reply: Record | None) -> None:
        """Note what the target answered to a question."""
        match request, reply:
            case _, DeviceGetInfoReply():
                self.device = reply
            case DeviceGetRegionInfoRequest(), DeviceGetRegionInfoReply():
                self.regions[request.index] = reply
            case DeviceGetRegionIoFdsRequest(), DeviceGetRegionIoFdsReply():
                self.io_fds[request.index] = reply
            case DeviceGetIrqInfoRequest(), DeviceGetIrqInfoReply():
                self.irqs[request.index] = reply
            case DeviceFeatureRequest(), _ if int(request.flags) == DeviceFeature.MIGRATION | DeviceFeatureFlags.GET:
                self.migration = True
                if isinstance(reply, DeviceFeatureRequest):
                    self.pre_copy = bool(int.from_bytes(reply.data[:8], sys.byteorder) & MigrationFlags.PRE_COPY)
            case DeviceFeatureRequest(), _ if int(request.flags) == DeviceFeature.DMA_LOGGING_START | _PROBE_SET:
                self.dma_logging = True


class Fact(int):
    """A number that the target, or its profile, will give: it stands in a case, prints its name, and can be added to."""

    name: str
    read: Callable[[Facts], int]

    def __new__(cls, name: str, read: Callable[[Facts], int]) -> "Fact":
        fact = super().__new__(cls, 0)
        fact.name, fact.read = name, read
        return fact

    def __add__(self, other: int) -> "Fact":
        return Fact(f"{self.name} + {other}", lambda facts: self.read(facts) + other)

    def __sub__(self, other: int) -> "Fact":
        return Fact(f"{self.name} - {other}", lambda facts: self.read(facts) - other)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    __str__ = __repr__


def resolve(value: Any, facts: Facts) -> Any:
    """``value`` with each fact replaced by its number, in records and arrays too. Raises NotApplicable."""
    if isinstance(value, Fact):
        return value.read(facts)
    if isinstance(value, Record):
        return value.replace(**{name: resolve(each, facts) for name, each in value.as_dict().items()})
    if isinstance(value, tuple):
        return tuple(resolve(each, facts) for each in value)
    return value
