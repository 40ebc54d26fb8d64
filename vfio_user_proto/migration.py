"""Migration: the states of a device and the ways between them, and its state as a stream of bytes that shows its own end."""

import errno
import struct
import zlib
from collections.abc import Callable, Generator, Mapping
from typing import Final

from vfio_user_proto.device import Device
from vfio_user_proto.messages import DeviceState, MigrationFlags

ERROR, STOP, RUNNING = DeviceState.ERROR, DeviceState.STOP, DeviceState.RUNNING
STOP_COPY, RESUMING, PRE_COPY = DeviceState.STOP_COPY, DeviceState.RESUMING, DeviceState.PRE_COPY
SAVING: Final = frozenset({PRE_COPY, STOP_COPY})

# A device's state is at most so many bytes. It travels in pieces of at most PIECE bytes, and one that changed goes again.
MAX_STATE: Final = 64 << 20
PIECE: Final = 16384
# The stream: MAGIC, pieces, an end. A piece is place, length and CRC-32 of these two and its bytes, then the bytes. The end
# has the size of the state in the place of the place, a length of 0, and the CRC-32 of these two and the whole state.
MAGIC: Final = b"vfio-user state\1"
_PLACE: Final = struct.Struct("<QI")
_CRC: Final = struct.Struct("<I")
_HEAD: Final = _PLACE.size + _CRC.size


class Migration:
    """The migration state of one device for one client (section VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE).

    The device's ``state`` is the state. What a client began to read or write ends with it: who finds the device amid that
    finds it as if the client had gone back.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.flags: Final = device.description.migration
        self._end()
        if device.state in _LEFT:
            device.state = _LEFT[device.state]

    def go(self, wanted: int) -> None:
        """Take every arc on the way to ``wanted``.

        Raises OSError: EINVAL where no way leads there, the device's own where it cannot go on. The device is then where it got
        to, which is ERROR where it took data that it cannot use.
        """
        way = path(self._device.state, wanted, self.flags)
        if way is None:
            raise OSError(errno.EINVAL, "no way to that state")
        for state in way:
            self._take(self._device.state, state)

    def reset(self) -> None:
        """The device was reset: it works, and what was read or written is void (section Direct State Transitions)."""
        self._device.state = RUNNING
        self._end()

    def read(self, size: int) -> bytes:
        """The next bytes of the stream, fewer than ``size`` at its end; EINVAL outside the saving group."""
        if self._device.state not in SAVING:
            raise OSError(errno.EINVAL, "nothing is to be read in this state")
        if self._device.state == PRE_COPY and not self._saving.due:
            self._saving.renew()
        return self._saving.read(size)

    def write(self, data: bytes) -> None:
        """More of a stream, cut anywhere; EINVAL outside RESUMING. What is wrong with it shows when RESUMING is left."""
        if self._device.state != RESUMING:
            raise OSError(errno.EINVAL, "nothing is to be written in this state")
        self._loading.write(data)

    def _take(self, old: DeviceState, new: DeviceState) -> None:
        """One arc. The device is told first, so that it is at rest when its state is taken."""
        self._device.state = new
        try:
            ARCS[old, new](self)
        except OSError:
            if self._device.state == new:
                self._device.state = old
            raise

    def _nothing(self) -> None:
        """The device comes to rest, or works again."""

    def _end(self) -> None:
        """No session: nothing is kept of one."""
        self._saving, self._loading = Saving(self._device.save), Loading()

    def _save_all(self) -> None:
        self._saving.finish()

    def _loaded(self) -> None:
        state = self._loading.finish()
        try:
            self._device.load(state)
        except (OSError, ValueError) as problem:
            self._device.state = ERROR
            raise OSError(errno.EINVAL, str(problem)) from None
        finally:
            self._end()


# What happens on each arc (section Direct State Transitions).
ARCS: Final[Mapping[tuple[DeviceState, DeviceState], Callable[[Migration], None]]] = {
    (RUNNING, STOP): Migration._nothing,
    (STOP, RUNNING): Migration._nothing,
    (RUNNING, PRE_COPY): Migration._nothing,
    (PRE_COPY, RUNNING): Migration._end,
    (STOP, STOP_COPY): Migration._save_all,
    (PRE_COPY, STOP_COPY): Migration._save_all,
    (STOP_COPY, STOP): Migration._end,
    (STOP, RESUMING): Migration._nothing,
    (RESUMING, STOP): Migration._loaded,
}
# Where a device is whose client went away during a session.
_LEFT: Final = {PRE_COPY: RUNNING, STOP_COPY: STOP, RESUMING: STOP}


def path(start: int, end: int, flags: MigrationFlags) -> tuple[DeviceState, ...] | None:
    """The states after ``start`` on the shortest way to ``end``, which may be none; None where no way may be taken.

    States of the saving group only begin or end a way (section Complex State Transitions).
    """
    states = {STOP, RUNNING, STOP_COPY, RESUMING} | ({PRE_COPY} if flags & MigrationFlags.PRE_COPY else set())
    if start not in states or end not in states or (start, end) == (STOP_COPY, PRE_COPY):
        return None
    ways: list[tuple[DeviceState, ...]] = [()]
    for way in ways:  # which grows
        here = way[-1] if way else start
        if here == end:
            return way
        if not way or here not in SAVING:
            ways += [(*way, new) for old, new in ARCS if old == here and new in states and new not in way]
    return None


class Saving:
    """The stream of a device's state, in parts as it is read. ``save`` gives the state as it is now."""

    def __init__(self, save: Callable[[], bytes]) -> None:
        self._save = save
        self._sent: bytes | None = None
        self._due = bytearray()

    @property
    def due(self) -> int:
        """Bytes that can be read now."""
        return len(self._due)

    def renew(self) -> bytes:
        """Add the pieces that changed; returns the state. Raises OSError where the device cannot, or has too much."""
        state = self._save()
        if len(state) > MAX_STATE:
            raise OSError(errno.EFBIG, f"the state has {len(state)} bytes, at most {MAX_STATE} travel")
        if self._sent is None:
            self._due += MAGIC
            self._sent = b""
        for at in range(0, len(state), PIECE):
            piece = state[at : at + PIECE]
            if piece != self._sent[at : at + PIECE]:
                self._due += _head(at, len(piece), piece) + piece
        self._sent = state
        return state

    def finish(self) -> None:
        """Add what changed, and the end."""
        state = self.renew()
        self._due += _head(len(state), 0, state)

    def read(self, size: int) -> bytes:
        """Take up to ``size`` bytes."""
        data = bytes(self._due[:size])
        del self._due[:size]
        return data


class Loading:
    """A stream that is written in parts, put together to a state."""

    def __init__(self) -> None:
        self._state, self._rest = bytearray(), bytearray()
        self._problem = "the data are incomplete"
        self._parser = self._parse()
        self._wanted = next(self._parser)  # bytes of the next part; 0 after the end and after a mistake

    def write(self, data: bytes) -> None:
        """Take more of the stream; nothing is kept of what follows a mistake."""
        self._rest += data
        while self._wanted and len(self._rest) >= self._wanted:
            part = bytes(self._rest[: self._wanted])
            del self._rest[: self._wanted]
            try:
                self._wanted = self._parser.send(part)
            except StopIteration as end:
                self._wanted, self._problem = 0, end.value
        if self._rest and not self._wanted:
            self._rest.clear()
            self._problem = self._problem or "data follow the end"

    def finish(self) -> bytes:
        """The whole state. Raises OSError (EINVAL) where the stream is not whole, or damaged."""
        if self._problem:
            raise OSError(errno.EINVAL, self._problem)
        return bytes(self._state)

    def _parse(self) -> Generator[int, bytes, str]:
        """Says how many bytes are needed next, and in the end what is wrong with them, "" where nothing is."""
        if (yield len(MAGIC)) != MAGIC:
            return "the data are no state"
        while True:
            head = yield _HEAD
            place, length = _PLACE.unpack_from(head)
            if place > len(self._state) or length > PIECE or place + length > MAX_STATE:
                return "a piece lies outside the state"
            content = (yield length) if length else bytes(self._state[:place])
            if head != _head(place, length, content):
                return "the data are damaged"
            if not length:
                del self._state[place:]
                return ""
            self._state[place : place + length] = content


def _head(place: int, length: int, content: bytes) -> bytes:
    head = _PLACE.pack(place, length)
    return head + _CRC.pack(zlib.crc32(content, zlib.crc32(head)))
