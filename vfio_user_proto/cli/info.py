"""``vfio-user info``: what a server offers, for people and as JSON."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final

from vfio_user_proto.cli import lspci, target
from vfio_user_proto.errors import TransportError
from vfio_user_proto.messages import DeviceFlags, IoFdType, RegionInfoFlags
from vfio_user_proto.model import name_of
from vfio_user_proto.probe import Descriptor, FeatureOffer, IrqOffer, Offer, RegionOffer, probe
from vfio_user_proto.trace import payload_to_json

_REGIONS: Final = ("BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "ROM", "config", "VGA")
_IRQS: Final = ("INTx", "MSI", "MSI-X", "ERR", "REQ")
_CAPABILITIES: Final = ("max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes", "twin_socket", "write_multiple")


def register(subparsers: Any) -> None:
    """Add ``info`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser(
        "info",
        help="print what a server offers",
        description="Ask a server for everything that it offers; nothing is changed. Without --socket and --spawn the "
        "built-in reference server is asked.",
    )
    target.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the offer; what was found before a server went away or fell silent is printed all the same (status 3)."""
    with target.connected(options) as client:
        offer = probe(client)
        if options.json:
            print(json.dumps(as_json(offer), indent=2))
        else:
            print("\n".join(_told_once(text(offer), offer.ended)))
        if offer.ended:
            sys.stdout.flush()
            raise TransportError(offer.ended)
    return 0


def _told_once(lines: Iterable[str], ended: str) -> Iterator[str]:
    """The lines; what ended the asking stands in the first that it concerns alone."""
    told = False
    for line in lines:
        concerned = bool(ended) and line.endswith(ended)
        yield line.replace(f"! {ended}", "not asked any more") if concerned and told else line
        told = told or concerned


def as_json(offer: Offer) -> dict[str, Any]:
    """The offer for programs: records as ``decode --json`` shows them."""
    capabilities = offer.capabilities
    return {
        "version": {"major": offer.version[0], "minor": offer.version[1]},
        "capabilities": {name: getattr(capabilities, name) for name in _CAPABILITIES} | dict(capabilities.unknown),
        "device": payload_to_json(offer.device) if offer.device else None,
        "regions": [_region_json(region) for region in offer.regions],
        "irqs": [
            {"index": irq.index, "problem": irq.problem} if irq.reply is None else payload_to_json(irq.reply)
            for irq in offer.irqs
        ],
        "features": [
            {
                "feature": each.feature.document_name,
                "get": each.can_get,
                "set": each.can_set,
                "content": payload_to_json(each.content) if each.content else None,
                "problem": each.problem,
            }
            for each in offer.features
        ],
        "config": offer.config.hex(),
        "pci": lspci.decode(offer.config),
        "problems": [*offer.problems, *([offer.ended] if offer.ended else [])],
    }


def _region_json(region: RegionOffer) -> dict[str, Any]:
    if region.reply is None:
        return {"index": region.index, "problem": region.problem}
    return payload_to_json(region.reply) | {
        "fd": _fd_json(region.fd),
        "sub_regions": [payload_to_json(entry) for entry in region.sub_regions],
        "io_fds": [_fd_json(fd) for fd in region.io_fds],
        "io_problem": region.io_problem,
    }


def _fd_json(fd: Descriptor | None) -> dict[str, Any] | None:
    return None if fd is None else {"kind": fd.kind, "size": fd.size}


def text(offer: Offer) -> Iterator[str]:
    """The offer for people, line by line."""
    capabilities = offer.capabilities
    yield f"version       {offer.version[0]}.{offer.version[1]}"
    known = [f"{name} {_word(getattr(capabilities, name))}" for name in _CAPABILITIES]
    yield f"capabilities  {', '.join(known)}"
    if capabilities.unknown:
        yield f"              and {json.dumps(dict(capabilities.unknown))}"
    if offer.device is not None:
        kind = "PCI" if offer.device.flags & DeviceFlags.PCI else "not PCI"
        reset = "can be reset" if offer.device.flags & DeviceFlags.RESET else "cannot be reset"
        yield (
            f"device        {kind}, {offer.device.num_regions} regions, "
            f"{offer.device.num_irqs} kinds of interrupts, {reset}"
        )
    for number, line in enumerate(lspci.lines(offer.config, [region.size for region in offer.regions[:6]])):
        yield f"{'' if number else 'PCI':14}{line}"
    yield "regions"
    for region in offer.regions:
        yield from _region_text(region)
    yield "interrupts"
    for irq in offer.irqs:
        yield _irq_text(irq)
    if offer.features:
        yield "features"
    for feature in offer.features:
        yield _feature_text(feature)
    for problem in offer.problems:
        yield f"! {problem}"


def _word(value: bool | int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value < 65536 or value & (value - 1) else f"{value:#x}"


def _region_text(region: RegionOffer) -> Iterator[str]:
    name = _REGIONS[region.index] if region.index < len(_REGIONS) else "own"
    if region.reply is None:
        yield f"  {region.index:<2} {name:7} ! {region.problem}"
        return
    if not region.size:
        yield f"  {region.index:<2} {name:7} -"
        return
    yield f"  {region.index:<2} {name:7} {region.size:#x} bytes, {region.reply.flags}"
    if region.type is not None:
        yield f"             type {region.type.type:#x}, subtype {region.type.subtype:#x}"
    if region.fd is not None:
        areas = "all of it"
        if region.areas is not None:
            areas = (
                ", ".join(f"{area.offset:#x}-{area.offset + area.size - 1:#x}" for area in region.areas) or "nothing"
            )
        where = f"{region.fd.kind} of {region.fd.size:#x} bytes, from byte {region.reply.offset:#x} on"
        yield f"             mappable: {areas} ({where})"
    elif region.reply.flags & RegionInfoFlags.MMAP:
        yield "             ! mappable, but no descriptor came"
    for entry in region.sub_regions:
        if isinstance(entry, bytes):
            continue
        kind = name_of(IoFdType, entry.type).removeprefix(IoFdType.prefix).lower()
        fd = f"descriptor {entry.fd_index} ({region.io_fds[entry.fd_index].kind})"
        yield f"             {kind} at {entry.offset:#x}, {entry.size} bytes, {fd}, flags {entry.flags}"
    if region.io_problem:
        yield f"             no sub-regions: {region.io_problem}"


def _irq_text(irq: IrqOffer) -> str:
    name = _IRQS[irq.index] if irq.index < len(_IRQS) else "own"
    if irq.reply is None:
        return f"  {irq.index:<2} {name:7} ! {irq.problem}"
    return f"  {irq.index:<2} {name:7} " + (f"{irq.reply.count}, {irq.reply.flags}" if irq.reply.count else "-")


def _feature_text(offer: FeatureOffer) -> str:
    ways = " and ".join(word for word, there in (("get", offer.can_get), ("set", offer.can_set)) if there)
    line = f"  {offer.feature.name}: {ways}"
    if offer.content is not None:
        line += ", " + ", ".join(f"{name} {value}" for name, value in payload_to_json(offer.content).items())
    return f"{line} ! {offer.problem}" if offer.problem else line
