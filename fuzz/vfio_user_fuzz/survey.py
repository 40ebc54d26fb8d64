"""What a server offers, asked from it once before a run, so that sessions fit it."""

from typing import Final

from vfio_user_fuzz.conversation import Ending
from vfio_user_fuzz.mutations import seeded
from vfio_user_fuzz.sessions import Offer, Step, packets_of, proposal
from vfio_user_fuzz.targets import Target, hold
from vfio_user_proto import capabilities, wire
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.device import READ_WRITE, Description, Irq, Region
from vfio_user_proto.errors import DecodeError, TargetError
from vfio_user_proto.messages import (
    Command,
    DeviceFlags,
    DeviceGetInfoReply,
    DeviceGetIrqInfoReply,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoReply,
    DeviceGetRegionInfoRequest,
    VersionRequest,
)
from vfio_user_proto.model import Record

# A server that claims more regions or kinds of interrupts than this is asked for the first ones only.
_MOST: Final = 64
_ROOM: Final = 4096


def survey(target: Target, *, patience: float) -> Offer:
    """Ask for version, regions and interrupts. Raises TargetError where the server cannot be started or does not answer."""
    nothing = Offer(Description(regions={}), Capabilities(), {})
    about = _ask(target, [proposal(nothing)], patience)
    info = next((reply for reply in about if isinstance(reply, DeviceGetInfoReply)), DeviceGetInfoReply())
    version = next((reply for reply in about if isinstance(reply, VersionRequest)), VersionRequest())
    queries = [
        Step(Command.DEVICE_GET_REGION_INFO, DeviceGetRegionInfoRequest(argsz=_ROOM, index=index))
        for index in range(min(info.num_regions, _MOST))
    ]
    queries += [
        Step(Command.DEVICE_GET_IRQ_INFO, DeviceGetIrqInfoRequest(index=index))
        for index in range(min(info.num_irqs, _MOST))
    ]
    details = _ask(target, [proposal(nothing), *queries], patience)
    regions = {
        reply.index: Region(reply.size, reply.flags) for reply in details if isinstance(reply, DeviceGetRegionInfoReply)
    }
    irqs = {reply.index: Irq(reply.count, reply.flags) for reply in details if isinstance(reply, DeviceGetIrqInfoReply)}
    device = Description(
        regions=regions,
        irqs=irqs,
        num_regions=min(info.num_regions, _MOST),
        num_irqs=min(info.num_irqs, _MOST),
        resettable=bool(info.flags & DeviceFlags.RESET),
    )
    scratch = {
        index: range(region.size)
        for index, region in regions.items()
        if region.size and region.flags & READ_WRITE == READ_WRITE
    }
    return Offer(device, _capabilities(version.version_data), scratch)


def _capabilities(data: bytes) -> Capabilities:
    try:
        return capabilities.parse(data)
    except DecodeError:
        return Capabilities()


def _ask(target: Target, steps: list[Step], patience: float) -> list[Record]:
    """The payloads of the replies to ``steps`` and to the last query."""
    talk = hold(target, packets_of(steps), seeded(), patience=patience)
    if talk.ending is not Ending.ANSWERED:
        raise TargetError(
            f"{target.name}: no answer to VFIO_USER_VERSION and queries: {talk.problem or talk.ending.value}"
        )
    replies = []
    for captured in talk.traffic:
        if captured.sender == "server":
            try:
                message = wire.decode(captured.data)
            except DecodeError:
                continue
            if message.payload is not None and message.is_reply:
                replies.append(message.payload)
    return replies
