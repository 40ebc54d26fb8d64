"""How long reading, linting and comparing two documents takes, against docutils' own parse of both. Aim: under 2 seconds.

Run: python bench/spec_tools.py [OLD NEW]
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from docutils.core import publish_doctree

from vfio_user_proto.specdoc import project, requirement
from vfio_user_proto.specdoc.diff import diff
from vfio_user_proto.specdoc.lint import check
from vfio_user_proto.specdoc.reader import read

ROUNDS = 5
LIMIT = 2.0
DOCUMENTS = [str(project.ROOT / origin.document) for origin in (project.ORIGINS[1], project.PROTOCOL)]

Result = TypeVar("Result")


def best(run: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of the fastest of several runs, and what it returned."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - begin)
    return min(times), result


def main() -> int:
    """Print each step, the sum, and its ratio to the yardstick; status 1 where the sum is over the limit."""
    paths = sys.argv[1:3] if len(sys.argv) > 2 else DOCUMENTS
    requirement.register()
    settings = {"report_level": 5, "file_insertion_enabled": False}
    texts = [Path(path).read_text(encoding="utf-8") for path in paths]
    yardstick, _ = best(lambda: [publish_doctree(text, settings_overrides=settings) for text in texts])
    reading, documents = best(lambda: [read(path) for path in paths])
    linting, problems = best(lambda: [check(document) for document in documents])
    comparing, changes = best(lambda: diff(*documents))
    whole = reading + linting + comparing
    print(f"{' and '.join(Path(path).name for path in paths)}, best of {ROUNDS}")
    print(f"  docutils publish_doctree  {yardstick:.3f} s")
    print(f"  reading                   {reading:.3f} s   {sum(len(text.splitlines()) for text in texts)} lines")
    print(f"  linting                   {linting:.3f} s   {sum(map(len, problems))} problems")
    print(f"  comparing                 {comparing:.3f} s   {len(changes)} differences")
    print(
        f"  together                  {whole:.3f} s   {whole / yardstick:.2f} times the yardstick (limit {LIMIT:g} s)"
    )
    return 0 if whole < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
