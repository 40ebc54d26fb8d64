"""Who may send what, and when: one table, by which both ends are judged (sections Commands and VFIO_USER_VERSION)."""

from collections.abc import Mapping
from enum import Enum
from typing import Final

from vfio_user_proto.messages import Command


class Role(Enum):
    """One end of a connection: the client is the VMM, the server emulates the device."""

    CLIENT = "client"
    SERVER = "server"

    __hash__ = object.__hash__  # Enum's own costs more than the look-up that it is for

    @property
    def peer(self) -> "Role":
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class State(Enum):
    """How far a connection has come."""

    NEW = "nothing sent; the client proposes a version"
    PROPOSED = "a version is proposed; the server answers"
    READY = "any command"
    CLOSED = "nothing more"

    __hash__ = object.__hash__


# state -> (sender, is a reply, is VERSION) -> next state. What is not here is a broken rule.
TRANSITIONS: Final[Mapping[State, Mapping[tuple[Role, bool, bool], State]]] = {
    State.NEW: {(Role.CLIENT, False, True): State.PROPOSED},
    State.PROPOSED: {(Role.SERVER, True, True): State.READY},
    State.READY: {
        (Role.CLIENT, False, False): State.READY,
        (Role.CLIENT, False, True): State.READY,
        (Role.CLIENT, True, False): State.READY,
        (Role.SERVER, False, False): State.READY,
        (Role.SERVER, True, False): State.READY,
        (Role.SERVER, True, True): State.READY,
    },
    State.CLOSED: {},
}

# Which end sends each command; the other one replies.
SENDERS: Final[Mapping[int, Role]] = {
    command: Role.SERVER if command.notes[0].startswith("server") else Role.CLIENT for command in Command
}
