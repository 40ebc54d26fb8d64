"""How long it takes to import the protocol: a fresh interpreter that does, minus one that does not, in milliseconds."""

import statistics
import subprocess
import sys
import time

LIMIT = 100.0
ROUNDS = 15
# The package itself imports nothing; this is what every user of it needs.
MODULE = "vfio_user_proto.wire"


def milliseconds(code: str) -> float:
    """The time of one interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000


def main() -> int:
    """Print the median of the differences; 1 where it is over the limit."""
    milliseconds(f"import {MODULE}")  # compiles what is not compiled yet
    found = statistics.median(milliseconds(f"import {MODULE}") - milliseconds("pass") for _ in range(ROUNDS))
    print(f"import {MODULE}: {found:.0f} ms  (at most {LIMIT:g})")
    return 0 if found <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
