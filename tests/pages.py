"""Pages with commands in them: each command is run in an empty folder, and has to print what the page says.

A block of ``console`` has commands after "$ ", each followed by what it prints, on either stream in the order of a terminal;
"…" stands for anything: lines where it is a line, text inside one. A command that ends in "&" runs until the page ends,
and has printed the lines below it before the page goes on. A block of another language whose first line (behind "#!") is a
comment with a file name is that file.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"(?:#!.*\n)?# (\S+\.\w+|my-\w+)\b")


def page_as_it_should_be(text: str, folder: Path) -> str:
    """The page with what each of its commands prints; what "…" leaves open stays open."""
    with ExitStack() as background:

        def printed(block: str) -> Iterator[str]:
            for part in re.findall(r"^\$ .*\n(?:(?!\$ ).*\n)*", block, re.MULTILINE):
                command, _, expected = part.partition("\n")
                if command.endswith("&"):
                    out = background.enter_context(_running(command[2:-1], folder, expected.count("\n")))
                else:
                    out = run(command[2:], folder)
                yield f"{command}\n{expected if matches(expected, out) else out}"

        def filled(block: re.Match[str]) -> str:
            if block[1] == "console":
                return f"```console\n{''.join(printed(block[2]))}```\n"
            if name := FILE.match(block[2]):
                path = folder / name[1]
                path.write_text(block[2], encoding="utf-8")
                path.chmod(0o755)
            return block[0]

        return BLOCK.sub(filled, text)


def run(command: str, folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=300,
    )
    return done.stdout.decode()


def matches(expected: str, out: str) -> bool:
    """Whether ``out`` is what the page says."""
    lines = expected.splitlines()
    pattern = "".join("(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + "\n" for line in lines)
    return re.fullmatch(pattern, out) is not None


@contextmanager
def _running(command: str, folder: Path, lines: int) -> Iterator[str]:
    """A program in the background, and its first lines."""
    with subprocess.Popen(
        shlex.split(command),
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        try:
            yield b"".join(process.stdout.readline() for _ in range(lines)).decode()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)


def _environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
