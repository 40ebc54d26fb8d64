# What every test shares: repeatable hypothesis runs, and the count of open descriptors.
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)
settings.load_profile("repeatable")

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
def shared() -> Path:
    """The folder of documents and captures beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("the published documents and captures are not beside this checkout")
    return SHARED
