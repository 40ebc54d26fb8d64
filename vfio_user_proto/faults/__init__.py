"""Ways to be wrong, one by one: what each conformance case is there to find. The correct server does not know them."""

from collections.abc import Mapping

from vfio_user_proto.faults import (
    access,
    asking,
    capability,
    device_dma,
    dirty,
    dirty_log,
    dma_messages,
    doorbells,
    edges,
    framing,
    iofds,
    irq_flags,
    mapped,
    memory,
    migration,
    no_reply,
    passed,
    queries,
    ranges,
    rest,
    sequences,
    signals,
    sizes,
    stateful,
    stream,
    surroundings,
    writes,
)
from vfio_user_proto.faults.kit import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for module in (
        framing,
        memory,
        queries,
        iofds,
        edges,
        doorbells,
        access,
        migration,
        dirty,
        rest,
        device_dma,
        dma_messages,
        dirty_log,
        signals,
        irq_flags,
        mapped,
        stream,
        sizes,
        passed,
        capability,
        no_reply,
        ranges,
        asking,
        writes,
        stateful,
        sequences,
        surroundings,
    )
    for fault in module.FAULTS
}

__all__ = ["FAULTS", "Fault"]
