"""The document as data: its tables and requirements to specs, and specs to declarations, tables and differences."""
