"""The command ``vfio-user``: one sub-command per module of this package, each imported only when it is the one asked for."""

import argparse
import contextlib
import errno
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from vfio_user_proto import __version__
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
    try:
        with _terminable():
            options = _parser(arguments).parse_args(arguments)
            status: int = options.run(options)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone.
        _drop_output()
        return 0
    except VfioUserError as problem:
        print(f"vfio-user: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, (TargetError, TransportError)) else 2
    except OSError as problem:
        if problem.errno not in _FULL:
            raise
        _drop_output()
        print(f"vfio-user: standard output: {problem.strerror}", file=sys.stderr)
        return 2
    return status


def _drop_output() -> None:
    """Give up standard output, whose buffer is written once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts as the terminal does, so that what was found is told and no program that we started is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser: with the options of the sub-command that is called, and the bare names of the others."""
    parser = argparse.ArgumentParser(prog="vfio-user", description="Tools for the vfio-user protocol.")
    parser.add_argument("--version", action="version", version=f"vfio-user {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in arguments if not word.startswith("-")), "")
    wanted = COMMANDS[asked][0] if asked in COMMANDS else ""
    if wanted:
        importlib.import_module(wanted).register(subparsers)
    for name, (module, about) in COMMANDS.items():
        if module != wanted:
            subparsers.add_parser(name, help=about)
    return parser
