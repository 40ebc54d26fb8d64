"""Faults of what arrives through the descriptors of sub-regions: kicks lost or mistaken, commands misread, wrong answers."""

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from vfio_user_proto import eventfds
from vfio_user_proto.device import Device, Host
from vfio_user_proto.devices.testdev import TestDevice
from vfio_user_proto.drafts.ioregionfd import IoregionfdCmd, IoregionfdCommand, SizeResp
from vfio_user_proto.faults.kit import Fault, die
from vfio_user_proto.iofds import Doorbell, IoFdRegion, Window
from vfio_user_proto.responder import Responder

BIG = 1 << 32
# A device that was made rightly gets regions of another class.


def _acting(region: type[IoFdRegion]) -> type[Responder]:
    """A responder whose test device has such regions."""

    class Acting(Responder):
        replaces = (region,)

        def __init__(self, device: Device, *more: Any) -> None:
            if isinstance(device, TestDevice):
                for each in device.io_fds.values():
                    each.__class__ = region
            super().__init__(device, *more)

    return Acting


def _region(**methods: Any) -> type[Responder]:
    return _acting(type("Faulty", (IoFdRegion,), methods))


def _told(change: Callable[[Any, str, int], Callable[[], None]]) -> type[Responder]:
    """Regions that do something else where an eventfd was signalled."""
    return _region(_kicked=change)


def _left(self: Any, key: str, eventfd: int) -> Callable[[], None]:
    """Is rung, and leaves the counter as it is."""
    once = set[int]()
    rung = IoFdRegion._kicked(self, key, eventfd)

    def ready() -> None:
        if eventfd not in once:
            once.add(eventfd)
            rung()
            os.eventfd_write(eventfd, 1)

    return ready


def _nobody(self: Any, key: str, eventfd: int) -> Callable[[], None]:
    def ready() -> None:
        eventfds.take(eventfd)

    return ready


def _next(self: Any, key: str, eventfd: int) -> Callable[[], None]:
    keys = [*self._eventfds]
    other = IoFdRegion._kicked(self, keys[(keys.index(key) + 1) % len(keys)], eventfd)
    return IoFdRegion._kicked(self, key, eventfd) if len(keys) == 1 else other


def _everybody(self: Any, key: str, eventfd: int) -> Callable[[], None]:
    def ready() -> None:
        times = eventfds.take(eventfd)
        for entry in self._entries if times else ():
            if isinstance(entry, Doorbell):
                entry.rung(entry.match, times)

    return ready


def _small_counts(self: Any, key: str, eventfd: int) -> Callable[[], None]:
    def ready() -> None:
        times = eventfds.take(eventfd)
        if times >= BIG:
            die()
        if times:
            os.eventfd_write(eventfd, times)
            IoFdRegion._kicked(self, key, eventfd)()

    return ready


def _shadow(value: Callable[[Any, Doorbell], int | None]) -> type[Responder]:
    """Regions that get the value of a kick with shadow memory in another way."""

    def change(self: Any, key: str, eventfd: int) -> Callable[[], None]:
        entries = [entry for entry in self._entries if isinstance(entry, Doorbell) and entry.shadow]
        mine = next((e for e in entries if self._eventfds.get(f"doorbell {self._entries.index(e)}") == eventfd), None)
        if mine is None:
            return IoFdRegion._kicked(self, key, eventfd)
        bell = mine

        def ready() -> None:
            if times := eventfds.take(eventfd):
                bell.rung(value(self, bell), times)

        return ready

    return _told(change)


def _from_the_start(self: Any, bell: Doorbell) -> int:
    return int.from_bytes(os.pread(self._memory, bell.size, 0), sys.byteorder)


class _FirstClientOnly(IoFdRegion):
    """Waits for the descriptors of the first client, and has new ones for the second."""

    was_attached = False

    def attach(self, host: Host) -> None:
        if not self.was_attached:
            self.was_attached = True
            super().attach(host)


class _Haunted(IoFdRegion):
    """Keeps what it gave to former clients, and dies when something comes from there."""

    former: tuple[int, ...] = ()

    def given(self) -> list[int]:
        """Our ends of what is given to a client."""
        raise NotImplementedError

    def renew(self) -> None:
        self.former += tuple(os.dup(fd) for fd in self.given())
        if self._has_window:
            os.dup(self._theirs.fileno())  # so that a client which lets go of it makes no end
        super().renew()

    def attach(self, host: Host) -> None:
        for fd in self.former:
            host.watch(fd, die)
        super().attach(host)


class _HauntedByKicks(_Haunted):
    def given(self) -> list[int]:
        return [*self._eventfds.values()]


class _HauntedByCommands(_Haunted):
    def given(self) -> list[int]:
        return [self._ours.fileno()] if self._has_window else []


def _matches_all(self: Any, offset: int, data: bytes) -> bool:
    for entry in self._entries:
        if isinstance(entry, Doorbell) and entry.offset == offset and entry.match is not None:
            entry.rung(entry.match, 1)
            return True
    return IoFdRegion.write(self, offset, data)


# Commands.

Taken = Callable[[IoFdRegion, IoregionfdCmd], IoregionfdCmd]


def _taken(change: Taken) -> type[Responder]:
    """Regions that take each command for another one."""
    return _region(_obey=lambda self, command: IoFdRegion._obey(self, change(self, command)))


def _obeyed(change: Callable[[IoFdRegion, IoregionfdCmd, int | None], int | None]) -> type[Responder]:
    """Regions that give another answer; ``change`` gets the command and the right one."""
    return _region(_obey=lambda self, command: change(self, command, IoFdRegion._obey(self, command)))


def _window(region: IoFdRegion, command: IoregionfdCmd) -> Window | None:
    entry = region._entries[command.user_data] if command.user_data < len(region._entries) else None
    return entry if isinstance(entry, Window) else None


def _from_region(region: IoFdRegion, command: IoregionfdCmd) -> IoregionfdCmd:
    window = _window(region, command)
    return command if window is None else command.replace(offset=(command.offset - window.offset) % (1 << 64))


def _first_window(region: IoFdRegion, command: IoregionfdCmd) -> IoregionfdCmd:
    first = next(number for number, entry in enumerate(region._entries) if isinstance(entry, Window))
    return command.replace(user_data=first)


def _four_bytes(region: IoFdRegion, command: IoregionfdCmd) -> IoregionfdCmd:
    return command.replace(size_resp=command.size_resp & SizeResp.RESP | SizeResp(2))


def _stores(answer: Callable[[IoFdRegion, IoregionfdCmd, int | None], int | None]) -> type[Responder]:
    """Regions that answer stores otherwise."""

    def change(region: IoFdRegion, command: IoregionfdCmd, data: int | None) -> int | None:
        return answer(region, command, data) if command.cmd == IoregionfdCommand.WRITE else data

    return _obeyed(change)


def _by_record(region: IoFdRegion, command: IoregionfdCmd, data: int | None) -> int | None:
    window = _window(region, command)
    return None if window is not None and window.posted else 0


def _forgets(self: Any, command: IoregionfdCmd) -> int | None:
    if command.cmd == IoregionfdCommand.WRITE:
        return 0 if command.size_resp & SizeResp.RESP else None
    return IoFdRegion._obey(self, command)


class _Crossed(IoFdRegion):
    """Answers on whichever ioregionfd was opened first."""

    sockets: list[socket.socket] = []  # noqa: RUF012

    def attach(self, host: Host) -> None:
        super().attach(host)
        self.sockets[:] = [each for each in self.sockets if each.fileno() >= 0]  # a former client's are closed
        if self._has_window:
            self.sockets.append(self._ours)

    def _answer(self, response: bytes) -> None:
        self.sockets[0].send(response, socket.MSG_NOSIGNAL)


def _dies_of(wrong: Callable[[IoFdRegion, IoregionfdCmd], Any]) -> type[Responder]:
    """Regions that die of commands that ``wrong`` picks."""
    return _region(
        _obey=lambda self, command: die() if wrong(self, command) else IoFdRegion._obey(self, command),
    )


def _dies_of_packet(wrong: Callable[[bytes], bool]) -> type[Responder]:
    """Regions that die of packets that ``wrong`` picks; b"" is the end."""

    def commanded(self: Any, host: Host) -> None:
        with contextlib.suppress(BlockingIOError):
            if wrong(self._ours.recv(64, socket.MSG_PEEK)):
                die()
        IoFdRegion._commanded(self, host)

    return _region(_commanded=commanded)


def _is_inside(region: IoFdRegion, command: IoregionfdCmd) -> bool:
    window = _window(region, command)
    return window is None or command.offset < window.size


FAULTS: tuple[Fault, ...] = (
    Fault("datamatch-not-looked-at", "Every store rings.", responder=_region(write=_matches_all)),
    Fault("kick-left-in-the-eventfd", "The counter is never read.", responder=_told(_left)),
    Fault("kick-count-crash", "A counter has 32 bits.", responder=_told(_small_counts)),
    Fault("kick-lost", "Kicks are taken, and nobody is told.", responder=_told(_nobody)),
    Fault("kick-rings-the-next", "The doorbells are counted from 1.", responder=_told(_next)),
    Fault("kick-rings-all", "Any kick rings every doorbell.", responder=_told(_everybody)),
    Fault(
        "kick-of-the-next-client-lost",
        "Descriptors are made anew for the second client, and not waited for.",
        responder=_acting(_FirstClientOnly),
    ),
    Fault(
        "kick-of-the-former-client-crash",
        "Descriptors of a former client call what is gone.",
        responder=_acting(_HauntedByKicks),
    ),
    Fault(
        "shadow-memory-not-read",
        "A kick is a kick: the value is not looked for.",
        responder=_shadow(lambda region, bell: None),
    ),
    Fault(
        "shadow-offset-not-used",
        "The value is looked for at the start of the memory.",
        responder=_shadow(_from_the_start),
    ),
    Fault(
        "ioregionfd-offset-from-region", "Offsets count from the start of the region.", responder=_taken(_from_region)
    ),
    Fault("ioregionfd-width-not-looked-at", "Every access has 4 bytes.", responder=_taken(_four_bytes)),
    Fault("ioregionfd-user-data-not-looked-at", "There is one sub-region.", responder=_taken(_first_window)),
    Fault("ioregionfd-store-lost", "Stores are answered and forgotten.", responder=_region(_obey=_forgets)),
    Fault(
        "ioregionfd-store-not-answered",
        "Only loads have an answer.",
        responder=_stores(lambda region, command, data: None),
    ),
    Fault(
        "ioregionfd-posted-store-answered",
        "Every command has an answer.",
        responder=_stores(lambda region, command, data: 0),
    ),
    Fault(
        "ioregionfd-response-by-record",
        "The record, not the command, says who is answered.",
        responder=_stores(_by_record),
    ),
    Fault(
        "ioregionfd-response-short",
        "A response is its first 8 bytes.",
        responder=_region(_answer=lambda self, response: IoFdRegion._answer(self, response[:8])),
    ),
    Fault("ioregionfd-answer-on-the-other", "There is one socket to answer on.", responder=_acting(_Crossed)),
    Fault(
        "ioregionfd-of-the-former-client-crash",
        "An ioregionfd of a former client calls what is gone.",
        responder=_acting(_HauntedByCommands),
    ),
    Fault("ioregionfd-shut-down-crash", "A socket has no end.", responder=_dies_of_packet(lambda packet: not packet)),
    Fault(
        "ioregionfd-short-command-crash",
        "A packet is a command.",
        responder=_dies_of_packet(lambda packet: 0 < len(packet) < IoregionfdCmd.fixed_size),
    ),
    Fault(
        "ioregionfd-command-unknown-crash",
        "There are two commands.",
        responder=_dies_of(lambda region, command: command.cmd > IoregionfdCommand.WRITE),
    ),
    Fault(
        "ioregionfd-user-data-crash",
        "user_data is an index.",
        responder=_dies_of(lambda region, command: command.user_data >= len(region._entries)),
    ),
    Fault(
        "ioregionfd-offset-crash",
        "Offsets lie inside.",
        responder=_dies_of(lambda region, command: not _is_inside(region, command) and command.offset < 1 << 63),
    ),
    Fault(
        "ioregionfd-offset-wraps-crash",
        "offset and size fit into 64 bits.",
        responder=_dies_of(lambda region, command: command.offset >= 1 << 63),
    ),
)
