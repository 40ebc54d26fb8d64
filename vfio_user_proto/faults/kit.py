"""What faults are made of: ways to change replies, to accept or refuse what should not be, to die and to hang."""

import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from vfio_user_proto import wire
from vfio_user_proto.connection import Connection
from vfio_user_proto.events import CommandReceived
from vfio_user_proto.messages import Command, DeviceFeature, DeviceFeatureRequest, HeaderFlags
from vfio_user_proto.model import Record
from vfio_user_proto.responder import Answer, Responder
from vfio_user_proto.session import Filter, Options
from vfio_user_proto.unix import Stream, close_all, last_begun

NO_REPLY: Final = int(HeaderFlags.NO_REPLY)
ERROR: Final = int(HeaderFlags.ERROR)
_MUCH: Final = 1 << 16  # bytes, more than a peer sends at once


@dataclass(frozen=True)
class Fault:
    """One way to be wrong; ``mistake`` says it in a sentence.

    A responder that puts objects of other classes in the place of the server's own when it is made, and does nothing else
    then, names these classes in ``replaces``.
    """

    name: str
    mistake: str
    responder: type[Responder] = Responder
    outgoing: Filter | None = None
    connection: type[Connection] = Connection
    stream: type[Stream] = Stream

    def applied(self, options: Options) -> Options:
        """The options of a server that has this fault."""
        return replace(
            options, responder=self.responder, outgoing=self.outgoing, connection=self.connection, stream=self.stream
        )


# Dying and hanging.


def die() -> NoReturn:
    """End as a program does that touches memory it does not have; without leaving a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.raise_signal(signal.SIGSEGV)
    raise AssertionError("the signal ended the process")


def hang() -> NoReturn:
    """Never go on."""
    while True:
        signal.pause()


# Responders. ``when`` looks at the request; a method that is replaced gets the responder, the request and the descriptors.

When = Callable[[Any], Any]
Method = Callable[[Any, Any, list[int]], Answer]


def always(request: Any) -> bool:
    return True


def method(name: str, function: Method) -> type[Responder]:
    """A responder whose method ``name`` is ``function``."""
    return type("Faulty", (Responder,), {name: function})


def right(name: str, responder: Any, request: Any, fds: list[int]) -> Answer:
    """What the correct server does."""
    answer: Answer = getattr(Responder, name)(responder, request, fds)
    return answer


def crash(name: str, when: When = always) -> type[Responder]:
    """Dies of requests that ``when`` picks."""
    return method(name, lambda self, request, fds: die() if when(request) else right(name, self, request, fds))


def stuck(name: str, when: When = always) -> type[Responder]:
    """Hangs at requests that ``when`` picks."""
    return method(name, lambda self, request, fds: hang() if when(request) else right(name, self, request, fds))


def refuse(name: str, errno: int, when: When = always) -> type[Responder]:
    """Refuses requests that ``when`` picks."""

    def refusing(self: Any, request: Any, fds: list[int]) -> Answer:
        if when(request):
            raise OSError(errno, "a fault")
        return right(name, self, request, fds)

    return method(name, refusing)


def accept(name: str, answer: Callable[[Any], Record | None], when: When = always) -> type[Responder]:
    """Does nothing about requests that ``when`` picks, and says that all went well."""

    def accepting(self: Any, request: Any, fds: list[int]) -> Answer:
        return (answer(request), ()) if when(request) else right(name, self, request, fds)

    return method(name, accepting)


def instead(name: str, change: Callable[[Any], Any]) -> type[Responder]:
    """Takes every request for another one."""
    return method(name, lambda self, request, fds: right(name, self, change(request), fds))


def respond(function: Callable[[Any, CommandReceived, list[int]], Answer]) -> type[Responder]:
    """A responder that looks at whole messages first; ``function`` is in the place of ``Responder.respond``."""
    return type("Faulty", (Responder,), {"respond": function})


def asks_for(feature: DeviceFeature, operation: int) -> When:
    """Picks the requests that do just this with a feature."""
    return lambda request: int(request.flags) == feature | operation


def feature_answers(feature: DeviceFeature, operation: int, change: Callable[[Any, bytes], bytes]) -> type[Responder]:
    """Other data in the replies to these requests; ``change`` gets the request and the right data."""
    picks = asks_for(feature, operation)

    def answering(self: Any, request: DeviceFeatureRequest, fds: list[int]) -> Answer:
        record, sending = right("device_feature", self, request, fds)
        if picks(request) and isinstance(record, DeviceFeatureRequest):
            record = record.replace(data=change(request, record.data))
        return record, sending

    return method("device_feature", answering)


# Replies, changed on their way out.

Change = Callable[[bytes, CommandReceived], bytes]


def outgoing(change: Change, command: int | None = None, *, error: bool | None = None) -> Filter:
    """Changes replies: those to ``command``, to all where it is None; with ``error`` only refusals, or only successes."""

    def filtered(
        data: bytes, fds: tuple[int, ...], answers: CommandReceived | None
    ) -> tuple[bytes, tuple[int, ...]] | None:
        if answers is None or not data or command not in (None, answers.message.header.command):
            return data, fds
        if error is not None and error != bool(wire.decode_header(data).flags & ERROR):
            return data, fds
        return change(data, answers), fds

    return filtered


def header(data: bytes, **fields: int) -> bytes:
    """The message with other header fields."""
    return wire.encode_record(wire.decode_header(data).replace(**fields)) + data[wire.HEADER_SIZE :]


def payload(data: bytes, content: bytes) -> bytes:
    """The message with another payload, and the size that goes with it."""
    return header(data, message_size=wire.HEADER_SIZE + len(content))[: wire.HEADER_SIZE] + content


def changed(data: bytes, changes: Mapping[str, Any]) -> bytes:
    """The message with other fields in its payload; a function gets the record that is there and returns the value."""
    record = wire.decode(data).payload
    assert record is not None
    values = {name: value(record) if callable(value) else value for name, value in changes.items()}
    return payload(data, wire.encode_record(record.replace(**values)))


def fields(command: int, **changes: Any) -> Filter:
    """Successful replies to ``command`` with other fields (``changed``)."""
    return outgoing(lambda data, answers: changed(data, changes), command, error=False)


def sub_regions(change: Callable[[Any], dict[str, Any]]) -> Filter:
    """Replies about sub-regions whose records have other fields: those that ``change`` gives for each."""

    def records(reply: Any) -> tuple[Any, ...]:
        return tuple(record.replace(**change(record)) for record in reply.sub_regions)

    return fields(Command.DEVICE_GET_REGION_IO_FDS, sub_regions=records)


def longer(command: int, count: int) -> Filter:
    """Successful replies to ``command`` with ``count`` more bytes."""
    return outgoing(lambda data, answers: payload(data, data[16:] + bytes(count)), command, error=False)


def shorter(command: int, size: int) -> Filter:
    """Successful replies to ``command`` with a payload of ``size`` bytes."""
    return outgoing(lambda data, answers: payload(data, data[16 : 16 + size]), command, error=False)


def cut_to_argsz(command: int, below: int) -> Filter:
    """Successful replies to ``command`` cut to the argsz of the request where that is under ``below``."""

    def change(data: bytes, answers: CommandReceived) -> bytes:
        argsz = asked(answers).argsz
        return payload(data, data[16 : 16 + argsz]) if argsz < below else data

    return outgoing(change, command, error=False)


def without_fds(command: int) -> Filter:
    """Replies to ``command`` without their descriptors."""
    return lambda data, fds, answers: (data, () if answers and answers.message.header.command == command else fds)


def asked(answers: CommandReceived) -> Any:
    """The request that a reply answers."""
    return answers.message.payload


# The stream, as it comes in.


class Watched(Connection):
    """A connection that knows where in the stream it is."""

    _seen = b""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        super().receive(data, fds)
        self._seen += data
        if len(self._seen) >= wire.HEADER_SIZE and len(self._seen) == size_of(self._seen):
            self._seen = b""

    @property
    def inside(self) -> str:
        """What came in part: "header", "payload", or "" between two messages."""
        return "" if not self._seen else "header" if len(self._seen) < wire.HEADER_SIZE else "payload"


class Mapped(Watched):
    """A connection that knows whether its client has mapped memory."""

    mapped = False

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        command = int.from_bytes((self._seen + data)[2:4], sys.byteorder)
        super().receive(data, fds)
        self.mapped |= not self.inside and command == Command.DMA_MAP


class Incoming(Watched):
    """A connection that looks at each header before it takes it; ``header_came`` returns what to take in its place."""

    def receive(self, data: bytes, fds: Sequence[int] = ()) -> None:
        if len(data) < wire.HEADER_SIZE or self.inside:
            super().receive(data, fds)
            return
        super().receive(self.header_came(data[: wire.HEADER_SIZE]), fds)
        rest = data[wire.HEADER_SIZE :]
        while rest:
            size = self.wanted
            super().receive(rest[:size])
            rest = rest[size:]

    def header_came(self, data: bytes) -> bytes:
        raise NotImplementedError


def rewritten(change: Callable[[bytes], bytes]) -> type[Connection]:
    """A connection that changes headers as they come."""
    return type("Faulty", (Incoming,), {"header_came": lambda self, data: change(data)})


class OneRead(Stream):
    """A socket that reads once where it can, and takes what came for messages.

    ``arrived`` gets what one read brought, which begins with a message, and returns what the server makes of it.
    """

    def look_ahead(self) -> bytes:
        if not self.ahead and (got := self.read(_MUCH, wait=False)) and got[0]:
            data, fds = got
            self.ahead, self._fds, self._fds_at = self.arrived(data), fds, last_begun(data)
            if self._fds_at >= len(self.ahead):
                close_all(fds)
                self._fds = []
        return self.message()

    def arrived(self, data: bytes) -> bytes:
        raise NotImplementedError


def size_of(data: bytes) -> int:
    """The size that a header says."""
    return int.from_bytes(data[4:8], sys.byteorder)
