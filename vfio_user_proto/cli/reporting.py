"""How every conformance run ends: known findings, evidence, reports; and the options that ask for them."""

import argparse
import shlex
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from vfio_user_proto.cli import output
from vfio_user_proto.errors import UsageError

if TYPE_CHECKING:
    from vfio_user_conformance.profile import Profile
    from vfio_user_conformance.verdict import Report

# The forms that a report is written in.
_KINDS: Final = {
    "json": "JSON, for matrix and diff",
    "junit": "JUnit XML, for CI",
    "tap": "TAP",
    "html": "a page",
    "markdown": "Markdown",
    "text": "what the terminal shows",
}
# The options that make the same run again, of those that a command has.
_AGAIN: Final = ("socket", "spawn", "listen", "profile", "known", "allow", "fault", "seed")
# Those that name the same target to replay.
_REPLAY: Final = ("socket", "spawn", "profile", "fault")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --strict, --profile, --known, --update-known, --evidence, and one option for each form of report."""
    parser.add_argument(
        "--strict", action="store_true", help="deviations from what the document recommends are findings, too"
    )
    parser.add_argument(
        "--profile",
        metavar="FILE|NAME",
        help="what no probe can know about the target, and its known findings; a file, or one of targets/",
    )
    parser.add_argument("--known", metavar="FILE", help="known findings, instead of those in the profile")
    parser.add_argument(
        "--update-known",
        action="store_true",
        help="write what was found into the file of --known, which may be a new one, or of --profile",
    )
    parser.add_argument("--evidence", type=Path, metavar="DIR", help="keep a file per finding, for replay and decode")
    reports = parser.add_argument_group("reports, as many as you like")
    for kind, about in _KINDS.items():
        reports.add_argument(f"--{kind}", type=Path, metavar="FILE", help=about)


def check(options: argparse.Namespace) -> None:
    """Raise UsageError where the results of a run could not be written, before there are any; begin a new list of findings."""
    from vfio_user_conformance.profile import load, path_of

    if options.update_known and not (options.known or options.profile):
        raise UsageError("--update-known needs --known or --profile: the file to write")
    if options.known:
        if options.update_known and not (path := path_of(options.known)).exists():
            output.write(path, "")
        load(options.known)
    if options.evidence is not None:
        output.make_folder(options.evidence)
    for path in filter(None, (getattr(options, kind) for kind in _KINDS)):
        output.check(path)


def conclude(
    options: argparse.Namespace, command: str, report: "Report", profile: "Profile", every: Collection[str]
) -> int:
    """Keep what was found, mark what is known, write the reports; returns the exit status.

    ``report`` has the results as they came, ``every`` all idents that a list of known findings may name. ``command`` is what
    follows ``vfio-user conformance`` in the line that makes the run again.
    """
    from vfio_user_conformance.evidence import keep
    from vfio_user_conformance.profile import load, path_of, update_known
    from vfio_user_conformance.verdict import compare, updated

    results = list(report.results)
    if options.evidence is not None:
        results = [keep(each, report, options.evidence) for each in results]
    known = load(options.known).known if options.known else profile.known
    if options.update_known:
        known = tuple(updated(results, known))
        update_known(path_of(options.known or options.profile), known)
    marked, stale = compare(results, known, every, datetime.now().astimezone().date())
    done = replace(report, results=tuple(marked), stale=tuple(stale))
    _tell(done, options, command)
    return done.status


def _tell(report: "Report", options: argparse.Namespace, command: str) -> None:
    """Write the reports that were asked for, and the one for the terminal."""
    from vfio_user_conformance.report import html, junit, markdown, tap, text
    from vfio_user_conformance.report import json as plain

    again, replay = _line(options, command, _AGAIN), _line(options, "replay", _REPLAY)
    told = text.render(report, again=again, replay=replay)
    output.show(text.render(report, again=again, replay=replay, color=True) if output.color() else told)
    for kind, form in (("json", plain), ("junit", junit), ("tap", tap), ("html", html), ("markdown", markdown)):
        if path := getattr(options, kind):
            output.write(path, form.render(report))
    if options.text:
        output.write(options.text, told)


def _line(options: argparse.Namespace, command: str, names: tuple[str, ...]) -> str:
    """A line for the shell with those of the options ``names`` that were given."""
    words = ["vfio-user", "conformance", command]
    for name in names:
        if value := getattr(options, name, None):
            words += [f"--{name}", str(value)]
    return shlex.join(words)
