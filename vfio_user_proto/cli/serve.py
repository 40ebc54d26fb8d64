"""``vfio-user serve``: run the reference server (section Backend Program Conventions)."""

import argparse
import contextlib
import difflib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

from vfio_user_proto import unix
from vfio_user_proto.device import Device
from vfio_user_proto.devices import DEVICES
from vfio_user_proto.devices.fromfile import from_file, why_not_made
from vfio_user_proto.devices.serial import SerialDevice
from vfio_user_proto.errors import UsageError
from vfio_user_proto.responder import OFFER
from vfio_user_proto.server import Server
from vfio_user_proto.session import Options

# Of more names than this a refusal tells the first ones only.
_NAMED: Final = 12


def register(subparsers: Any) -> None:
    """Add ``serve`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser(
        "serve",
        help="run the reference server",
        description="Run the reference server until SIGTERM or SIGINT; each client at the same time has a device of its own.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--socket-path", metavar="PATH", help="listen on this path; mode 0600, removed at the end")
    where.add_argument(
        "--fd", type=_number, metavar="N", help="use this descriptor: a listening or a connected UNIX socket"
    )
    parser.add_argument(
        "--device",
        default="testdev",
        metavar="NAME",
        help=f"one of {', '.join(DEVICES)} (testdev), or FILE.py:CLASS, a class of your own",
    )
    parser.add_argument("--terminal", metavar="PATH", help="of the device serial: listen here for who reads and types")
    parser.add_argument(
        "--fault", metavar="NAME", help="be wrong in one way, to show that a test notices; conformance list names them"
    )
    parser.add_argument("--once", action="store_true", help="end when the first client has left")
    parser.add_argument(
        "--max-msg-fds",
        type=_number,
        default=OFFER.max_msg_fds,
        metavar="N",
        help=f"offer the client no more than so many descriptors with one message ({OFFER.max_msg_fds})",
    )
    parser.add_argument(
        "--max-data-xfer-size",
        type=_number,
        default=OFFER.max_data_xfer_size,
        metavar="N",
        help=f"offer the client no more than so many bytes with one command ({OFFER.max_data_xfer_size})",
    )
    parser.add_argument("--no-twin-socket", action="store_true", help="send commands to the client on the main socket")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, or with ``--once`` until the client has left."""
    device = from_file(options.device) if ":" in options.device else _look_up("device", options.device, DEVICES)
    offer = replace(
        OFFER,
        max_msg_fds=options.max_msg_fds,
        max_data_xfer_size=options.max_data_xfer_size,
        twin_socket=not options.no_twin_socket,
    )
    settings = Options(offer=offer)
    if options.fault is not None:
        from vfio_user_proto.faults import FAULTS

        settings = _look_up("fault", options.fault, FAULTS).applied(settings)
    with ExitStack() as opened:
        if options.terminal is not None:
            if device is not SerialDevice:
                raise UsageError("--terminal is for --device serial")
            device = partial(SerialDevice, opened.enter_context(listen(options.terminal, opened)))
        server = opened.enter_context(closing(_server(options.device, device, settings)))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: server.stop())
        if options.fd is not None:
            sock = _inherited(options.fd)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                server.listen(sock)
            else:
                server.add(sock)
            server.run(once=options.once)
            return 0
        server.listen(listen(options.socket_path, opened))
        print(f"listening on {options.socket_path}", file=sys.stderr, flush=True)
        server.run(once=options.once)
    return 0


def _server(name: str, device: Callable[[], Device], settings: Options) -> Server:
    """A server with its first device. Raises UsageError where that cannot be made."""
    try:
        return Server(device, settings)
    except (Exception, SystemExit) as problem:  # whatever the user's code raises
        raise UsageError(why_not_made(name, problem)) from problem


def listen(path: str, opened: ExitStack) -> socket.socket:
    """A listening socket, whose path is removed at the end, unless something else is there by then."""
    sock = unix.listen(path)
    ours = os.lstat(path)

    def remove() -> None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(ours, os.lstat(path)):
                os.unlink(path)

    opened.callback(remove)
    return sock


def _inherited(fd: int) -> socket.socket:
    """The UNIX stream socket that the caller left open for us."""
    try:
        sock = socket.socket(fileno=fd)
    except OSError as problem:
        raise UsageError(f"--fd {fd}: {problem.strerror}") from None
    if (sock.family, sock.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        sock.detach()
        raise UsageError(f"--fd {fd}: no UNIX stream socket")
    return sock


def _look_up(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of that name. Raises UsageError with the nearest names there are."""
    if name in table:
        return table[name]
    names = sorted(table)
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names[:_NAMED])}"
    more = f" and {len(names) - _NAMED} more" if not near and len(names) > _NAMED else ""
    raise UsageError(f"no {kind} {name!r}; {hint}{more}")


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number below 2^31")
    return int(text)
