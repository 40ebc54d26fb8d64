"""Which suite this is, and which text it judges by: every report says both."""

from typing import Final

from vfio_user_proto import __version__

SUITE: Final = f"vfio-user-conformance {__version__}"
SPEC: Final = "0.9.2"
