"""Ways to be wrong, one by one: what each conformance case is there to find. The correct server does not know them."""

from collections.abc import Mapping

from vfio_user_proto.faults import access, dirty, framing, memory, migration, passed, queries, sizes, stream
from vfio_user_proto.faults.kit import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for module in (framing, memory, queries, access, migration, dirty, stream, sizes, passed)
    for fault in module.FAULTS
}

__all__ = ["FAULTS", "Fault"]
