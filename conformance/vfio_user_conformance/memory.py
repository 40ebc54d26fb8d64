"""Client memory whose bytes are known, and what the device may have done to it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from vfio_user_conformance.acting import completed, recipe, result, summed
from vfio_user_conformance.checks import AfterCheck
from vfio_user_conformance.descriptors import Handle, Memfd
from vfio_user_conformance.expect import Problem
from vfio_user_conformance.session import Session
from vfio_user_conformance.words import plural


@cache
def _background() -> bytes:
    """64 KiB of which no two pages are alike."""
    return b"".join(bytes((i * 5 + page + 1) & 0xFF for i in range(256)) for page in range(256))


@dataclass(frozen=True, eq=False)
class Pages(Memfd):
    """A memfd that is full of bytes, so that one that was written shows wherever it is; others with another ``seed``."""

    seed: int = 0

    def open(self) -> Handle:
        handle = super().open()
        os.pwrite(handle.ours, self.background(), 0)
        return handle

    def __str__(self) -> str:
        return f"memory {self.seed} of {self.size:#x} bytes"

    def background(self) -> bytes:
        """What it is full of."""
        return (_background() * (self.size // 0x10000 + 2))[self.seed * 256 :][: self.size]


@dataclass(frozen=True)
class Piece:
    """``count`` bytes at ``at`` of a memory; those of the device's pattern from its byte ``first`` on."""

    at: int
    count: int
    first: int = 0


@dataclass(frozen=True)
class Holds(AfterCheck):
    """The memory has the device's pattern in ``pieces``, and elsewhere what it had.

    With ``partly`` a piece may keep old bytes; with ``if_done`` it may unless the device says that the transfer is done.
    """

    memory: Pages
    pieces: tuple[Piece, ...] = ()
    partly: bool = False
    if_done: bool = False

    def check(self, session: Session) -> list[Problem]:
        ours = session.handle(self.memory).ours
        found, before = os.pread(ours, self.memory.size + 1, 0), self.memory.background()
        wanted, old = bytearray(before), self.partly or (self.if_done and not completed(session, "write"))
        pattern = recipe(session.facts, "write").pattern
        assert pattern is not None
        for piece in self.pieces:
            wanted[piece.at : piece.at + piece.count] = pattern.bytes(piece.count, piece.first)
        if found == wanted:
            return []
        if len(found) != len(wanted):
            return [Problem(f"the file behind {self.memory} is {len(found):#x} bytes long now")]
        wrong = [at for at in range(len(found)) if found[at] != wanted[at] and not (old and found[at] == before[at])]
        if not wrong:
            return []
        inside = any(piece.at <= wrong[0] < piece.at + piece.count for piece in self.pieces)
        what = "is not what the device was to write" if inside else "was overwritten"
        return [Problem(f"byte {wrong[0]:#x} of {self.memory} {what}, {plural(len(wrong), 'byte')} in all")]

    def __str__(self) -> str:
        places = " and ".join(f"{piece.count:#x} bytes at {piece.at:#x}" for piece in self.pieces)
        if not places:
            return f"{self.memory} unchanged"
        return (
            f"{self.memory} {'changed at most in' if self.partly or self.if_done else 'with the pattern in'} {places}"
        )


def _content(session: Session, pieces: Sequence[tuple[Pages, Piece]]) -> bytes:
    return b"".join(os.pread(session.handle(memory).ours, piece.count, piece.at) for memory, piece in pieces)


@dataclass(frozen=True)
class WasRead(AfterCheck):
    """The device shows that it read these bytes."""

    pieces: tuple[tuple[Pages, Piece], ...]

    def check(self, session: Session) -> list[Problem]:
        shown, wanted = result(session), summed(session.facts, _content(session, self.pieces))
        return (
            [] if shown == wanted else [Problem(f"the device read something else (its sum is {shown}, not {wanted})")]
        )

    def __str__(self) -> str:
        return " and ".join(
            f"{piece.count:#x} bytes at {piece.at:#x} of {memory} read" for memory, piece in self.pieces
        )


@dataclass(frozen=True)
class NotRead(AfterCheck):
    """The device does not show that it read these bytes."""

    pieces: tuple[tuple[Pages, Piece], ...]

    def check(self, session: Session) -> list[Problem]:
        if not completed(session, "read") or result(session) != summed(session.facts, _content(session, self.pieces)):
            return []
        return [Problem("the device read the memory")]

    def __str__(self) -> str:
        return str(WasRead(self.pieces)).removesuffix("read") + "not read"


@dataclass(frozen=True)
class Refill:
    """Put other bytes into the whole memory."""

    memory: Pages

    def perform(self, session: Session) -> None:
        os.pwrite(session.handle(self.memory).ours, self.memory.background()[::-1], 0)

    def __str__(self) -> str:
        return f"change {self.memory}"
