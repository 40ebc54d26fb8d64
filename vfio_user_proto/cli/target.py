"""The server that a command talks to: its options, and the way there."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from vfio_user_proto import launch, unix
from vfio_user_proto.cli.arguments import add_place, number
from vfio_user_proto.client import Client
from vfio_user_proto.errors import ErrorReply, RemoteProtocolError, TargetError, TransportError

# A process that crashes closes its socket a little earlier than it ends.
_GRACE: Final = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --socket, --spawn and --timeout."""
    add_place(parser)
    parser.add_argument(
        "--timeout",
        type=number(zero=True),
        default=5.0,
        metavar="SECONDS",
        help="wait so long for each reply; 0 for ever (5)",
    )


@contextmanager
def connected(options: argparse.Namespace) -> Iterator[Client]:
    """A client of the server that the options name: the built-in one where they name none.

    Raises TargetError where the server cannot be started, greeted, or understood any more, and says how one that was started
    here has ended.
    """
    timeout: float | None = options.timeout or None
    if options.socket is not None:
        with _session(options.socket, None, timeout) as client:
            yield client
        return
    start_up = timeout or 1e6
    process = (
        launch.builtin(timeout=start_up) if options.spawn is None else launch.spawn(options.spawn, timeout=start_up)
    )
    with process:
        try:
            with _session(process.command, process.connect(), timeout) as client:
                yield client
        except TargetError as problem:
            if process.wait(_GRACE):
                raise TargetError(f"{problem} ({process.exit_text()})") from None
            raise


@contextmanager
def _session(name: str, stream: unix.Stream | None, timeout: float | None) -> Iterator[Client]:
    """A client of the server that is called ``name``, whose path that is where there is no ``stream``."""
    try:
        with Client.connect(stream or name, timeout=timeout) as client:
            yield client
    except (RemoteProtocolError, ErrorReply, TransportError) as problem:
        text = str(problem)
        raise TargetError(text if text.startswith(name) else f"{name}: {text}") from None
