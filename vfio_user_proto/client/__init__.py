"""The client of a vfio-user server: one typed method per command, over a connected socket."""

from vfio_user_proto.client.blocking import Calls, Client
from vfio_user_proto.client.commands import OFFER
from vfio_user_proto.client.exchange import Pending, Reply
from vfio_user_proto.client.fd import Fd
from vfio_user_proto.client.memory import MemoryMap
from vfio_user_proto.client.regions import RegionInfo, RegionIoFds, Window

__all__ = ["OFFER", "Calls", "Client", "Fd", "MemoryMap", "Pending", "RegionInfo", "RegionIoFds", "Reply", "Window"]
