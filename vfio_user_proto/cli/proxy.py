"""``vfio-user proxy``: between a client and a server; records and prints what goes by."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Any

from vfio_user_proto import launch, trace, unix
from vfio_user_proto.cli import output, target
from vfio_user_proto.cli.decode import sender_of
from vfio_user_proto.cli.serve import listen
from vfio_user_proto.errors import UsageError
from vfio_user_proto.export import pcapng
from vfio_user_proto.proxy import Passed, Proxy
from vfio_user_proto.trace import Captured

# Gets a message, and the number of its socket.
Recorder = Callable[[Captured, int], None]


def register(subparsers: Any) -> None:
    """Add ``proxy`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser(
        "proxy",
        help="sit between a client and a server, and record what they say",
        description="Listen for clients, and connect each to a server of its own choosing: bytes and descriptors pass "
        "unchanged, messages that are wrong as well. The server is the built-in one where neither --socket nor --spawn is "
        "given. Runs until SIGTERM or SIGINT, or with --once until a client has left.",
    )
    parser.add_argument("--listen", metavar="PATH", required=True, help="where the client is to connect; mode 0600")
    target.add_arguments(parser)
    parser.add_argument(
        "--write",
        metavar="FILE",
        action="append",
        default=[],
        help="record into this file: for Wireshark where its name ends in .pcapng, else JSON Lines for decode",
    )
    parser.add_argument("--print", action="store_true", help="print every message as decode does")
    parser.add_argument("--once", action="store_true", help="end when the first client has left")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Pass on and record; status 3 where a server cannot be started, or, with ``--once``, a client was turned away."""
    with ExitStack() as opened:
        recorders = [opened.enter_context(_recording(name)) for name in options.write]
        if options.print:
            recorders.append(_print)
        began = time.monotonic()
        connect = opened.enter_context(_server(options))

        def passed(now: Passed) -> None:
            captured = Captured(now.sender, now.data, now.fds, round(now.seconds - began, 6))
            for record in recorders:
                record(captured, now.socket)

        def told(problem: str) -> None:
            print(f"vfio-user: {problem}", file=sys.stderr, flush=True)

        proxy = opened.enter_context(closing(Proxy(connect, passed, told)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: proxy.stop())
        proxy.listen(opened.enter_context(listen(options.listen, opened)))
        print(f"listening on {options.listen}", file=sys.stderr, flush=True)
        proxy.run(once=options.once)
        return 3 if options.once and proxy.turned_away else 0


@contextmanager
def _server(options: argparse.Namespace) -> Iterator[Callable[[], unix.Stream]]:
    """What makes connections to the server that the options name. Raises TargetError where it does not start."""
    timeout: float | None = options.timeout or None
    if options.socket is not None:
        yield partial(unix.connect, options.socket, timeout=timeout)
        return
    start_up = timeout or 1e6
    start = launch.builtin if options.spawn is None else partial(launch.spawn, options.spawn)
    with start(timeout=start_up) as process:
        yield process.connect


@contextmanager
def _recording(name: str) -> Iterator[Recorder]:
    """A file that grows with each message, so that it can be read at any time. Raises UsageError."""
    wireshark = name.endswith(".pcapng")
    epoch = time.time()

    def write(data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as problem:
            raise UsageError(f"{name}: {problem.strerror}") from None

    def record(now: Captured, socket: int) -> None:
        if wireshark:
            seconds = epoch + (now.t or 0.0)
            packet = pcapng.Packet(now.data, now.sender == "client", seconds, now.fd_count, socket & 0xFFFF)
            write(pcapng.block_of(packet))
        else:
            write(trace.line_of(now).encode())

    try:
        file = open(name, "wb", buffering=0)  # noqa: SIM115
    except OSError as problem:
        raise UsageError(f"{name}: {problem.strerror}") from None
    with file:
        if wireshark:
            write(pcapng.head())
        yield record


def _print(now: Captured, socket: int) -> None:
    where = f"socket {socket}{sender_of(now)}"
    print(f"{where}\n{trace.describe(now.data, color=output.color())}\n", flush=True)
