"""Capabilities of VFIO_USER_VERSION: what they bring about, and values that no table has."""

import os
import socket
from typing import Any

from vfio_user_conformance.case import Case
from vfio_user_conformance.cases.region_info import ask as ask_region
from vfio_user_conformance.cases.version import WITH_TWIN, WITHOUT_TWIN, propose
from vfio_user_conformance.checks import under
from vfio_user_conformance.expect import Either, ErrorReply, HangUp, Reply, Whole, at_most
from vfio_user_conformance.needs import MAPPABLE, READ_MAPPABLE
from vfio_user_conformance.peer import Received
from vfio_user_conformance.sending import Send
from vfio_user_conformance.words import plural
from vfio_user_proto.messages import DmaMapFlags, DmaMapRequest, RegionReadRequest
from vfio_user_proto.unix import kind_of

MAP = DmaMapRequest(flags=DmaMapFlags.READABLE | DmaMapFlags.WRITEABLE, address=0x10000, size=0x1000)


def at_most_fds(count: int) -> Reply:
    """A reply with no more descriptors than that."""

    def problem(seen: Received) -> str:
        return "" if len(seen.fds) <= count else f"{plural(len(seen.fds), 'descriptor')} came"

    return Reply(whole=Whole(f"at most {plural(count, 'descriptor')}", problem))


def twin_problem(seen: Received) -> str:
    """The first descriptor is a stream socket with another end."""
    if not seen.fds:
        return "no descriptor came"
    if (kind := kind_of(seen.fds[0])) != "socket":
        return f"the descriptor is no socket but something else ({kind})"
    with socket.socket(fileno=os.dup(seen.fds[0])) as twin:
        try:
            twin.getpeername()
        except OSError:
            return "the socket has no other end"
        return "" if twin.type == socket.SOCK_STREAM else "the socket is no stream"


def odd(what: str, data: object | None = None, raw: bytes | None = None, note: str = "") -> Case:
    """A value of which the text does not say what becomes of it."""
    return Case(
        ident=f"capability/{what}",
        requirement="version.data-malformed",
        stimulus=Send(propose(data, raw=raw)),
        expect=Either(Reply(), ErrorReply(), HangUp()),
        greet=False,
        catches=(f"capability-{what}-crash",),
        note=note,
    )


def taken(what: str, requirement: str, data: object, fault: str, note: str = "", **expected: Any) -> Case:
    """A proposal that is agreed to."""
    return Case(
        ident=f"capability/{what}",
        requirement=requirement,
        stimulus=Send(propose(data) if isinstance(data, dict) else propose(raw=bytes(str(data), "ascii") + b"\0")),
        expect=Reply(**expected),
        greet=False,
        catches=(fault,),
        note=note,
    )


CASES = [
    taken(
        "none-named",
        "version.data-optional",
        "{}",
        "capabilities-wanted",
        "The vfio-user crate of rust-vmm refuses what does not name each capability that it knows (0.1.3).",
    ),
    taken(
        "twin-socket-unknown-member",
        "version.unknown-capability",
        {"twin_socket": {"supported": False, "colour": "green"}},
        "twin-socket-unknown-member-refused",
    ),
    taken(
        "twin-socket-declined",
        "twin-socket.only-if-offered",
        {"max_msg_fds": 8, "twin_socket": {"supported": False}},
        "twin-socket-named-is-enough",
        version_data=WITHOUT_TWIN,
        fds=0,
    ),
    taken(
        "twin-socket-empty",
        "twin-socket.only-if-offered",
        {"max_msg_fds": 8, "twin_socket": {}},
        "twin-socket-default-true",
        version_data=WITHOUT_TWIN,
        fds=0,
    ),
    Case(
        ident="capability/twin-socket-is-one",
        requirement="twin-socket.reply",
        stimulus=Send(propose({"max_msg_fds": 16, "twin_socket": {"supported": True}})),
        expect=Either(
            Reply(version_data=WITH_TWIN, whole=Whole("a socket at fd_index", twin_problem)),
            Reply(version_data=WITHOUT_TWIN, fds=0),
        ),
        greet=False,
        catches=("twin-socket-no-socket",),
    ),
    Case(
        ident="capability/twin-socket-no-descriptors",
        requirement="version.max-msg-fds-kept",
        stimulus=Send(propose({"max_msg_fds": 0, "twin_socket": {"supported": True}})),
        expect=Either(Reply(version_data=WITHOUT_TWIN, fds=0), ErrorReply(), HangUp()),
        greet=False,
        catches=("twin-socket-whatever-max-msg-fds",),
    ),
    Case(
        ident="capability/minor-one",
        requirement="version.older-minors",
        stimulus=Send(propose({}, minor=1)),
        expect=Reply(version_minor=at_most(1)),
        greet=False,
        catches=("version-minor-one-refused",),
    ),
    Case(
        ident="capability/all-by-messages",
        requirement="transport.descriptors-optional",
        stimulus=(
            Send(propose({"max_msg_fds": 0})),
            Send(MAP),
            Send(RegionReadRequest(region=7, offset=0, count=4)),
            Send(RegionReadRequest(region=READ_MAPPABLE, offset=0, count=4)),
        ),
        expect=(
            Reply(),
            *under("dma-map.without-descriptor", Reply()),
            Reply(),
            *under("read-write.even-if-mapped", Reply()),
        ),
        greet=False,
        catches=("descriptors-wanted",),
    ),
    Case(
        ident="capability/no-descriptors",
        requirement="version.max-msg-fds-kept",
        stimulus=(Send(propose({"max_msg_fds": 0})), ask_region(MAPPABLE)),
        expect=(Reply(), at_most_fds(0)),
        greet=False,
        catches=("max-msg-fds-one-at-least",),
    ),
    odd("max-msg-fds-fraction", {"max_msg_fds": 1.5}),
    odd("max-msg-fds-null", {"max_msg_fds": None}),
    odd(
        "max-msg-fds-33-bits",
        {"max_msg_fds": 2**32 + 1},
        note="libvfio-user efd091b takes it for 1, as an int of C would be.",
    ),
    odd("max-data-xfer-size-zero", {"max_data_xfer_size": 0}),
    odd("max-data-xfer-size-64-bits", {"max_data_xfer_size": 2**64 - 1}),
    odd("max-dma-maps-zero", {"max_dma_maps": 0}),
    odd("pgsizes-zero", {"pgsizes": 0}),
    odd("pgsizes-no-power-of-two", {"pgsizes": 3}),
    odd("twin-socket-no-object", {"twin_socket": True}),
    odd("twin-socket-supported-a-number", {"twin_socket": {"supported": 1}}),
    odd("twin-socket-fd-index-asked-for", {"max_msg_fds": 8, "twin_socket": {"supported": True, "fd_index": 9}}),
    odd("write-multiple-text", {"write_multiple": "yes"}),
    odd("list-of-capabilities", raw=b'{"capabilities": ["max_msg_fds"]}\0'),
    odd("named-twice", raw=b'{"capabilities": {"max_msg_fds": 3, "max_msg_fds": 4}}\0'),
    odd("infinity", raw=b'{"capabilities": {"max_msg_fds": Infinity}}\0'),
    odd("endless-number", raw=b'{"capabilities": {"max_msg_fds": ' + b"7" * 5000 + b"}}\0"),
    odd("nested-deeply", raw=b'{"capabilities": {"deep": ' + b"[" * 5000 + b"]" * 5000 + b"}}\0"),
    odd("long-text", {"long": "x" * 60000}),
    odd("lone-surrogate", raw=b'{"capabilities": {"\\ud800": 1}}\0'),
    odd(
        "nul-twice",
        raw=b'{"capabilities": {}}\0\0',
        note="The vfio-user crate of rust-vmm ends with a panic (0.1.3, src/lib.rs:943).",
    ),
    odd("nul-alone", raw=b"\0"),
]
