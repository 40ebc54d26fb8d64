"""Anchors of requirements in the published text, and what covers each of its sentences that says must, should or may."""

import re

import pytest
from spec_text import layout, needs_shared, own, published, section

from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.anchors import coverage, rotten, sentences
from vfio_user_proto.specdoc.reader import read_text
from vfio_user_proto.specdoc.specs import Document

# Sentences of the revision of 2024-04-26, by line, in which no requirement is anchored. What they ask for stands in a
# requirement that is anchored in a sentence beside them.
ELSEWHERE = {
    252: "concurrency.client-knows-device",
    263: "concurrency.unbounded-latency",
    264: "concurrency.unbounded-latency",
    291: "disconnect.server-end",
    298: "disconnect.unmap-all disconnect.close-irq-fds disconnect.state-kept",
    315: "security.validate",
    343: "argsz.reply-needed argsz.too-small",
    349: "read-write.limit",
    350: "read-write.limit",
    457: "header.length",
    478: "version.refusal-closes",
    591: "twin-socket.only-if-offered",
    648: "dma-map.descriptor",
    801: "get-region-info.request-zero",
    949: "region-io-fds.configure",
    975: "region-io-fds.request-zero",
    1008: "region-io-fds.configure",
    1044: "region-io-fds.configure",
    1080: "region-io-fds.size-zero region-io-fds.posted-writes",
    1084: "region-io-fds.configure",
    1275: "set-irqs.eventfd",
    1280: "set-irqs.eventfd",
    1282: "set-irqs.eventfd",
    1289: "set-irqs.by-client",
    1455: "dma-read.mapped",
    1677: "mig-state.reset-recovers",
    1746: "mig-state.complex mig-state.no-saving-inside",
    1778: "dma-logging.page-size",
}
# The rest asks nothing of a peer.
NOT_NORMATIVE = {
    23: "on the origin of the text",
    26: "on the origin of the text",
    56: "on VFIO",
    133: "an example",
    152: "leads to the command that is described later",
    153: "leads to the command that is described later",
    183: "leads to the commands that are described later",
    224: "leaves the form of a program open",
    236: "for whoever sets the programs up",
    238: "for a later version",
    255: "an example",
    275: "on what a disconnection can mean",
    363: "on how the text is read",
    485: "an example of the sentence before",
    488: "for editors of the text",
    771: "for a later version",
    1268: "leads to a list of examples",
    1602: "for a later version",
    1727: "leaves to the device what it does inside",
    1947: "for a later version",
}


@needs_shared
def test_every_anchor_stands() -> None:
    """Each section and each quote of our requirements is in the revision that we compare with, those in tables too."""
    assert rotten(own(), published("2024-04-26")) == []


@needs_shared
def test_rotten_anchors() -> None:
    """What an older revision did not have yet is told, with the line of the requirement."""
    found = {problem.message.partition(":")[0]: problem for problem in rotten(own(), published("2021-09-08"))}

    assert {"twin-socket.reply", "mig-data-read.data", "version.write-multiple"} <= set(found)
    assert not {"header.echo", "version.max-msg-fds-default", "dma-map.overlap"} & set(found)
    line = project.document().lines[found["twin-socket.reply"].source.line - 1]
    assert line == ".. requirement:: twin-socket.reply"


@needs_shared
def test_every_normative_sentence_is_covered() -> None:
    """All 50 must, 18 should, 38 may and 8 required of the published text: in a requirement, or listed above with a reason."""
    found = coverage(own(), published("2024-04-26"))
    words = [word for sentence, _ in found for word in re.findall(r"\b(must|should|may|required)\b", sentence.text)]
    known = {each.id for each in own().requirements}
    uncovered = {sentence.source.line for sentence, ids in found if not ids}

    assert {word: words.count(word) for word in ("must", "should", "may", "required")} == {
        "must": 50,
        "should": 18,
        "may": 38,
        "required": 8,
    }
    assert uncovered == set(ELSEWHERE) | set(NOT_NORMATIVE)
    assert {name for names in ELSEWHERE.values() for name in names.split()} <= known


@needs_shared
def test_the_counts_are_those_of_the_text() -> None:
    """No word is lost between the file and the sentences."""
    text = "\n".join(published("2024-04-26").lines)

    assert [len(re.findall(rf"\b{word}\b", text)) for word in ("must", "should", "may", "required")] == [50, 18, 38, 8]


def document(*parts: str) -> Document:
    return read_text(section("Plug", *parts), "plug.rst")


TABLE = layout(("a", "0", "4"))
REQUIREMENT = """\
.. requirement:: plug.fits
   :level: must
   :side: both
   :section: {}
   :quote: {}

   It fits.
"""


@pytest.mark.parametrize(
    ("words", "anchor", "quote", "message"),
    [
        ("The plug must fit.", "Plug", "must fit", None),
        ("The ``plug`` *must*\nfit.", "plug", "plug must fit", None),
        ("The plug must fit.", "Plug", "must not fit", "the section in old.rst:1 does not say 'must not fit'"),
        ("The plug must fit.", "Socket", "must fit", "old.rst has no section 'Socket'; line 4 does, in 'Plug'"),
        ("The plug must fit.", "", "", None),
    ],
)
def test_anchors(words: str, anchor: str, quote: str, message: str | None) -> None:
    """A quote is found whatever marks its words and wherever its lines break; what is gone is told with its new place."""
    requirement = REQUIREMENT.format(anchor, quote).replace("   :section: \n   :quote: \n", "")
    mine = read_text(section("Mine", requirement, TABLE), "mine.rst")
    problems = rotten(mine, read_text(section("Plug", words, "", TABLE), "old.rst"))

    assert [problem.message for problem in problems] == ([f"plug.fits: {message}"] if message else [])


def test_documents_are_not_mixed() -> None:
    """Each document brings its own requirements: those of the RFC are anchored in the RFC."""
    rfc = project.document(origin=project.ORIGINS[1])

    assert {each.id.partition(".")[0] for each in rfc.requirements} == {"io-fds-rfc"}
    assert not any(each.id.startswith("io-fds-rfc") for each in own().requirements)


def test_sentences() -> None:
    """A sentence begins behind a stop, on its own line; an abbreviation is none, a cell of a table is one."""
    read = document(
        "It may. A list, e.g. this\none, must not. It\nshould; and so on:\n",
        "+------+--------+--------------+\n| Name | Type   | Description  |\n+======+========+==============+\n"
        "| x    | number | It may. Now. |\n+------+--------+--------------+\n",
    )

    assert [(sentence.source.line, sentence.text) for sentence in sentences(read)] == [
        (4, "It may."),
        (4, "A list, e.g. this one, must not."),
        (5, "It should;"),
        (6, "and so on:"),
        (11, "It may."),
        (11, "Now."),
    ]
