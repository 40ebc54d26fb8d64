"""``vfio-user spec``: check, generate, compare, export and list what the documents of the protocol say."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from vfio_user_proto.cli import export, output
from vfio_user_proto.errors import SpecError, UsageError
from vfio_user_proto.specdoc.specs import UnsoundDocument

# What needs docutils is imported only when a function below runs.


def register(subparsers: Any) -> None:
    """Add ``spec`` and its sub-commands to the parser of ``vfio-user``."""
    about = "Check, generate, compare, export and list what the documents of the protocol say."
    spec = subparsers.add_parser(
        "spec", help="check, generate, compare and export the specification", description=about
    )
    commands = spec.subcommands("COMMAND")

    parser = commands.add_parser(
        "check",
        help="find what is wrong with documents",
        description="Print what is wrong with documents as a compiler does. Exit status: 0 nothing, 1 problems, 2 a document "
        "that cannot be read.",
    )
    parser.add_argument(
        "documents", nargs="+", metavar="DOC", help="a revision of the vfio-user document, or one like it (.rst)"
    )
    _add_json(parser)
    parser.set_defaults(run=partial(_run, run_check))

    parser = commands.add_parser(
        "generate",
        help="write the modules that are generated from documents",
        description="Write the Python modules that are made of declarations alone from the documents in spec/.",
    )
    _add_check(parser)
    parser.set_defaults(run=partial(_run, run_generate))

    parser = commands.add_parser(
        "tables",
        help="write spec/tables/ from the schemas, or renew the tables of a document",
        description="Write spec/tables/ from the schemas of the program, or with --write renew the tables of documents.",
    )
    _add_check(parser)
    parser.add_argument(
        "--write",
        nargs="+",
        metavar="DOC",
        help="put what has changed in the schemas into the tables of these documents",
    )
    parser.add_argument(
        "--schema", metavar="FILE", help="with --write: a Python file of declarations to try, over those of the program"
    )
    parser.set_defaults(run=partial(_run, run_tables))

    parser = commands.add_parser(
        "diff",
        help="say what two documents differ in on the wire, and what that breaks",
        description="Say what two documents differ in on the wire, and what that breaks. Exit status: 0 nothing, 1 "
        "differences, 2 a document that cannot be used.",
    )
    parser.add_argument("old", metavar="OLD", help="the document that peers follow now")
    parser.add_argument("new", metavar="NEW", help="the one that is to come")
    parser.add_argument(
        "--errata", metavar="FILE", help="which erratum explains which difference (errata.toml beside one of them)"
    )
    parser.add_argument("--markdown", action="store_true", help="write a page instead")
    _add_json(parser)
    parser.set_defaults(run=partial(_run, run_diff))

    parser = commands.add_parser(
        "requirements",
        help="list requirements, or compare their anchors with a published text",
        description="List the requirements of the document: id, level, side, section, place. With --against, say which of them "
        "are anchored in words that do not stand in a published text. Exit status: 0, or 1 where an anchor does not hold.",
    )
    parser.add_argument("document", nargs="?", metavar="DOC", help="another document than the checkout's own")
    parser.add_argument("--against", metavar="PUBLISHED", help="report anchors that do not stand in this document")
    parser.add_argument(
        "--coverage", action="store_true", help="with --against: show which requirement covers which of its sentences"
    )
    _add_json(parser)
    _add_root(parser)
    parser.set_defaults(run=partial(_run, run_requirements))

    export.register(commands)


def _add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="the checkout to work in (the one that this program is run from)"
    )


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where something would change")
    _add_root(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def _run(command: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Run a sub-command; of a document that it cannot use all problems are printed, not the first alone."""
    try:
        return command(options)
    except UnsoundDocument as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2


def run_check(options: argparse.Namespace) -> int:
    """Print every problem as a compiler does. Status 1 where there is one, 2 where a document cannot be read."""
    from vfio_user_proto.specdoc.lint import check
    from vfio_user_proto.specdoc.reader import read

    status, found = 0, []
    for path in options.documents:
        try:
            problems = check(read(path))
        except SpecError as error:
            print(f"vfio-user: {error}", file=sys.stderr)
            status = 2
            continue
        found += problems
        status = max(status, 1 if problems else 0)
    if options.json:
        _print_json({"problems": [problem.as_dict() for problem in found]})
    else:
        output.show("".join(f"{problem}\n" for problem in found))
    return status


def run_generate(options: argparse.Namespace) -> int:
    """Write the generated modules, or compare them; an unsound document writes nothing."""
    from vfio_user_proto.specdoc import project

    root = options.root or project.ROOT
    return _bring_up_to_date(project.module_texts(root), root, options)


def run_tables(options: argparse.Namespace) -> int:
    """Write spec/tables/, or compare it; a file that no schema leads to is removed. With --write, renew documents."""
    from vfio_user_proto.specdoc import project

    root = options.root or project.ROOT
    if options.write:
        return _renew(options, root)
    if options.schema:
        raise UsageError("--schema goes with --write")
    status = _bring_up_to_date(project.table_texts(root), root, options)
    for path in project.stale_tables(root):
        if options.check:
            print(f'{path.relative_to(root)}: is not generated any more; run "vfio-user spec tables"')
            status = 1
        else:
            path.unlink()
            print(f"removed {path.relative_to(root)}")
    return status


def _renew(options: argparse.Namespace, root: Path) -> int:
    """Renew the tables of documents; all of them are worked out before the first is written."""
    from vfio_user_proto.specdoc import project
    from vfio_user_proto.specdoc.files import write

    renewed = {path: project.renewed(path, options.schema, root) for path in options.write}
    for path, found in renewed.items():
        for line in found.done:
            print(line)
        for key in found.left:
            print(f"{path}: {key}: no schema has this table, it is left as it is")
        if found.done and not options.check:
            write(Path(path), found.text)
    return 1 if options.check and any(found.done for found in renewed.values()) else 0


def run_diff(options: argparse.Namespace) -> int:
    """Print one line per difference, with what it breaks and the erratum behind it. Status 1 where there is one."""
    from vfio_user_proto.specdoc import errata, project, reader
    from vfio_user_proto.specdoc.diff import diff, report

    old, new = (project.readable(reader.read(path)) for path in (options.old, options.new))
    beside = {Path(path).resolve().parent / "errata.toml" for path in (options.old, options.new)}
    mine = [str(path) for path in beside if path.is_file()] if len(beside) == 2 else []
    file = options.errata or next(iter(mine), None)
    marks = errata.marks(file) if file else None
    changes = diff(old, new)
    if options.json:
        _print_json({"old": options.old, "new": options.new, **report.as_dict(changes, marks)})
    elif options.markdown:
        output.show("\n".join(report.markdown(changes, marks, Path(options.old).name, Path(options.new).name)) + "\n")
    else:
        output.show("".join(f"{line}\n" for line in report.text(changes, marks)))
    return 1 if changes else 0


def run_requirements(options: argparse.Namespace) -> int:
    """List id, level, side, section and line of each requirement; with --against, anchors or sentences instead."""
    from vfio_user_proto.specdoc import project, reader

    read = reader.read(options.document) if options.document else project.document(options.root or project.ROOT)
    document = project.readable(read)
    if options.against:
        return _anchors(options, document)
    if options.coverage:
        raise UsageError("--coverage goes with --against")
    if options.json:
        rows = [each.as_dict() for each in document.requirements]
        _print_json({"document": document.file, "version": document.version, "requirements": rows})
        return 0
    width = max((len(each.id) for each in document.requirements), default=0)
    for each in document.requirements:
        print(f"{each.id:{width}}  {each.level:6}  {each.side:6}  {each.key}  ({each.source})")
    return 0


def _anchors(options: argparse.Namespace, document: Any) -> int:
    """Which anchors are rotten, status 1 if any is; or which sentence is covered by what."""
    from vfio_user_proto.specdoc import anchors, reader

    published = reader.read(options.against)
    if options.coverage:
        covered = anchors.coverage(document, published)
        if options.json:
            said = [{"line": each.source.line, "text": each.text, "requirements": ids} for each, ids in covered]
            _print_json({"document": document.file, "against": options.against, "sentences": said})
        else:
            for each, ids in covered:
                print(f"{each.source}: {', '.join(ids) or '-'}: {each.text}")
        return 0
    rotten = anchors.rotten(document, published)
    if options.json:
        rows = [problem.as_dict() for problem in rotten]
        _print_json({"document": document.file, "against": options.against, "rotten": rows})
    else:
        output.show("".join(f"{problem}\n" for problem in rotten))
        anchored = sum(bool(each.section) for each in document.requirements)
        print(f"{len(rotten)} of {anchored} anchors do not stand in {options.against}", file=sys.stderr)
    return 1 if rotten else 0


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


def _print_json(value: Mapping[str, Any]) -> None:
    output.show(json.dumps(value, indent=2) + "\n")
