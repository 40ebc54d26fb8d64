"""The vfio-user protocol as data: schemas generated from the document's tables, a codec, peers and tools."""

__version__ = "0.1.0"
