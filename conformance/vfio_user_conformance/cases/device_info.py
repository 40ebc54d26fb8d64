"""VFIO_USER_DEVICE_GET_INFO, and whether the indexes that it promises exist."""

from collections.abc import Generator

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import ANYTHING, Either, ErrorReply, Reply, at_least, with_bits
from vfio_user_conformance.facts import MOST, Facts
from vfio_user_conformance.peer import Seen
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Exchange, exchange
from vfio_user_proto.messages import (
    DeviceFlags,
    DeviceGetInfoRequest,
    DeviceGetIrqInfoRequest,
    DeviceGetRegionInfoRequest,
)

# The regions that every PCI device has a number for.
STANDARD = 9


def every_region(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for each region."""
    for index in range(min(facts.device.num_regions, MOST)):
        yield exchange(Send(DeviceGetRegionInfoRequest(argsz=0x1000, index=index)), Reply())


def every_irq(facts: Facts) -> Generator[Exchange, Seen, None]:
    """Ask for each interrupt type."""
    for index in range(min(facts.device.num_irqs, MOST)):
        yield exchange(Send(DeviceGetIrqInfoRequest(index=index)), Reply())


CASES = [
    Case(
        ident="device-info/reply",
        requirement="get-info.reply-layout",
        stimulus=Send(DeviceGetInfoRequest()),
        expect=Reply(fds=0),
        catches=("device-info-longer",),
    ),
    Case(
        ident="device-info/pci",
        requirement="get-info.pci",
        stimulus=Send(DeviceGetInfoRequest()),
        expect=Reply(flags=with_bits(DeviceFlags.PCI)),
        catches=("device-info-no-pci",),
    ),
    Case(
        ident="device-info/argsz-above",
        requirement="argsz.reply-needed",
        stimulus=Send(DeviceGetInfoRequest(argsz=0x100)),
        expect=Reply(argsz=16),
        catches=("device-info-argsz-echoed",),
    ),
    Case(
        ident="device-info/argsz-largest",
        requirement="argsz.reply-needed",
        stimulus=Send(DeviceGetInfoRequest(argsz=0xFFFFFFFF)),
        expect=Reply(argsz=16),
        catches=("device-info-argsz-largest-refused",),
    ),
    Case(
        ident="device-info/argsz-below",
        requirement="argsz.below-fixed-part",
        stimulus=Send(DeviceGetInfoRequest(argsz=8)),
        expect=Either(Reply(argsz=16), ErrorReply()),
        catches=("device-info-cut-to-argsz",),
    ),
    Case(
        ident="device-info/standard-regions",
        requirement="get-info.standard-regions",
        stimulus=Send(DeviceGetInfoRequest()),
        expect=Reply(num_regions=at_least(STANDARD)),
        catches=("device-info-regions-counted",),
    ),
    Case(
        ident="device-info/request-not-zero",
        requirement="security.validate",
        stimulus=Send(DeviceGetInfoRequest(flags=DeviceFlags(0xFFFFFFFF), num_regions=0xFFFFFFFF, num_irqs=0xFFFFFFFF)),
        expect=ANYTHING,
        catches=("device-info-request-believed",),
    ),
    Case(
        ident="device-info/every-region",
        requirement="get-info.counts",
        stimulus="VFIO_USER_DEVICE_GET_REGION_INFO for each index below num_regions",
        expect="a reply to each",
        script=every_region,
        catches=("device-info-one-region-too-many",),
    ),
    Case(
        ident="device-info/every-interrupt-type",
        requirement="get-info.counts",
        stimulus="VFIO_USER_DEVICE_GET_IRQ_INFO for each index below num_irqs",
        expect="a reply to each",
        script=every_irq,
        catches=("device-info-one-irq-too-many",),
    ),
]
