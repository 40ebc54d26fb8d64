"""Ways to be wrong, one by one: what each conformance case is there to find. The correct server does not know them."""

from collections.abc import Mapping

from vfio_user_proto.faults import (
    access,
    capability,
    device_dma,
    dirty,
    framing,
    memory,
    migration,
    no_reply,
    passed,
    queries,
    sizes,
    stream,
)
from vfio_user_proto.faults.kit import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for module in (
        framing,
        memory,
        queries,
        access,
        migration,
        dirty,
        device_dma,
        stream,
        sizes,
        passed,
        capability,
        no_reply,
    )
    for fault in module.FAULTS
}

__all__ = ["FAULTS", "Fault"]
