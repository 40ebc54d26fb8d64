"""Which suite this is, and which text it judges by: every report says both."""

from typing import Final

from vfio_user_proto import __version__

SUITE: Final = f"vfio-user-conformance {__version__}"
SPEC: Final = "0.9.2"


def told(target: str, profile: str, seed: int | None, suite: str = SUITE, spec: str = SPEC) -> str:
    """What was run against what, in a line; ``seed`` is None where nothing was left to chance."""
    chance = "no seed" if seed is None else f"seed {seed}"
    return f"{suite}, protocol {spec}, target {target}, profile {profile or 'none'}, {chance}"
