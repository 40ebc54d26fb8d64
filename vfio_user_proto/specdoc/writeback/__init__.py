"""Puts what has changed in the schemas into the tables of a document, and leaves every other byte of it alone."""

from vfio_user_proto.specdoc.writeback.renew import Renewed, renewed

__all__ = ["Renewed", "renewed"]
