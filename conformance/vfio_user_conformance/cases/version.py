"""VFIO_USER_VERSION: versions, capabilities, and what is no proposal at all."""

import json
from typing import Any

from vfio_user_conformance.case import Case
from vfio_user_conformance.expect import ANYTHING, REFUSED, Either, ErrorReply, HangUp, Is, NoReply, Reply, at_most
from vfio_user_conformance.sending import Send
from vfio_user_conformance.session import PROPOSAL
from vfio_user_proto import capabilities
from vfio_user_proto.errors import DecodeError
from vfio_user_proto.messages import DeviceGetInfoRequest, VersionRequest


def propose(data: object | None = None, *, major: int = 0, minor: int = 2, raw: bytes | None = None) -> VersionRequest:
    """A proposal with these capabilities, or with any bytes in their place."""
    text = b"" if data is None else json.dumps({"capabilities": data}).encode() + b"\0"
    return VersionRequest(version_major=major, version_minor=minor, version_data=text if raw is None else raw)


def offers(data: bytes) -> capabilities.Capabilities | None:
    """What version data says; None where they cannot be read."""
    try:
        return capabilities.parse(data)
    except DecodeError:
        return None


def only(*names: str) -> Is:
    """Version data that name none but these capabilities."""

    def test(data: bytes) -> bool:
        said = offers(data)
        return said is not None and said.named <= set(names)

    return Is(f"naming none but {', '.join(names) or 'no capability'}", test)


READABLE = Is("JSON with a closing NUL", lambda data: offers(data) is not None)
WITH_TWIN = Is("twin_socket with fd_index 0", lambda data: _twin(data) == (True, 0))
WITHOUT_TWIN = Is("without twin_socket", lambda data: _twin(data) == (False, None))


def _twin(data: bytes) -> tuple[bool, int | None] | None:
    said = offers(data)
    return None if said is None else (said.twin_socket, said.twin_socket_fd_index)


def silent(what: str, request: VersionRequest, **more: Any) -> Case:
    """Version data of which the text does not say what becomes of them."""
    return Case(
        ident=f"version/{what}",
        requirement="version.data-malformed",
        stimulus=Send(request),
        expect=Either(ErrorReply(), HangUp(), Reply()),
        greet=False,
        catches=(f"{what}-crash",),
        **more,
    )


CASES = [
    Case(
        ident="version/agreed",
        requirement="version.reply-layout",
        stimulus=Send(PROPOSAL),
        expect=Reply(version_minor=at_most(2)),
        greet=False,
        catches=("version-reply-short",),
    ),
    Case(
        ident="version/major-kept",
        requirement="version.reply-major",
        stimulus=Send(PROPOSAL),
        expect=Reply(version_major=0),
        greet=False,
        catches=("version-major-one",),
    ),
    Case(
        ident="version/major-unknown",
        requirement="version.reply-major",
        stimulus=Send(PROPOSAL.replace(version_major=7)),
        expect=Either(REFUSED, Reply(version_major=7)),
        greet=False,
        catches=("version-major-unchecked",),
        note="Who agrees to 7 keeps this rule, and breaks that of version/refusal-closes.",
    ),
    Case(
        ident="version/refusal-closes",
        requirement="version.refusal-closes",
        stimulus=(Send(PROPOSAL.replace(version_major=7)), Send(PROPOSAL)),
        expect=(REFUSED, HangUp()),
        greet=False,
        catches=("version-refusal-stays",),
    ),
    Case(
        ident="version/minor-lower",
        requirement="version.reply-minor",
        stimulus=Send(propose({}, minor=0)),
        expect=Reply(version_minor=0),
        greet=False,
        catches=("version-minor-own",),
    ),
    Case(
        ident="version/minor-higher",
        requirement="version.older-minors",
        stimulus=Send(propose({}, minor=0xFFFF)),
        expect=Reply(version_major=0),
        greet=False,
        catches=("version-minor-refused",),
    ),
    Case(
        ident="version/without-data",
        requirement="version.data-optional",
        stimulus=Send(propose()),
        expect=Reply(),
        greet=False,
        catches=("version-data-wanted",),
    ),
    Case(
        ident="version/unknown-capability",
        requirement="version.unknown-capability",
        stimulus=Send(propose({"max_msg_fds": 16, "teleport": {"range": [1, 2]}})),
        expect=Reply(),
        greet=False,
        catches=("version-unknown-refused",),
    ),
    Case(
        ident="version/data-form",
        requirement="version.data-form",
        stimulus=Send(PROPOSAL),
        expect=Reply(version_data=READABLE),
        greet=False,
        catches=("version-data-unterminated",),
    ),
    Case(
        ident="version/twin-socket-unasked",
        requirement="twin-socket.only-if-offered",
        stimulus=Send(PROPOSAL),
        expect=Reply(version_data=WITHOUT_TWIN, fds=0),
        greet=False,
        catches=("twin-socket-unasked",),
    ),
    Case(
        ident="version/capabilities-of-proposal",
        requirement="version.capability-subset",
        stimulus=Send(propose({"max_msg_fds": 16})),
        expect=Reply(version_data=only("max_msg_fds")),
        greet=False,
        catches=("version-all-capabilities",),
    ),
    Case(
        ident="version/twin-socket",
        requirement="twin-socket.reply",
        stimulus=Send(propose({"max_msg_fds": 16, "twin_socket": {"supported": True}})),
        expect=Either(Reply(version_data=WITH_TWIN, fds=1), Reply(version_data=WITHOUT_TWIN, fds=0)),
        greet=False,
        catches=("twin-socket-without-descriptor",),
    ),
    silent("data-unterminated", propose(raw=b'{"capabilities": {}}')),
    silent("data-cut", propose(raw=b'{"capabilities": {"max_msg_fds": \0')),
    silent("data-no-object", propose(raw=b"[]\0")),
    silent("data-not-utf-8", propose(raw=b'{"capabilities": {"\xff\xfe": 1}}\0')),
    silent("capability-of-wrong-type", propose({"max_msg_fds": "many"})),
    silent("capability-negative", propose({"max_data_xfer_size": -1})),
    Case(
        ident="version/no-reply-bit",
        requirement="header.no-reply-version",
        stimulus=(Send(PROPOSAL, no_reply=True), Send(DeviceGetInfoRequest())),
        expect=(Either(Reply(), NoReply(), ErrorReply(), HangUp()), ANYTHING),
        greet=False,
        catches=("version-no-reply-hangs",),
    ),
    Case(
        ident="version/not-first",
        requirement="version.out-of-order",
        stimulus=Send(DeviceGetInfoRequest()),
        expect=ANYTHING,
        greet=False,
        catches=("version-not-first-crash",),
    ),
    Case(
        ident="version/twice",
        requirement="version.out-of-order",
        stimulus=Send(PROPOSAL),
        expect=ANYTHING,
        catches=("version-twice-hangs",),
    ),
]
