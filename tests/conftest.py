# What every test shares: repeatable hypothesis runs, SIGINT that interrupts, and the count of open descriptors.
import os
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from serving import Serving

from vfio_user_proto.specdoc import reader

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("repeatable")
# Sockets lie in the folders of tests, and theirs have names of some 80 bytes: a folder for them all with a long name leaves no
# room in the 107 that the path of a socket has, nor in those of multiprocessing's own.
if len(os.fsencode(tempfile.gettempdir())) > 20:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"
# What a program prints waits in a buffer for its end, as with most users: some mistakes show only then. And it has no colours.
for name in ("PYTHONUNBUFFERED", "FORCE_COLOR", "PYTHON_COLORS"):
    os.environ.pop(name, None)
# In the background of a shell SIGINT is ignored, also by the programs that are started there.
signal.signal(signal.SIGINT, signal.default_int_handler)

read_text = cache(reader.read_text)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Fail a test that leaves more, or other, descriptors open than it found."""
    before = open_descriptors()
    yield
    assert open_descriptors() == before


@pytest.fixture
def serving(no_leak: None) -> Iterator[Serving]:
    """The reference server with the test device, in a thread of this process."""
    with Serving() as running:
        yield running


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the same text again gets the same document, which nothing can change: to read one takes half a second."""
    monkeypatch.setattr(reader, "read_text", read_text)


@pytest.fixture
def shared() -> Path:
    """The folder of documents and captures beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("the published documents and captures are not beside this checkout")
    return SHARED
