"""A failing session is made small without losing what makes it fail, within a bound."""

from vfio_user_fuzz.corpus import corpus
from vfio_user_fuzz.minimise import Session, minimise
from vfio_user_fuzz.packets import Descriptor, Packet
from vfio_user_proto import wire

CORPUS = corpus()
VERSION = Packet(CORPUS["version-command-full"])
WRITE = Packet(CORPUS["region-write-command-full"], (Descriptor("memfd", 1), Descriptor("eventfd")))
SESSION = (VERSION, *[Packet(CORPUS["device-reset-command"])] * 9, WRITE, *[Packet(CORPUS["dma-map-command-full"])] * 6)


def test_what_does_not_matter_goes() -> None:
    """Messages, descriptors, the end of a payload, bytes that may as well be zero; sizes in headers stay true."""

    def fails(session: Session) -> bool:
        """The first message is a VERSION, and some write has an offset of 4096."""
        return b"{" in session[0].data and any(
            each.data[2] == WRITE.data[2] and each.data[16:18] == b"\x00\x10" for each in session
        )

    small = minimise(SESSION, fails, attempts=1000)

    assert len(small) == 2
    assert small[1].fds == ()
    assert small[1].data[16:] == b"\x00\x10"
    assert all(wire.decode_header(each.data).message_size == len(each.data) for each in small)


def test_attempts_are_bounded() -> None:
    """No more than asked for; what was reached by then is the answer."""
    tried: list[Session] = []

    def fails(session: Session) -> bool:
        tried.append(session)
        return False

    assert minimise(SESSION, fails, attempts=7) == SESSION
    assert len(tried) == 7


def test_what_cannot_be_smaller_stays() -> None:
    """It ends by itself where nothing more can be left out."""
    assert minimise(SESSION, lambda session: session == SESSION, attempts=10_000) == SESSION
