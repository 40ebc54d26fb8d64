"""Memory of an idle vfio-user serve, alone and with one client, against that of an interpreter that has imported nothing.

Run: python bench/idle_memory.py

RSS counts every page that the process has in memory, PSS the shared ones by their part; the limit is for RSS.
"""

import subprocess
import sys
from pathlib import Path

from _kit import greeted

from vfio_user_proto import launch

LIMIT = 40.0  # MiB


def mebibytes(pid: int) -> tuple[float, float]:
    """RSS and PSS of a process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    words = [line.split() for line in text.splitlines()]
    rss, pss = (next(float(line[1]) for line in words if line[0] == name) for name in ("Rss:", "Pss:"))
    return rss / 1024, pss / 1024


def interpreter() -> tuple[float, float]:
    """RSS and PSS of Python itself."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = mebibytes(child.pid)
        child.communicate(b"\n")
    return found


def main() -> int:
    """Print both figures for each; 1 where the server takes more than the limit."""
    bare = interpreter()
    with launch.builtin() as server:
        server.connect().close()
        idle = mebibytes(server.pid)
        with greeted(server.connect()):
            busy = mebibytes(server.pid)
    print("MiB                            RSS    PSS")
    for name, (rss, pss) in {"interpreter": bare, "server, idle": idle, "server, with a client": busy}.items():
        print(f"  {name:26} {rss:5.1f}  {pss:5.1f}")
    print(f"server / interpreter {idle[0] / bare[0]:.2f}; RSS of the idle server at most {LIMIT:g} MiB")
    return 0 if idle[0] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
