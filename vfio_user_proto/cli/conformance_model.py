"""``vfio-user conformance model``: sequences of commands by chance, each reply held against a model."""

import argparse
import os
import time
from typing import Any

from vfio_user_proto.cli import judged, reporting
from vfio_user_proto.cli.arguments import number, whole

_DEFAULT_STEPS = 2000


def register(kinds: Any) -> None:
    """Add ``model`` to the parser of ``vfio-user conformance``."""
    parser = kinds.add_parser(
        "model",
        help="explore a server with sequences of commands, and hold each reply against a model",
        description="Explore a server with sequences of commands that chance draws, and hold each reply against a model of "
        "what the server must know by then; the built-in reference server where neither --socket nor --spawn is given. What "
        "fails is made short, and can be done again by replay. Exit status: 0 conforming, 1 not conforming, 3 no target, "
        "4 nothing was run.",
    )
    judged.add_arguments(parser)
    parser.add_argument("--steps", type=whole(1), metavar="N", help=f"explore so many moves ({_DEFAULT_STEPS})")
    parser.add_argument(
        "--time", type=number(zero=False), metavar="SECONDS", help="end after so long, with all that there is to do"
    )
    parser.add_argument(
        "--seed", type=whole(0, (1 << 64) - 1), metavar="N", help="the same seed draws the same moves (any)"
    )
    parser.add_argument("--allow", default="", metavar="HAZARD,…", help="reset, irq, migration, write, stress, or all")
    reporting.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Explore, write the reports; the exit status is that of the report."""
    from vfio_user_conformance.case import catalogue
    from vfio_user_conformance.model.catalogue import RULES
    from vfio_user_conformance.model.explore import Run
    from vfio_user_conformance.profile import load
    from vfio_user_conformance.verdict import Report

    reporting.check(options)
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(3), "little")
    bench = judged.bench(options)
    profile = bench.facts.profile
    known = load(options.known).known if options.known else profile.known
    every = {*catalogue(), *RULES}
    steps = options.steps if options.steps or options.time else _DEFAULT_STEPS
    exploring = Run(bench, options.seed, steps, options.time, known)
    started = time.monotonic()
    results = exploring.run()
    report = Report(
        bench.target.name,
        profile.name,
        options.strict,
        tuple(results),
        time.monotonic() - started,
        exploring.cut_short,
        seed=options.seed,
        explored=exploring.explored,
    )
    return reporting.conclude(options, "model", report, profile, every)
