"""``vfio-user spec export``: the protocol as a C header, a Wireshark dissector, JSON, Rust or Kaitai Struct."""

import argparse
import sys
from pathlib import Path
from typing import Any

from vfio_user_proto.errors import UsageError
from vfio_user_proto.export import FORMATS
from vfio_user_proto.specdoc.files import write


def register(subparsers: Any) -> None:
    """Add ``export`` to the sub-commands of ``vfio-user spec``."""
    parser = subparsers.add_parser(
        "export",
        help="write the protocol for other languages and tools",
        description="Write the protocol as a C header, a Wireshark dissector, JSON, Rust or Kaitai Struct.",
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="what to write")
    parser.add_argument("--output", metavar="FILE", help="where to; without it, standard output")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write one export; the same tables give the same bytes, and a file that holds them already is not touched.

    Raises UsageError where the file cannot be written; nothing is left of it then.
    """
    text = FORMATS[options.format]()
    if options.output is None:
        sys.stdout.write(text)
        return 0
    try:
        changed = write(Path(options.output), text)
    except OSError as error:
        raise UsageError(f"{options.output}: cannot be written: {error.strerror}") from error
    print(f"{options.output}: {'written' if changed else 'unchanged'}", file=sys.stderr)
    return 0
