"""Capture files taken apart again: what they are is in vfio_user_proto.export.pcapng."""

import struct
from collections.abc import Iterator


def blocks(file: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block."""
    at = 0
    while at < len(file):
        kind, size = struct.unpack_from("=II", file, at)
        assert size % 4 == 0
        assert struct.unpack_from("=I", file, at + size - 4) == (size,)
        yield kind, file[at + 8 : at + size - 4]
        at += size
    assert at == len(file)


def packets(file: bytes) -> Iterator[tuple[int, int, bytes, dict[int, bytes]]]:
    """Microseconds, true size, bytes and options of each packet."""
    for kind, body in blocks(file):
        if kind == 6:
            _, high, low, there, size = struct.unpack_from("=IIIII", body)
            at, options = 20 + there + -there % 4, {}
            while at < len(body):
                code, length = struct.unpack_from("=HH", body, at)
                options[code] = body[at + 4 : at + 4 + length]
                at += 4 + length + -length % 4
            assert list(options)[-1] == 0
            yield high << 32 | low, size, body[20 : 20 + there], options
