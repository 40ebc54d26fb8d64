"""The doorbell harness: what a store of a guest costs, by each way that it can take to a device."""

from vfio_user_proto.harness.doorbell import FACTOR, REFERENCES, Measurement, Result, measure
from vfio_user_proto.harness.plot import svg
from vfio_user_proto.harness.report import as_json, table

__all__ = ["FACTOR", "REFERENCES", "Measurement", "Result", "as_json", "measure", "svg", "table"]
