"""What commands carry, read from sections, message tables and words, in every revision."""

from importlib import import_module

import pytest
from spec_text import REVISIONS, layout, needs_shared, published, section, simple

from vfio_user_proto.specdoc import project
from vfio_user_proto.specdoc.commands import commands
from vfio_user_proto.specdoc.names import REPLY, REQUEST
from vfio_user_proto.specdoc.reader import read_text


@pytest.mark.parametrize("origin", project.ORIGINS[:2], ids=lambda origin: origin.name)
def test_documents_tell_what_the_overlays_say(origin: project.Origin) -> None:
    """What is read from the words of our documents is what their modules declare, for each command and direction."""
    module = import_module(origin.module)
    for name, command in commands(project.document(origin=origin)).items():
        for direction, records in ((REQUEST, module.REQUESTS), (REPLY, module.REPLIES)):
            carried, record = command.carried[direction], records[command.code.value]

            assert carried.said, (name, direction)
            assert (carried.layout.key if carried.layout else None) == (record.section if record else None), (
                name,
                direction,
            )


@needs_shared
@pytest.mark.parametrize("revision", REVISIONS)
def test_published_documents_tell_it_of_every_message(revision: str) -> None:
    """Each revision says of each message what it carries, in one form or another."""
    untold = [
        (name, direction)
        for name, command in commands(published(revision)).items()
        for direction, carried in command.carried.items()
        if not carried.said
    ]

    assert untold == []


@needs_shared
def test_message_tables_of_2021() -> None:
    """The last row of a message table names the layout; one for several commands is found too."""
    found = commands(published("2021-01-20"))

    assert found["VFIO_USER_DEVICE_GET_INFO"].carried[REQUEST].layout is None  # "16 in command, 32 in reply"
    assert found["VFIO_USER_DMA_MAP"].carried[REQUEST].many
    layouts = {found[f"VFIO_USER_DMA_{name}"].carried[REQUEST].layout for name in ("READ", "WRITE")}
    assert {each.key for each in layouts if each} == {"DMA Read/Write Data"}


COMMANDS = section("Commands", simple(("Name", "Command"), ("VFIO_USER_PING", "1")))


@pytest.mark.parametrize(
    ("words", "carries"),
    [
        ("There is no payload in the reply.", (False, True)),
        ("There is no reply payload for this message.", (False, True)),
        ("The reply is a header alone.", (False, True)),
        ("The payload has the layout of the request.", (True, True)),
        ("The server responds with the original entry in the request.", (True, True)),
        ("The reply payload must be the same as the request payload.", (True, True)),
        ("The server answers.", (False, False)),
    ],
)
def test_words(words: str, carries: tuple[bool, bool]) -> None:
    """Sentences that leave a reply without payload, or give it that of the request; else nothing is known."""
    ping = section(
        "VFIO_USER_PING", section("Request", layout(("a", "0", "4")), mark="-"), section("Reply", words, mark="-")
    )
    carried = commands(read_text(COMMANDS + ping, "x"))["VFIO_USER_PING"].carried

    assert carried[REQUEST].layout is not None
    assert (carried[REPLY].layout is not None, carried[REPLY].said) == carries
