"""``vfio-user conformance``: judge a server against the specification, and compare what came of it."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vfio_user_proto.cli import conformance_client, conformance_model, judged, output, reporting
from vfio_user_proto.cli.arguments import whole
from vfio_user_proto.errors import TargetError, TransportError, UsageError, VfioUserError

_PATTERNS: Final = "a section, the name of a case, or a requirement, with * for anything"


def register(subparsers: Any) -> None:
    """Add ``conformance`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser(
        "conformance",
        help="judge a server against the specification",
        description="Judge a server, or a client, against the specification, and compare what came of it.",
    )
    kinds = parser.subcommands("WHAT")
    _register_server(kinds)
    conformance_client.register(kinds)
    conformance_model.register(kinds)
    listing = kinds.add_parser(
        "list",
        help="print cases, and the faults of the built-in server that they catch",
        description="Print cases: what is sent and expected, the requirement, and the faults of the built-in server that are "
        "caught (for --fault). Begin with --sections.",
    )
    listing.add_argument("patterns", nargs="*", metavar="PATTERN", help=f"{_PATTERNS}; all without one")
    what = listing.add_mutually_exclusive_group()
    what.add_argument("--sections", action="store_true", help="the sections alone, with the number of their cases")
    what.add_argument(
        "--requirements", action="store_true", help="every requirement, with its cases or why it has none"
    )
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=run_list)
    again = kinds.add_parser(
        "replay",
        help="do again what evidence files hold",
        description="Do again what the files of --evidence hold: the same bytes, with descriptors of the "
        "same kind, to the server that is named here, not to the one of the file; what is wrong with a file does not keep the "
        "others from it. Exit status, the first that holds: 1 still wrong, 3 no target, 2 a file that cannot be used, 4 one "
        "that cannot be done again, 0 all fixed.",
    )
    again.add_argument("files", nargs="+", metavar="FILE", help="evidence")
    judged.add_arguments(again)
    again.add_argument("--profile", metavar="FILE|NAME", help="what is known about the target")
    again.set_defaults(run=run_replay)
    proof = kinds.add_parser(
        "prove",
        help="show that each case catches its faults, and the right server passes",
        description="Show that the suite can be believed: the reference server passes each case, in each of its modes, and "
        "each case finds the faults that it names. All of it takes minutes. Exit status: 0 proved, 1 not.",
    )
    proof.add_argument("patterns", nargs="*", metavar="PATTERN", help=f"{_PATTERNS}; all without one")
    proof.add_argument("--json", action="store_true", help="every result, as JSON")
    proof.add_argument(
        "--first", action="store_true", help="show instead that what finds a fault first names it; takes long"
    )
    proof.set_defaults(run=run_prove)
    _register_comparing(kinds)


def _register_comparing(kinds: Any) -> None:
    about = "lay the JSON reports of several targets side by side"
    matrix = kinds.add_parser(
        "matrix", help=about, description=f"{about.capitalize()}: a row for each case, a column for each."
    )
    matrix.add_argument(
        "files", nargs="+", type=Path, metavar="FILE.json", help="written by --json of server, client or model"
    )
    for kind in ("markdown", "html"):
        matrix.add_argument(f"--{kind}", type=Path, metavar="FILE", help=f"write the table as {kind}")
    matrix.set_defaults(run=run_matrix)
    diff = kinds.add_parser(
        "diff",
        help="say what is newly failing, fixed or changed between two runs",
        description="Say what is newly failing, fixed or changed between two runs. Exit status: 0 nothing is newly failing, 1 "
        "something is.",
    )
    diff.add_argument("old", type=Path, metavar="OLD.json", help="the report of the earlier run, written by --json")
    diff.add_argument("new", type=Path, metavar="NEW.json", help="that of the later one")
    diff.set_defaults(run=run_diff)


def _register_server(kinds: Any) -> None:
    parser = kinds.add_parser(
        "server",
        help="run the cases against a server",
        description="Run the cases against a server; the built-in reference server where neither --socket nor --spawn is "
        "given. Exit status: 0 conforming, 1 not conforming, 3 no target, 4 nothing was run.",
    )
    judged.add_arguments(parser)
    parser.add_argument(
        "--select", nargs="+", action="extend", default=[], metavar="PATTERN", help=f"only these cases: {_PATTERNS}"
    )
    parser.add_argument(
        "--allow",
        default="",
        metavar="HAZARD,…",
        help="cases that could hurt a device in use, left out otherwise: reset, irq, migration, write, stress, or all",
    )
    parser.add_argument(
        "-j",
        "--jobs",
        type=whole(1, 64),
        default=1,
        metavar="N",
        help="so many cases at a time, each job with its own target",
    )
    reporting.add_arguments(parser)
    parser.set_defaults(run=run_server)


def run_server(options: argparse.Namespace) -> int:
    """Run the cases, write the reports; the exit status is that of the report."""
    from vfio_user_conformance import runner
    from vfio_user_conformance.case import catalogue, select
    from vfio_user_conformance.model.catalogue import RULES

    if options.jobs > 1 and options.socket:
        raise UsageError("--jobs needs a target for each: --spawn, or the built-in one")
    reporting.check(options)
    chosen = select(options.select)
    bench = judged.bench(options)
    report = runner.run(bench, chosen, options.jobs, strict=options.strict)
    return reporting.conclude(options, "server", report, bench.facts.profile, {**RULES, **catalogue()})


def run_list(options: argparse.Namespace) -> int:
    """Print the catalogue, or the requirements of its document."""
    from vfio_user_conformance.case import select
    from vfio_user_conformance.words import plural

    if options.requirements:
        return _list_requirements(options)
    chosen = select(options.patterns)
    if options.sections:
        return _list_sections(Counter(case.ident.partition("/")[0] for case in chosen), options.json)
    if options.json:
        print(json.dumps([case.as_dict() for case in chosen], indent=1))
        return 0
    for case in chosen:
        print(f"{case.ident}  [{case.judged_by.level}, {case.requirement}]")
        if case.given:
            print(f"  given     {'; then '.join(map(str, case.given))}")
        print(f"  sent      {case.stimulus_text}\n  expected  {case.expect_text}")
        print(f"  catches   {', '.join(case.catches)}")
    print(plural(len(chosen), "case"), file=sys.stderr)
    return 0


def _list_sections(counted: Mapping[str, int], as_json: bool) -> int:
    if as_json:
        print(json.dumps(counted, indent=1))
        return 0
    width = max(map(len, counted))
    for name, cases in counted.items():
        print(f"{name:{width}}  {cases:3}")
    return 0


def _list_requirements(options: argparse.Namespace) -> int:
    from vfio_user_conformance import coverage

    if options.patterns:
        raise UsageError("--requirements lists all of them, and takes no pattern")
    standings = coverage.of_suite()
    if options.json:
        print(json.dumps([standing.as_dict() for standing in standings], indent=1))
        return 0
    for one in standings:
        print(f"{one.requirement.ident}  [{one.requirement.level}, {one.requirement.side}]  {one.state}")
        for line in one.cases or ([one.reason] if one.reason else []):
            print(f"  {line}")
    print(coverage.totals(standings), file=sys.stderr)
    return 0


def run_matrix(options: argparse.Namespace) -> int:
    """Lay reports side by side."""
    from vfio_user_conformance.report import matrix
    from vfio_user_conformance.stored import load

    laid = matrix.Matrix.of([load(path) for path in options.files])
    for kind, render in (("markdown", matrix.as_markdown), ("html", matrix.as_html)):
        if path := getattr(options, kind):
            output.write(path, render(laid))
    sys.stdout.write(matrix.as_text(laid))
    return 0


def run_diff(options: argparse.Namespace) -> int:
    """Compare two reports; 1 where something is newly failing."""
    from vfio_user_conformance.stored import compare, load

    changes = compare(load(options.old), load(options.new))
    output.show(changes.text)
    return 1 if changes.worse else 0


def run_replay(options: argparse.Namespace) -> int:
    """Do again what evidence files hold, each of them; the status is that of what came out worst."""
    from vfio_user_conformance.replay import replay
    from vfio_user_proto.trace import read_capture

    judged.bench(options)  # what is wrong with the options is told once
    statuses = set()
    for file in options.files:
        try:
            capture, bench = read_capture(file), judged.bench(options)
            done = replay(capture, bench)
        except VfioUserError as error:
            about = "" if str(error).startswith(f"{file}: ") else f"{file}: "
            print(f"vfio-user: {about}{error}", file=sys.stderr, flush=True)
            statuses.add(3 if isinstance(error, (TargetError, TransportError)) else 2)
            continue
        asked, before = bench.target.name, capture.head.get("target", bench.target.name)
        other = f" (by {asked}; it was found in {before})" if asked != before else ""
        print(f"{file}: {done.text}{other}", flush=True)
        statuses.add(done.status)
    return next(status for status in (1, 3, 2, 4, 0) if status in statuses)


def run_prove(options: argparse.Namespace) -> int:
    """Show that the suite finds what it is there to find; 1 where it does not."""
    if options.first:
        return _prove_first(options)
    from vfio_user_conformance.case import select
    from vfio_user_conformance.model import proof as of_model
    from vfio_user_conformance.proof import MODES, gaps, prove
    from vfio_user_conformance.words import plural
    from vfio_user_proto.faults import FAULTS

    rules = of_model.select(options.patterns)
    patterns = [pattern for pattern in options.patterns if not of_model.is_for_rules(pattern)]
    chosen = select(patterns) if patterns or not rules or not options.patterns else []
    for case in chosen:
        if unknown := set(case.catches) - FAULTS.keys():
            raise UsageError(f"{case.ident} catches {', '.join(sorted(unknown))}, but there is no such fault")
    proofs = list(prove(judged.serving, chosen))
    proofs += of_model.prove(judged.serving, rules)
    missing = gaps()
    if options.json:
        print(json.dumps([proof.as_dict() for proof in proofs], indent=1))
    else:
        for proof in proofs:
            if not proof.holds:
                right = f"the right server did not pass ({proof.mode})"
                who = f"the fault {proof.fault} was not caught" if proof.fault else right
                print(f"{proof.result.ident}: {who}: {proof.result.outcome} {proof.result.reason}")
        faults = sum(bool(proof.fault) for proof in proofs)
        print(
            "\n".join(
                [
                    *missing,
                    f"the right server in {len(MODES)} modes; {plural(faults, 'fault')}, each against what names it",
                ]
            )
        )
    return 0 if not missing and all(proof.holds for proof in proofs) else 1


def _prove_first(options: argparse.Namespace) -> int:
    """Tell by which case, in the order of the catalogue, each fault is found; 1 where that says nothing of the mistake."""
    from vfio_user_conformance.case import select
    from vfio_user_conformance.proof import firsts
    from vfio_user_conformance.words import plural

    found = []
    for first in firsts(judged.serving, select(options.patterns)):
        found.append(first)
        if not first.named:
            told = f"{first.result.outcome} {first.result.reason}"
            print(
                f"{first.fault}: {first.case.ident} names it, {first.result.ident} finds it first: {told}", flush=True
            )
    own = sum(first.result.ident == first.case.ident for first in found)
    named = sum(first.named for first in found)
    print(
        f"{plural(len(found), 'fault')}: {own} found first by the case that names them, {named - own} by their requirement"
    )
    return 0 if named == len(found) else 1
