"""``vfio-user call``: one command, described in JSON, and what the server answers."""

import argparse
import json
import sys
from typing import Any

from vfio_user_proto import trace
from vfio_user_proto.cli import output, target
from vfio_user_proto.errors import ErrorReply, UsageError
from vfio_user_proto.messages import REQUESTS, Command
from vfio_user_proto.states import SENDERS, Role
from vfio_user_proto.trace.names import code_value


def register(subparsers: Any) -> None:
    """Add ``call`` to the parser of ``vfio-user``."""
    parser = subparsers.add_parser(
        "call",
        help="send one command to a server",
        description='Send one command and print the reply: vfio-user call REGION_READ \'{"region": 7, "count": 64}\'. The '
        "payload is written as decode --json shows it; what is left out is zero, or fits the rest. The status is 1 where the "
        "server refuses, or its reply is malformed.",
    )
    parser.add_argument("command", metavar="COMMAND", help="its name or number")
    parser.add_argument("payload", nargs="?", default="{}", metavar="JSON", help="the fields of its payload")
    parser.add_argument("--json", action="store_true", help="print the reply as one JSON object")
    target.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Greet the server, send the command, print the reply."""
    command = code_value(Command, options.command)
    try:
        content = json.loads(options.payload)
    except (ValueError, RecursionError) as problem:
        raise UsageError(f"the payload is not JSON: {problem}") from None
    if not isinstance(content, dict):
        raise UsageError("the payload is not a JSON object")
    if SENDERS.get(command) is Role.SERVER:
        raise UsageError(f"{Command(command).document_name} is not for the client to send")
    record = REQUESTS.get(command)
    if record is None and content:
        raise UsageError(f"{options.command} has no payload")
    payload = None if record is None else trace.payload_from_json(record, content)
    with target.connected(options) as client:
        pending = client.send(command, payload)
        try:
            reply = client.wait(pending)
        except ErrorReply as refusal:
            print(f"vfio-user: {refusal}", file=sys.stderr)
            return 1
        about = [{"kind": fd.kind, "size": fd.size} for fd in reply.fds]
        reply.close()
    if options.json:
        print(json.dumps({**trace.as_json(reply.message), "fds": about}))
    else:
        print(trace.describe(reply.message, color=output.color()))
        for number, fd in enumerate(about):
            print(f"  descriptor {number}: {fd['kind']} of {fd['size']} bytes")
    return 0 if reply.problem is None else 1
