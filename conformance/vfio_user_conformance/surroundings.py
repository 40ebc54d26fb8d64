"""What is seen beside a connection: other clients at the same time, and the program that was started to serve them."""

from dataclasses import dataclass

from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.expect import Problem
from vfio_user_conformance.facts import NotApplicable
from vfio_user_conformance.peer import Peer, Received
from vfio_user_conformance.session import PROPOSAL, Session
from vfio_user_proto import wire
from vfio_user_proto.craft import craft
from vfio_user_proto.errors import TargetError
from vfio_user_proto.messages import Command, DeviceGetInfoRequest
from vfio_user_proto.unix import process_of

# How its messages are told from others in the log.
LINE = "beside"
# What a further client asks: ids that nobody else uses.
_ASKED = {
    0x7101: craft(Command.VERSION, PROPOSAL, message_id=0x7101),
    0x7102: craft(Command.DEVICE_GET_INFO, DeviceGetInfoRequest(), message_id=0x7102),
}


@dataclass(frozen=True)
class Beside:
    """Another client connects, and asks; a server may let it wait, or turn it away."""

    def perform(self, session: Session) -> None:
        try:
            stream = session.target.connect()
        except TargetError:
            raise NotApplicable("it takes one connection at a time") from None
        peer = Peer(stream, session.log, session.timing, session.started, line=LINE)
        session.beside.append(peer)
        for message in _ASKED.values():
            peer.send((message,))
            seen = peer.receive(session.timing.answer)
            if not isinstance(seen, Received) or seen.message.is_error:
                return

    def __str__(self) -> str:
        return "another client connects, and asks the same"


@dataclass(frozen=True)
class LeaveBeside:
    """The other client leaves."""

    def perform(self, session: Session) -> None:
        while session.beside:
            session.beside.pop().close()

    def __str__(self) -> str:
        return "the other client leaves"


@dataclass(frozen=True)
class Apart(AfterCheck):
    """Nothing came to the other client but what answers its own commands."""

    def check(self, session: Session) -> list[Problem]:
        came = [each["hex"] for each in session.log if each.get("line") == LINE and each["from"] == "server"]
        ids = [wire.decode_header(bytes.fromhex(each)[: wire.HEADER_SIZE]).message_id for each in came]
        astray = [number for number in ids if number not in _ASKED]
        return [Problem(f"to the other client came a message with the id {astray[0]:#06x}")] if astray else []

    def __str__(self) -> str:
        return "nothing of it with the other client"


def _ours(session: Session) -> int:
    """The process that was started, where it is the one that serves. Raises NotApplicable."""
    pid = session.target.pid
    if not pid:
        raise NotApplicable("the program was not started here")
    if process_of(session.peers[0].stream.socket) != pid:
        raise NotApplicable("another process than the one that was started serves: a wrapper, for instance")
    return pid


@dataclass(frozen=True)
class Foreground(AfterCheck):
    """The process that was started is still there while it serves."""

    def check(self, session: Session) -> list[Problem]:
        _ours(session)
        end = session.target.ended(0)
        return (
            [] if end is None else [Problem(f"the process that was started has ended ({end.how}), and goes on serving")]
        )

    def __str__(self) -> str:
        return "the process that was started still there"


@dataclass(frozen=True)
class Terminate:
    """Send SIGTERM to the program."""

    def perform(self, session: Session) -> None:
        _ours(session)
        if not session.target.replaceable:
            raise NotApplicable("there is no other program when this one has ended")
        session.target.terminate()

    def __str__(self) -> str:
        return "send SIGTERM to the program"


@dataclass(frozen=True)
class Ended(AfterCheck):
    """The program ends; one that does not is stopped."""

    def check(self, session: Session) -> list[Problem]:
        if session.target.ended(session.timing.reply) is not None:
            return []
        session.target.discard()
        return [Problem("the program goes on after SIGTERM")]

    def __str__(self) -> str:
        return "the program at its end"
