"""What cases need of a target, and numbers of it that they name: each is read from what it, or its profile, says."""

from collections.abc import Callable

from vfio_user_conformance.facts import Fact, Facts, NotApplicable
from vfio_user_conformance.profile import Scratch
from vfio_user_conformance.recipes import Interrupt
from vfio_user_proto import regioncaps
from vfio_user_proto.device import shadow_of
from vfio_user_proto.messages import (
    DeviceFlags,
    DeviceGetRegionInfoReply,
    IrqInfoFlags,
    RegionInfoFlags,
    SparseMmap,
    SubRegion,
)

_BOUND = IrqInfoFlags.AUTOMASKED | IrqInfoFlags.NORESIZE


def size_of(region: int) -> Fact:
    """The size of one region, where it has one."""

    def read(facts: Facts) -> int:
        found = facts.regions.get(region)
        if found is None or not found.size:
            raise NotApplicable(f"region {region} has no size")
        return found.size

    return Fact(f"size of region {region}", read)


def _first(what: str, choose: Callable[[Facts], list[int]]) -> Callable[[Facts], int]:
    """The first of what there is; ``what`` is told where there is nothing."""

    def read(facts: Facts) -> int:
        found = choose(facts)
        if not found:
            raise NotApplicable(what)
        return found[0]

    return read


def _scratch(part: Callable[[Scratch], int]) -> Callable[[Facts], int]:
    def read(facts: Facts) -> int:
        if facts.profile.scratch is None:
            raise NotApplicable("the profile names no scratch bytes")
        return part(facts.profile.scratch)

    return read


def _flag(what: str, test: Callable[[Facts], bool]) -> Callable[[Facts], int]:
    """1 where the test holds; ``what`` is told where it does not."""
    return _first(what, lambda facts: [1] if test(facts) else [])


SCRATCH_REGION = Fact("scratch region", _scratch(lambda scratch: scratch.region))
SCRATCH = Fact("scratch offset", _scratch(lambda scratch: scratch.offset))
SCRATCH_KEEPS = Fact(
    "scratch bytes that keep what is written",
    _flag(
        "no scratch bytes keep what is written",
        lambda facts: facts.profile.scratch is not None and facts.profile.scratch.keeps,
    ),
)
NO_DMA = "the profile does not say how to make the device do DMA"
DMA_WRITE = Fact("a device that writes memory", _flag(NO_DMA, lambda facts: facts.transfers("write")))
DMA_READ = Fact("a device that reads memory", _flag(NO_DMA, lambda facts: facts.transfers("read")))
RAISED_INDEX = Fact(
    "the index of an interrupt that can be raised",
    _first(
        "the profile does not say how to raise an interrupt",
        lambda facts: sorted(
            (each.index for each in facts.profile.irqs), key=lambda index: _masks_itself(facts, index)
        ),
    ),
)
RAISED = Fact("its vector", lambda facts: _raised(facts)[0].vector)
RAISED_TOO = Fact(
    "another vector of that index",
    _first(
        "the profile does not say how to raise two interrupts of one index",
        lambda facts: [each.vector for each in _raised(facts)[1:]],
    ),
)
OTHER_INDEX = Fact("the index of one of another type", lambda facts: _raised_elsewhere(facts).index)
OTHER_VECTOR = Fact("its vector", lambda facts: _raised_elsewhere(facts).vector)
NUM_REGIONS = Fact("num_regions", lambda facts: facts.device.num_regions)
NUM_IRQS = Fact("num_irqs", lambda facts: facts.device.num_irqs)
LAST_IRQ = Fact(
    "the last interrupt type",
    _first("there are no interrupt types", lambda facts: [facts.device.num_irqs - 1] if facts.device.num_irqs else []),
)
MAX_XFER = Fact("max_data_xfer_size", lambda facts: facts.capabilities.max_data_xfer_size)

LARGEST = Fact(
    "the largest readable region",
    _first(
        "no region can be read",
        lambda facts: sorted(_regions(facts, RegionInfoFlags.READ), key=lambda index: -facts.regions[index].size),
    ),
)
LARGEST_SIZE = Fact(
    "its size, at most 4096 and max_data_xfer_size",
    lambda facts: min(facts.regions[LARGEST.read(facts)].size, 4096, facts.capabilities.max_data_xfer_size),
)
WITH_CAPABILITIES = Fact(
    "a region with capabilities",
    _first(
        "no region has capabilities",
        lambda facts: [index for index, each in facts.regions.items() if each.argsz > each.fixed_size],
    ),
)
CAPABILITIES_ARGSZ = Fact("its argsz", lambda facts: facts.regions[WITH_CAPABILITIES.read(facts)].argsz)
_MMAP_CAPS = RegionInfoFlags.MMAP | RegionInfoFlags.CAPS
WITH_AREAS = Fact(
    "a region with areas to map",
    _first(
        "no region has areas to map",
        lambda facts: [i for i in _regions(facts, _MMAP_CAPS) if has_areas(facts.regions[i])],
    ),
)
MAPPABLE = Fact(
    "a mappable region",
    _first("no region can be mapped", lambda facts: _regions(facts, RegionInfoFlags.MMAP)),
)
READ_MAPPABLE = Fact(
    "a mappable region that can be read",
    _first(
        "no region can be mapped and read", lambda facts: _regions(facts, RegionInfoFlags.MMAP | RegionInfoFlags.READ)
    ),
)
UNREADABLE = Fact(
    "a region without the read flag",
    _first("every region can be read", lambda facts: _regions_without(facts, RegionInfoFlags.READ)),
)
UNWRITABLE = Fact(
    "a region without the write flag",
    _first("every region can be written", lambda facts: _regions_without(facts, RegionInfoFlags.WRITE)),
)
WITH_IO_FDS = Fact(
    "a region with sub-regions",
    _first("no region has I/O descriptors", lambda facts: [i for i, each in facts.io_fds.items() if each.count]),
)
WITHOUT_IO_FDS = Fact(
    "a region without sub-regions",
    _first(
        "every region that answers has I/O descriptors",
        lambda facts: [i for i, each in facts.io_fds.items() if not each.count],
    ),
)
SHADOW_IO_FDS = Fact(
    "shadow memory",
    _flag(
        "no sub-region has shadow memory",
        lambda facts: any(_has_shadow(each) for reply in facts.io_fds.values() for each in reply.sub_regions),
    ),
)
IO_FDS_ARGSZ = Fact("its argsz", lambda facts: facts.io_fds[WITH_IO_FDS.read(facts)].argsz)
IRQ = Fact("an interrupt type with eventfds", _first("no interrupt type takes eventfds", lambda facts: _irqs(facts)))
SEVERAL = Fact(
    "an interrupt type with 3 vectors and more",
    _first("no interrupt type has 3 vectors", lambda facts: _several(facts)),
)
SEVERAL_COUNT = Fact("its count", lambda facts: facts.irqs[SEVERAL.read(facts)].count)
MASKABLE = Fact(
    "a maskable interrupt type with 3 vectors and more",
    _first(
        "no interrupt type has 3 vectors and can be masked",
        lambda facts: [i for i in _several(facts) if facts.irqs[i].flags & IrqInfoFlags.MASKABLE],
    ),
)
AUTOMASKED = Fact(
    "an interrupt type that masks itself",
    _first(
        "no interrupt type masks itself",
        lambda facts: [i for i in _irqs(facts) if facts.irqs[i].flags & IrqInfoFlags.AUTOMASKED],
    ),
)
AS_A_SET = Fact(
    "an interrupt type with 2 vectors and more that are enabled as a set",
    _first(
        "no interrupt type has the noresize flag and 2 vectors",
        lambda facts: [i for i in _irqs(facts) if facts.irqs[i].count >= 2 and _is_set(facts, i)],
    ),
)
ANOTHER_TYPE = Fact(
    "an interrupt type besides it",
    _first("one interrupt type takes eventfds", lambda facts: [i for i in _irqs(facts) if i != SEVERAL.read(facts)]),
)
RAISED_MASKABLE = Fact(
    "that it can be masked",
    _flag(
        "the interrupt that can be raised cannot be masked",
        lambda facts: bool(facts.irqs[RAISED_INDEX.read(facts)].flags & IrqInfoFlags.MASKABLE),
    ),
)
RAISED_AGAIN = Fact(
    "that it does not mask itself",
    _flag(
        "the interrupt that can be raised masks itself",
        lambda facts: not _masks_itself(facts, RAISED_INDEX.read(facts)),
    ),
)
MANY_MAPS = Fact(
    "300 mappings", _flag("it takes fewer than 300 mappings", lambda facts: facts.capabilities.max_dma_maps >= 300)
)
TWO_FDS = Fact(
    "two descriptors per message",
    _flag("it takes fewer than 2 descriptors with a message", lambda facts: facts.capabilities.max_msg_fds >= 2),
)
THREE_FDS = Fact(
    "three descriptors per message",
    _flag("it takes fewer than 3 descriptors with a message", lambda facts: facts.capabilities.max_msg_fds >= 3),
)
IRQ_COUNT = Fact("its count", lambda facts: facts.irqs[IRQ.read(facts)].count)
UNMASKABLE = Fact(
    "an interrupt type that cannot be masked",
    _first(
        "every interrupt type can be masked",
        lambda facts: [i for i, each in facts.irqs.items() if each.count and not each.flags & IrqInfoFlags.MASKABLE],
    ),
)
NOT_RESETTABLE = Fact(
    "no reset flag", _flag("the device offers reset", lambda f: not f.device.flags & DeviceFlags.RESET)
)
RESETTABLE = Fact(
    "the reset flag", _flag("the device does not offer reset", lambda f: bool(f.device.flags & DeviceFlags.RESET))
)
WRITE_MULTIPLE = Fact(
    "write_multiple", _flag("write_multiple is not offered", lambda facts: facts.capabilities.write_multiple)
)
MIGRATION = Fact("the migration feature", _flag("the migration feature is refused", lambda facts: facts.migration))
PRE_COPY = Fact("VFIO_MIGRATION_PRE_COPY", _flag("PRE_COPY is not offered", lambda facts: facts.pre_copy))
NO_PRE_COPY = Fact(
    "migration without PRE_COPY",
    _flag("PRE_COPY is offered, or no migration", lambda facts: facts.migration and not facts.pre_copy),
)
DMA_LOGGING = Fact("the log of writes", _flag("a probe of the log is refused", lambda facts: facts.dma_logging))


def _regions(facts: Facts, flags: RegionInfoFlags) -> list[int]:
    return [index for index, each in facts.regions.items() if each.flags & flags == flags and each.size >= 8]


def _regions_without(facts: Facts, flag: RegionInfoFlags) -> list[int]:
    return [index for index, each in facts.regions.items() if not each.flags & flag and each.size >= 8]


def has_areas(info: DeviceGetRegionInfoReply) -> bool:
    """Whether there are some, or capabilities that cannot be read, which may be some."""
    links, problem = regioncaps.walk(info)
    return problem is not None or any(isinstance(link.content, SparseMmap) for link in links)


def _has_shadow(record: SubRegion | bytes) -> bool:
    return not isinstance(record, bytes) and shadow_of(record) is not None


def _irqs(facts: Facts) -> list[int]:
    return [index for index, each in facts.irqs.items() if each.flags & IrqInfoFlags.EVENTFD and each.count]


def _several(facts: Facts) -> list[int]:
    """The types with three vectors and more, each of which can be enabled by itself, and raised again at once."""
    return [i for i in _irqs(facts) if facts.irqs[i].count >= 3 and not facts.irqs[i].flags & _BOUND]


def _is_set(facts: Facts, index: int) -> bool:
    return bool(facts.irqs[index].flags & IrqInfoFlags.NORESIZE)


def _masks_itself(facts: Facts, index: int) -> bool:
    """Whether an interrupt, once signalled, is not signalled again before the client lifts that."""
    return index in facts.irqs and bool(facts.irqs[index].flags & IrqInfoFlags.AUTOMASKED)


def _raised(facts: Facts) -> list[Interrupt]:
    """The interrupts of the first index that can be raised; of one that does not mask itself, if there is one."""
    index = RAISED_INDEX.read(facts)
    return [each for each in facts.profile.irqs if each.index == index]


def _raised_elsewhere(facts: Facts) -> Interrupt:
    """An interrupt of another index: of the same vector, so that a table of both shows, where there is one."""
    index, vector = RAISED_INDEX.read(facts), RAISED.read(facts)
    others = [each for each in facts.profile.irqs if each.index != index]
    if not others:
        raise NotApplicable("the profile does not say how to raise interrupts of two types")
    return min(others, key=lambda each: each.vector != vector)
