"""``vfio-user`` as tests of its words, files and statuses run it: in a fork of a process that has imported everything.

An interpreter that starts and imports for each command would take more time than most commands do. The first command opens
descriptors that stay, so that this is not for tests that count them.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vfio_user_conformance import proof, replay, runner, stored
from vfio_user_conformance.model import proof as model
from vfio_user_conformance.report import html
from vfio_user_conformance.witness import session
from vfio_user_proto import faults
from vfio_user_proto.cli import conformance, main, serve
from vfio_user_proto.client import commands

# What commands import when they are run, as far as it takes long.
IMPORTED = (commands, conformance, faults, html, model, proof, replay, runner, serve, session, stored)
# The command as a process of its own.
VFIO_USER = [sys.executable, "-m", "vfio_user_proto"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([module.__name__ for module in IMPORTED])


def vfio_user(
    *words: str, cwd: Path | None = None, timeout: float = 120, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end, with these variables added to the environment; ends in TimeoutExpired as ``run`` does."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        files = (os.devnull, str(out), str(err))
        process = FORKS.Process(target=_command, args=(words, files, cwd or Path.cwd(), {**os.environ, **environment}))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout, out.read_text(), err.read_text())
        status = process.exitcode
        process.close()
        return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())


def _command(words: Sequence[str], files: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
    for standard, name in enumerate(files):
        opened = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, standard)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(main(list(words)))
