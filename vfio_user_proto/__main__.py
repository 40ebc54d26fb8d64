"""``python -m vfio_user_proto`` is the command ``vfio-user``."""

import sys

from vfio_user_proto.cli import main

if __name__ == "__main__":
    sys.exit(main())
