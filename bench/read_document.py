"""How long reading the document to specs takes, against docutils' own parse of the same text. Aim: under a second.

Run: python bench/read_document.py
"""

import sys
import time
from collections.abc import Callable

from docutils.core import publish_doctree

from vfio_user_proto.specdoc import project, requirement
from vfio_user_proto.specdoc.reader import read_text

ROUNDS = 5
LIMIT = 1.0


def best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def main() -> int:
    """Print both times and their ratio; status 1 where reading takes longer than the limit."""
    requirement.register()
    text = (project.ROOT / project.PROTOCOL.document).read_text()
    settings = {"report_level": 5, "file_insertion_enabled": False}
    yardstick = best(lambda: publish_doctree(text, settings_overrides=settings))
    ours = best(lambda: read_text(text, project.PROTOCOL.document))
    print(f"{project.PROTOCOL.document}, {text.count(chr(10))} lines, best of {ROUNDS}")
    print(f"  docutils publish_doctree  {yardstick:.3f} s")
    print(f"  reader, to specs          {ours:.3f} s   {ours / yardstick:.2f} times the yardstick (limit {LIMIT} s)")
    return 0 if ours < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
