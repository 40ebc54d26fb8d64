"""What of a client's our server refused: the document may leave that to the server, but the client's author wants to know."""

from collections.abc import Iterator
from typing import Final

from vfio_user_conformance.witness.seen import Seen
from vfio_user_conformance.words import errno_name
from vfio_user_proto.messages import Command

# So many are told.
_MOST: Final = 5


class Refusals:
    """A watcher of a witness. ``without_session`` tells why there was no session, where one was asked for; else ""."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, int, int], Seen] = {}
        self._refused: list[str] = []
        self.without_session = ""

    def see(self, now: Seen) -> None:
        """A message, of either side."""
        key = (now.line, now.header.message_id, now.header.command)
        if now.sender == "client":
            if now.is_command:
                self._asked[key] = now
        elif now.is_reply and (asked := self._asked.pop(key, None)) is not None:
            if now.is_error:
                self._refused.append(f"{errno_name(now.header.error)} for {asked.words}")
            if now.header.command == Command.VERSION:
                self.without_session = "VFIO_USER_VERSION was refused" if now.is_error else ""

    @property
    def told(self) -> Iterator[str]:
        """A line for each of the first few."""
        yield from (f"refused with {each}" for each in self._refused[:_MOST])
        if len(self._refused) > _MOST:
            yield f"refused were {len(self._refused) - _MOST} more"
