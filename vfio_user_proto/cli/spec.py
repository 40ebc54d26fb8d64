"""``vfio-user spec``: check, generate, compare and list what the documents of the protocol say."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vfio_user_proto.errors import SpecError, UsageError
from vfio_user_proto.specdoc.specs import UnsoundDocument

# What needs docutils is imported only when a function below runs.


def register(subparsers: Any) -> None:
    """Add ``spec`` and its sub-commands to the parser of ``vfio-user``."""
    spec = subparsers.add_parser("spec", help="check, generate and compare the specification", description=__doc__)
    commands = spec.add_subparsers(metavar="COMMAND", required=True)

    parser = commands.add_parser("check", help="find what is wrong with the tables of documents")
    parser.add_argument("documents", nargs="+", metavar="DOC")
    parser.set_defaults(run=partial(_run, run_check))

    for name, run, about in (
        ("generate", run_generate, "write messages.py from the document and its overlay"),
        ("tables", run_tables, "write spec/tables/ from the schemas"),
    ):
        parser = commands.add_parser(name, help=about)
        parser.add_argument("--check", action="store_true", help="write nothing; status 1 where something would change")
        _add_root(parser)
        parser.set_defaults(run=partial(_run, run))

    parser = commands.add_parser("diff", help="say what two documents differ in on the wire")
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument(
        "--errata", metavar="FILE", help="which erratum explains which difference (errata.toml beside OLD or NEW)"
    )
    _add_json(parser)
    parser.set_defaults(run=partial(_run, run_diff))

    parser = commands.add_parser("requirements", help="list the requirements of the document")
    parser.add_argument("document", nargs="?", metavar="DOC", help="another document than the checkout's own")
    _add_json(parser)
    _add_root(parser)
    parser.set_defaults(run=partial(_run, run_requirements))


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="the checkout to work in (the one that this program is run from)"
    )


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON instead, to FILE or standard output"
    )


def _run(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a sub-command; of a document that it cannot use all problems are printed, not the first alone."""
    try:
        return command(options)
    except UnsoundDocument as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2


def run_check(options: argparse.Namespace) -> int:
    """Print every problem as file:line: message. Status 1 where there is one, 2 where a document cannot be read."""
    from vfio_user_proto.specdoc.check import check
    from vfio_user_proto.specdoc.reader import read

    status = 0
    for path in options.documents:
        try:
            problems = check(read(path))
        except SpecError as error:
            print(f"vfio-user: {error}", file=sys.stderr)
            status = 2
            continue
        for problem in problems:
            print(problem)
        status = max(status, 1 if problems else 0)
    return status


def run_generate(options: argparse.Namespace) -> int:
    """Write messages.py, or compare it; an unsound document writes nothing."""
    from vfio_user_proto.specdoc import project

    root = options.root or project.ROOT
    return _bring_up_to_date(project.module_texts(root), root, options)


def run_tables(options: argparse.Namespace) -> int:
    """Write spec/tables/, or compare it; a file that no schema leads to is removed."""
    from vfio_user_proto.specdoc import project

    root = options.root or project.ROOT
    status = _bring_up_to_date(project.table_texts(root), root, options)
    for path in project.stale_tables(root):
        if options.check:
            print(f'{path.relative_to(root)}: is not generated any more; run "vfio-user spec tables"')
            status = 1
        else:
            path.unlink()
            print(f"removed {path.relative_to(root)}")
    return status


def run_diff(options: argparse.Namespace) -> int:
    """Print one line per difference, with the erratum that accounts for it. Status 1 where there is a difference."""
    from vfio_user_proto.specdoc import errata, project, reader
    from vfio_user_proto.specdoc.diff import diff

    old, new = (project.readable(reader.read(path)) for path in (options.old, options.new))
    beside = [Path(path).parent / "errata.toml" for path in (options.old, options.new)]
    file = options.errata or next((str(path) for path in beside if path.is_file()), None)
    marks = errata.marks(file) if file else {}
    changes = diff(old, new)
    if options.json:
        rows = [{**change.as_dict(), "erratum": marks.get(change.mark)} for change in changes]
        _write_json({"old": options.old, "new": options.new, "changes": rows}, options.json)
    else:
        for change in changes:
            tail = f" [erratum {marks[change.mark]}]" if change.mark in marks else " [unexplained]" if file else ""
            print(f"{change.where}: {change}{tail}")
    return 1 if changes else 0


def run_requirements(options: argparse.Namespace) -> int:
    """List id, level, side, section and line of each requirement."""
    from vfio_user_proto.specdoc import project, reader

    read = reader.read(options.document) if options.document else project.document(options.root or project.ROOT)
    document = project.readable(read)
    if options.json:
        rows = [each.as_dict() for each in document.requirements]
        _write_json({"document": document.file, "version": document.version, "requirements": rows}, options.json)
        return 0
    width = max((len(each.id) for each in document.requirements), default=0)
    for each in document.requirements:
        print(f"{each.id:{width}}  {each.level:6}  {each.side:6}  {each.key}  ({each.source})")
    return 0


def _bring_up_to_date(texts: Mapping[Path, str], root: Path, options: argparse.Namespace) -> int:
    """Write the files that differ, or with ``--check`` only say in which line."""
    from vfio_user_proto.specdoc.files import first_difference, write

    status = 0
    for path, text in texts.items():
        if not options.check:
            if write(path, text):
                print(f"wrote {path.relative_to(root)}")
        elif difference := first_difference(path, text):
            line, there, due = difference
            print(f"{path.relative_to(root)}:{line}: is {there.strip()!r}, would be generated as {due.strip()!r}")
            status = 1
    return status


def _write_json(value: Mapping[str, Any], target: str) -> None:
    text = json.dumps(value, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
