"""How a client begins: it offers version and capabilities, and takes what the server agrees to."""

import socket
from typing import Final

from vfio_user_proto import capabilities, unix
from vfio_user_proto.capabilities import Capabilities
from vfio_user_proto.client.asking import payload_of
from vfio_user_proto.client.exchange import Exchange
from vfio_user_proto.client.replies import Reply
from vfio_user_proto.errors import DecodeError, RemoteProtocolError
from vfio_user_proto.messages import Command, VersionRequest

# What the client offers unless it is told otherwise, and the version on the wire that it proposes.
OFFER: Final = Capabilities(max_msg_fds=16, twin_socket=True, write_multiple=True)
VERSION: Final = (0, 2)


async def greet(exchange: Exchange, version: tuple[int, int]) -> None:
    """Agree on version (major, minor) and capabilities (section VFIO_USER_VERSION), and set up the twin socket, if one came.

    Raises ErrorReply where the server refuses, RemoteProtocolError where it answers another version than it may, what is no
    capabilities, or a twin socket that cannot be, and TransportError as ``call`` does.
    """
    offer = exchange.offer.to_data()
    request = VersionRequest(version_major=version[0], version_minor=version[1], version_data=offer)
    reply = await exchange.call(Command.VERSION, request)
    try:
        answer = payload_of(reply, VersionRequest)
        if answer.version_major != version[0] or answer.version_minor > version[1]:
            theirs, ours = f"{answer.version_major}.{answer.version_minor}", f"{version[0]}.{version[1]}"
            raise RemoteProtocolError(f"the server answers version {theirs} to {ours}")
        try:
            exchange.peer = capabilities.parse(answer.version_data)
        except DecodeError as problem:
            raise RemoteProtocolError(f"VFIO_USER_VERSION reply: {problem}") from None
        exchange.version = answer.version_major, answer.version_minor
        if exchange.peer.twin_socket:
            exchange.add_twin(_twin(reply, exchange.offer, exchange.peer))
    finally:
        reply.close()


def _twin(reply: Reply, offer: Capabilities, peer: Capabilities) -> unix.Stream:
    """The socket for the server's commands, which came with the reply to VERSION."""
    index = peer.twin_socket_fd_index
    if not offer.twin_socket:
        raise RemoteProtocolError("the server set up a twin socket that was not offered")
    if index is None or index >= len(reply.fds):
        raise RemoteProtocolError(f"twin_socket.fd_index is {index}, {len(reply.fds)} descriptors came")
    if reply.fds[index].kind != "socket":
        raise RemoteProtocolError(f"the twin socket is no socket but a {reply.fds[index].kind}")
    return unix.Stream(socket.socket(fileno=reply.fds[index].detach()))
