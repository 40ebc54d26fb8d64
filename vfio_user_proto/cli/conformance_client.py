"""``vfio-user conformance client``: serve a client, and judge what it sends."""

import argparse
import difflib
import json
import shlex
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vfio_user_proto.cli import reporting
from vfio_user_proto.cli.arguments import number, whole
from vfio_user_proto.errors import UsageError

if TYPE_CHECKING:
    from vfio_user_conformance.witness.session import Bench


def register(kinds: Any) -> None:
    """Add ``client`` to the parser of ``vfio-user conformance``."""
    parser = kinds.add_parser(
        "client",
        help="serve a client and judge what it sends",
        description="Serve a client with the reference server and judge what it sends; the built-in client where neither "
        "--spawn nor --listen is given. Exit status: 0 conforming, 1 not conforming, 3 no client, 4 nothing was seen.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--spawn", metavar="COMMAND", help="a client to start; {socket} stands for the path to connect to"
    )
    where.add_argument("--listen", metavar="PATH", help="wait for a client here, and serve it until it leaves")
    parser.add_argument(
        "--fault", metavar="NAME", help="a mistake for the built-in client to make, to see it found; --list names them"
    )
    parser.add_argument(
        "--list", action="store_true", help="print the checks, and the faults that they catch; serve nobody"
    )
    parser.add_argument(
        "--select",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="only these checks: a section, the name of a check, or a requirement, with * for anything",
    )
    parser.add_argument(
        "--allow",
        choices=("dma", "all"),
        help="dma, or all: read a few bytes of each range that the client announced without a descriptor, and write them back",
    )
    parser.add_argument(
        "--time-limit", type=number(zero=False), metavar="SECONDS", help="end the run after so long (no limit)"
    )
    parser.add_argument(
        "--device",
        default="testdev",
        metavar="NAME",
        help="the device to serve: testdev, minimal, doorbell, gpio or serial (testdev)",
    )
    for name, what in (
        ("max-msg-fds", "so many descriptors with one message"),
        ("max-data-xfer-size", "so many bytes with one command"),
        ("max-dma-maps", "so many mappings at a time"),
    ):
        parser.add_argument(f"--{name}", type=whole(0), metavar="N", help=f"offer the client no more than {what}")
    parser.add_argument("--no-twin-socket", action="store_true", help="send commands to the client on the main socket")
    parser.add_argument("--trace", action="store_true", help="print every message as it comes, on standard error")
    reporting.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve one client, write the reports; the exit status is that of the report."""
    from vfio_user_conformance.profile import Profile, load
    from vfio_user_conformance.verdict import Report
    from vfio_user_conformance.witness.catalogue import CHECKS, EVERY, select
    from vfio_user_conformance.witness.observer import PATIENCE, Witness
    from vfio_user_conformance.witness.refusals import Refusals

    chosen = select(options.select)
    if options.list:
        for ident in chosen:
            if check := CHECKS.get(ident):
                print(f"{ident}  [{check.judged_by.level}, {check.requirement}]\n  expected  {check.expects}")
                print(f"  catches   {', '.join(check.catches)}")
        return 0
    if options.fault and (options.spawn or options.listen):
        raise UsageError("--fault is for the built-in client")
    reporting.check(options)
    profile = load(options.profile) if options.profile else Profile()
    # Nothing about the built-in client is slow, and some of its faults leave a side waiting for what never comes.
    patience = 0.5 if options.fault else PATIENCE
    witness = Witness([CHECKS[ident] for ident in chosen if ident in CHECKS], patience)
    refusals = Refusals()
    witness.watchers.append(refusals.see)
    if options.trace:
        witness.watchers.append(_told)
    bench = _bench(options, witness)
    started = time.monotonic()
    name = _serve(bench, options)
    seconds = time.monotonic() - started
    if bench.gave_up:
        print(f"vfio-user: {bench.gave_up}", file=sys.stderr)
    results = [*witness.results(bench.stderr), *(one for one in bench.program if one.ident in chosen)]
    for line in refusals.told:
        print(f"vfio-user: {line}", file=sys.stderr)
    report = Report(
        name, profile.name, options.strict, tuple(results), seconds, refusals.without_session, side="client"
    )
    return reporting.conclude(options, "client", report, profile, EVERY)


def _bench(options: argparse.Namespace, witness: Any) -> "Bench":
    from vfio_user_conformance.witness.session import Bench
    from vfio_user_proto.devices import DEVICES
    from vfio_user_proto.responder import OFFER

    if options.device not in DEVICES:
        raise UsageError(f"no device {options.device!r}; there are {', '.join(sorted(DEVICES))}")
    if options.device != "testdev" and not (options.spawn or options.listen):
        raise UsageError("the built-in client is for the device testdev")
    limits = {name: getattr(options, name) for name in ("max_msg_fds", "max_data_xfer_size", "max_dma_maps")}
    offer = replace(
        OFFER,
        twin_socket=not options.no_twin_socket,
        **{name: value for name, value in limits.items() if value is not None},
    )
    return Bench(witness, DEVICES[options.device], offer, bool(options.allow), options.time_limit)


def _serve(bench: "Bench", options: argparse.Namespace) -> str:
    """Serve the client that the options name; returns its name for reports."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, bench.stop)
    if options.spawn:
        bench.spawn(_words(options.spawn))
        return str(options.spawn)
    if options.listen:
        bench.listen(options.listen, lambda: print(f"listening on {options.listen}", file=sys.stderr, flush=True))
        return f"the client at {options.listen}"
    if not options.fault:
        bench.builtin()
        return "the built-in client"
    from vfio_user_proto.faults.client import CLIENT_FAULTS

    if options.fault not in CLIENT_FAULTS:
        near = difflib.get_close_matches(options.fault, CLIENT_FAULTS, 1)
        raise UsageError(f"no client fault {options.fault!r}{f'; did you mean {near[0]}?' if near else ''}")
    bench.builtin(CLIENT_FAULTS[options.fault], timeout=1.0)
    return f"the built-in client with the fault {options.fault}"


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise UsageError(f"{command!r}: {problem}") from None
    if not any("{socket}" in word for word in words):
        raise UsageError(f"{command!r}: {{socket}} must stand where the command wants the path of its socket")
    return words


def _told(seen: Any) -> None:
    print(json.dumps(seen.as_dict()), file=sys.stderr)
