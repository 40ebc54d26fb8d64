"""``vfio-user fuzz``: look for input that a server does not survive, and write messages for other fuzzers to begin with."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from vfio_user_proto import program
from vfio_user_proto.cli import output
from vfio_user_proto.cli.arguments import add_place, number, whole

_ABOUT = "Look for input that a server does not survive, or write messages for other fuzzers to begin with."
_DEFAULT_SECONDS = 10.0
# Seconds that a server may take to start, and to say anything, before the multiplier.
_START, _PATIENCE = 10.0, 2.0


def register(subparsers: Any) -> None:
    """Add ``fuzz`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser("fuzz", help="look for input that a server does not survive", description=_ABOUT)
    kinds = parser.subcommands("WHAT")
    server = kinds.add_parser(
        "server",
        help="send mutated sessions to a server",
        description="Send mutated sessions to a server; the built-in one where neither --socket nor --spawn is given. "
        "The server is expected to refuse or close, and to serve the next client: a crash, a hang, and a reply that does not "
        "belong there are findings. Exit status: 0 none, 1 findings, 3 no server, 4 nothing was sent.",
    )
    add_place(server)
    server.add_argument(
        "--time",
        type=number(zero=False),
        metavar="SECONDS",
        help=f"send for so long ({_DEFAULT_SECONDS:g}, unless there is --steps); then findings are still made small",
    )
    server.add_argument("--steps", type=whole(1), metavar="N", help="stop after so many sessions")
    server.add_argument(
        "--seed", type=whole(0, (1 << 64) - 1), metavar="N", help="the same seed sends the same sessions (any)"
    )
    server.add_argument(
        "--evidence",
        "--save",
        dest="save",
        type=Path,
        metavar="DIR",
        help="keep a file per finding, for conformance replay and decode",
    )
    server.add_argument(
        "--timeout-multiplier",
        type=number(zero=False),
        default=1.0,
        metavar="X",
        help="how many times as long to wait for a slow server (1)",
    )
    server.set_defaults(run=run_server)
    about = "write messages of every kind, one per file, for AFL++ or libFuzzer"
    corpus = kinds.add_parser("corpus", help=about, description=f"{about.capitalize()}.")
    corpus.add_argument("folder", metavar="DIR", help="where to; made where there is none")
    corpus.set_defaults(run=run_corpus)


def run_server(options: argparse.Namespace) -> int:
    """0 nothing found, 1 findings, 3 the server could not be started or reached, 4 nothing was sent."""
    from vfio_user_fuzz import server, survey, targets

    if options.save is not None:
        output.make_folder(options.save)
    start, patience = _START * options.timeout_multiplier, _PATIENCE * options.timeout_multiplier
    under_test: program.Program
    if options.socket is not None:
        under_test = program.Attached(options.socket)
    elif options.spawn is not None:
        under_test = program.spawned(options.spawn, timeout=start)
    else:
        under_test = program.builtin(timeout=start)
    target = targets.Reused(under_test)
    seconds = options.time if options.time or options.steps else _DEFAULT_SECONDS
    try:
        run = server.Run(
            target,
            survey.survey(target, patience=patience),
            options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little"),
            seconds=seconds,
            steps=options.steps,
            save=options.save,
            patience=patience,
            note=lambda finding: print(finding.symptom, file=sys.stderr, flush=True),
        )
        report = run.run()
    finally:
        target.close()
    output.show("".join(f"{line}\n" for line in report.lines()))
    if report.findings:
        return 1
    if report.stopped:
        return 3
    return 0 if report.sessions else 4


def run_corpus(options: argparse.Namespace) -> int:
    """Write the corpus."""
    from vfio_user_fuzz.corpus import write

    print(f"{write(options.folder)} messages in {options.folder}")
    return 0
