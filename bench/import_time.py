"""How long it takes to import the protocol: a fresh interpreter that does, minus one that does not, in milliseconds."""

import resource
import statistics
import subprocess
import sys

LIMIT = 100.0
ROUNDS = 15
# The package itself imports nothing; this is what every user of it needs.
MODULE = "vfio_user_proto.wire"


def milliseconds(code: str) -> float:
    """The processor time of one interpreter: on an idle machine the time that passes, on a busy one not the others' too."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> int:
    """Print the median of the differences; 1 where it is over the limit."""
    milliseconds(f"import {MODULE}")  # compiles what is not compiled yet
    found = statistics.median(milliseconds(f"import {MODULE}") - milliseconds("pass") for _ in range(ROUNDS))
    print(f"import {MODULE}: {found:.0f} ms  (at most {LIMIT:g})")
    return 0 if found <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
