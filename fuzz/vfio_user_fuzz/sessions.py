"""Legal sessions as data: commands that any conforming server takes, made with a model of what they do."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from vfio_user_fuzz.packets import Descriptor, Packet
from vfio_user_proto import wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.device import Description
from vfio_user_proto.messages import (
    Command,
    DeviceFeature,
    DeviceFeatureFlags,
    DeviceFeatureRequest,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
    DeviceGetRegionIoFdsRequest,
    DeviceSetIrqsRequest,
    DeviceWrite,
    DmaMapFlags,
    DmaMapRequest,
    DmaUnmapRequest,
    HeaderFlags,
    IrqInfoFlags,
    IrqSetFlags,
    RegionReadRequest,
    RegionWriteMultiRequest,
    RegionWriteRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record

# Enough for the full reply to any information query.
_ROOM: Final = 4096
_WIDTHS: Final = (1, 2, 4, 8, 16, 64)


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session, with the descriptors that go with it."""

    command: int
    payload: Record | None = None
    fds: tuple[Descriptor, ...] = ()
    no_reply: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server offers, as far as a session must know it to be legal.

    ``scratch`` says which bytes of which regions a session may write; ``proposal`` is what the client proposes in VERSION.
    """

    device: Description
    capabilities: Capabilities
    scratch: Mapping[int, range]
    proposal: Capabilities = field(default_factory=lambda: Capabilities(max_msg_fds=8))

    @property
    def vectors(self) -> dict[int, int]:
        """How many interrupts of each kind there are, of those that there are."""
        return {index: irq.count for index, irq in self.device.irqs.items() if irq.count}


class Model:
    """What a client believes about a server after a legal session.

    ``maps`` holds the size of each mapping by IOVA; ``written`` the bytes of the scratch ranges that were written, by region
    and offset; ``eventfds`` says which descriptor belongs to an (interrupt kind, vector), as (number of the step, position in
    the step); ``signals`` how often each was signalled; ``masked`` the vectors that are masked.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.maps: dict[int, int] = {}
        self.written: dict[tuple[int, int], int] = {}
        self.eventfds: dict[tuple[int, int], tuple[int, int]] = {}
        self.signals: Counter[tuple[int, int]] = Counter()
        self.masked: set[tuple[int, int]] = set()
        self._steps = 0

    def take(self, step: Step) -> None:
        """Believe that ``step`` was done."""
        payload = step.payload
        if isinstance(payload, DmaMapRequest):
            self.maps[payload.address] = payload.size
        elif isinstance(payload, DmaUnmapRequest):
            del self.maps[payload.address]
        elif isinstance(payload, RegionWriteRequest):
            self._write(payload.region, payload.offset, payload.data)
        elif isinstance(payload, RegionWriteMultiRequest):
            for write in payload.wrs:
                self._write(write.region, write.offset, write.data.to_bytes(8, "little")[: write.count])
        elif isinstance(payload, DeviceSetIrqsRequest):
            self._set_irqs(payload, step.fds)
        elif step.command == Command.DEVICE_RESET:
            self.written.clear()
        self._steps += 1

    def _write(self, region: int, offset: int, data: bytes) -> None:
        for at, byte in enumerate(data, offset):
            self.written[region, at] = byte

    def _set_irqs(self, request: DeviceSetIrqsRequest, fds: Sequence[Descriptor]) -> None:
        flags, index = request.flags, request.index
        vectors = [(index, request.start + position) for position in range(request.count)]
        if flags & IrqSetFlags.DATA_EVENTFD:
            for position, vector in enumerate(vectors):
                self.eventfds.pop(vector, None)
                if fds:
                    self.eventfds[vector] = (self._steps, position)
            return
        if not vectors:
            self.eventfds = {vector: owner for vector, owner in self.eventfds.items() if vector[0] != index}
            return
        values = request.data if flags & IrqSetFlags.DATA_BOOL else b"\1" * request.count
        chosen = [vector for vector, value in zip(vectors, values, strict=True) if value]
        if flags & IrqSetFlags.ACTION_TRIGGER:
            signalled = [vector for vector in chosen if vector in self.eventfds]
            self.signals.update(self.eventfds[vector] for vector in signalled)
            if self.offer.device.irqs[index].flags & IrqInfoFlags.AUTOMASKED:
                self.masked.update(signalled)
        elif flags & IrqSetFlags.ACTION_MASK:
            self.masked.update(chosen)
        else:
            self.masked.difference_update(chosen)


def legal(rng: Random, offer: Offer, *, steps: int) -> tuple[Step, ...]:
    """A session of ``steps`` commands after VERSION, each legal after those before it; the same for the same ``rng``."""
    model = Model(offer)
    makers = [make for make, possible in _MAKERS if possible(offer)]
    session = []
    for _ in range(steps):
        step = rng.choice(makers)(rng, model)
        model.take(step)
        session.append(step)
    return tuple(session)


def proposal(offer: Offer) -> Step:
    """The VERSION command that begins a session."""
    return Step(
        Command.VERSION, VersionRequest(version_major=0, version_minor=1, version_data=offer.proposal.to_data())
    )


def packets_of(steps: Sequence[Step]) -> tuple[Packet, ...]:
    """The messages of a session as one write each, with message ids that count from 0."""
    return tuple(
        Packet(
            wire.build(
                step.command,
                step.payload,
                message_id=number & 0xFFFF,
                flags=int(HeaderFlags.NO_REPLY) if step.no_reply else 0,
            ),
            step.fds,
        )
        for number, step in enumerate(steps)
    )


def _query(rng: Random, model: Model) -> Step:
    """One of the information queries."""
    device = model.offer.device
    queries: list[tuple[Command, Record]] = [(Command.DEVICE_GET_INFO, DeviceGetInfoRequest())]
    if device.num_regions:
        index = rng.randrange(device.num_regions)
        queries += [
            (Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(argsz=_ROOM, index=index)),
            (Command.DEVICE_GET_REGION_IO_FDS, DeviceGetRegionIoFdsRequest(argsz=_ROOM, index=index)),
        ]
    if device.num_irqs:
        index = rng.randrange(device.num_irqs)
        queries.append((Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=index)))
    return Step(*rng.choice(queries))


def _feature(rng: Random, model: Model) -> Step:
    """Ask whether a device feature is there; the answer may be no."""
    flags = DeviceFeatureFlags.PROBE | rng.choice((DeviceFeatureFlags.GET, DeviceFeatureFlags.SET))
    return Step(Command.DEVICE_FEATURE, DeviceFeatureRequest(argsz=_ROOM, flags=flags | int(rng.choice(_FEATURES))))


_FEATURES: Final = tuple(DeviceFeature)


def _map(rng: Random, model: Model) -> Step:
    """Map memory where there is none, or unmap some where no more is allowed."""
    capabilities = model.offer.capabilities
    if len(model.maps) >= min(capabilities.max_dma_maps, 64):
        return _unmap(rng, model) if model.maps else _query(rng, model)
    page = capabilities.pgsizes & -capabilities.pgsizes or 4096
    size = page * rng.choice((1, 1, 2, 16))
    address = page * rng.choice((rng.randrange(64), rng.randrange(1 << 20), rng.randrange((1 << 48) // page)))
    for begin, length in sorted(model.maps.items()):
        if begin < address + size and address < begin + length:
            address = begin + length
    flags = rng.choice((DmaMapFlags.READABLE, DmaMapFlags.WRITEABLE, DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE))
    offset = page * rng.randrange(3) if capabilities.max_msg_fds and rng.random() < 0.7 else None
    return Step(
        Command.DMA_MAP,
        DmaMapRequest(flags=flags, offset=offset or 0, address=address, size=size),
        () if offset is None else (Descriptor("memfd", offset + size),),
        no_reply=rng.random() < 0.2,
    )


def _unmap(rng: Random, model: Model) -> Step:
    """Unmap something that is mapped, or map something."""
    if not model.maps:
        return _map(rng, model)
    address = rng.choice(sorted(model.maps))
    return Step(Command.DMA_UNMAP, DmaUnmapRequest(address=address, size=model.maps[address]))


def _set_irqs(rng: Random, model: Model) -> Step:
    """Give eventfds, take them back, trigger, mask or unmask."""
    offer = model.offer
    index, there = rng.choice(sorted(offer.vectors.items()))
    start = rng.randrange(there)
    count = rng.randint(1, min(there - start, 8))
    form = rng.choice(("assign", "assign", "take back", "disable", "trigger", "mask"))
    fds: tuple[Descriptor, ...] = ()
    if form == "assign":
        count = min(count, max(1, offer.capabilities.max_msg_fds))
        fds = (Descriptor("eventfd"),) * count
    if form in ("assign", "take back"):
        flags, data = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER, b""
    elif form == "disable":
        flags, data, start, count = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER, b"", 0, 0
    else:
        flags = IrqSetFlags.ACTION_TRIGGER
        if form == "mask" and offer.device.irqs[index].flags & IrqInfoFlags.MASKABLE:
            flags = rng.choice((IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK))
        data = bytes(rng.randrange(2) for _ in range(count)) if rng.random() < 0.5 else b""
        flags |= IrqSetFlags.DATA_BOOL if data else IrqSetFlags.DATA_NONE
        if flags & IrqSetFlags.ACTION_TRIGGER and any((index, start + each) in model.masked for each in range(count)):
            flags ^= IrqSetFlags.ACTION_TRIGGER | IrqSetFlags.ACTION_UNMASK
    request = DeviceSetIrqsRequest(flags=flags, index=index, start=start, count=count, data=data)
    return Step(Command.DEVICE_SET_IRQS, request, fds)


def _place(rng: Random, offer: Offer, most: int) -> tuple[int, int, int]:
    """Region, offset and length of an access inside the scratch bytes."""
    index = rng.choice(sorted(offer.scratch))
    span = offer.scratch[index]
    count = rng.choice([width for width in _WIDTHS if width <= max(1, min(most, len(span)))])
    return index, rng.choice(span[: len(span) - count + 1][:: rng.choice((1, count))]), count


def _read(rng: Random, model: Model) -> Step:
    region, offset, count = _place(rng, model.offer, model.offer.capabilities.max_data_xfer_size)
    return Step(Command.REGION_READ, RegionReadRequest(region=region, offset=offset, count=count))


def _write(rng: Random, model: Model) -> Step:
    region, offset, count = _place(rng, model.offer, model.offer.capabilities.max_data_xfer_size)
    request = RegionWriteRequest(region=region, offset=offset, data=rng.randbytes(count))
    return Step(Command.REGION_WRITE, request, no_reply=rng.random() < 0.2)


def _write_multi(rng: Random, model: Model) -> Step:
    writes = []
    for _ in range(rng.randint(1, 4)):
        region, offset, count = _place(rng, model.offer, 8)
        value = int.from_bytes(rng.randbytes(count), "little")
        writes.append(DeviceWrite(offset=offset, region=region, count=count, data=value))
    return Step(Command.REGION_WRITE_MULTI, RegionWriteMultiRequest(wrs=tuple(writes)))


def _reset(rng: Random, model: Model) -> Step:
    return Step(Command.DEVICE_RESET)


# How each kind of step is made, and whether a server can take it at all; more lines make a kind more frequent.
_MAKERS: Final[tuple[tuple[Callable[[Random, Model], Step], Callable[[Offer], object]], ...]] = (
    (_query, lambda offer: True),
    (_feature, lambda offer: True),
    (_map, lambda offer: True),
    (_map, lambda offer: True),
    (_unmap, lambda offer: True),
    (_set_irqs, lambda offer: offer.vectors),
    (_set_irqs, lambda offer: offer.vectors),
    (_read, lambda offer: offer.scratch),
    (_write, lambda offer: offer.scratch),
    (_write, lambda offer: offer.scratch),
    (_write_multi, lambda offer: offer.scratch and offer.capabilities.write_multiple),
    (_reset, lambda offer: offer.device.resettable),
)
