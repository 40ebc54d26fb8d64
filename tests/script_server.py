"""A server in a few lines, wrong in one way, as a program of its own."""

import shlex
import sys
from pathlib import Path

SERVER = """
import os, signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
while True:
    client, _ = listener.accept()
    while (head := client.recv(16, socket.MSG_WAITALL)):
        if len(head) < 16: break
        size = int.from_bytes(head[4:8], sys.byteorder)
        body = client.recv(size - 16, socket.MSG_WAITALL) if 16 < size < 1 << 20 else b""
        command = head[2]
        {fault}
        reply = body[:16] if command == 4 else body
        client.sendall(head[:4] + (16 + len(reply)).to_bytes(4, sys.byteorder) + bytes([1, 0, 0, 0, 0, 0, 0, 0]) + reply)
    client.close()
    {after}
"""


def script(folder: Path, fault: str = "pass", after: str = "pass") -> str:
    """The command of a server that answers everything with what it was sent, wrong in one way."""
    path = folder / "server.py"
    path.write_text(SERVER.replace("{fault}", fault).replace("{after}", after))
    return shlex.join([sys.executable, "-S", "-E", str(path), "{socket}"])
