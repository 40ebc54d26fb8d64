"""What a case accepts; every expectation prints itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vfio_user_conformance.facts import Facts, resolve
from vfio_user_conformance.peer import Asked, HungUp, Received, Seen, Silence, type_of
from vfio_user_conformance.words import command_name, errno_name, plural, shown
from vfio_user_proto.messages import Command, MessageType
from vfio_user_proto.wire import Message


class Problem(NamedTuple):
    """What is not as expected; ``requirement`` where that is a more general one than the case's own.

    ``missing`` where the reply itself did not come: then nothing more particular can be said than the case does. ``refused``
    is the requirement that a refusal breaks where the other one is about the layout of replies: a refusal breaks none.
    """

    text: str
    requirement: str = ""
    missing: bool = False
    refused: str = ""


# The requirement that fixes the payload of each command's reply.
LAYOUTS: Mapping[int, str] = {
    Command.VERSION: "version.reply-layout",
    Command.DMA_MAP: "dma-map.reply-empty",
    Command.DMA_UNMAP: "dma-unmap.reply",
    Command.DEVICE_GET_INFO: "get-info.reply-layout",
    Command.DEVICE_GET_REGION_INFO: "get-region-info.reply-layout",
    Command.DEVICE_GET_REGION_IO_FDS: "region-io-fds.argsz",
    Command.DEVICE_GET_IRQ_INFO: "get-irq-info.reply-layout",
    Command.DEVICE_SET_IRQS: "set-irqs.reply-empty",
    Command.REGION_READ: "read-write.reply-data",
    Command.REGION_WRITE: "region-write.reply",
    Command.DEVICE_RESET: "reset.empty",
    Command.REGION_WRITE_MULTI: "write-multi.reply",
    Command.DEVICE_FEATURE: "feature.reply-same",
    Command.MIG_DATA_READ: "mig-data-read.data",
    Command.MIG_DATA_WRITE: "mig-data-write.reply-empty",
}

# What lets a client expect that a command works: a refusal breaks this where it is the layout that is looked at.
WORKS: Mapping[int, str] = {
    Command.DMA_MAP: "dma-map.any-time",
    Command.DEVICE_GET_REGION_INFO: "get-info.counts",
    Command.DEVICE_GET_IRQ_INFO: "get-info.counts",
    Command.DEVICE_SET_IRQS: "get-irq-info.flags",
    Command.REGION_READ: "get-region-info.access-flags",
    Command.REGION_WRITE: "get-region-info.access-flags",
    Command.DEVICE_RESET: "get-info.reset",
    Command.DEVICE_FEATURE: "feature.probe",
    Command.MIG_DATA_READ: "mig-data-read.state",
    Command.MIG_DATA_WRITE: "mig-data-write.state",
}
# What descriptors break that come with a reply for which the text names none: nothing is said on them.
UNASKED = "stream.unexpected-descriptors"

# Replies whose own size tells where the data end: that nothing follows is a requirement apart, with cases of its own.
_OPEN_ENDED = frozenset({Command.MIG_DATA_READ})
# Replies that bring descriptors.
_WITH_DESCRIPTORS = frozenset(
    {Command.VERSION, Command.DEVICE_GET_REGION_INFO, Command.DEVICE_GET_REGION_IO_FDS},
)

# What every missing reply, and every one too many, breaks.
UNANSWERED = "header.reply-to-each"


class Expectation:
    """What one command is to bring about."""

    def takes(self, seen: Seen) -> bool:
        """Whether ``seen`` is of this kind at all, right or wrong."""
        raise NotImplementedError

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        """What is wrong with ``seen``; nothing where it is as expected."""
        raise NotImplementedError

    def choose(self, seen: Seen, asked: Asked, facts: Facts) -> "Expectation":
        """The one of several alternatives by which ``seen`` is to be judged."""
        return self


class Reply(Expectation):
    """A reply that says success, with these fields.

    ``fds`` is how many descriptors come with it, None for any number; ``whole`` judges what no single field shows.
    """

    def __init__(self, *, fds: int | None = None, whole: "Whole | tuple[Whole, ...]" = (), **fields: Any) -> None:
        self.fds, self.fields = fds, fields
        self.wholes = whole if isinstance(whole, tuple) else (whole,)

    def takes(self, seen: Seen) -> bool:
        return isinstance(seen, Received) and not seen.message.is_error

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        if not isinstance(seen, Received):
            return _nothing(seen)
        message = seen.message
        found = _of_any_reply(seen, asked)
        if message.is_error:
            text = f"it was refused with {errno_name(message.header.error)}"
            return [*found, Problem(text, refused=WORKS.get(asked.command, ""))]
        if seen.problem and message.header.error:
            return [*found, _without_bit(message)]
        if seen.problem:
            return [*found, Problem(f"the payload does not decode: {seen.problem}", LAYOUTS.get(asked.command, ""))]
        if message.trailing and asked.command not in _OPEN_ENDED:
            text = f"the reply has {plural(len(message.trailing), 'byte')} more than its table"
            found.append(Problem(text, LAYOUTS.get(asked.command, "")))
        if self.fds is not None and self.fds != len(seen.fds):
            text = f"{plural(len(seen.fds), 'descriptor')} came, not {self.fds}"
            found.append(Problem(text, "" if asked.command in _WITH_DESCRIPTORS else UNASKED))
        values = message.payload.as_dict() if message.payload is not None else {}
        for name, wanted in self.fields.items():
            if name not in values:
                found.append(Problem(f"the reply has no {name}", LAYOUTS.get(asked.command, "")))
            elif not _fits(wanted, values[name], facts):
                found.append(Problem(f"{name} is {shown(values[name])}, not {shown(resolve(wanted, facts))}"))
        found += [Problem(text, each.under) for each in self.wholes if (text := each.problem(seen))]
        return found

    def __str__(self) -> str:
        parts = [f"{name} {shown(value)}" for name, value in self.fields.items()]
        if self.fds is not None:
            parts.append(plural(self.fds, "descriptor"))
        parts += [each.words for each in self.wholes]
        return f"a reply{' with ' if parts else ''}{', '.join(parts)}"


@dataclass(frozen=True)
class ErrorReply(Expectation):
    """A refusal: the header alone, with the Error bit; ``errno`` is the number it must carry, 0 for any."""

    errno: int = 0

    def takes(self, seen: Seen) -> bool:
        return isinstance(seen, Received) and seen.message.is_error

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        if not isinstance(seen, Received):
            return _nothing(seen)
        found = _of_any_reply(seen, asked)
        if not seen.message.is_error:
            if seen.message.header.error:
                return [*found, _without_bit(seen.message)]
            return [*found, Problem("it was carried out, not refused")]
        if self.errno and seen.message.header.error != self.errno:
            found.append(Problem(f"the error is {errno_name(seen.message.header.error)}, not {errno_name(self.errno)}"))
        return found

    def __str__(self) -> str:
        return f"an error reply{f' with {errno_name(self.errno)}' if self.errno else ''}"


@dataclass(frozen=True)
class EmptyReply(Expectation):
    """A reply that says success with a header alone, for a command whose replies have a payload."""

    def takes(self, seen: Seen) -> bool:
        return isinstance(seen, Received) and not seen.message.is_error and seen.message.header.message_size == 16

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return _of_any_reply(seen, asked) if isinstance(seen, Received) and self.takes(seen) else [Problem(str(seen))]

    def __str__(self) -> str:
        return "a reply without payload"


@dataclass(frozen=True)
class HangUp(Expectation):
    """The target closes the connection."""

    def takes(self, seen: Seen) -> bool:
        return isinstance(seen, HungUp)

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return [] if self.takes(seen) else [Problem("the connection was not closed")]

    def __str__(self) -> str:
        return "closing the connection"


@dataclass(frozen=True)
class NoReply(Expectation):
    """Nothing, which a query sent afterwards proves."""

    def takes(self, seen: Seen) -> bool:
        return isinstance(seen, Silence)

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return [] if self.takes(seen) else [Problem(f"what came is {seen}")]

    def __str__(self) -> str:
        return "no reply"


class Either(Expectation):
    """One of several: the first that fits, else the first of the kind that was seen."""

    def __init__(self, *accepted: Expectation) -> None:
        self.accepted = accepted

    def takes(self, seen: Seen) -> bool:
        return any(each.takes(seen) for each in self.accepted)

    def choose(self, seen: Seen, asked: Asked, facts: Facts) -> Expectation:
        chosen = [each.choose(seen, asked, facts) for each in self.accepted if each.takes(seen)] or [self.accepted[0]]
        return next((each for each in chosen if not each.problems(seen, asked, facts)), chosen[0])

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return self.choose(seen, asked, facts).problems(seen, asked, facts)

    def __str__(self) -> str:
        return " or ".join(map(str, self.accepted))


@dataclass(frozen=True)
class Erratum(Expectation):
    """A reading that the text's contradictions allow; accepted, and reported as such."""

    accepted: Expectation

    def takes(self, seen: Seen) -> bool:
        return self.accepted.takes(seen)

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return self.accepted.problems(seen, asked, facts)

    def __str__(self) -> str:
        return f"{self.accepted} (erratum)"


@dataclass(frozen=True)
class Unjudged(Expectation):
    """Whatever comes of a command that is there for the next case; others judge it."""

    def takes(self, seen: Seen) -> bool:
        return not isinstance(seen, Silence)

    def problems(self, seen: Seen, asked: Asked, facts: Facts) -> list[Problem]:
        return [] if self.takes(seen) else _nothing(seen)

    def __str__(self) -> str:
        return "any answer"


REFUSED = Either(ErrorReply(), HangUp())
"""What a command that is wrong earns where the text leaves open how."""

ANYTHING = Either(Reply(), ErrorReply(), HangUp())
"""Where the text is silent: whatever it is, it is reported; only a crash, a hang and a loss of step are wrong."""


@dataclass(frozen=True)
class Whole:
    """A condition on a reply and its descriptors together; ``problem`` says what is wrong, "" where nothing is.

    ``under`` is the requirement that it belongs to, where that is not the case's own.
    """

    words: str
    problem: Callable[[Received], str]
    under: str = ""


@dataclass(frozen=True)
class Is:
    """A condition on a field, with the words for it."""

    words: str
    test: Callable[[Any], bool]

    def __str__(self) -> str:
        return self.words


def at_least(number: int) -> Is:
    return Is(f"at least {number}", lambda value: value >= number)


def at_most(number: int) -> Is:
    return Is(f"at most {number}", lambda value: value <= number)


def with_bits(bits: int) -> Is:
    return Is(f"with {bits!s}", lambda value: value & bits == bits)


def without_bits(bits: int) -> Is:
    return Is(f"without {bits!s}", lambda value: not value & bits)


def long(size: int) -> Is:
    return Is(f"of {plural(size, 'byte')}", lambda value: len(value) == size)


def _fits(wanted: Any, value: Any, facts: Facts) -> bool:
    return wanted.test(value) if isinstance(wanted, Is) else bool(resolve(wanted, facts) == value)


def _nothing(seen: Seen) -> list[Problem]:
    """Where a reply was due and none came."""
    return [Problem(str(seen), UNANSWERED, missing=True)]


def _without_bit(message: Message) -> Problem:
    """An error reply by its errno alone: that it has no payload is right then."""
    return Problem(f"the error is {errno_name(message.header.error)}, and the Error bit is clear", "header.error-bit")


def _of_any_reply(seen: Received, asked: Asked) -> list[Problem]:
    """What holds for every reply, whatever the command (section Header)."""
    header, found = seen.message.header, list[Problem]()
    if type_of(seen.message) != MessageType.REPLY:
        found.append(Problem("the message that came is a command, not a reply", "header.type"))
    if header.message_id != asked.message_id:
        text = f"the reply has the id {header.message_id:#06x}, the command had {asked.message_id:#06x}"
        found.append(Problem(text, "header.echo"))
    if header.command != asked.command:
        text = f"the reply is one to {command_name(header.command)}, the command was {command_name(asked.command)}"
        found.append(Problem(text, "header.echo"))
    if seen.message.is_error and header.message_size != 16:
        text = f"the error reply has a payload of {plural(header.message_size - 16, 'byte')}"
        found.append(Problem(text, "header.error-reply-empty"))
    return found
