"""The client of a vfio-user server: one typed method per command, over a connected socket."""

from vfio_user_proto.client.blocking import Calls, Client, QueryCalls
from vfio_user_proto.client.fd import Fd
from vfio_user_proto.client.greeting import OFFER
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.client.regions import RegionInfo, RegionIoFds, Window
from vfio_user_proto.client.replies import Pending, Reply

__all__ = [
    "OFFER",
    "Calls",
    "Client",
    "Fd",
    "MemoryMap",
    "Pending",
    "QueryCalls",
    "RegionInfo",
    "RegionIoFds",
    "Reply",
    "Window",
]
