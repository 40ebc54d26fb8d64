"""The whole suite against the reference server, a process per case, against starting an interpreter that often.

Run: python bench/suite.py
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vfio_user_proto import launch

LIMIT = 10.0
STARTS = 5


def suite() -> tuple[float, int]:
    """Seconds of one run from its start to its end, and how many cases it had."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "vfio_user_proto", "conformance", "server", "--respawn", "case"]
        begin = time.perf_counter()
        subprocess.run([*command, "--json", str(report)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begin
        return seconds, len(json.loads(report.read_text())["results"])


def interpreter() -> float:
    """Seconds that starting and stopping ``vfio-user serve`` takes."""
    begin = time.perf_counter()
    for _ in range(STARTS):
        with launch.builtin() as server:
            server.connect().close()
    return (time.perf_counter() - begin) / STARTS


def main() -> int:
    """Print both times and their ratio; status 1 where the suite takes longer than the limit."""
    seconds, cases = suite()
    yardstick = interpreter() * cases
    print(f"{cases} cases against the reference server, a process for each")
    print(f"  {cases} starts of vfio-user serve  {yardstick:.1f} s")
    print(
        f"  the whole suite            {seconds:.1f} s   {seconds / yardstick:.2f} times the yardstick (limit {LIMIT:g} s)"
    )
    return 0 if seconds < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
