"""The command ``vfio-user``: one sub-command per module of this package, each imported only when it is the one asked for."""

import contextlib
import errno
import importlib
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vfio_user_proto import __version__
from vfio_user_proto.cli import output
from vfio_user_proto.cli.arguments import Parser
from vfio_user_proto.errors import TargetError, TransportError, VfioUserError

# sub-command -> (module, what it does). The module has register(subparsers).
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "spec": ("vfio_user_proto.cli.spec", "check, generate, compare and export the specification"),
    "decode": ("vfio_user_proto.cli.decode", "print messages as a person reads them"),
    "encode": ("vfio_user_proto.cli.decode", "turn described messages into bytes"),
    "serve": ("vfio_user_proto.cli.serve", "run the reference server"),
    "info": ("vfio_user_proto.cli.info", "print what a server offers"),
    "call": ("vfio_user_proto.cli.call", "send one command to a server"),
    "proxy": ("vfio_user_proto.cli.proxy", "sit between a client and a server, and record what they say"),
    "conformance": ("vfio_user_proto.cli.conformance", "judge a server against the specification"),
    "fuzz": ("vfio_user_proto.cli.fuzz", "look for input that a server does not survive"),
    "bench": ("vfio_user_proto.cli.bench", "measure what the mechanisms cost"),
}

# What a file without room says; of other files than standard output it is a UsageError already.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vfio-user``; returns its exit status.

    0 conforming or done, 1 not conforming or differences found, 2 usage or input, 3 the target could not be started or
    reached, 4 nothing was run, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    output.complete()
    try:
        with _terminable():
            options, unknown = _parser(arguments).parse_known_args(arguments)
            if unknown:
                options.parser.error(f"unknown: {' '.join(unknown)}")
            status: int = options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone.
        output.drop()
        return 0
    except VfioUserError as problem:
        print(f"vfio-user: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, (TargetError, TransportError)) else 2
    except MemoryError:
        print("vfio-user: there is not enough memory for this input", file=sys.stderr)
        return 2
    except OSError as problem:
        # Of files that the user named it is a UsageError already: this is our output, or something that the system lacks.
        if problem.errno in _FULL and problem.filename is None:
            output.drop()
            problem.filename = "standard output"
        print(f"vfio-user: {problem.filename or 'system call'}: {problem.strerror}", file=sys.stderr)
        return 2
    return status


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts as the terminal does, so that what was found is told and no program that we started is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(arguments: Sequence[str]) -> Parser:
    """The parser: with the options of the sub-command that is called, and the bare names of the others."""
    parser = Parser(
        prog="vfio-user",
        description="Tools for the vfio-user protocol. Each command has a --help of its own.",
        epilog="Exit status: 0 conforming or done, 1 not conforming or differences found, 2 wrong usage or input, 3 the target "
        "could not be started or reached, 4 nothing was run, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"vfio-user {__version__}")
    subparsers = parser.subcommands("COMMAND")
    asked = next((word for word in arguments if not word.startswith("-")), "")
    wanted = COMMANDS[asked][0] if asked in COMMANDS else ""
    if wanted:
        importlib.import_module(wanted).register(subparsers)
    for name, (module, about) in COMMANDS.items():
        if module != wanted:
            subparsers.add_parser(name, help=about)
    return parser
