"""What two documents say differently about the wire, whether peers of both understand each other, and why."""

from vfio_user_proto.specdoc.diff.change import RULES, Change, Rule
from vfio_user_proto.specdoc.diff.compare import diff

__all__ = ["RULES", "Change", "Rule", "diff"]
