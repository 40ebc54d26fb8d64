"""The parser of every command: errors of one line, the options that name a server, numbers with their bounds."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence that says where to read on; those under it are the same.

    What it parses has the member ``parser``: the one of the sub-command that was called.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.set_defaults(parser=self)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End when what --help and --version print has gone out: after the end nobody sees that it cannot."""
        sys.stdout.flush()
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def subcommands(self, metavar: str) -> Any:
        """What sub-commands are added to. Without one of them the help is printed, as a mistake in usage."""
        self.set_defaults(run=self._help)
        return self.add_subparsers(metavar=metavar)

    def _help(self, _options: argparse.Namespace) -> int:
        self.print_help(sys.stderr)
        return 2


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add --socket and --spawn, of which none means the built-in server."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="PATH", help="a server that listens on this path already")
    where.add_argument(
        "--spawn", metavar="COMMAND", help="a server to start; {socket} stands for the path to listen on"
    )


def whole(least: int, most: int = (1 << 31) - 1) -> Callable[[str], int]:
    """The type of an option that takes a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 40 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return read


def number(zero: bool) -> Callable[[str], float]:
    """The type of an option that takes a number up to a million; ``zero`` says whether 0 is one."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not 0 <= value <= 1e6 or (value == 0 and not zero):
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number {'from 0' if zero else 'above 0, up'} to 1000000"
            )
        return value

    return read
