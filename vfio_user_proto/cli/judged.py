"""The server that is judged: the options that name it, and the bench that it is judged on."""

import argparse
import difflib
import shlex
from typing import TYPE_CHECKING

from vfio_user_proto import program
from vfio_user_proto.cli.arguments import add_place, number
from vfio_user_proto.errors import UsageError

if TYPE_CHECKING:
    from vfio_user_conformance.driver import Bench
    from vfio_user_conformance.target import Serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --socket, --spawn, --respawn, --fault and --timeout-multiplier."""
    add_place(parser)
    parser.add_argument(
        "--respawn",
        choices=("case", "death", "never"),
        default="case",
        help="start a fresh process for each case, only after the last one has died, or once for all (case)",
    )
    parser.add_argument(
        "--fault",
        metavar="NAME",
        help="a mistake for the built-in server to make, to see it found; conformance list names them",
    )
    parser.add_argument(
        "--timeout-multiplier",
        type=number(zero=True),
        default=1.0,
        metavar="X",
        help="how many times as long to wait for a slow server; 0 for ever (1)",
    )


def bench(options: argparse.Namespace) -> "Bench":
    """The target that the options name, with its profile."""
    from vfio_user_conformance import target
    from vfio_user_conformance.driver import Bench
    from vfio_user_conformance.facts import Facts
    from vfio_user_conformance.peer import Timing
    from vfio_user_conformance.profile import Profile, allowed, load

    respawn = target.Respawn(options.respawn)
    if options.fault and (options.socket or options.spawn):
        raise UsageError("--fault is for the built-in server")
    if options.socket:
        chosen = target.Respawned(program.Attached(options.socket), respawn)
    elif options.spawn:
        chosen = target.Respawned(program.spawned(options.spawn), respawn)
    else:
        fault = ("--fault", _known_fault(options.fault)) if options.fault else ()
        chosen = target.builtin(serving(fault), shlex.join(["vfio-user", "serve", *fault]), respawn)
    builtin = not (options.socket or options.spawn)
    profile = load(options.profile) if options.profile else load("builtin") if builtin else Profile()
    try:
        allow = profile.allow | allowed([name for name in getattr(options, "allow", "").split(",") if name])
    except ValueError as error:
        raise UsageError(f"--allow: {error}") from None
    return Bench(chosen, Facts(profile=profile), allow, Timing.scaled(options.timeout_multiplier))


def serving(options: tuple[str, ...]) -> "Serve":
    """The reference server with these options of ``vfio-user serve``, as a function of the path to listen on."""
    from vfio_user_proto.cli import serve

    parser = argparse.ArgumentParser()
    serve.register(parser.add_subparsers())
    parsed = parser.parse_args(["serve", "--socket-path", "", *options])
    return lambda path: serve.run(argparse.Namespace(**{**vars(parsed), "socket_path": path}))


def _known_fault(name: str) -> str:
    from vfio_user_proto.faults import FAULTS

    if name not in FAULTS:
        near = difflib.get_close_matches(name, FAULTS, 1)
        raise UsageError(f"no fault {name!r}{f'; did you mean {near[0]}?' if near else ''}")
    return name
