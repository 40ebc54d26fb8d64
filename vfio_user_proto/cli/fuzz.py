"""``vfio-user fuzz``: look for input that a server does not survive, and write messages for other fuzzers to begin with."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from vfio_user_proto import program
from vfio_user_proto.errors import UsageError

_DEFAULT_SECONDS = 10.0
# Seconds that a server may take to start, and to say anything, before the multiplier.
_START, _PATIENCE = 10.0, 2.0


def register(subparsers: Any) -> None:
    """Add ``fuzz`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser("fuzz", help="look for input that a server does not survive", description=__doc__)
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    server = kinds.add_parser(
        "server",
        help="send mutated sessions to a server",
        description="Send mutated sessions to a server; the built-in one where neither --socket nor --spawn is given. "
        "The server is expected to refuse or close, and to serve the next client: a crash, a hang, and a reply that does not "
        "belong there are findings (status 1).",
    )
    where = server.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="a server that runs already")
    where.add_argument("--spawn", metavar="COMMAND", help="a server to start; {socket} stands for its path")
    server.add_argument(
        "--time",
        type=_positive,
        metavar="SECONDS",
        help=f"send for so long ({_DEFAULT_SECONDS:g}); a finding is then still made small",
    )
    server.add_argument("--steps", type=_count, metavar="N", help="stop after so many sessions")
    server.add_argument("--seed", type=_number, metavar="N", help="the same seed sends the same sessions (any)")
    server.add_argument(
        "--save", type=Path, metavar="DIR", help="keep a file per finding, for conformance replay and decode"
    )
    server.add_argument("--timeout-multiplier", type=_positive, default=1.0, metavar="X", help="for slow servers (1)")
    server.set_defaults(run=run_server)
    corpus = kinds.add_parser("corpus", help="write messages of every kind, one per file, for AFL++ or libFuzzer")
    corpus.add_argument("folder", metavar="DIR")
    corpus.set_defaults(run=run_corpus)


def run_server(options: argparse.Namespace) -> int:
    """0 nothing found, 1 findings, 3 the server could not be started or reached, 4 nothing was sent."""
    from vfio_user_fuzz import server, survey, targets

    if options.save is not None:
        _make_folder(options.save)
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
    print("\n".join(report.lines()))
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


def _make_folder(path: Path) -> None:
    """Make sure that evidence can be written before anything is found."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _number(text: str) -> int:
    value = int(text)
    if not 0 <= value < 1 << 64:
        raise ValueError(text)
    return value
