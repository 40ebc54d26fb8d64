"""``vfio-user bench``: measure the mechanisms of the protocol, beginning with what a doorbell costs."""

import argparse
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from vfio_user_proto import launch, unix
from vfio_user_proto.cli import output
from vfio_user_proto.cli.arguments import add_place, number, whole
from vfio_user_proto.client import Client
from vfio_user_proto.harness import FACTOR, as_json, measure, svg, table


def register(subparsers: Any) -> None:
    """Add ``bench`` and its sub-commands to the parser of ``vfio-user``."""
    bench = subparsers.add_parser(
        "bench", help="measure what the mechanisms cost", description="Measure what the mechanisms cost."
    )
    commands = bench.subcommands("WHAT")
    parser = commands.add_parser(
        "doorbell",
        help="what a guest's write costs: message, ioeventfd, shadow ioeventfd, ioregionfd",
        description="Ring the doorbells of the device 'doorbell' over each path; a server that is named must have that device "
        "too (vfio-user serve --device doorbell). Exit status: 0 measured, 1 where writes were lost, or on KVM an "
        "ioeventfd is not at least 4 times as cheap as a message.",
    )
    add_place(parser)
    parser.add_argument(
        "--count", type=whole(1, 100_000_000), default=10_000, metavar="N", help="writes over each path (10000)"
    )
    parser.add_argument("--no-kvm", action="store_true", help="use the user-space bus even where KVM works")
    parser.add_argument(
        "--timeout",
        type=number(zero=False),
        default=10.0,
        metavar="SECONDS",
        help="wait so long for each reply and kick (10)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the figures")
    parser.set_defaults(run=run_doorbell)


def run_doorbell(options: argparse.Namespace) -> int:
    """Measure and report. Status 1 where writes were lost, or on KVM an ioeventfd is not as cheap as it must be."""
    for path in filter(None, (options.json, options.svg)):
        output.check(path)
    with ExitStack() as stack:
        stream = _connect(options, stack)
        client = stack.enter_context(Client.connect(stream, timeout=options.timeout))
        measurement = measure(client, count=options.count, kvm=not options.no_kvm, timeout=options.timeout)
    output.show(table(measurement))
    if options.json:
        output.write(options.json, json.dumps(as_json(measurement), indent=2) + "\n")
    if options.svg:
        output.write(options.svg, svg(measurement))
    cheap = not measurement.on_kvm or measurement.ioeventfd_factor >= FACTOR
    return 0 if measurement.complete and cheap else 1


def _connect(options: argparse.Namespace, stack: ExitStack) -> unix.Stream:
    """A connection to the server that is meant. Raises TargetError and TransportError."""
    if options.socket is not None:
        return unix.connect(options.socket, timeout=options.timeout)
    if options.spawn is not None:
        return stack.enter_context(launch.spawn(options.spawn, timeout=options.timeout)).connect()
    return stack.enter_context(launch.builtin(["--device", "doorbell"], timeout=options.timeout)).connect()
