"""One difference, and the rules that say what it means for peers of which one keeps to the old text, one to the new."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from vfio_user_proto.specdoc.names import REPLY, REQUEST
from vfio_user_proto.specdoc.specs import Source

BREAKING, COMPATIBLE, UNTOUCHED = "breaking", "compatible", ""
VERBS = {"name": "renamed", "offset": "moved", "size": "resized", "bit": "moved", "number": "renumbered"}


class Rule(NamedTuple):
    """What one kind of difference does to requests and to replies, each of them if it is concerned at all."""

    request: str
    reply: str
    why: str


# A verdict is "compatible" only where it is so whatever the two peers make use of, and each may be client or server.
RULES: Final[Mapping[str, Rule]] = {
    "command-added": Rule(
        COMPATIBLE, COMPATIBLE, "A peer that does not know the number refuses it; no other message changes."
    ),
    "command-removed": Rule(BREAKING, UNTOUCHED, "Peers of the old text still send it and get an error reply for it."),
    "number-reused": Rule(BREAKING, BREAKING, "One text gives the number to this, the other to something else."),
    "command-renumbered": Rule(
        BREAKING, BREAKING, "The number alone tells commands apart, so the peer takes it for another one."
    ),
    "command-renamed": Rule(COMPATIBLE, COMPATIBLE, "Names do not travel."),
    "direction-changed": Rule(BREAKING, BREAKING, "The side that is to answer now does not expect the command."),
    "payload-added": Rule(BREAKING, BREAKING, "The new text wants bytes that a peer of the old one does not send."),
    "payload-removed": Rule(BREAKING, BREAKING, "The old text wants bytes that a peer of the new one does not send."),
    "number-of-records": Rule(
        BREAKING, BREAKING, "A peer that sends several records, or none, is misunderstood where one is due."
    ),
    "field-moved": Rule(BREAKING, BREAKING, "It is looked for at another place."),
    "field-resized": Rule(
        BREAKING, BREAKING, "More or fewer bytes are taken for it, and what stands behind it shifts."
    ),
    "field-renamed": Rule(
        COMPATIBLE, COMPATIBLE, "Names do not travel; whether the meaning stays, only a reader can tell."
    ),
    "field-added": Rule(BREAKING, BREAKING, "One side takes other bytes for it, or misses it at the end."),
    "field-appended": Rule(
        BREAKING,
        COMPATIBLE,
        "A request of the old text is too short; argsz tells how long a reply is, of which an old client takes what it knows.",
    ),
    "field-removed": Rule(BREAKING, BREAKING, "The old text still looks for it."),
    "tail-added": Rule(
        COMPATIBLE, COMPATIBLE, "A field of variable size can be empty, as it is in every message of the old text."
    ),
    "tail-removed": Rule(
        BREAKING,
        BREAKING,
        "What the old text put there has no place any more, though messages where it was empty stay.",
    ),
    "dots-changed": Rule(BREAKING, BREAKING, "One side takes repeated rows for something else."),
    "bit-added": Rule(COMPATIBLE, COMPATIBLE, "A peer of the old text leaves it clear and does not look at it."),
    "bit-removed": Rule(BREAKING, BREAKING, "A peer of the old text still sets it or waits for it."),
    "bit-moved": Rule(BREAKING, BREAKING, "One side sets a bit that means something else, or nothing, to the other."),
    "bit-renamed": Rule(
        COMPATIBLE, COMPATIBLE, "Names do not travel; whether the meaning stays, only a reader can tell."
    ),
    "code-added": Rule(
        COMPATIBLE, COMPATIBLE, "It is one more value; a peer of the old text neither sends nor knows it."
    ),
    "code-removed": Rule(BREAKING, BREAKING, "A peer of the old text still sends it."),
    "code-renumbered": Rule(BREAKING, BREAKING, "The number alone travels, so the peer takes it for another one."),
    "code-changed": Rule(BREAKING, BREAKING, "What the number stands for is told in another way."),
    "record-added": Rule(COMPATIBLE, COMPATIBLE, "Nothing in the old text leads to it."),
    "record-removed": Rule(BREAKING, BREAKING, "A peer of the old text still sends it."),
    "member-added": Rule(COMPATIBLE, COMPATIBLE, "A receiver passes over members that it does not know."),
    "member-removed": Rule(BREAKING, BREAKING, "What a peer of the old text states there is no longer heeded."),
    "member-changed": Rule(BREAKING, BREAKING, "A value of another type cannot be taken."),
    "value-changed": Rule(BREAKING, BREAKING, "The value travels, and the peer expects another one."),
    "states-changed": Rule(BREAKING, UNTOUCHED, "A transition that one text allows is refused under the other."),
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: of a table, or of its row ``subject``. ``aspect`` is what differs: table, row, name, offset, …

    ``old`` or ``new`` is "" where it is not there. ``where`` is its place in the old document, or in the new one where only
    that has it. ``rule`` is one of RULES; ``directions`` are the messages in which the table travels.
    """

    table: str
    subject: str
    aspect: str
    old: str
    new: str
    where: Source
    rule: str
    directions: tuple[str, ...]

    @property
    def mark(self) -> str:
        """The difference without its direction, as errata.toml lists it: "VFIO_USER_DMA_WRITE / Reply: count: size"."""
        return ": ".join(part for part in (self.table, self.subject, self.aspect) if part)

    @property
    def request(self) -> str:
        """What it does to requests: BREAKING, COMPATIBLE, or UNTOUCHED where none of them has it."""
        return RULES[self.rule].request if REQUEST in self.directions else UNTOUCHED

    @property
    def reply(self) -> str:
        """What it does to replies."""
        return RULES[self.rule].reply if REPLY in self.directions else UNTOUCHED

    def as_dict(self) -> dict[str, str | int | None]:
        """The difference for programs; a verdict is null where no such message has it."""
        facts = {"table": self.table, "subject": self.subject, "aspect": self.aspect, "old": self.old, "new": self.new}
        verdicts = {"request": self.request or None, "reply": self.reply or None}
        place: dict[str, str | int] = {"file": self.where.file, "line": self.where.line}
        return {**facts, "text": self.what, **verdicts, "rule": self.rule, "why": RULES[self.rule].why, **place}

    @property
    def what(self) -> str:
        """The difference in words, without its table."""
        what = f"{self.subject}: " if self.subject else ""
        if not self.old:
            return f"{what}added: {self.new}"
        if not self.new:
            return f"{what}removed: {self.old}"
        return f"{what}{VERBS.get(self.aspect, f'{self.aspect} changed')} from {self.old} to {self.new}"

    def __str__(self) -> str:
        return f"{self.table}: {self.what}"
