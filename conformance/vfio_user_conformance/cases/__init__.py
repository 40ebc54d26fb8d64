"""The cases, one module per section of the document; each has a list ``CASES``."""

# In the order of the document: reports keep it.
SECTIONS = (
    "header",
    "message_id",
    "stream",
    "payload_size",
    "no_reply",
    "descriptors",
    "version",
    "dma_map",
    "dma_unmap",
    "device_info",
    "region_info",
    "region_io_fds",
    "irq_info",
    "set_irqs",
    "region_access",
    "reset",
    "feature",
    "mig_state",
    "dma_logging",
    "mig_data",
    "connection",
    "flood",
)
